//! How the capture of a table follows what has changed, in the table or in the manifest: the step for it, if there is one.
//!
//! Called by `table` for a table whose capture can go on; one that must begin anew is ended there, and created.

use minijinja::context;

use super::capture::{Capture, Column, Extra, serde_value};
use super::triggers::{Triggers, captured_before, own_triggers, triggers_differ};
use super::{Setting, gap, is_recomputed};
use crate::catalog::Partition;
use crate::install::delivery::Missed;
use crate::install::plan::{Action, Lock, Phase, Plan, Step};
use crate::install::wanted::{Mode, WantedTable, needs_row};
use crate::journal::{self, Journal, Relation};
use crate::render::{Function, RenderError, Renderer, TriggerNames, function};

/// Compares what is captured with what is wanted, and plans the difference, if any.
pub(super) fn follow(
    plan: &mut Plan,
    setting: &Setting<'_>,
    wanted: &WantedTable<'_>,
    capture: &Capture<'_>,
    journal: &Journal,
    known: &Relation,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let difference = Difference::find(setting, wanted, capture, journal, known, renderer)?;
    let reasons = difference.reasons();
    if reasons.is_empty() && known.natts == Some(capture.natts) {
        plan.unchanged += 1;
        return Ok(());
    }
    let because = if reasons.is_empty() {
        "a column that is not captured came or went".to_owned()
    } else {
        reasons.join("; ")
    };
    let lock = match difference.triggers {
        Triggers::Right => Lock::ShareRowExclusive,
        Triggers::Partitions | Triggers::Broken => Lock::AccessExclusive,
    };
    if difference.function_differs() {
        plan.made.functions.insert(capture.log.clone());
    }
    if difference.guard_differs() {
        plan.made.guards.extend(capture.guard.clone());
    }
    let missed = difference.missed(renderer.triggers());
    // (Rows that went with a partition are in nobody's way.)
    let anew = missed.iter().any(|missed| !matches!(missed, Missed::Went));
    let sql = difference.statements(anew, renderer)?;
    plan.gaps.extend(missed.into_iter().map(|missed| gap(wanted, missed)));
    let mut step = Step::new(
        Phase::Capture,
        Action::Change,
        format!("capture of {}", wanted.name),
        because,
        sql,
    )
    .locking(lock, capture.oid)
    .changing(known);
    step = match difference.gap() {
        true => step.losing(&known.group, setting.active_marks),
        false => step.effect("writers wait; the log goes on without a gap"),
    };
    plan.push(step);
    Ok(())
}

/// How the capture that is there differs from the one that is wanted.
struct Difference<'a> {
    setting: &'a Setting<'a>,
    wanted: &'a WantedTable<'a>,
    capture: &'a Capture<'a>,
    journal: &'a Journal,
    known: &'a Relation,
    renamed: Vec<&'a Column>,
    added: Vec<&'a Column>,
    /// Generated columns that no row is found by, and that have another expression now.
    recomputed: Vec<&'a Column>,
    /// The capture function that belongs there, and the one that is.
    function: Function,
    there: Option<&'a journal::Function>,
    triggers: Triggers,
    mode_changes: bool,
    /// Triggers were missing or switched off: while the group logs, changes may have been lost.
    broken: bool,
    /// Statements on a relative fired no trigger.
    unfired: bool,
}

impl<'a> Difference<'a> {
    fn find(
        setting: &'a Setting<'a>,
        wanted: &'a WantedTable<'a>,
        capture: &'a Capture<'a>,
        journal: &'a Journal,
        known: &'a Relation,
        renderer: &Renderer,
    ) -> Result<Self, RenderError> {
        let columns = capture.columns.iter();
        let triggers = triggers_differ(capture, wanted, journal, known, renderer.triggers(), setting.logging);
        let mode_changes = known.mode.as_deref() != Some(capture.mode);
        Ok(Difference {
            setting,
            wanted,
            capture,
            journal,
            known,
            renamed: columns
                .clone()
                .filter(|column| {
                    known_column(known, column).is_some_and(|old| (&old.name, &old.log) != (&column.name, &column.log))
                })
                .collect(),
            added: columns
                .clone()
                .filter(|column| column.captured && known_column(known, column).is_none())
                .collect(),
            recomputed: columns
                .filter(|column| {
                    let now = wanted.table.columns.iter().find(|now| now.attnum == column.attnum);
                    known_column(known, column)
                        .zip(now)
                        .is_some_and(|(old, now)| is_recomputed(old, now))
                })
                .collect(),
            function: function(renderer.render_value("log/function", serde_value(capture))?),
            there: journal.functions.get(&capture.log),
            triggers,
            mode_changes,
            broken: if mode_changes {
                setting.logging && !captured_before(wanted, known, renderer.triggers())
            } else {
                triggers == Triggers::Broken
            },
            unfired: mode_changes
                && known.mode.as_deref() == Some(Mode::Statement.name())
                && needs_row(wanted.table).is_some(),
        })
    }

    /// Returns what no log holds.
    fn missed(&self, names: &TriggerNames) -> Vec<Missed> {
        let mut missed = Vec::new();
        if self.setting.logging && (self.broken || self.unfired) {
            missed.push(Missed::Changes);
        } else if !self.added.is_empty() || !self.recomputed.is_empty() {
            let columns = self.added.iter().chain(&self.recomputed);
            missed.push(Missed::Values(columns.map(|column| column.name.clone()).collect()));
        }
        if self.setting.logging && !self.broken {
            missed.extend(self.partitions(names));
        }
        missed
    }

    /// Returns what no log holds of partitions that came, and of those that went.
    fn partitions(&self, names: &TriggerNames) -> Vec<Missed> {
        let there = &self.wanted.table.partitions;
        let is_new = |leaf: &&Partition| leaf.leaf && leaf.triggers.iter().all(|own| own.name != names.truncate);
        // (One that went and came again has kept its triggers.)
        let known = &self.known.partitions;
        let is_back = |member: &&Partition| known.get(&member.oid).is_some_and(|then| *then != member.attached);
        let came = there.iter().filter(|member| is_new(member) || is_back(member));
        let came: Vec<String> = came.map(|member| member.name.to_string()).collect();
        let is_gone = |oid: &u32| there.iter().all(|member| member.oid != *oid);
        let went = known.keys().any(is_gone) || there.iter().any(|member| is_back(&member));
        let came = (!came.is_empty()).then_some(Missed::Came(came));
        came.into_iter().chain(went.then_some(Missed::Went)).collect()
    }

    /// Tells whether earlier marks can no longer be rolled back to. Rows that had one value of a new key in common cannot be told apart in
    /// what was logged before.
    fn gap(&self) -> bool {
        let other_key = self.setting.group.rollback && self.known.key != self.capture.key;
        self.setting.logging && (self.broken || self.unfired || other_key)
    }

    fn guard_is_gone(&self) -> bool {
        let guard = self.capture.guard.as_ref();
        guard.is_some_and(|guard| !self.journal.views.contains(guard))
    }

    fn function_differs(&self) -> bool {
        self.there.is_none_or(|there| !there.is(&self.function))
    }

    fn guard_differs(&self) -> bool {
        !self.added.is_empty() || self.known.guard != self.capture.guard || self.guard_is_gone()
    }

    /// Returns what is different, in words.
    fn reasons(&self) -> Vec<String> {
        let (capture, known, logging) = (self.capture, self.known, self.setting.logging);
        let mut reasons = Vec::new();
        if known.name != *self.wanted.name {
            reasons.push(format!("it was {}", known.name));
        }
        for column in &self.renamed {
            let old = known_column(known, column).map_or("", |old| old.name.as_str());
            reasons.push(format!("column {old} is {} now", column.name));
        }
        for column in &self.added {
            reasons.push(format!("column {} is new", column.name));
        }
        for column in &self.recomputed {
            reasons.push(format!("column {} has another expression", column.name));
        }
        let mut note = |condition: bool, reason: &str| {
            if condition {
                reasons.push(reason.to_owned());
            }
        };
        let other_context = known.context != capture.context_declared;
        note(other_context, "its context columns");
        note(known.key != capture.key, "its primary key is another");
        let by = format!("by {} now: {}", capture.mode, self.wanted.because);
        note(self.mode_changes, &by);
        note(known.priority != capture.priority, "its priority");
        note(known.keep_triggers != capture.keep_triggers, "the triggers it keeps");
        match (&known.guard, &capture.guard) {
            (None, Some(_)) => note(true, "it is to be guarded"),
            (Some(_), None) => note(true, "it is no longer guarded"),
            _ => note(known.guard.is_some() && self.guard_is_gone(), "its guard is gone"),
        }
        note(self.there.is_none(), "its capture function is gone");
        let now = self.wanted.table.partitions.iter();
        let mut other_partitions =
            known.partitions != now.map(|member| (member.oid, member.attached.clone())).collect();
        if let Some(there) = self.there.filter(|there| !there.is(&self.function)) {
            let without = |body: &str| Some(body.replace(&format!("array[{}]", named_partitions(body)?), ""));
            let rest = without(&there.body);
            let is_about_partitions =
                there.head == self.function.head && rest.is_some() && rest == without(&self.function.body);
            other_partitions |= is_about_partitions;
            note(
                !is_about_partitions
                    && self.renamed.is_empty()
                    && self.added.is_empty()
                    && !self.mode_changes
                    && !other_context,
                "its capture function is not the one that belongs there",
            );
        }
        note(
            other_partitions && self.triggers != Triggers::Partitions,
            "partitions have come or gone",
        );
        note(
            logging && self.broken,
            "its capture was missing or switched off: changes made meanwhile are not in the log",
        );
        note(
            !logging && self.broken,
            "its capture triggers are not those of a table that is not logged",
        );
        note(
            logging && self.unfired,
            "statements that did not name it fired no trigger: changes made meanwhile may not be in the log",
        );
        note(self.triggers == Triggers::Partitions, "partitions have come");
        reasons
    }

    /// Returns the SQL that makes the capture what it is to be; `anew`: rows that were sent to sinks are to be sent once more.
    fn statements(&self, anew: bool, renderer: &Renderer) -> Result<String, RenderError> {
        let (capture, known, values) = (self.capture, self.known, || serde_value(self.capture));
        let there = &self.journal.tables[&capture.log];
        // A column of the table that had the name before gives it up: it is renamed first.
        let added_context: Vec<&Extra> = capture
            .context
            .iter()
            .filter(|extra| {
                !there.contains(&extra.column) || known.columns.iter().any(|column| column.log == extra.column)
            })
            .collect();
        let mut sql = renderer.render_value(
            "log/follow",
            context! {
                id => known.id, gap => self.gap(), anew, added => serde_value(&self.added), recomputed => serde_value(&self.recomputed), added_context => serde_value(&added_context),
                renamed => self.renamed.iter().map(|column| {
                    let from = known_column(known, column).map_or("", |old| old.log.as_str());
                    context! { from, to => &column.log, name => &column.name, attnum => column.attnum }
                }).collect::<Vec<_>>(),
                ..values()
            },
        )?;
        if self.function_differs() {
            sql.push('\n');
            sql.push_str(&self.function.sql);
        }
        if self.guard_differs() {
            if let Some(old) = known.guard.as_ref().filter(|_| capture.guard.is_none()) {
                sql.push_str(&format!(
                    "\ndrop view if exists {}.{};",
                    quoted(renderer.schema()),
                    quoted(old)
                ));
            } else if capture.guard.is_some() {
                sql.push('\n');
                sql.push_str(&renderer.render_value("log/guard", values())?);
            }
        }
        if self.triggers != Triggers::Right {
            sql.push('\n');
            let function = self.there.map(|there| there.oid);
            let drop_triggers = own_triggers(self.wanted, function, renderer.triggers());
            sql.push_str(&renderer.render("log/untrigger", context! { drop_triggers })?);
            sql.push('\n');
            sql.push_str(&renderer.render_value("log/triggers", values())?);
        }
        Ok(sql)
    }
}

/// Returns the list of partitions that the body of a capture function names, in all places alike (see `log/function`).
fn named_partitions(body: &str) -> Option<&str> {
    let (_, rest) = body.split_once("tg_relid operator(pg_catalog.<>) all (array[")?;
    Some(rest.split_once(']')?.0)
}

fn known_column<'k>(known: &'k Relation, column: &Column) -> Option<&'k journal::Column> {
    known.columns.iter().find(|old| old.attnum == column.attnum)
}

fn quoted(name: &str) -> String {
    postgres_protocol::escape::escape_identifier(name)
}
