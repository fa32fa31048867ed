//! What a rollback would do: the changes it would undo, the marks it would cost, and every reason why it would be refused.

use postgres::{IsolationLevel, Transaction};
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;

use super::lanes::{self, Lanes};
use super::left::{self, Left};
use super::{Wanted, work};
use crate::errors::{Error, Kind, Result};
use crate::journal::{self, MarkState, TableChanges};
use crate::pg::{self, Session};
use crate::words::quoted;

/// What would happen, as of one snapshot.
#[derive(Debug, Clone, Serialize)]
pub struct Preview {
    pub groups: Vec<String>,
    /// The mark's own name, also where EMAJ_LAST_MARK was said.
    pub mark: String,
    pub logged: bool,
    pub stop: bool,
    /// The marks that nobody could roll back to any more.
    pub marks_lost: Vec<LostMark>,
    /// The tables with changes to undo.
    pub tables: Vec<TableChanges>,
    /// What it would leave as it is.
    pub left: Vec<Left>,
    /// Why it would be refused; empty when it would not.
    pub refusals: Vec<Refusal>,
    /// Which session does what; only where several are wanted.
    #[serde(flatten)]
    pub lanes: Option<Lanes>,
}

/// A mark of a group that nobody could roll back to any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostMark {
    pub group: String,
    pub mark: String,
}

/// One reason for a refusal, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    pub reason: String,
    pub hint: Option<String>,
}

impl Preview {
    pub fn changes(&self) -> i64 {
        self.tables.iter().map(|table| table.changes).sum()
    }

    /// Fails with all refusals, when there are any.
    ///
    /// # Errors
    /// [`Kind::Refused`].
    pub fn check(&self) -> Result<()> {
        if self.refusals.is_empty() {
            return Ok(());
        }
        let reasons: Vec<&str> = self.refusals.iter().map(|refusal| refusal.reason.as_str()).collect();
        let error = Error::message(Kind::Refused, reasons.join("; ")).context(format!(
            "failed to roll {} back to mark `{}`; nothing was changed",
            quoted("group", &self.groups),
            self.mark
        ));
        let mut hints: Vec<&String> = Vec::new();
        for hint in self.refusals.iter().filter_map(|refusal| refusal.hint.as_ref()) {
            if !hints.contains(&hint) {
                hints.push(hint);
            }
        }
        Err(hints.into_iter().cloned().fold(error, Error::hint))
    }
}

/// Looks what a rollback would do, without a lock on any table and without changing anything.
///
/// # Errors
/// [`Kind::Refused`] for an unknown group or mark; whatever the server answers.
pub fn preview(session: &mut Session, schema: &str, wanted: &Wanted) -> Result<Preview> {
    let mut transaction = session
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()?;
    transaction.batch_execute(pg::NO_LIMITS)?;
    let found = look(&mut transaction, schema, wanted)
        .map_err(|error| error.context(format!("failed to {}", wanted.doing())))?;
    transaction.rollback()?;
    Ok(found)
}

fn look(transaction: &mut Transaction<'_>, schema: &str, wanted: &Wanted) -> Result<Preview> {
    let s = escape_identifier(schema);
    let Wanted { groups, mark, .. } = wanted;
    let rows = transaction.query(
        &format!("select check_reason, check_hint from {s}.emaj_check_rollback_groups($1, $2, $3)"),
        &[groups, mark, &wanted.partial],
    )?;
    let refusals = rows
        .iter()
        .map(|row| Refusal {
            reason: row.get(0),
            hint: row.get(1),
        })
        .collect();
    let (mut name, mut marks_lost) = (mark.clone(), Vec::new());
    for group in groups {
        let all = journal::marks(transaction, schema, group)?;
        if let Some(meant) = MarkState::called(&all, mark) {
            name.clone_from(&meant.mark);
        }
        let active = all.into_iter().filter(MarkState::is_active).map(|mark| mark.mark);
        let active: Vec<String> = active.collect();
        let kept = match (wanted.stop, wanted.logged) {
            (true, _) => 0,
            (false, true) => active.len(),
            (false, false) => active
                .iter()
                .position(|mark| *mark == name)
                .map_or(active.len(), |at| at + 1),
        };
        marks_lost.extend(active.into_iter().skip(kept).map(|mark| LostMark {
            group: group.clone(),
            mark,
        }));
    }
    let mut tables = journal::rollback_tables(transaction, schema, groups, mark, wanted.partial)?;
    let left = left::ask(transaction, schema, wanted)?;
    tables.sort_by(|one, other| (&one.schema, &one.table).cmp(&(&other.schema, &other.table)));
    let lanes = if wanted.jobs > 1 {
        let work = work::read(transaction, schema, groups, &tables)?;
        Some(lanes::plan(&work, wanted.jobs))
    } else {
        None
    };
    Ok(Preview {
        groups: groups.clone(),
        mark: name,
        logged: wanted.logged,
        stop: wanted.stop,
        marks_lost,
        tables: tables.into_iter().filter(|table| table.changes > 0).collect(),
        left,
        refusals,
        lanes,
    })
}
