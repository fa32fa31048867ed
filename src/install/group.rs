//! The steps for one group: its entry, its relations, its start.

use minijinja::context;

use super::plan::{Action, Phase, Plan, Step};
use super::wanted::WantedGroup;
use super::{delivery, table};
use crate::catalog::Catalog;
use crate::journal::{ActiveMarks, Group, Journal};
use crate::manifest::{KeepMarks, Manifest, State};
use crate::pg::Span;
use crate::render::{RenderError, Renderer};
use crate::words::{count, shell};

pub(super) fn plan(
    plan: &mut Plan,
    manifest: &Manifest,
    wanted: &WantedGroup<'_>,
    catalog: &Catalog,
    journal: Option<&Journal>,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let name = &wanted.group.name.value;
    let known = journal.and_then(|journal| journal.groups.get(name));
    let first = plan.steps.len();
    plan_entry(plan, wanted, known, catalog, renderer)?;
    let sequences = wanted.sequence_oids();
    let logging = known.is_some_and(|known| known.logging);
    // `idle` leaves it to whoever runs the group whether it logs.
    let wants_logging = wanted.group.state == State::Logging;
    let starts = !logging && wants_logging;
    if logging && !wants_logging {
        plan.notes.push(format!(
            "group `{name}` logs, though its state here is idle: an install stops no group (`emaj group stop {}` does)",
            shell(name)
        ));
    }
    let before = plan.steps.len();
    let setting = table::Setting {
        group: wanted.group,
        bound: delivery::bound(manifest, wanted.group),
        logging,
        enabled: logging || starts,
        active_marks: known.map_or_else(ActiveMarks::default, |known| known.active_marks),
    };
    for wanted in &wanted.tables {
        table::plan(plan, &setting, wanted, journal, renderer)?;
    }
    if starts && known.is_some() {
        table::note_stop(plan, wanted, journal);
    }
    for (sequence, oid) in &wanted.sequences {
        table::plan_sequence(plan, &setting, sequence, *oid, journal, renderer)?;
    }
    let relations = count(wanted.tables.len() + wanted.sequences.len(), "relation");
    if starts {
        let sql = renderer.render("group/begin", context! { group => name })?;
        let because = if known.is_some() {
            "its state is to be logging, and it is idle"
        } else {
            "its state is to be logging"
        };
        let mut step = Step::new(Phase::Start, Action::Start, format!("group {name}"), because, sql)
            .marking(&sequences)
            .effect(format!("sets the first mark on {relations}"));
        step.tables = wanted.tables.iter().map(|wanted| wanted.table.oid).collect();
        plan.push(step);
    } else if plan.steps[before..].iter().any(|step| step.phase >= Phase::Capture) {
        if logging {
            mark_change(plan, name, &sequences, renderer)?;
        } else {
            // What logs is looked at by the mark or the start.
            plan.looks
                .push(renderer.render("group/look", context! { group => name })?);
        }
    }
    if plan.steps.len() > first && known.is_some() {
        plan.groups.insert(name.clone(), logging);
    }
    Ok(())
}

/// Plans what the registry says of the group itself.
fn plan_entry(
    plan: &mut Plan,
    wanted: &WantedGroup<'_>,
    known: Option<&Group>,
    catalog: &Catalog,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let name = &wanted.group.name.value;
    let object = format!("group {name}");
    let retention = match wanted.group.implicit {
        // Of a group that nobody declared: how long its log is kept beyond what sinks have read.
        true => Some(Span::day()),
        false => wanted
            .group
            .retention
            .as_ref()
            .and_then(|text| catalog.intervals.get(&text.value).cloned()),
    };
    let (keep_marks, keep_time) = match &wanted.group.keep_marks {
        None => (None, None),
        Some(KeepMarks::Number(number)) => (Some(*number), None),
        Some(KeepMarks::Time(text)) => (None, catalog.intervals.get(&text.value).cloned()),
    };
    let max_size = wanted.group.max_size.and_then(|bytes| i64::try_from(bytes).ok());
    let values = |because: &str| {
        context! {
            keep_marks => keep_marks.map(|number| number.to_string()), keep_time => keep_time.as_ref().map(Span::text),
            max_size => max_size.map(|bytes| bytes.to_string()),
            group => name, manifest => wanted.manifest, rollback => wanted.group.rollback,
            comment => wanted.group.comment.clone(), retention => retention.as_ref().map(Span::text), because => because,
        }
    };
    let Some(known) = known else {
        plan.push(Step::new(
            Phase::Groups,
            Action::Create,
            &object,
            if wanted.group.implicit {
                "bindings read tables that no group of the manifest has"
            } else {
                "the manifest declares it"
            },
            renderer.render("group/create", values(""))?,
        ));
        return Ok(());
    };
    let mut reasons = Vec::new();
    if known.rollback != wanted.group.rollback {
        reasons.push(if wanted.group.rollback {
            "it is to be rolled back"
        } else {
            "it is audit-only now"
        });
    }
    if known.comment != wanted.group.comment {
        reasons.push("its comment");
    }
    if known.retention != retention {
        reasons.push("its retention");
    }
    let keeps_otherwise = (known.keep_marks, &known.keep_time) != (keep_marks, &keep_time);
    if keeps_otherwise {
        reasons.push("which marks it keeps");
    }
    if known.max_size != max_size {
        reasons.push("how large its logs may be");
    }
    if reasons.is_empty() {
        return Ok(());
    }
    let because = reasons.join(", ");
    let begins_rollback = wanted.group.rollback && !known.rollback;
    let context = context! { begins_rollback, logging => known.logging, ..values(&because) };
    let sql = renderer.render_value("group/change", context)?;
    let step = Step::new(Phase::Start, Action::Change, &object, because, sql);
    let mut step = match begins_rollback && known.logging {
        true => step.marking(&wanted.sequence_oids()),
        false => step,
    };
    if begins_rollback {
        step.and_marks(known.active_marks.count, "set before cannot be rolled back to");
    } else if known.rollback && !wanted.group.rollback {
        // For good: an audit-only group may lose log rows by their age, and needs no key.
        step = step.losing(name, known.active_marks);
    }
    if keeps_otherwise {
        step.and_marks(known.expiring, "will go with the next purge");
    }
    plan.push(step);
    Ok(())
}

/// Plans the mark of the moment at which the content of a logging group changes.
pub(super) fn mark_change(
    plan: &mut Plan,
    name: &str,
    sequences: &[u32],
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let sql = renderer.render("mark/install", context! { group => name })?;
    plan.push(
        Step::new(
            Phase::Start,
            Action::Create,
            format!("mark of group {name}"),
            "its content changes while it logs",
            sql,
        )
        .marking(sequences)
        .effect("a moment to roll back to from now on"),
    );
    Ok(())
}
