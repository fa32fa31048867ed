//! The step for one sink: a cursor in the registry.

use minijinja::context;

use crate::catalog::Catalog;
use crate::install::plan::{Action, Phase, Plan, Step};
use crate::journal::Journal;
use crate::manifest::{Manifest, Sink};
use crate::pg::Span;
use crate::render::{RenderError, Renderer};

/// Plans what differs between a declaration and the registry.
pub(super) fn plan_sink(
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
            context! { sink => name, manifest => &manifest.name, kind, max_lag => max_lag.as_ref().map(Span::text) },
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
            effect = format!("given up when it takes nothing for {}", max_lag.text());
        }
    }
    if reasons.is_empty() {
        return Ok(());
    }
    let because = reasons.join(", ");
    let sql = renderer.render(
        "sink/change",
        context! { sink => name, kind, moves => known.kind != kind, max_lag => max_lag.as_ref().map(Span::text), because => &because },
    )?;
    plan.push(Step::new(Phase::Delivery, Action::Change, object, because, sql).effect(effect));
    Ok(())
}

/// Plans its end.
pub(super) fn remove_sink(plan: &mut Plan, name: &str, because: &str, renderer: &Renderer) -> Result<(), RenderError> {
    let sql = renderer.render("sink/remove", context! { sink => name })?;
    let step = Step::new(Phase::Delivery, Action::Remove, format!("sink {name}"), because, sql);
    plan.push(step.effect("its place in the log is forgotten").destroying());
    Ok(())
}
