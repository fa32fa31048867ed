//! What sinks miss: changes of a bound table that no log holds, because the table was not captured for a while, and values that a column got before
//! it was. A plan says which bindings that is about, and which `emaj init` brings their places up to date.
//!
//! `table` notes where capture begins ([`Gap`]); here it is held against the bindings that were there before. `removal` knows where capture ends: bindings
//! of other manifests stay there, and are told nothing any more.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::Catalog;
use crate::install::plan::Plan;
use crate::journal::{InstalledBinding, Journal, Relation, init_command};
use crate::manifest::{Binding, BindingKind, Manifest};
use crate::names::{QualifiedName, listed};

/// A time of which the log of a table says nothing, or not all.
#[derive(Debug, Clone)]
pub(in crate::install) struct Gap {
    pub table: u32,
    pub name: QualifiedName,
    pub missed: Missed,
}

/// What is not in the log.
#[derive(Debug, Clone)]
pub(in crate::install) enum Missed {
    /// Changes of rows.
    Changes,
    /// What is in these columns so far.
    Values(Vec<String>),
    /// Rows that these partitions had when they came.
    Came(Vec<String>),
    /// Rows that partitions took along when they were detached or dropped.
    Went,
}

/// Says of each gap which bindings miss something; those that begin with this plan do not, nor those that end.
pub(in crate::install) fn tell_gaps(plan: &mut Plan, manifest: &Manifest, journal: Option<&Journal>) {
    let Some(journal) = journal else { return };
    let gaps = std::mem::take(&mut plan.gaps);
    for gap in &gaps {
        // The bindings by what is missed, and then what brings each up to date.
        let mut missing: BTreeMap<String, Vec<(&str, String)>> = BTreeMap::new();
        for (name, known) in journal.bindings.iter().filter(|(_, known)| known.oid == gap.table) {
            let Some(sink) = &known.sink else { continue };
            let declared = manifest.binding(name);
            if known.manifest == manifest.name && declared.is_none_or(|binding| binding.table.value != gap.name) {
                continue;
            }
            let kind = journal.sinks.get(sink).map_or("", |sink| sink.kind.as_str());
            let (what, prune) = match &gap.missed {
                Missed::Changes => ("what was changed in it meanwhile".to_owned(), true),
                Missed::Values(columns) => match seen(columns, known, declared) {
                    columns if columns.is_empty() => continue,
                    columns => (format!("what is in {} already", listed(columns)), false),
                },
                Missed::Came(partitions) => {
                    let what = format!(
                        "what was in {} before it was a part of it, if it had rows,",
                        partitions.join(", ")
                    );
                    (what, false)
                }
                Missed::Went => ("that rows are gone with a partition".to_owned(), true),
            };
            let command = init_command(name, &known.kind, kind, prune);
            missing.entry(what).or_default().push((name, command));
        }
        for (what, bindings) in missing {
            let names = listed(bindings.iter().map(|(name, _)| *name));
            let commands: Vec<String> = bindings.iter().map(|(_, command)| format!("`{command}`")).collect();
            let sinks: Vec<&String> = bindings
                .iter()
                .filter_map(|(name, _)| journal.bindings.get(*name)?.sink.as_ref())
                .collect();
            let (before, after) = match &gap.missed {
                Missed::Changes => (" was not captured for a while", ""),
                Missed::Values(_) => ("", ", only what is written from now on"),
                Missed::Came(_) | Missed::Went => ("", ""),
            };
            plan.notes.push(format!(
                "table {}{before}: {what} never reaches {}{after}; once this is installed, {}",
                gap.name,
                places(&names, sinks),
                closes(&commands)
            ));
        }
    }
}

/// Bindings that stay though the capture of their tables ends, by name.
pub(in crate::install) type Starved<'j> = BTreeMap<&'j str, &'j InstalledBinding>;

/// Finds them: bindings of manifests that are not `ours`, where these `relations` end and their tables are still there.
pub(in crate::install) fn starved<'j>(
    relations: &[&Relation],
    ours: &dyn Fn(&str) -> bool,
    (catalog, journal): (&Catalog, &'j Journal),
) -> Starved<'j> {
    let ended: BTreeSet<u32> = relations.iter().map(|relation| relation.oid).collect();
    let ends = |oid: u32| ended.contains(&oid) && catalog.table(oid).is_some();
    let bindings = journal.bindings.iter();
    bindings
        .filter(|(_, known)| known.sink.is_some() && !ours(&known.manifest) && ends(known.oid))
        .map(|(name, known)| (name.as_str(), known))
        .collect()
}

/// Returns what they have not read of their logs, which a step takes away: the end of the sentence on its effect.
pub(in crate::install) fn unread(starved: &Starved<'_>) -> String {
    let unread = starved.iter().filter(|(_, known)| known.unread > 0);
    let (names, sinks): (Vec<&str>, Vec<&String>) = unread
        .filter_map(|(name, known)| Some((*name, known.sink.as_ref()?)))
        .unzip();
    if names.is_empty() {
        return String::new();
    }
    format!(
        "; what is not delivered yet to {} is lost",
        places(&listed(names), sinks)
    )
}

/// Says that they are told nothing from then on, and what brings them up to date.
pub(in crate::install) fn tell_starved(plan: &mut Plan, starved: &Starved<'_>, journal: &Journal) {
    for (name, known) in starved {
        let Some(sink) = &known.sink else { continue };
        let kind = journal.sinks.get(sink).map_or("", |sink| sink.kind.as_str());
        plan.notes.push(format!(
            "table {} is not captured any more: what changes in it from then on never reaches {}; once manifest `{}` is installed again, {}",
            known.table,
            places(&listed([name]), vec![sink]),
            known.manifest,
            closes(&[format!("`{}`", init_command(name, &known.kind, kind, true))])
        ));
    }
}

/// Returns those of the columns that a binding delivers. Of another manifest's only the kind is known; a message tells of changes, and of what they
/// leave alone nothing.
fn seen<'c>(columns: &'c [String], known: &InstalledBinding, declared: Option<&Binding>) -> Vec<&'c String> {
    let whole = match declared.map(|binding| &binding.kind) {
        Some(BindingKind::Row { columns, .. }) => columns.is_empty(),
        Some(_) => false,
        None => known.kind == "row",
    };
    let used: Vec<String> = match declared {
        Some(binding) if known.kind != "message" => {
            binding.columns_used().into_iter().map(|column| column.value).collect()
        }
        _ => Vec::new(),
    };
    columns.iter().filter(|column| whole || used.contains(column)).collect()
}

fn places(names: &str, mut sinks: Vec<&String>) -> String {
    sinks.sort_unstable();
    sinks.dedup();
    let noun = if sinks.len() == 1 { "sink" } else { "sinks" };
    format!("{noun} {} (binding {names})", listed(sinks))
}

fn closes(commands: &[String]) -> String {
    let verb = if commands.len() == 1 { "brings" } else { "bring" };
    format!("{} {verb} that up to date", commands.join(", "))
}
