//! What a rollback would do: the changes it would undo, the marks it would cost, and every reason why it would be refused.

use postgres::{IsolationLevel, Transaction};
use postgres_protocol::escape::escape_identifier;
use serde::Serialize;

use super::lanes::{self, Lanes};
use super::{Wanted, work};
use crate::errors::{Error, Kind, Result};
use crate::journal::{self, TableChanges};
use crate::pg::Session;

/// What would happen, as of one snapshot.
#[derive(Debug, Clone, Serialize)]
pub struct Preview {
    pub group: String,
    /// The mark's own name, also where EMAJ_LAST_MARK was said.
    pub mark: String,
    pub logged: bool,
    pub stop: bool,
    /// The marks that nobody could roll back to any more.
    pub marks_lost: Vec<String>,
    /// The tables with changes to undo.
    pub tables: Vec<TableChanges>,
    /// Why it would be refused; empty when it would not.
    pub refusals: Vec<Refusal>,
    /// Which session does what; only where several are wanted.
    #[serde(flatten)]
    pub lanes: Option<Lanes>,
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
            "failed to roll group `{}` back to mark `{}`; nothing was changed",
            self.group, self.mark
        ));
        let hints = self.refusals.iter().filter_map(|refusal| refusal.hint.clone());
        Err(hints.fold(error, Error::hint))
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
    let found = look(&mut transaction, schema, wanted).map_err(|error| {
        error.context(format!(
            "failed to roll group `{}` back to mark `{}`",
            wanted.group, wanted.mark
        ))
    })?;
    transaction.rollback()?;
    Ok(found)
}

fn look(transaction: &mut Transaction<'_>, schema: &str, wanted: &Wanted) -> Result<Preview> {
    let s = escape_identifier(schema);
    let Wanted { group, mark, .. } = wanted;
    let rows = transaction.query(
        &format!("select check_reason, check_hint from {s}.emaj_check_rollback_group($1, $2)"),
        &[group, mark],
    )?;
    let refusals = rows
        .iter()
        .map(|row| Refusal {
            reason: row.get(0),
            hint: row.get(1),
        })
        .collect();
    let active: Vec<String> = journal::marks(transaction, schema, group)?
        .into_iter()
        .filter(|mark| mark.state == "ACTIVE")
        .map(|mark| mark.mark)
        .collect();
    let name = if mark == "EMAJ_LAST_MARK" {
        active.last().unwrap_or(mark).clone()
    } else {
        mark.clone()
    };
    let marks_lost = if wanted.stop {
        active
    } else if wanted.logged {
        Vec::new()
    } else {
        active.into_iter().skip_while(|mark| *mark != name).skip(1).collect()
    };
    let tables = journal::log_stat(transaction, schema, group, Some(mark), None)?;
    let lanes = if wanted.jobs > 1 {
        let work = work::read(transaction, schema, group, &tables)?;
        Some(lanes::plan(&work, wanted.jobs))
    } else {
        None
    };
    Ok(Preview {
        group: group.clone(),
        mark: name,
        logged: wanted.logged,
        stop: wanted.stop,
        marks_lost,
        tables: tables.into_iter().filter(|table| table.changes > 0).collect(),
        refusals,
        lanes,
    })
}
