//! The triggers that capture a table: whether they are those that belong there, and fire, and whether somebody else had a hand in them.
//!
//! Pure; called by `follow`, and by `create` for what an earlier capture has left behind.

use minijinja::context;
use minijinja::value::Value;

use super::capture::Capture;
use crate::catalog;
use crate::install::wanted::{Mode, WantedTable};
use crate::journal::{Journal, Relation};
use crate::render::TriggerNames;

/// What the triggers of a captured table are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Triggers {
    Right,
    /// Only partitions lack the one that catches TRUNCATE.
    Partitions,
    Broken,
}

/// Holds the triggers that there are against those that belong there.
pub(super) fn triggers_differ(
    capture: &Capture<'_>,
    wanted: &WantedTable<'_>,
    journal: &Journal,
    known: &Relation,
    names: &TriggerNames,
    logging: bool,
) -> Triggers {
    let Some(function) = journal.functions.get(&capture.log).map(|function| function.oid) else {
        return Triggers::Broken;
    };
    let right = |triggers: &[catalog::Trigger], name: &str| {
        let fires = |trigger: &catalog::Trigger| match trigger.state {
            'A' => logging && !switched(known, trigger),
            _ => !logging,
        };
        triggers
            .iter()
            .any(|trigger| trigger.name == name && trigger.function == function && fires(trigger))
    };
    let expected: &[&str] = match wanted.mode {
        Mode::Statement => &[&names.insert, &names.update, &names.delete, &names.truncate],
        Mode::Row => &[&names.row, &names.truncate],
    };
    let triggers = wanted.table.triggers.iter();
    let own = triggers
        .filter(|trigger| is_own(trigger, Some(function), names))
        .count();
    if own != expected.len() || !expected.iter().all(|name| right(&wanted.table.triggers, name)) {
        return Triggers::Broken;
    }
    let is_stray =
        |trigger: &catalog::Trigger| trigger.function == function && !trigger.cloned && !names.contains(&trigger.name);
    let mut members = wanted.table.partitions.iter();
    if members.any(|partition| partition.triggers.iter().any(is_stray)) {
        return Triggers::Broken;
    }
    let leaves = wanted.table.partitions.iter().filter(|partition| partition.leaf);
    for leaf in leaves {
        if !right(&leaf.triggers, &names.row) {
            return Triggers::Broken;
        }
        if !right(&leaf.triggers, &names.truncate) {
            // One that is there and does not fire was switched: what was truncated is not in the log.
            let is_there = leaf.triggers.iter().any(|trigger| trigger.name == names.truncate);
            return if is_there {
                Triggers::Broken
            } else {
                Triggers::Partitions
            };
        }
    }
    Triggers::Right
}

/// Whether a trigger is emaj's: it is called so, or calls the capture function `function`, as one does that was renamed.
fn is_own(trigger: &catalog::Trigger, function: Option<u32>, names: &TriggerNames) -> bool {
    names.contains(&trigger.name) || function == Some(trigger.function)
}

/// emaj's triggers of a table and its partitions, clones left out: they go with their parent's.
pub(super) fn own_triggers(wanted: &WantedTable<'_>, function: Option<u32>, names: &TriggerNames) -> Vec<Value> {
    let of = |table: String, triggers: &[catalog::Trigger]| {
        let own = triggers
            .iter()
            .filter(|trigger| is_own(trigger, function, names) && !trigger.cloned);
        own.map(|trigger| context! { name => &trigger.name, table => &table })
            .collect::<Vec<_>>()
    };
    let mut all = of(wanted.name.to_string(), &wanted.table.triggers);
    for partition in &wanted.table.partitions {
        all.extend(of(partition.name.to_string(), &partition.triggers));
    }
    all
}

/// Whether the triggers of the mode that is left are all there and fire.
pub(super) fn captured_before(wanted: &WantedTable<'_>, known: &Relation, names: &TriggerNames) -> bool {
    let expected: &[&String] = if known.mode.as_deref() == Some(Mode::Statement.name()) {
        &[&names.insert, &names.update, &names.delete, &names.truncate]
    } else {
        &[&names.row, &names.truncate]
    };
    expected.iter().all(|name| {
        wanted
            .table
            .triggers
            .iter()
            .any(|trigger| trigger.name == **name && trigger.state == 'A' && !switched(known, trigger))
    })
}

/// Whether somebody else has switched a trigger off and on again, or made it anew: its row in the catalogue is not the one that was noted.
/// Clones come with partitions, and nobody notes those.
fn switched(known: &Relation, trigger: &catalog::Trigger) -> bool {
    match known.triggers.get(&trigger.oid) {
        Some(version) => *version != trigger.version,
        None => !trigger.cloned,
    }
}
