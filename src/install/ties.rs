//! Foreign keys that leave a group. What is outside stays as it is in a rollback, and one that would leave a row without its partner is
//! refused: better said when a table is taken in than when there is something to undo.

use std::collections::{BTreeMap, BTreeSet};

use super::wanted::WantedGroup;
use crate::catalog::{Catalog, Table};
use crate::journal::Journal;
use crate::names::QualifiedName;
use crate::words::count;

/// So many are named.
const NAMED: usize = 3;

/// Says of each group that can be rolled back, and that gets tables, which foreign keys tie its tables to others.
pub(super) fn notes(groups: &[WantedGroup<'_>], catalog: &Catalog, journal: Option<&Journal>) -> Vec<String> {
    let by_oid: BTreeMap<u32, (&QualifiedName, &Table)> = catalog
        .tables
        .iter()
        .map(|(name, table)| (table.oid, (name, table)))
        .collect();
    let is_new = |group: &WantedGroup<'_>, oid: u32| {
        let known = journal.and_then(|journal| journal.relations.of(oid));
        known.is_none_or(|known| known.group != group.group.name.value)
    };
    let told = groups.iter().filter(|group| group.group.rollback);
    let told = told.filter(|group| group.tables.iter().any(|wanted| is_new(group, wanted.table.oid)));
    told.filter_map(|group| note(group, &by_oid)).collect()
}

fn note(group: &WantedGroup<'_>, by_oid: &BTreeMap<u32, (&QualifiedName, &Table)>) -> Option<String> {
    let ours: BTreeSet<u32> = group.tables.iter().map(|wanted| wanted.table.oid).collect();
    let is_ours = |table: &Table| ours.contains(&table.oid) || table.ancestors.iter().any(|above| ours.contains(above));
    let mut ties = BTreeSet::new();
    for (name, table) in by_oid.values() {
        for (other, partner) in table.refers_to.iter().filter_map(|oid| by_oid.get(oid)) {
            if is_ours(table) != is_ours(partner) {
                ties.insert(format!("{name} refers to {other}"));
            }
        }
    }
    let mut said: Vec<String> = ties.iter().take(NAMED).cloned().collect();
    if ties.len() > NAMED {
        said.push(format!("{} more", count(ties.len() - NAMED, "foreign key")));
    }
    (!said.is_empty()).then(|| {
        format!(
            "group `{}`: foreign keys lead out of it: {}; a rollback leaves what is outside as it is, and is refused where a row would \
             refer to none: tables that belong together are best in one group",
            group.group.name.value,
            said.join(", ")
        )
    })
}
