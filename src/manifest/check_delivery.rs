//! What ties bindings to sinks, and the settings of a sink to each other.
//!
//! `sink_kinds` says which kinds of binding a kind of sink can deliver.

use std::collections::HashSet;

use super::build_delivery;
use super::checks::{check_database, check_twice};
use super::delivery::Binding;
use super::diagnostic::Diagnostic;
use super::merge::{Item, Named, RawManifest};
use super::rows_shared::{self, RowsOf};
use super::shape::one_of;
use super::sink_kinds::{ABILITIES, Ability};
use crate::names::nearest;

/// The kinds that are done inside the transaction.
const IN_DATABASE: [&str; 3] = ["warn", "notify", "sql"];

/// Adds to `out` what is wrong between bindings and sinks.
///
/// With `is_whole` false, files are missing: what nothing names may be named there.
pub(super) fn check(raw: &RawManifest<'_>, is_whole: bool, out: &mut Vec<Diagnostic>) {
    raw.sinks.iter().for_each(|sink| check_sink(sink.item, out));
    for binding in &raw.bindings {
        check_binding(binding, raw, is_whole, out);
    }
    check_rows(raw, out);
    if is_whole {
        check_used(raw, out);
    }
}

fn check_used(raw: &RawManifest<'_>, out: &mut Vec<Diagnostic>) {
    // A misspelt `to` uses the sink that it means.
    let names = || raw.sinks.iter().map(|sink| sink.name.as_str());
    let used: HashSet<&str> = raw
        .bindings
        .iter()
        .filter_map(|binding| nearest(binding.item.get("to")?.text()?, names()))
        .collect();
    for sink in raw.sinks.iter().filter(|sink| !used.contains(sink.name.as_str())) {
        out.push(
            Diagnostic::warning(
                &sink.name.place,
                format!("no binding goes to the sink `{}`", sink.name.value),
            )
            .next("bind a table to it with `to`, or take it out"),
        );
    }
}

/// What is wrong with a binding has been said.
fn check_rows(raw: &RawManifest<'_>, out: &mut Vec<Diagnostic>) {
    let keeps_rows = |name: &str| {
        let mut sinks = raw.sinks.iter();
        sinks.any(|sink| sink.name.as_str() == name && ability(sink.item).is_some_and(|ability| ability.keeps_rows))
    };
    let rows = raw.bindings.iter().filter(|binding| {
        let to = binding.item.get("to").and_then(|to| to.text());
        binding.item.get("row").is_some() && to.is_some_and(keeps_rows)
    });
    let built: Vec<Binding> = rows.filter_map(build_delivery::binding).collect();
    let rows: Vec<RowsOf<'_>> = built.iter().filter_map(RowsOf::said).collect();
    out.extend(rows_shared::complaints(&rows));
}

fn check_sink(sink: Item<'_>, out: &mut Vec<Diagnostic>) {
    if let Some(database) = sink.get("postgres") {
        check_database(database, out);
    }
    for kind in ["nats", "kafka"] {
        let Some(settings) = sink.get(kind) else { continue };
        needs(settings, "password", "user", out);
        needs(settings, "user", "password", out);
        excludes(settings, "token", &["user", "password", "credentials_file"], out);
        excludes(settings, "credentials_file", &["user", "password"], out);
    }
    let Some(ldap) = sink.get("ldap") else { return };
    needs(ldap, "password", "bind_dn", out);
    needs(ldap, "bind_dn", "password", out);
    needs(ldap, "key_file", "cert_file", out);
    needs(ldap, "cert_file", "key_file", out);
    excludes(ldap, "sasl", &["bind_dn", "password"], out);
    let url = ldap.get("url").and_then(|url| url.text()).unwrap_or_default();
    if let Some(starttls) = ldap
        .get("starttls")
        .filter(|item| item.bool() == Some(true) && !url.starts_with("ldap://"))
    {
        // A reference may turn out to be `ldap://`.
        if !url.is_empty() && !url.starts_with("${") {
            out.push(
                Diagnostic::error(&starttls.place(), "`starttls` is for `ldap://` only")
                    .found(format!("the scheme `{}`", url.split("://").next().unwrap_or_default())),
            );
        }
    }
}

fn needs(settings: Item<'_>, key: &str, other: &str, out: &mut Vec<Diagnostic>) {
    if let Some(item) = settings.get(key)
        && settings.get(other).is_none()
    {
        out.push(
            Diagnostic::error(&item.place(), format!("`{key}` stands without `{other}`")).expected("both or none"),
        );
    }
}

fn excludes(settings: Item<'_>, key: &str, others: &[&str], out: &mut Vec<Diagnostic>) {
    let Some(item) = settings.get(key) else { return };
    for other in others {
        if let Some(beside) = settings.get(other) {
            out.push(
                Diagnostic::error(&beside.place(), format!("`{other}` stands beside `{key}`"))
                    .expected("one way to log in")
                    .related(&item.place(), "the other way"),
            );
        }
    }
}

fn check_binding(binding: &Named<'_>, raw: &RawManifest<'_>, is_whole: bool, out: &mut Vec<Diagnostic>) {
    check_twice(binding.item.get("events"), out);
    check_twice(binding.item.get("columns"), out);
    let kinds = || {
        ABILITIES
            .iter()
            .flat_map(|ability| ability.takes)
            .chain(&IN_DATABASE)
            .copied()
    };
    let given: HashSet<&str> = kinds().filter(|kind| binding.item.get(kind).is_some()).collect();
    // None or more than one: `fit` has said so.
    let (Some(kind), 1) = (given.iter().next().copied(), given.len()) else {
        return;
    };
    if let Some(entry) = binding.item.get("entry") {
        check_entry(entry, out);
    }
    if let Some(query) = binding.item.get("query") {
        check_mode(query, out);
    }
    let name = &binding.name;
    let to = binding.item.text_at("to");
    if IN_DATABASE.contains(&kind) {
        for key in ["to", "when", "max_deletes"] {
            if let Some(item) = binding.item.get(key) {
                out.push(
                    Diagnostic::error(&item.place(), format!("`{key}` has no meaning for `{kind}`"))
                        .next("it is done inside the transaction, for each changed row; `sql` calls a function that may decide more"),
                );
            }
        }
        return;
    }
    let Some(to) = to else {
        if binding.item.get("to").is_none() {
            out.push(
                Diagnostic::error(&name.place, format!("the binding `{}` has no `to`", name.value))
                    .expected("`to`: the name of a sink"),
            );
        }
        return;
    };
    let Some(sink) = raw.sinks.iter().find(|sink| sink.name.as_str() == to.value) else {
        if !is_whole {
            return;
        }
        let names: Vec<&str> = raw.sinks.iter().map(|sink| sink.name.as_str()).collect();
        let error = Diagnostic::error(&to.place, format!("there is no sink `{}`", to.value))
            .nearest(nearest(to.value, names.iter().copied()));
        out.push(match names.as_slice() {
            [] => error.next("declare it under `sinks`"),
            names => error.expected(one_of(names)),
        });
        return;
    };
    let Some(ability) = ability(sink.item) else { return };
    if !ability.takes.contains(&kind) {
        let place = binding.item.get(kind).map_or(name.place.clone(), |item| item.place());
        out.push(
            Diagnostic::error(&place, format!("the sink `{}` cannot take `{kind}`", to.value))
                .expected(format!(
                    "{} for a sink of the kind `{}`",
                    one_of(ability.takes),
                    ability.word
                ))
                .related(&sink.name.place, "the sink"),
        );
    }
    if let Some(message) = binding.item.get("message") {
        check_message(message, ability, name, out);
    }
    if let Some(of) = binding.item.get(kind).and_then(|body| body.get("entry_of")) {
        check_entry_of(of, to.value, raw, is_whole, out);
    }
}

/// The entries of another binding are at the same place.
fn check_entry_of(of: Item<'_>, to: &str, raw: &RawManifest<'_>, is_whole: bool, out: &mut Vec<Diagnostic>) {
    let Some(name) = of.text_at("binding") else { return };
    let makes_entries = |binding: &&Named<'_>| {
        let goes_to = binding.item.get("to").and_then(|to| to.text());
        binding.item.get("entry").is_some() && goes_to == Some(to)
    };
    let named = raw.bindings.iter().find(|binding| binding.name.as_str() == name.value);
    if named.is_some_and(|named| makes_entries(&named)) || named.is_none() && !is_whole {
        return;
    }
    let all = || {
        raw.bindings
            .iter()
            .filter(makes_entries)
            .map(|binding| binding.name.as_str())
    };
    let what = match named {
        Some(_) => format!("the binding `{}` makes no entries of the sink `{to}`", name.value),
        None => format!("there is no binding `{}`", name.value),
    };
    let error = Diagnostic::error(&name.place, what).nearest(nearest(name.value, all()));
    let known: Vec<&str> = all().collect();
    out.push(match known.as_slice() {
        [] => error.next(format!("bind the table of the entries to `{to}`, with `entry`")),
        known => error.expected(one_of(known)),
    });
}

/// What a sink can do, by the key that it is declared with.
fn ability(sink: Item<'_>) -> Option<&'static Ability> {
    ABILITIES.into_iter().find(|ability| sink.get(ability.word).is_some())
}

/// A broker needs an address, and each broker calls it differently.
fn check_message(message: Item<'_>, ability: &Ability, name: &super::Located<String>, out: &mut Vec<Diagnostic>) {
    let sink = ability.word;
    for of in ABILITIES {
        let (Some(key), of) = (of.address, of.word) else {
            continue;
        };
        match message.get(key) {
            None if sink == of => out.push(
                Diagnostic::error(&name.place, format!("the message of `{}` has no `{key}`", name.value))
                    .expected(format!("`{key}`: a template, for a sink of the kind `{of}`")),
            ),
            Some(item) if sink != of => out.push(
                Diagnostic::error(
                    &item.place(),
                    format!("`{key}` has no meaning for a sink of the kind `{sink}`"),
                )
                .next("take it out"),
            ),
            _ => {}
        }
    }
}

/// What a query gave before is known nowhere, so that its values cannot be told from those of others.
fn check_mode(attribute: Item<'_>, out: &mut Vec<Diagnostic>) {
    let mode = attribute.get("mode").filter(|mode| mode.text() == Some("merge"));
    if let Some(mode) = mode.filter(|_| attribute.get("query").is_some()) {
        out.push(
            Diagnostic::error(&mode.place(), "values of a query cannot stand beside those of others: what it gave before is not known, and would never go")
                .expected("`force` or `keep`")
                .next("to have values of others stay, bind the table that the query reads with `value`: one value a row"),
        );
    }
}

/// Attributes are the same whatever the case of their names, and `objectClass` has a key of its own.
fn check_entry(entry: Item<'_>, out: &mut Vec<Diagnostic>) {
    check_twice(entry.get("object_classes"), out);
    let attributes = entry.get("attributes").map(|map| map.entries()).unwrap_or_default();
    for (at, attribute) in attributes.iter().enumerate() {
        check_mode(attribute.item, out);
        let place = &attribute.name.place;
        if attribute.name.eq_ignore_ascii_case("objectclass") {
            out.push(
                Diagnostic::error(place, "`objectClass` is no attribute here")
                    .next("write the classes in `object_classes`"),
            );
        }
        let before = attributes[..at]
            .iter()
            .find(|before| before.name.eq_ignore_ascii_case(&attribute.name));
        if let Some(before) = before.filter(|before| before.name != attribute.name) {
            out.push(
                Diagnostic::error(place, format!("`{}` stands here a second time", attribute.name.value))
                    .related(&before.name.place, "first here")
                    .next("upper and lower case make no difference to a directory"),
            );
        }
    }
}
