//! The steps for one table or sequence of a group: capture it, or let its capture follow what has changed.
//!
//! Here is decided which of it: a table that is not known is captured (`create`), a known one follows (`follow`), and one whose capture
//! cannot go on is ended and captured anew. What captures it is named in `capture`. Pure; called by `install::plan`.

mod capture;
mod create;
mod follow;
mod sequence;
mod triggers;

use std::collections::BTreeMap;

pub(super) use self::capture::OWN_COLUMNS;
use self::capture::{Taken, capture};
use self::create::create;
use self::follow::follow;
pub(super) use self::sequence::plan_sequence;
use super::delivery::{Gap, Missed};
use super::plan::{Action, Lock, Phase, Plan, Step};
use super::room;
use super::wanted::{WantedGroup, WantedTable};
use crate::catalog;
use crate::journal::{self, ActiveMarks, Journal, Relation};
use crate::manifest::Group;
use crate::names::QualifiedName;
use crate::render::{RenderError, Renderer};

/// What the tables of one group have in common.
pub(super) struct Setting<'a> {
    pub group: &'a Group,
    /// Why tables are in a group that nobody declared.
    pub bound: BTreeMap<QualifiedName, String>,
    /// The triggers fire, or should.
    pub logging: bool,
    /// The triggers are to fire.
    pub enabled: bool,
    pub active_marks: ActiveMarks,
}

impl Setting<'_> {
    /// Returns how many marks a rollback refuses once the group takes in a relation that was not captured at them.
    fn lost_marks(&self) -> i64 {
        if self.group.rollback {
            self.active_marks.count
        } else {
            0
        }
    }
}

/// What becomes of the marks of a group that takes in a relation.
const LOST_BEFORE: &str = "set before can no longer be rolled back to";

/// Plans one table.
pub(super) fn plan(
    plan: &mut Plan,
    setting: &Setting<'_>,
    wanted: &WantedTable<'_>,
    journal: Option<&Journal>,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let known = journal.and_then(|journal| Some((journal, journal.relations.of(wanted.table.oid)?)));
    let Some((journal, known)) = known else {
        let taken = Taken { journal, plan };
        let capture = capture(setting, wanted, &taken, None);
        plan.gaps.push(gap(wanted, Missed::Changes));
        let because = setting
            .bound
            .get(wanted.name)
            .map_or("in the group, and not captured yet", String::as_str);
        return create(plan, &capture, wanted, because, setting.lost_marks(), renderer);
    };
    if let Some((reason, missed)) = must_begin_anew(setting, wanted, journal, known) {
        plan.gaps.extend(missed.map(|missed| gap(wanted, missed)));
        end(plan, known, wanted.name, &reason, can_go_back(journal, known), renderer);
        let capture = capture(
            setting,
            wanted,
            &Taken {
                journal: Some(journal),
                plan,
            },
            None,
        );
        // Of the group that it was in, the end of its capture has spoken already.
        let lost = if known.group == setting.group.name.value {
            0
        } else {
            setting.lost_marks()
        };
        return create(plan, &capture, wanted, &reason, lost, renderer);
    }
    let capture = capture(
        setting,
        wanted,
        &Taken {
            journal: Some(journal),
            plan,
        },
        Some(known),
    );
    follow(plan, setting, wanted, &capture, journal, known, renderer)
}

/// Returns the group that holds a relation now, if it can be rolled back.
fn can_go_back<'a>(journal: &'a Journal, known: &Relation) -> Option<&'a journal::Group> {
    journal.groups.get(&known.group).filter(|group| group.rollback)
}

/// Ends what is captured now, and is called `name`; the marks of its group that were set before can no longer be rolled back to, where `group` is given.
pub(super) fn end(
    plan: &mut Plan,
    known: &Relation,
    name: &QualifiedName,
    because: &str,
    group: Option<&journal::Group>,
    renderer: &Renderer,
) {
    let schema = postgres_protocol::escape::escape_identifier(renderer.schema());
    let sql = format!("select {schema}._end_relation({});", known.id);
    let noun = if known.kind == 'S' { "sequence" } else { "table" };
    let mut step = Step::new(Phase::Capture, Action::Remove, format!("{noun} {name}"), because, sql).changing(known);
    if known.kind != 'S' {
        step = step.locking(Lock::AccessExclusive, known.oid).taking(room::TO_END);
    }
    if let Some(group) = group {
        step = step.losing(&known.group, group.active_marks);
    }
    if known.kind != 'S' {
        step.also("its log stays readable until the group is reset");
    }
    plan.push(step);
}

/// Notes what is in no log because the group was not started.
pub(super) fn note_stop(plan: &mut Plan, wanted: &WantedGroup<'_>, journal: Option<&Journal>) {
    for table in &wanted.tables {
        let is_noted = |gap: &Gap| gap.table == table.table.oid && matches!(gap.missed, Missed::Changes);
        let is_known = journal.is_some_and(|journal| journal.relations.of(table.table.oid).is_some());
        if is_known && !plan.gaps.iter().any(is_noted) {
            plan.gaps.push(gap(table, Missed::Changes));
        }
    }
}

fn gap(wanted: &WantedTable<'_>, missed: Missed) -> Gap {
    Gap {
        table: wanted.table.oid,
        name: wanted.name.clone(),
        missed,
    }
}

/// Tells whether the values of a generated column were computed anew, past the log.
fn is_recomputed(captured: &journal::Column, column: &catalog::Column) -> bool {
    captured.expression.is_some() && captured.expression != column.expression
}

/// Why the capture of a known table cannot simply go on, and what of it no log holds then.
fn must_begin_anew(
    setting: &Setting<'_>,
    wanted: &WantedTable<'_>,
    journal: &Journal,
    known: &Relation,
) -> Option<(String, Option<Missed>)> {
    if known.group != setting.group.name.value {
        let reason = format!(
            "it moves from group {} to group {}",
            known.group, setting.group.name.value
        );
        return Some((reason, None));
    }
    let Some(there) = known.log.as_ref().and_then(|log| journal.tables.get(log)) else {
        return Some(("its log table is gone".to_owned(), Some(Missed::Changes)));
    };
    if known
        .into
        .as_ref()
        .is_none_or(|part| !journal.logs.contains(part) || !journal.tables.contains_key(part))
    {
        let reason = "the part of its log that is written to is gone".to_owned();
        return Some((reason, Some(Missed::Changes)));
    }
    for captured in &known.columns {
        match wanted
            .table
            .columns
            .iter()
            .find(|column| column.attnum == captured.attnum)
        {
            None => return Some((format!("column {} is gone", captured.log), None)),
            Some(column) if column.r#type != captured.r#type => {
                let reason = format!(
                    "column {} is {} now and was {}",
                    column.name, column.r#type, captured.r#type
                );
                return Some((reason, Some(Missed::Values(vec![column.name.clone()]))));
            }
            Some(column)
                if is_recomputed(captured, column)
                    && (column.expression.is_none() || known.key.contains(&captured.attnum)) =>
            {
                let reason = format!(
                    "the values of column {} were computed anew, by another expression",
                    column.name
                );
                return Some((reason, Some(Missed::Values(vec![column.name.clone()]))));
            }
            Some(_) => {}
        }
        if !there.contains(&captured.log) {
            let missed = Missed::Values(vec![captured.log.clone()]);
            return Some((format!("its log has lost column {}", captured.log), Some(missed)));
        }
    }
    None
}
