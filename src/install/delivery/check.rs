//! What only the database can tell of bindings: whether their tables and columns are there, and whose they are. All of it is reported at
//! once.

use super::WantedBinding;
use crate::catalog::{Catalog, Generated, Table};
use crate::errors::Kind;
use crate::install::action;
use crate::install::obstacle::unlogged;
use crate::install::wanted::{Found, Problem, place_text};
use crate::journal::{InstalledBinding, Journal};
use crate::manifest::{
    Binding, BindingKind, Diagnostic, EntryOf, EntryRef, Manifest, Place, RowsOf, State, complaints_of_rows,
};
use crate::names::{QualifiedName, nearest};
use crate::words::shell;

/// Finds the tables of all bindings, and everything that is wrong with sinks and bindings.
pub(in crate::install) fn resolve<'a>(
    manifest: &'a Manifest,
    catalog: &'a Catalog,
    journal: Option<&Journal>,
    found: &mut Found,
) -> Vec<WantedBinding<'a>> {
    for sink in &manifest.sinks {
        let owner = journal.and_then(|journal| journal.sinks.get(&sink.name.value));
        found.check_owner("sink", &sink.name, owner.map(|known| &known.manifest), manifest);
    }
    let mut wanted = Vec::new();
    for binding in &manifest.bindings {
        let known = journal.and_then(|journal| journal.bindings.get(&binding.name.value));
        found.check_owner("binding", &binding.name, known.map(|known| &known.manifest), manifest);
        let name = &binding.table.value;
        let Some(table) = catalog.tables.get(name) else {
            found.problems.push(no_table(binding, known, catalog));
            continue;
        };
        let before = found.problems.len();
        let bound = WantedBinding { binding, name, table };
        check_columns(binding, name, table, found);
        if binding.to.is_some() {
            check_delivered(&bound, manifest, catalog, journal, found);
            note_queries(binding, catalog, found);
        } else {
            action::check(binding, name, table, catalog, found);
        }
        if found.problems.len() == before {
            wanted.push(bound);
        }
    }
    check_rows(manifest, &wanted, found);
    check_entries_of(&wanted, found);
    wanted
}

/// Says which queries the server can make no sense of. (Who delivers may have another path, and what they name may come later.)
fn note_queries(binding: &Binding, catalog: &Catalog, found: &mut Found) {
    for query in binding.kind.queries() {
        let said = query
            .value
            .statement()
            .and_then(|text| catalog.refused_queries.get(&text));
        if let Some(said) = said {
            found.notes.push(format!(
                "{}: the query of binding `{}` cannot be asked by {}: {said}; its sink would wait for that to be put right",
                place_text(&query.place),
                binding.name.value,
                catalog.server.role
            ));
        }
    }
}

/// Holds the key by which a binding names the entries of another one against that one's table.
fn check_entries_of(wanted: &[WantedBinding<'_>], found: &mut Found) {
    for bound in wanted {
        let (BindingKind::Value { entry, .. } | BindingKind::Flag { entry, .. } | BindingKind::Query { entry, .. }) =
            &bound.binding.kind
        else {
            continue;
        };
        let EntryRef::OfRow(of) = entry else { continue };
        // (Where its table is wrong, that has been said.)
        if let Some(maker) = wanted.iter().find(|maker| maker.binding.name.value == of.binding.value) {
            check_entry_of(bound, of, maker, found);
        }
    }
}

fn check_entry_of(bound: &WantedBinding<'_>, of: &EntryOf, maker: &WantedBinding<'_>, found: &mut Found) {
    let (key, given) = (key_of(maker.table), || {
        of.key.iter().map(|(theirs, _)| theirs.value.as_str())
    });
    let key: Vec<&str> = key.collect();
    for (theirs, _) in of
        .key
        .iter()
        .filter(|(theirs, _)| !key.contains(&theirs.value.as_str()))
    {
        let what = Diagnostic::error(
            &theirs.place,
            format!(
                "column `{}` is not in the primary key of table {}",
                theirs.value, maker.name
            ),
        )
        .nearest(nearest(&theirs.value, key.iter().copied()))
        .next(format!("its primary key is ({})", key.join(", ")));
        let kind = Kind::Manifest;
        found.problems.push(Problem { kind, what });
    }
    if let Some(missing) = key.iter().find(|column| given().all(|given| given != **column)) {
        found.problem(
            Kind::Manifest,
            &of.binding.place,
            format!(
                "`key` does not say which column holds `{missing}` of table {}",
                maker.name
            ),
            format!("name the whole primary key: ({})", key.join(", ")),
        );
    }
    let type_of = |table: &'_ Table, name: &str| -> Option<String> {
        Some(table.columns.iter().find(|column| column.name == name)?.r#type.clone())
    };
    for (theirs, own) in &of.key {
        let (Some(of_key), Some(held)) = (type_of(maker.table, &theirs.value), type_of(bound.table, &own.value)) else {
            continue;
        };
        if printed_alike(&of_key).is_none() || printed_alike(&of_key) != printed_alike(&held) {
            found.problem(
                Kind::Manifest,
                &own.place,
                format!(
                    "a row of {} cannot be found by `{}`: that is {held}, and `{}` there is {of_key}",
                    maker.name, own.value, theirs.value
                ),
                "only whole numbers, uuids, and texts without a collation of their own can be compared; `search` for the entry, or name it by `dn`",
            );
        }
    }
}

/// Returns what stands for all types that print equal values in one way; `None`: not all equal values of this type are printed in one way.
fn printed_alike(of_type: &str) -> Option<&'static str> {
    let is = |name: &str| of_type == name || of_type.starts_with(&format!("{name}(")) && of_type.ends_with(')');
    let sort = |sort, names: &[&str]| names.iter().any(|name| is(name)).then_some(sort);
    sort("number", &["smallint", "integer", "bigint"])
        .or_else(|| sort("text", &["text", "character varying"]))
        .or_else(|| sort("uuid", &["uuid"]))
}

/// Holds what bindings make of one table against each other, as far as the manifest alone does not tell it.
fn check_rows(manifest: &Manifest, wanted: &[WantedBinding<'_>], found: &mut Found) {
    let keeps_rows = |binding: &Binding| {
        let sink = binding.to.as_ref().and_then(|to| manifest.sink(&to.value));
        sink.is_some_and(|sink| sink.kind.ability().keeps_rows)
    };
    let bound = wanted.iter().filter(|bound| keeps_rows(bound.binding));
    let rows: Vec<RowsOf<'_>> = bound
        .filter_map(|bound| {
            let mut rows = RowsOf::said(bound.binding)?;
            if rows.key.is_empty() {
                rows.key = key_of(bound.table).collect();
            }
            if rows.columns.is_empty() {
                rows.columns = logged(bound.table).collect();
            }
            Some(rows)
        })
        .collect();
    found
        .problems
        .extend(complaints_of_rows(&rows).into_iter().map(|what| Problem {
            kind: Kind::Manifest,
            what,
        }));
}

/// The columns that the log has. (What is virtual is computed when it is read, and never written down.)
fn logged(table: &Table) -> impl Iterator<Item = &str> {
    let stored = table
        .columns
        .iter()
        .filter(|column| column.generated != Generated::Virtual);
    stored.map(|column| column.name.as_str())
}

fn key_of(table: &Table) -> impl Iterator<Item = &str> {
    table.key.iter().filter_map(|number| {
        let column = table.columns.iter().find(|column| column.attnum == *number)?;
        Some(column.name.as_str())
    })
}

fn no_table(binding: &Binding, known: Option<&InstalledBinding>, catalog: &Catalog) -> Problem {
    let name = &binding.table.value;
    let present = known
        .filter(|known| known.table == *name)
        .and_then(|known| catalog.table(known.oid));
    let what = match (present, catalog.not_the_application(name)) {
        (Some((present, _)), _) => Diagnostic::error(
            &binding.table.place,
            format!("there is no table {name}: it is {present} now"),
        )
        .next(format!("write `table: {present}`; the binding goes on where it is")),
        (None, Some(is)) => Diagnostic::error(&binding.table.place, format!("table {name} {is}"))
            .next("only a table of the application can be bound"),
        (None, None) => Diagnostic::error(
            &binding.table.place,
            format!("there is no table {name} in database {}", catalog.server.database),
        )
        .nearest(nearest(name, catalog.tables.keys()))
        .next("only tables and partitioned tables can be bound, no views"),
    };
    Problem {
        kind: Kind::Manifest,
        what,
    }
}

fn check_columns(binding: &Binding, name: &QualifiedName, table: &Table, found: &mut Found) {
    let known = || logged(table);
    let mut said: Vec<(String, usize, usize)> = Vec::new();
    for column in binding.columns_used() {
        let at = (column.value.clone(), column.place.line(), column.place.column());
        if known().any(|name| name == column.value) || said.contains(&at) {
            continue;
        }
        said.push(at);
        if table.columns.iter().any(|there| there.name == column.value) {
            found.problem(
                Kind::Manifest,
                &column.place,
                format!(
                    "column `{}` of table {name} is virtual: it is not in the log",
                    column.value
                ),
                "write its expression here, from columns that are stored, or make the column `stored`",
            );
            continue;
        }
        let what = Diagnostic::error(&column.place, format!("table {name} has no column `{}`", column.value))
            .nearest(nearest(&column.value, known()))
            .next(format!("it has: {}", known().collect::<Vec<_>>().join(", ")));
        found.problems.push(Problem {
            kind: Kind::Manifest,
            what,
        });
    }
    if let BindingKind::Row { key, columns, .. } = &binding.kind {
        let targets: Vec<&str> = match columns.as_slice() {
            [] => known().collect(),
            columns => columns.iter().map(|(name, _)| name.value.as_str()).collect(),
        };
        let keys: Vec<(&str, &Place)> = match key.as_slice() {
            [] => key_of(table).map(|name| (name, &binding.name.place)).collect(),
            key => key
                .iter()
                .map(|column| (column.value.as_str(), &column.place))
                .collect(),
        };
        for (key, place) in keys.into_iter().filter(|(key, _)| !targets.contains(key)) {
            found.problem(
                Kind::Manifest,
                place,
                format!(
                    "binding `{}` writes no column `{key}`, which is in the key of the other table",
                    binding.name.value
                ),
                format!(
                    "it writes: {}; name the other table's key in `key`, or give `{key}` an expression in `columns`",
                    targets.join(", ")
                ),
            );
        }
    }
}

fn check_delivered(
    bound: &WantedBinding<'_>,
    manifest: &Manifest,
    catalog: &Catalog,
    journal: Option<&Journal>,
    found: &mut Found,
) {
    let WantedBinding { binding, name, table } = *bound;
    let place = &binding.table.place;
    if let Some(top) = table.ancestors.first().and_then(|oid| catalog.table(*oid)) {
        found.problem(
            Kind::Manifest,
            place,
            format!("table {name} is a partition: its changes are in the log of {}", top.0),
            format!("bind {} with a `when` that chooses the rows", top.0),
        );
        return;
    }
    if let Some(extension) = &table.extension {
        found.problem(
            Kind::Manifest,
            place,
            format!("table {name} belongs to the extension `{extension}`, and is not captured"),
            "bind a table of your own",
        );
        return;
    }
    if table.key.is_empty() && !matches!(binding.kind, BindingKind::Message(_)) {
        found.problem(
            Kind::Manifest,
            place,
            format!(
                "table {name} has no primary key, and `{}` has to know a row again when it changes",
                binding.kind.word()
            ),
            "add a primary key; a `message` can do without",
        );
    }
    if let Some(unlogged) = unlogged(name, table) {
        found.notes.push(format!(
            "{}: {unlogged} is unlogged: a crash empties it, and nothing of that is delivered",
            place_text(place)
        ));
    }
    let logging = |group: &str| {
        journal
            .and_then(|journal| journal.groups.get(group))
            .is_some_and(|group| group.logging)
    };
    let ours = manifest
        .groups
        .iter()
        .find(|group| group.select(std::iter::once(name)).chosen.contains(&name));
    let theirs = journal.and_then(|journal| journal.relations.of(table.oid));
    let idle = match (ours, theirs) {
        (Some(group), _) => (group.state == State::Idle && !logging(&group.name.value)).then_some(&group.name.value),
        (None, Some(relation)) => (!logging(&relation.group)).then_some(&relation.group),
        (None, None) => None,
    };
    if let Some(group) = idle {
        found.notes.push(format!(
            "{}: group `{group}` is not started: changes of {name} are not delivered until it is (`emaj group start {}`)",
            place_text(place),
            shell(group)
        ));
    }
}
