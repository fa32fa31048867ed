//! The step for one binding: a row that says from when on changes of a table count, and for one that is done inside the transaction what
//! `action` makes of it.

use minijinja::context;
use minijinja::value::{Serde, Value};

use super::WantedBinding;
use crate::catalog::Catalog;
use crate::install::action;
use crate::install::plan::{Action, Phase, Plan, Step};
use crate::journal::{COUNTED, InstalledBinding, Journal};
use crate::manifest::Manifest;
use crate::render::{RenderError, Renderer};
use crate::words::count;

/// Plans what differs between a declaration and the registry.
pub(super) fn plan_binding(
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
    let function = made.iter().filter(|made| !made.sql.is_empty());
    plan.made.functions.extend(function.map(|made| made.function.clone()));
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

/// Plans its end.
pub(super) fn remove_binding(
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

/// Returns what goes with a binding and cannot be had again.
fn lost(known: &InstalledBinding) -> Option<String> {
    let sink = format!("`{}`", known.sink.as_ref()?);
    let mut lost = Vec::new();
    match known.unread {
        0 => {}
        COUNTED => lost.push(format!(
            "{COUNTED} or more changes that are not delivered to sink {sink} yet are dropped"
        )),
        n => lost.push(format!(
            "{} not delivered to sink {sink} yet {} dropped",
            count(n, "log row"),
            if n == 1 { "is" } else { "are" }
        )),
    }
    if known.failures > 0 {
        lost.push(format!(
            "{} set aside {} dropped",
            count(known.failures, "change"),
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
