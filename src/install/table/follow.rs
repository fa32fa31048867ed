//! How the capture of a table follows what has changed, in the table or in the manifest: the step for it, if there is one.
//!
//! Called by `table` for a table whose capture can go on; one that must begin anew is ended there, and created.

use minijinja::context;

use super::Setting;
use super::capture::{Capture, Column, Extra, serde_value};
use super::triggers::{Triggers, captured_before, own_triggers, triggers_differ};
use crate::install::plan::{Action, Lock, Phase, Plan, Step};
use crate::install::wanted::{Mode, WantedTable, needs_row};
use crate::journal::{self, Journal, Relation};
use crate::render::{RenderError, Renderer, function};
use crate::ui::words::count;

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
    let values = || serde_value(capture);
    let mut reasons: Vec<String> = Vec::new();
    let renamed: Vec<&Column> = capture
        .columns
        .iter()
        .filter(|column| known_column(known, column).is_some_and(|old| old.log != column.log))
        .collect();
    let added: Vec<&Column> = capture
        .columns
        .iter()
        .filter(|column| column.captured && known_column(known, column).is_none())
        .collect();
    // A column of the table that had the name before gives it up: it is renamed first.
    let there = &journal.tables[&capture.log];
    let added_context: Vec<&Extra> = capture
        .context
        .iter()
        .filter(|extra| !there.contains(&extra.column) || known.columns.iter().any(|column| column.log == extra.column))
        .collect();
    let mut note = |condition: bool, reason: &dyn Fn() -> String| {
        if condition {
            reasons.push(reason());
        }
    };
    note(known.name != *wanted.name, &|| format!("it was {}", known.name));
    for column in &renamed {
        let old = known_column(known, column).map_or("", |old| old.log.as_str());
        note(true, &|| format!("column {old} is {} now", column.log));
    }
    for column in &added {
        note(true, &|| format!("column {} is new", column.name));
    }
    note(known.context != capture.context_declared, &|| {
        "its context columns".to_owned()
    });
    note(known.key != capture.key, &|| "its primary key is another".to_owned());
    note(known.mode.as_deref() != Some(capture.mode), &|| {
        format!("by {} now: {}", capture.mode, wanted.because)
    });
    note(known.priority != capture.priority, &|| "its priority".to_owned());
    note(known.keep_triggers != capture.keep_triggers, &|| {
        "the triggers it keeps".to_owned()
    });
    note(known.guard.is_some() != capture.guard.is_some(), &|| {
        if capture.guard.is_some() {
            "it is to be guarded"
        } else {
            "it is no longer guarded"
        }
        .to_owned()
    });
    note(
        capture
            .guard
            .as_ref()
            .is_some_and(|guard| known.guard.is_some() && !journal.views.contains(guard)),
        &|| "its guard is gone".to_owned(),
    );

    let rendered = function(renderer.render_value("log/function", values())?);
    let body = journal
        .functions
        .get(&capture.log)
        .map(|function| function.body.as_str());
    let triggers = triggers_differ(capture, wanted, journal, known, renderer.triggers(), setting.logging);
    let mode_changes = known.mode.as_deref() != Some(capture.mode);
    note(body.is_none(), &|| "its capture function is gone".to_owned());
    note(
        body.is_some_and(|body| body != rendered.body)
            && added.is_empty()
            && !mode_changes
            && known.context == capture.context_declared,
        &|| "its capture function is not the one that belongs there".to_owned(),
    );
    // Missing or switched off while the group logs: changes may have been lost, so earlier marks are no targets any more.
    let broken = if mode_changes {
        setting.logging && !captured_before(wanted, known, renderer.triggers())
    } else {
        triggers == Triggers::Broken
    };
    note(setting.logging && broken, &|| {
        "its capture was missing or switched off: changes made meanwhile are not in the log".to_owned()
    });
    note(!setting.logging && broken, &|| {
        "its capture triggers are not those of a table that is not logged".to_owned()
    });
    let missed =
        mode_changes && known.mode.as_deref() == Some(Mode::Statement.name()) && needs_row(wanted.table).is_some();
    note(setting.logging && missed, &|| {
        "statements that did not name it fired no trigger: changes made meanwhile may not be in the log".to_owned()
    });
    // Rows that had one value of the new key in common cannot be told apart in what was logged before.
    let other_key = setting.group.rollback && known.key != capture.key;
    let gap = setting.logging && (broken || missed || other_key);
    note(triggers == Triggers::Partitions, &|| "partitions have come".to_owned());
    let quiet = known.natts != Some(capture.natts);
    if reasons.is_empty() && !quiet {
        plan.unchanged += 1;
        return Ok(());
    }
    let because = if reasons.is_empty() {
        "a column that is not captured came or went".to_owned()
    } else {
        reasons.join("; ")
    };
    let mut sql = renderer.render_value(
        "log/follow",
        context! {
            id => known.id, gap, added => serde_value(&added), added_context => serde_value(&added_context),
            renamed => renamed.iter().map(|column| {
                let from = known_column(known, column).map_or("", |old| old.log.as_str());
                context! { from, to => &column.log, attnum => column.attnum }
            }).collect::<Vec<_>>(),
            ..values()
        },
    )?;
    if body != Some(rendered.body.as_str()) {
        sql.push('\n');
        sql.push_str(&rendered.sql);
    }
    let shape_changes = !added.is_empty()
        || known.guard != capture.guard
        || capture
            .guard
            .as_ref()
            .is_some_and(|guard| !journal.views.contains(guard));
    if shape_changes {
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
    let mut lock = Lock::ShareRowExclusive;
    if triggers != Triggers::Right {
        lock = Lock::AccessExclusive;
        sql.push('\n');
        sql.push_str(&renderer.render(
            "log/untrigger",
            context! { drop_triggers => own_triggers(wanted, renderer.triggers()) },
        )?);
        sql.push('\n');
        sql.push_str(&renderer.render_value("log/triggers", values())?);
    }
    let mut step = Step::new(
        Phase::Capture,
        Action::Change,
        format!("capture of {}", wanted.name),
        because,
        sql,
    )
    .locking(lock, capture.oid)
    .effect("writers wait; the log goes on without a gap");
    if gap {
        step = step.effect(format!(
            "{} can no longer be rolled back to",
            count(setting.active_marks, "mark")
        ));
        if setting.active_marks > 0 {
            step = step.destroying();
        }
    }
    plan.push(step);
    Ok(())
}

fn known_column<'k>(known: &'k Relation, column: &Column) -> Option<&'k journal::Column> {
    known.columns.iter().find(|old| old.attnum == column.attnum)
}

fn quoted(name: &str) -> String {
    postgres_protocol::escape::escape_identifier(name)
}
