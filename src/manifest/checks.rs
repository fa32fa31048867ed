//! What ties two places of a manifest together: a group's patterns among themselves and against other groups, the
//! database and the roles.
//!
//! Works on the raw manifest, so that these problems are reported beside those of single values; what is malformed is
//! passed over here, `fit` has said it. Bindings and sinks are in `check_delivery`.

use std::collections::HashMap;

use super::diagnostic::Diagnostic;
use super::merge::{Item, RawManifest};
use super::source::{Located, Place};
use crate::names::{Pattern, QualifiedName, nearest, parse_ident, select};

/// Adds to `out` what is wrong with the groups and the settings.
pub(super) fn check(raw: &RawManifest<'_>, out: &mut Vec<Diagnostic>) {
    check_schema(raw, out);
    check_roles(raw, out);
    if let Some(database) = raw.setting("database") {
        check_database(database, out);
    }
    check_groups(raw, out);
}

fn check_schema(raw: &RawManifest<'_>, out: &mut Vec<Diagnostic>) {
    let Some(item) = raw.setting("schema") else { return };
    let schema = item.text().and_then(|text| parse_ident(text).ok());
    let schema = schema.as_deref().unwrap_or_default();
    if schema.contains("$emaj$") {
        out.push(
            Diagnostic::error(&item.place(), "the bodies of emaj's functions stand between `$emaj$`")
                .expected("another name for emaj's schema"),
        );
    }
    if schema.starts_with("pg_") {
        out.push(
            Diagnostic::error(&item.place(), "PostgreSQL keeps names that begin with `pg_` for itself")
                .expected("another name for emaj's schema"),
        );
    }
}

fn check_roles(raw: &RawManifest<'_>, out: &mut Vec<Diagnostic>) {
    let Some(roles) = raw.setting("roles") else { return };
    let role = |key| {
        roles
            .text_at(key)
            .and_then(|text| Some(Located::new(parse_ident(text.value).ok()?, text.place)))
    };
    if let (Some(admin), Some(viewer)) = (role("admin"), role("viewer"))
        && admin == viewer
    {
        out.push(
            Diagnostic::error(&viewer.place, "one role cannot be `admin` and `viewer`")
                .related(&admin.place, "the same role")
                .next("name two roles, or `viewer: null`"),
        );
    }
}

/// Also for the databases that are sinks.
pub(super) fn check_database(database: Item<'_>, out: &mut Vec<Diagnostic>) {
    if database.get("uri").is_none() {
        return;
    }
    for key in ["service", "host", "hostaddr", "port", "dbname", "user"] {
        if let Some(item) = database.get(key) {
            out.push(
                Diagnostic::error(
                    &item.place(),
                    format!("`{key}` stands beside `uri`, which says it already"),
                )
                .next("put it into the URI, or take the URI apart"),
            );
        }
    }
}

fn check_groups(raw: &RawManifest<'_>, out: &mut Vec<Diagnostic>) {
    let own = raw
        .setting("schema")
        .and_then(|item| parse_ident(item.text()?).ok())
        .unwrap_or_else(|| "emaj".to_owned());
    let mut owner: HashMap<QualifiedName, (String, Place)> = HashMap::new();
    for group in &raw.groups {
        let patterns = patterns(group.item.get("tables"));
        check_patterns(&patterns, out);
        if let Some(sequences) = group.item.get("sequences") {
            check_patterns(&self::patterns(Some(sequences)), out);
        }
        for pattern in &patterns {
            let Some(table) = pattern.is_exact() else { continue };
            if table.schema == own {
                out.push(Diagnostic::error(
                    &pattern.place,
                    format!("`{table}` stands in emaj's own schema"),
                ));
            }
            match owner.get(&table) {
                Some((other, first)) if *other == group.name.value => out.push(
                    Diagnostic::warning(&pattern.place, format!("`{table}` is listed twice"))
                        .related(first, "first here"),
                ),
                Some((other, first)) => out.push(
                    Diagnostic::error(&pattern.place, format!("`{table}` is in the group `{other}` already"))
                        .related(first, "first here")
                        .next("a table belongs to one group"),
                ),
                None => drop(owner.insert(table, (group.name.value.clone(), pattern.place.clone()))),
            }
        }
        check_retention(group.item, out);
        check_options(group.item, &patterns, out);
        check_twice(group.item.get("context"), out);
    }
}

/// Marks hold log rows only where there is something to roll back to.
fn check_retention(group: Item<'_>, out: &mut Vec<Diagnostic>) {
    let audit_only = group.get("rollback").and_then(|rollback| rollback.bool()) == Some(false);
    for key in ["keep_marks", "max_size"] {
        if let Some(item) = group.get(key).filter(|_| audit_only) {
            out.push(
                Diagnostic::error(
                    &item.place(),
                    format!("`{key}` stands in an audit-only group, whose marks keep no log rows"),
                )
                .next("say `retention`: how long its log rows stay"),
            );
        }
    }
}

/// Returns the patterns that can be read.
fn patterns(list: Option<Item<'_>>) -> Vec<Located<Pattern>> {
    let pattern = |item: Item<'_>| Some(Located::new(Pattern::parse(item.text()?).ok()?, item.place()));
    list.map(|list| list.items().into_iter().filter_map(pattern).collect())
        .unwrap_or_default()
}

fn check_patterns(patterns: &[Located<Pattern>], out: &mut Vec<Diagnostic>) {
    if let Some(first) = patterns.first().filter(|first| first.excludes()) {
        let message = match patterns.iter().all(|pattern| pattern.excludes()) {
            true => "the list only takes away",
            false => "the first pattern takes away before anything was added",
        };
        out.push(
            Diagnostic::error(&first.place, message)
                .expected("a name or a pattern without `!` first")
                .found(format!("`{}`", first.value)),
        );
    }
}

fn check_options(group: Item<'_>, patterns: &[Located<Pattern>], out: &mut Vec<Diagnostic>) {
    let mut seen: HashMap<QualifiedName, Place> = HashMap::new();
    for options in group.get("table_options").map(|map| map.entries()).unwrap_or_default() {
        let Ok(table) = QualifiedName::parse(&options.name) else {
            continue;
        };
        let place = &options.name.place;
        if !patterns.is_empty()
            && select(patterns.iter().map(|pattern| &pattern.value), [&table])
                .chosen
                .is_empty()
        {
            let known = patterns.iter().filter_map(|pattern| pattern.is_exact());
            out.push(
                Diagnostic::error(place, format!("options for `{table}`, which is not in the group"))
                    .expected("a table that `tables` names or matches")
                    .nearest(nearest(&table, known)),
            );
        }
        if let Some(first) = seen.insert(table.clone(), place.clone()) {
            // The same text twice is a duplicate key, which `fit` has reported.
            if first.source().shown()[first.span()] != place.source().shown()[place.span()] {
                out.push(
                    Diagnostic::error(place, format!("options for `{table}` stand here a second time"))
                        .related(&first, "first here"),
                );
            }
        }
    }
}

/// Reports texts that stand twice in a list.
pub(super) fn check_twice(list: Option<Item<'_>>, out: &mut Vec<Diagnostic>) {
    let mut seen: HashMap<&str, Place> = HashMap::new();
    for item in list.map(|list| list.items()).unwrap_or_default() {
        let Some(text) = item.text() else { continue };
        match seen.get(text) {
            Some(first) => out.push(
                Diagnostic::error(&item.place(), format!("`{text}` stands here a second time"))
                    .related(first, "first here"),
            ),
            None => drop(seen.insert(text, item.place())),
        }
    }
}
