//! The steps for sinks and bindings: what they ask of this database, and what changes between two installs.
//!
//! A sink is a cursor in the registry, a binding a row that says from when on changes of a table count. Settings and secrets never leave
//! the manifest. A bound table that no group selects is captured in a group of its own making (`implied`); what a sink misses of one is said by `gap`. What is done inside the
//! transaction is in `action`. Pure; called by `install::plan` and by the uninstallation.

mod binding;
mod check;
mod gap;
mod implied;
mod sink;

use self::binding::{plan_binding, remove_binding};
pub(super) use self::check::resolve;
pub(super) use self::gap::{Gap, Missed, Starved, starved, tell_gaps, tell_starved, unread};
pub(super) use self::implied::{bound, complete, is_implied};
use self::sink::{plan_sink, remove_sink};
use super::plan::Plan;
use crate::catalog::{Catalog, Table};
use crate::journal::Journal;
use crate::manifest::{Binding, Manifest, Sink};
use crate::names::QualifiedName;
use crate::render::{RenderError, Renderer};

/// A binding whose table is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct WantedBinding<'a> {
    pub binding: &'a Binding,
    pub name: &'a QualifiedName,
    pub table: &'a Table,
}

/// Plans all sinks and bindings, and the end of those that the manifest does not declare any more. Rows of sinks that are there come after those of
/// bindings, as couriers take them that send rows.
pub(super) fn plan(
    plan: &mut Plan,
    manifest: &Manifest,
    wanted: &[WantedBinding<'_>],
    catalog: &Catalog,
    journal: Option<&Journal>,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let is_there = |sink: &&Sink| journal.is_some_and(|journal| journal.sinks.contains_key(&sink.name.value));
    for sink in manifest.sinks.iter().filter(|sink| !is_there(sink)) {
        plan_sink(plan, manifest, sink, catalog, journal, renderer)?;
    }
    for binding in wanted {
        plan_binding(plan, manifest, binding, catalog, journal, renderer)?;
    }
    let Some(journal) = journal else { return Ok(()) };
    let because = "the manifest does not declare it any more";
    let gone = journal
        .bindings
        .iter()
        .filter(|(name, known)| known.manifest == manifest.name && manifest.binding(name).is_none());
    for (name, known) in gone {
        remove_binding(plan, name, known, because, catalog, journal, renderer)?;
    }
    for sink in manifest.sinks.iter().filter(is_there) {
        plan_sink(plan, manifest, sink, catalog, Some(journal), renderer)?;
    }
    for (name, _) in journal
        .sinks
        .iter()
        .filter(|(name, known)| known.manifest == manifest.name && manifest.sink(name).is_none())
    {
        remove_sink(plan, name, because, renderer)?;
    }
    Ok(())
}

/// Plans the end of the sinks and bindings of one manifest, or of all.
pub(super) fn uninstall(
    plan: &mut Plan,
    ours: &dyn Fn(&str) -> bool,
    catalog: &Catalog,
    journal: &Journal,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    for (name, known) in journal.bindings.iter().filter(|(_, known)| ours(&known.manifest)) {
        let because = format!("uninstall of manifest `{}`", known.manifest);
        remove_binding(plan, name, known, &because, catalog, journal, renderer)?;
    }
    for (name, known) in journal.sinks.iter().filter(|(_, known)| ours(&known.manifest)) {
        let because = format!("uninstall of manifest `{}`", known.manifest);
        remove_sink(plan, name, &because, renderer)?;
    }
    Ok(())
}

/// Returns the bindings and sinks of other manifests: `binding NAME`, `sink NAME`.
pub(super) fn of_others(ours: &dyn Fn(&str) -> bool, journal: &Journal) -> Vec<String> {
    let bindings = journal.bindings.iter().filter(|(_, known)| !ours(&known.manifest));
    let sinks = journal.sinks.iter().filter(|(_, known)| !ours(&known.manifest));
    let bindings = bindings.map(|(name, _)| format!("binding {name}"));
    bindings.chain(sinks.map(|(name, _)| format!("sink {name}"))).collect()
}
