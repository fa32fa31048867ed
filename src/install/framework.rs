//! The steps for what all groups share: the schema, the registry and the functions. Who may call them is the affair of `rights`.

use std::collections::BTreeSet;

use minijinja::{Value, context};

use super::plan::{Action, Part, Phase, Plan, Step};
use super::room;
use crate::catalog::Catalog;
use crate::journal::{HistoryKept, Journal};
use crate::manifest::Manifest;
use crate::names::quote_ident;
use crate::pg::Span;
use crate::render::{RenderError, Renderer};
use crate::words::count;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Returns which of this emaj's functions are installed, each with its `name` and `arguments`, for the templates that drop them.
pub(super) fn functions_there(journal: &Journal, renderer: &Renderer) -> Result<Vec<Value>, RenderError> {
    let functions = renderer.functions()?;
    let there = functions.iter().filter_map(|function| {
        Some(context! { name => &function.name, arguments => &journal.functions.get(&function.name)?.arguments })
    });
    Ok(there.collect())
}

/// Plans the schema, the registry and the functions; returns the names of the functions that it makes.
pub(super) fn plan(
    plan: &mut Plan,
    manifest: &Manifest,
    catalog: &Catalog,
    journal: Option<&Journal>,
    renderer: &Renderer,
) -> Result<BTreeSet<String>, RenderError> {
    let kept = history_kept(manifest, catalog, journal);
    let functions = renderer.functions()?;
    let Some(journal) = journal else {
        plan.push(
            Step::new(
                Phase::Schema,
                Action::Create,
                format!("schema {}", quote_ident(renderer.schema())),
                "nothing is installed yet",
                renderer.render("registry/tables", ())?,
            )
            .effect(beside(catalog, renderer))
            .taking(room::OWN),
        );
        let mut parts: Vec<Part> = functions
            .iter()
            .map(|function| Part {
                doing: format!("create function {}", named(renderer.schema(), &function.name)),
                sql: function.sql.clone(),
            })
            .collect();
        parts.push(Part {
            doing: "enter the installation into the registry".to_owned(),
            sql: renderer.render(
                "registry/install",
                context! { version => VERSION, retention => kept.retention.as_ref().map(Span::text), manifests => kept.manifests },
            )?,
        });
        let what = count(functions.len(), "function");
        plan.push(Step::of_parts(
            Phase::Functions,
            Action::Create,
            what,
            "marks, rollback and statistics in SQL",
            parts,
        ));
        return Ok(functions.into_iter().map(|function| function.name).collect());
    };
    let changed: Vec<_> = functions
        .iter()
        .filter(|function| {
            let there = journal.functions.get(&function.name);
            there.is_none_or(|there| !there.is(function))
        })
        .collect();
    if !changed.is_empty() {
        let mut parts = Vec::with_capacity(changed.len());
        for function in &changed {
            // A changed signature cannot be replaced; nothing of emaj's depends on these but each other's bodies.
            let there = journal.functions.get(&function.name);
            let mut sql = there.map_or_else(String::new, |there| {
                drop_function(renderer.schema(), &function.name, &there.arguments)
            });
            sql.push_str(&function.sql);
            parts.push(Part {
                doing: format!(
                    "{} function {}",
                    if there.is_some() { "replace" } else { "create" },
                    named(renderer.schema(), &function.name)
                ),
                sql,
            });
        }
        let because = if journal.version == VERSION {
            "they are not what this version of emaj installs".to_owned()
        } else {
            format!("version {} is installed, this is {VERSION}", journal.version)
        };
        plan.push(Step::of_parts(
            Phase::Functions,
            Action::Change,
            count(changed.len(), "function"),
            because,
            parts,
        ));
    }
    parameters(plan, kept, journal, renderer)?;
    Ok(changed.iter().map(|function| function.name.clone()).collect())
}

/// Returns how long the history is to be kept. It is one for all manifests: one that does not say leaves it as others have it, or whoever
/// set it by hand; those that say it say the same.
fn history_kept(manifest: &Manifest, catalog: &Catalog, journal: Option<&Journal>) -> HistoryKept {
    let mut kept = journal.map_or_else(HistoryKept::default, |journal| without(&manifest.name, journal));
    if let Some(said) = &manifest.history.retention {
        if kept.manifests.is_empty() {
            kept.retention = catalog.intervals.get(&said.value).cloned();
        }
        kept.manifests.push(manifest.name.clone());
        kept.manifests.sort();
    }
    kept
}

/// Returns how long the history is kept when a manifest does not say so (any more).
fn without(manifest: &str, journal: &Journal) -> HistoryKept {
    let mut kept = journal.history_kept.clone();
    kept.manifests.retain(|other| other != manifest);
    if kept.manifests.is_empty() && !journal.history_kept.manifests.is_empty() {
        kept.retention = None;
    }
    kept
}

/// Plans that a manifest which goes, while others stay, does not say any more how long the history is kept.
pub(super) fn history_without(
    plan: &mut Plan,
    manifest: &str,
    journal: &Journal,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let kept = without(manifest, journal);
    match kept == journal.history_kept {
        true => Ok(()),
        false => parameters(plan, kept, journal, renderer),
    }
}

fn parameters(plan: &mut Plan, kept: HistoryKept, journal: &Journal, renderer: &Renderer) -> Result<(), RenderError> {
    if kept == journal.history_kept && journal.version == VERSION {
        return Ok(());
    }
    plan.push(Step::new(
        Phase::Functions,
        Action::Change,
        "parameters",
        format!("history is kept for {}, version {VERSION}", kept.retention.as_ref().map_or("ever", Span::text)),
        renderer.render(
            "registry/change",
            context! { version => VERSION, retention => kept.retention.as_ref().map(Span::text), manifests => kept.manifests },
        )?,
    ));
    Ok(())
}

/// Says in which other schemas emaj is: a manifest that was installed and then got another `schema` makes a second installation.
fn beside(catalog: &Catalog, renderer: &Renderer) -> String {
    let others = catalog.emaj_schemas.iter().filter(|other| *other != renderer.schema());
    let others: Vec<String> = others.map(|other| quote_ident(other)).collect();
    if others.is_empty() {
        return String::new();
    }
    format!(
        "emaj is in schema {} as well, and stays there: a manifest that was installed there is uninstalled with the `schema` that it had",
        others.join(", ")
    )
}

fn named(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_ident(schema), quote_ident(name))
}

fn drop_function(schema: &str, name: &str, arguments: &str) -> String {
    format!("drop function if exists {}({arguments});\n", named(schema, name))
}
