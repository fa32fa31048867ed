//! The steps for sinks and bindings: what they ask of this database, and what changes between two installs.
//!
//! A sink is a cursor in the registry, a binding a row that says from when on changes of a table count. Settings and secrets never leave
//! the manifest. A bound table that no group selects is captured in a group of its own making (`complete`). What is done inside the
//! transaction is in `action`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use minijinja::context;
use minijinja::value::{Serde, Value};

use super::action;
use super::plan::{Action, Phase, Plan, Step};
use super::wanted::{Problem, nearest, place_text};
use crate::catalog::{Catalog, Generated, Persistence, Table};
use crate::errors::Kind;
use crate::journal::{COUNTED, InstalledBinding, Journal, Relation};
use crate::manifest::{Binding, BindingKind, Diagnostic, Group, Located, Manifest, Place, Sequences, Sink, State};
use crate::names::{Pattern, QualifiedName, derived_name};
use crate::render::{RenderError, Renderer};
use crate::ui::words::{count, shell};

/// How long the log of a group that nobody declared is kept beyond what sinks have read.
const RETENTION: &str = "1 day";

/// A binding whose table is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct WantedBinding<'a> {
    pub binding: &'a Binding,
    pub name: &'a QualifiedName,
    pub table: &'a Table,
}

/// Adds a group for the bound tables that no group of the manifest selects and nobody captures yet: without it their changes would be
/// written down nowhere.
pub(super) fn complete<'m>(manifest: &'m Manifest, catalog: &Catalog, journal: Option<&Journal>) -> Cow<'m, Manifest> {
    let group = group_name(manifest, journal);
    let selected: Vec<&QualifiedName> = manifest
        .groups
        .iter()
        .flat_map(|group| group.select(catalog.tables.keys()).chosen)
        .collect();
    let elsewhere = |oid: u32| {
        journal.is_some_and(|journal| {
            journal.relations.iter().any(|relation| {
                let owner = journal.groups.get(&relation.group).map(|group| &group.manifest);
                relation.oid == oid && owner.is_some_and(|owner| *owner != manifest.name)
            })
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
        name: Located::new(group, place.clone()),
        tables,
        sequences: Sequences::None,
        state: State::Logging,
        rollback: false,
        comment: Some("tables that bindings read and no group has".to_owned()),
        context: Vec::new(),
        retention: Some(Located::new(RETENTION.to_owned(), place)),
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
pub(super) fn bound(manifest: &Manifest, group: &Group) -> BTreeMap<QualifiedName, String> {
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

/// What stands in the way, and what should be said.
#[derive(Default)]
pub(super) struct Found {
    pub problems: Vec<Problem>,
    pub notes: Vec<String>,
}

impl Found {
    pub(super) fn problem(&mut self, kind: Kind, place: &Place, message: String, next: impl Into<String>) {
        self.problems.push(Problem {
            kind,
            what: Diagnostic::error(place, message).next(next),
        });
    }
}

/// Finds the tables of all bindings, and everything that is wrong with sinks and bindings.
pub(super) fn resolve<'a>(
    manifest: &'a Manifest,
    catalog: &'a Catalog,
    journal: Option<&Journal>,
) -> (Vec<WantedBinding<'a>>, Found) {
    let mut found = Found::default();
    for sink in &manifest.sinks {
        let owner = journal.and_then(|journal| journal.sinks.get(&sink.name.value));
        check_owner(
            "sink",
            &sink.name,
            owner.map(|known| &known.manifest),
            manifest,
            &mut found,
        );
    }
    let mut wanted = Vec::new();
    for binding in &manifest.bindings {
        let known = journal.and_then(|journal| journal.bindings.get(&binding.name.value));
        check_owner(
            "binding",
            &binding.name,
            known.map(|known| &known.manifest),
            manifest,
            &mut found,
        );
        let name = &binding.table.value;
        let Some(table) = catalog.tables.get(name) else {
            found.problems.push(no_table(binding, known, catalog));
            continue;
        };
        let before = found.problems.len();
        check_columns(binding, name, table, &mut found);
        if binding.to.is_some() {
            check_delivered(binding, manifest, name, table, catalog, journal, &mut found);
        } else {
            action::check(binding, name, table, catalog, &mut found);
        }
        if found.problems.len() == before {
            wanted.push(WantedBinding { binding, name, table });
        }
    }
    (wanted, found)
}

fn check_owner(noun: &str, name: &Located<String>, owner: Option<&String>, manifest: &Manifest, found: &mut Found) {
    if let Some(owner) = owner.filter(|owner| **owner != manifest.name) {
        found.problem(
            Kind::Refused,
            &name.place,
            format!(
                "{noun} `{}` is there already and belongs to manifest `{owner}`",
                name.value
            ),
            format!(
                "choose another name for the {noun}; or, if this is that manifest, write `name: {owner}` at its top"
            ),
        );
    }
}

fn no_table(binding: &Binding, known: Option<&InstalledBinding>, catalog: &Catalog) -> Problem {
    let name = &binding.table.value;
    let present = known
        .filter(|known| known.table == *name)
        .and_then(|known| catalog.table(known.oid));
    let what = match present {
        Some((present, _)) => Diagnostic::error(
            &binding.table.place,
            format!("there is no table {name}: it is {present} now"),
        )
        .next(format!("write `table: {present}`; the binding goes on where it is")),
        None => Diagnostic::error(
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
    // (What is virtual is computed when it is read, and never written down.)
    let logged = table
        .columns
        .iter()
        .filter(|column| column.generated != Generated::Virtual);
    let known = || logged.clone().map(|column| column.name.as_str());
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
        let nearest = known()
            .map(|name| (strsim::jaro_winkler(&column.value, name), name))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, name)| name.to_owned());
        let what = Diagnostic::error(&column.place, format!("table {name} has no column `{}`", column.value))
            .nearest(nearest)
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
        let names = table.key.iter().filter_map(|number| {
            let column = table.columns.iter().find(|column| column.attnum == *number)?;
            Some((column.name.as_str(), &binding.name.place))
        });
        let keys: Vec<(&str, &Place)> = match key.as_slice() {
            [] => names.collect(),
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
    binding: &Binding,
    manifest: &Manifest,
    name: &QualifiedName,
    table: &Table,
    catalog: &Catalog,
    journal: Option<&Journal>,
    found: &mut Found,
) {
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
    if table.persistence == Persistence::Unlogged {
        found.notes.push(format!(
            "{}: table {name} is unlogged: a crash empties it, and nothing of that is delivered",
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
    let theirs = journal.and_then(|journal| journal.relations.iter().find(|relation| relation.oid == table.oid));
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

/// Plans all sinks and bindings, and the end of those that the manifest does not declare any more.
pub(super) fn plan(
    plan: &mut Plan,
    manifest: &Manifest,
    wanted: &[WantedBinding<'_>],
    catalog: &Catalog,
    journal: Option<&Journal>,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    for sink in &manifest.sinks {
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
    for (name, _) in journal
        .sinks
        .iter()
        .filter(|(name, known)| known.manifest == manifest.name && manifest.sink(name).is_none())
    {
        remove_sink(plan, name, because, renderer)?;
    }
    Ok(())
}

/// Plans the end of the sinks and bindings of one manifest, or of all. Returns the manifests that still have some.
pub(super) fn uninstall(
    plan: &mut Plan,
    ours: &dyn Fn(&str) -> bool,
    catalog: &Catalog,
    journal: &Journal,
    renderer: &Renderer,
) -> Result<Vec<String>, RenderError> {
    let mut others = Vec::new();
    for (name, known) in &journal.bindings {
        if ours(&known.manifest) {
            let because = format!("uninstall of manifest `{}`", known.manifest);
            remove_binding(plan, name, known, &because, catalog, journal, renderer)?;
        } else {
            others.push(format!("binding {name}"));
        }
    }
    for (name, known) in &journal.sinks {
        if ours(&known.manifest) {
            let because = format!("uninstall of manifest `{}`", known.manifest);
            remove_sink(plan, name, &because, renderer)?;
        } else {
            others.push(format!("sink {name}"));
        }
    }
    Ok(others)
}

fn plan_sink(
    plan: &mut Plan,
    manifest: &Manifest,
    sink: &Sink,
    catalog: &Catalog,
    journal: Option<&Journal>,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let (name, kind) = (&sink.name.value, sink.kind.word());
    let object = format!("sink {name}");
    let max_lag = sink
        .max_lag
        .as_ref()
        .and_then(|text| catalog.intervals.get(&text.value).cloned());
    let Some(known) = journal.and_then(|journal| journal.sinks.get(name)) else {
        let sql = renderer.render(
            "sink/create",
            context! { sink => name, manifest => &manifest.name, kind, max_lag },
        )?;
        let step = Step::new(Phase::Delivery, Action::Create, object, "the manifest declares it", sql);
        plan.push(step.effect("what is committed from now on waits in the log until it has been delivered"));
        return Ok(());
    };
    let mut reasons = Vec::new();
    let mut effect = String::new();
    if known.kind != kind {
        reasons.push(format!("it is of the kind {kind} now and was {}", known.kind));
        effect = "what is not delivered yet goes to the new place".to_owned();
    }
    if known.max_lag != max_lag {
        reasons.push("the time the log waits for it".to_owned());
        if let Some(max_lag) = &max_lag {
            effect = format!("given up when it takes nothing for {max_lag}");
        }
    }
    if reasons.is_empty() {
        return Ok(());
    }
    let because = reasons.join(", ");
    let sql = renderer.render(
        "sink/change",
        context! { sink => name, kind, max_lag, because => &because },
    )?;
    plan.push(Step::new(Phase::Delivery, Action::Change, object, because, sql).effect(effect));
    Ok(())
}

fn plan_binding(
    plan: &mut Plan,
    manifest: &Manifest,
    wanted: &WantedBinding<'_>,
    catalog: &Catalog,
    journal: Option<&Journal>,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let WantedBinding { binding, name, table } = *wanted;
    let object = format!("binding {}", binding.name.value);
    let known = journal.and_then(|journal| journal.bindings.get(&binding.name.value));
    let sink = binding.to.as_ref().map(|sink| sink.value.as_str());
    let fingerprint = binding.fingerprint();
    let made = action::plan(plan, wanted, known, catalog, journal, renderer)?;
    let values = |because: &str| {
        context! {
            binding => &binding.name.value, manifest => &manifest.name, sink, oid => table.oid,
            name => Value::from(Serde(name)), kind => binding.kind.word(), fingerprint => &fingerprint,
            action => made.as_ref().map(|made| &made.function), because,
        }
    };
    let goes = match sink {
        Some(sink) => format!("{name} goes to sink {sink}, as {}", article(binding.kind.word())),
        None => format!(
            "{} at every change of {name}, in its transaction",
            article(binding.kind.word())
        ),
    };
    let place = |step: Step| match &made {
        Some(made) => made.place(step),
        None => step,
    };
    let also = made.as_ref().map_or("", |made| made.sql.as_str());
    let Some(known) = known else {
        let sql = format!("{also}{}", renderer.render_value("binding/create", values(&goes))?);
        let effect = match sink {
            Some(_) => "changes from now on are delivered; `emaj init` sends the rows that are there",
            None => "writers wait; from then on it is part of their work",
        };
        plan.push(place(Step::new(Phase::Delivery, Action::Create, object, goes, sql)).effect(effect));
        return Ok(());
    };
    let mut reasons = Vec::new();
    let moved = known.sink.as_deref() != sink;
    let rebound = known.oid != table.oid;
    if moved {
        reasons.push(match (&known.sink, sink) {
            (Some(old), Some(new)) => format!("it goes to sink {new} now and went to {old}"),
            (_, Some(new)) => format!("it goes to sink {new} now"),
            (_, None) => format!("it is {} inside the transaction now", article(binding.kind.word())),
        });
    }
    if rebound {
        reasons.push(format!("its table is {name} now and was {}", known.table));
    } else if known.table != *name {
        reasons.push(format!("its table was {}", known.table));
    }
    if known.fingerprint != fingerprint && !moved {
        reasons.push("what it makes of a row".to_owned());
    }
    reasons.extend(made.iter().flat_map(|made| made.because.clone()));
    if reasons.is_empty() {
        return Ok(());
    }
    let because = reasons.join("; ");
    let anew = moved || rebound;
    let other = known.fingerprint != fingerprint;
    let context = context! { anew, other, ..values(&because) };
    let sql = format!("{also}{}", renderer.render_value("binding/change", context)?);
    let mut step = place(Step::new(Phase::Delivery, Action::Change, object, because, sql));
    if sink.is_some() {
        let lost = lost(known);
        step = match (anew, other) {
            (true, _) => step.effect(match &lost {
                Some(lost) => {
                    format!("{lost}; changes from now on are delivered, `emaj init` sends the rows that are there")
                }
                None => "changes from now on are delivered; `emaj init` sends the rows that are there".to_owned(),
            }),
            (false, true) => {
                step.effect("changes that are not delivered yet, and later ones, are rendered the new way")
            }
            (false, false) => step,
        };
        if anew && lost.is_some() {
            step = step.destroying();
        }
    }
    plan.push(step);
    Ok(())
}

fn remove_binding(
    plan: &mut Plan,
    name: &str,
    known: &InstalledBinding,
    because: &str,
    catalog: &Catalog,
    journal: &Journal,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let made = action::end(known, catalog, journal, renderer)?;
    let also = made.as_ref().map_or("", |made| made.sql.as_str());
    let sql = format!(
        "{also}{}",
        renderer.render("binding/remove", context! { binding => name })?
    );
    let mut step = Step::new(Phase::Delivery, Action::Remove, format!("binding {name}"), because, sql);
    if let Some(made) = &made {
        step = made.place(step);
    }
    plan.push(match lost(known) {
        Some(lost) => step.effect(lost).destroying(),
        None if known.sink.is_some() => step.effect("what was delivered stays where it is"),
        None => step.effect("writers wait; its trigger goes"),
    });
    Ok(())
}

fn remove_sink(plan: &mut Plan, name: &str, because: &str, renderer: &Renderer) -> Result<(), RenderError> {
    let sql = renderer.render("sink/remove", context! { sink => name })?;
    let step = Step::new(Phase::Delivery, Action::Remove, format!("sink {name}"), because, sql);
    plan.push(step.effect("its place in the log is forgotten"));
    Ok(())
}

/// Says, of the last step, which takes a group away, what that means for sinks. A group that nobody declared had no other purpose.
pub(super) fn look_at_removal(
    plan: &mut Plan,
    manifest: &Manifest,
    group: &str,
    relations: &[&Relation],
    kept: &dyn Fn(u32) -> bool,
    journal: &Journal,
) {
    let Some(step) = plan.steps.last_mut() else { return };
    // What a binding that goes with it loses is said there.
    let waiting: Vec<String> = journal
        .bindings
        .iter()
        .filter(|(name, known)| {
            let stays = known.manifest != manifest.name || manifest.binding(name).is_some();
            let captured = relations
                .iter()
                .any(|relation| relation.oid == known.oid && !kept(relation.oid));
            stays && captured && known.unread > 0
        })
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    if !waiting.is_empty() {
        step.effect.push_str(&format!(
            "; what is not delivered yet of {} is lost",
            waiting.join(", ")
        ));
    } else if group == group_name(manifest, Some(journal)) {
        step.destroys = false;
        step.effect = "its logs go, which nothing else reads".to_owned();
    }
}

/// Returns what goes with a binding and cannot be had again.
fn lost(known: &InstalledBinding) -> Option<String> {
    let sink = format!("`{}`", known.sink.as_ref()?);
    let number = |n: i64, what: &str| count(n.unsigned_abs(), what);
    let mut lost = Vec::new();
    match known.unread {
        0 => {}
        COUNTED => lost.push(format!(
            "{COUNTED} or more changes that are not delivered to sink {sink} yet are dropped"
        )),
        n => lost.push(format!(
            "{} not delivered to sink {sink} yet {} dropped",
            number(n, "log row"),
            if n == 1 { "is" } else { "are" }
        )),
    }
    if known.failures > 0 {
        lost.push(format!(
            "{} set aside {} dropped",
            number(known.failures, "change"),
            if known.failures == 1 { "is" } else { "are" }
        ));
    }
    (!lost.is_empty()).then(|| lost.join("; "))
}

fn article(kind: &str) -> String {
    match kind {
        "entry" => "an entry".to_owned(),
        "query" => "the result of a query".to_owned(),
        "warn" => "a warning".to_owned(),
        "notify" => "a notification".to_owned(),
        "sql" => "a call".to_owned(),
        kind => format!("a {kind}"),
    }
}
