//! The steps for what all groups share: the schema, the registry and the functions. Who may call them is the affair of `rights`.

use std::collections::BTreeSet;

use minijinja::{Value, context};

use super::plan::{Action, Part, Phase, Plan, Step};
use crate::catalog::Catalog;
use crate::journal::Journal;
use crate::manifest::Manifest;
use crate::names::quote_ident;
use crate::render::{RenderError, Renderer};
use crate::words::count;

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
    let version = env!("CARGO_PKG_VERSION");
    let wanted_retention = manifest.history.retention.as_ref().map(|text| text.value.as_str());
    let functions = renderer.functions()?;
    let Some(journal) = journal else {
        plan.push(Step::new(
            Phase::Schema,
            Action::Create,
            format!("schema {}", quote_ident(renderer.schema())),
            "nothing is installed yet",
            renderer.render("registry/tables", ())?,
        ));
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
                context! { version, retention => wanted_retention.unwrap_or("1 year") },
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
            journal
                .functions
                .get(&function.name)
                .is_none_or(|there| there.body != function.body)
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
        let because = if journal.version == version {
            "they are not what this version of emaj installs".to_owned()
        } else {
            format!("version {} is installed, this is {version}", journal.version)
        };
        plan.push(Step::of_parts(
            Phase::Functions,
            Action::Change,
            count(changed.len(), "function"),
            because,
            parts,
        ));
    }
    let retention = match wanted_retention {
        Some(text) => catalog.intervals.get(text).cloned(),
        None => journal.history_retention.clone(),
    };
    if retention != journal.history_retention || journal.version != version {
        plan.push(Step::new(
            Phase::Functions,
            Action::Change,
            "parameters",
            format!(
                "history is kept for {}, version {version}",
                retention.as_deref().unwrap_or("ever")
            ),
            renderer.render("registry/change", context! { version, retention })?,
        ));
    }
    Ok(changed.iter().map(|function| function.name.clone()).collect())
}

fn named(schema: &str, name: &str) -> String {
    format!("{}.{}", quote_ident(schema), quote_ident(name))
}

fn drop_function(schema: &str, name: &str, arguments: &str) -> String {
    format!("drop function if exists {}({arguments});\n", named(schema, name))
}
