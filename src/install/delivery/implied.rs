//! The group that a manifest does not declare: bound tables that no group selects have to be captured somewhere.
//!
//! It is added to the manifest before anything is planned, and planned like the others.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::Catalog;
use crate::journal::Journal;
use crate::manifest::{Group, Located, Manifest, Sequences, State};
use crate::names::{Pattern, QualifiedName, derived_name};

/// Adds a group for the bound tables that no group of the manifest selects and nobody captures yet: without it their changes would be
/// written down nowhere.
pub(in crate::install) fn complete<'m>(
    manifest: &'m Manifest,
    catalog: &Catalog,
    journal: Option<&Journal>,
) -> Cow<'m, Manifest> {
    let group = group_name(manifest, journal);
    let selected: BTreeSet<&QualifiedName> = manifest
        .groups
        .iter()
        .flat_map(|group| group.select(catalog.tables.keys()).chosen)
        .collect();
    let elsewhere = |oid: u32| {
        journal.is_some_and(|journal| {
            let relation = journal.relations.of(oid);
            let group = relation.and_then(|relation| journal.groups.get(&relation.group));
            group.is_some_and(|group| group.manifest != manifest.name)
        })
    };
    let mut tables: Vec<Located<Pattern>> = Vec::new();
    for binding in manifest.bindings.iter().filter(|binding| binding.to.is_some()) {
        let name = &binding.table.value;
        let Some(table) = catalog.tables.get(name) else {
            continue;
        };
        let known = tables
            .iter()
            .any(|pattern| pattern.value.is_exact().as_ref() == Some(name));
        if known
            || selected.contains(&name)
            || elsewhere(table.oid)
            || !table.ancestors.is_empty()
            || table.extension.is_some()
        {
            continue;
        }
        if let Ok(pattern) = Pattern::parse(&name.to_string()) {
            tables.push(Located::new(pattern, binding.table.place.clone()));
        }
    }
    let Some(place) = tables.first().map(|table| table.place.clone()) else {
        return Cow::Borrowed(manifest);
    };
    let mut completed = manifest.clone();
    completed.groups.push(Group {
        name: Located::new(group, place),
        tables,
        sequences: Sequences::None,
        state: State::Logging,
        rollback: false,
        comment: Some("tables that bindings read and no group has".to_owned()),
        context: Vec::new(),
        retention: None,
        keep_marks: None,
        max_size: None,
        table_options: Vec::new(),
        implicit: true,
    });
    Cow::Owned(completed)
}

/// Returns a name that no group of this manifest or of another one has.
fn group_name(manifest: &Manifest, journal: Option<&Journal>) -> String {
    derived_name(&[&manifest.name], ".bindings", &|name| {
        let others = journal.and_then(|journal| journal.groups.get(name));
        manifest.group(name).is_some() || others.is_some_and(|group| group.manifest != manifest.name)
    })
}

/// Returns why each table of a group that nobody declared is in it; nothing for the others.
pub(in crate::install) fn bound(manifest: &Manifest, group: &Group) -> BTreeMap<QualifiedName, String> {
    let mut bound: BTreeMap<QualifiedName, String> = BTreeMap::new();
    let bindings = manifest
        .bindings
        .iter()
        .filter(|binding| group.implicit && binding.to.is_some());
    for binding in bindings {
        let name = format!("`{}`", binding.name.value);
        bound
            .entry(binding.table.value.clone())
            .and_modify(|because| {
                because.push_str(", ");
                because.push_str(&name);
            })
            .or_insert_with(|| format!("bound by {name}"));
    }
    bound
}

/// Tells whether a group is the one that nobody declared: it had no other purpose.
pub(in crate::install) fn is_implied(manifest: &Manifest, group: &str, journal: &Journal) -> bool {
    group == group_name(manifest, Some(journal))
}
