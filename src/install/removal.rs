//! The steps for what is no longer wanted: relations that left a group, groups that left the manifest, the whole installation.

use minijinja::context;

use super::framework::REGISTRY;
use super::plan::{Action, Lock, Phase, Plan, Step};
use super::wanted::{Problem, Problems, WantedGroup};
use super::{PlanError, delivery, group, table};
use crate::catalog::Catalog;
use crate::errors::Kind;
use crate::journal::{Journal, Relation};
use crate::manifest::{Diagnostic, Manifest};
use crate::names::quote_ident;
use crate::render::{RenderError, Renderer};
use crate::ui::words::count;

/// Plans the end of what this manifest owns and does not declare any more.
pub(super) fn plan(
    plan: &mut Plan,
    manifest: &Manifest,
    wanted: &[WantedGroup<'_>],
    catalog: &Catalog,
    journal: Option<&Journal>,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let Some(journal) = journal else { return Ok(()) };
    let kept = |oid: u32| {
        wanted.iter().any(|group| {
            group.tables.iter().any(|table| table.table.oid == oid)
                || group.sequences.iter().any(|(_, sequence)| *sequence == oid)
        })
    };
    for (name, group) in journal
        .groups
        .iter()
        .filter(|(_, group)| group.manifest == manifest.name)
    {
        let relations: Vec<&Relation> = journal
            .relations
            .iter()
            .filter(|relation| relation.group == *name)
            .collect();
        if wanted.iter().all(|wanted| wanted.group.name.value != *name) {
            let moved = relations.iter().filter(|relation| kept(relation.oid)).count();
            drop_group(
                plan,
                name,
                "the manifest does not declare it any more",
                &relations[..],
                moved,
                renderer,
            )?;
            delivery::look_at_removal(plan, manifest, name, &relations, &kept, journal);
            continue;
        }
        for relation in relations.iter().filter(|relation| !kept(relation.oid)) {
            let there = catalog.table(relation.oid).is_some() || relation.kind == 'S';
            let because = if there {
                "the manifest does not name it any more"
            } else {
                "it is gone from the database"
            };
            table::end(plan, relation, because, group.active_marks, renderer);
        }
        if group.logging
            && relations.iter().any(|relation| !kept(relation.oid))
            && !plan
                .steps
                .iter()
                .any(|step| step.object == format!("mark of group {name}"))
        {
            group::mark_change(plan, name, renderer)?;
        }
    }
    Ok(())
}

fn drop_group(
    plan: &mut Plan,
    name: &str,
    because: &str,
    relations: &[&Relation],
    moved: usize,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let sql = renderer.render("group/remove", context! { group => name })?;
    let mut step = Step::new(Phase::Removal, Action::Remove, format!("group {name}"), because, sql)
        .effect(format!(
            "the logs and marks of {} are lost; the tables stay",
            count(relations.len() - moved, "relation")
        ))
        .destroying();
    step.lock = Some(Lock::AccessExclusive);
    step.tables = relations
        .iter()
        .filter(|relation| relation.kind != 'S')
        .map(|relation| relation.oid)
        .collect();
    plan.push(step);
    Ok(())
}

/// Plans the way back: the groups of `manifest` (or of all manifests), and, when none is left, everything emaj made.
///
/// # Errors
/// Objects of somebody else in the schema; rights that are missing.
pub fn uninstall(
    manifest: &Manifest,
    all: bool,
    catalog: &Catalog,
    journal: &Journal,
    renderer: &Renderer,
) -> Result<Plan, PlanError> {
    let mut plan = Plan::new(manifest, Vec::new());
    let refuse = |kind, message: String, next: String| {
        Err(Problems(vec![Problem {
            kind,
            what: Diagnostic::of_file(std::path::Path::new("database"), message).next(next),
        }])
        .into())
    };
    if !catalog.server.owns_schema {
        let owner = catalog.server.schema_owner.clone().unwrap_or_default();
        return refuse(
            Kind::Denied,
            format!("schema {} belongs to role {owner}", quote_ident(&manifest.schema)),
            format!(
                "connect as {owner}, or: grant {owner} to {}",
                quote_ident(&catalog.server.role)
            ),
        );
    }
    let (ours, others): (Vec<_>, Vec<_>) = journal
        .groups
        .iter()
        .partition(|(_, group)| all || group.manifest == manifest.name);
    for (name, group) in &ours {
        let relations: Vec<&Relation> = journal
            .relations
            .iter()
            .filter(|relation| relation.group == **name)
            .collect();
        drop_group(
            &mut plan,
            name,
            &format!("uninstall of manifest `{}`", group.manifest),
            &relations,
            0,
            renderer,
        )?;
    }
    let is_ours = |owner: &str| all || owner == manifest.name;
    let bound = delivery::uninstall(&mut plan, &is_ours, catalog, journal, renderer)?;
    if !others.is_empty() || !bound.is_empty() {
        let names = others
            .iter()
            .map(|(name, _)| name.as_str())
            .chain(bound.iter().map(String::as_str));
        let names: Vec<&str> = names.collect();
        plan.notes.push(format!(
            "schema {} stays: it holds what other manifests have ({})",
            quote_ident(&manifest.schema),
            names.join(", ")
        ));
        return Ok(plan.finish(renderer));
    }
    let functions = renderer.functions()?;
    let own_function = |name: &str| {
        functions.iter().any(|function| function.name == name)
            || journal.logs.contains(name)
            || journal
                .bindings
                .values()
                .any(|binding| binding.action.as_deref() == Some(name))
    };
    let foreign: Vec<&str> = journal
        .tables
        .keys()
        .filter(|name| !REGISTRY.contains(&name.as_str()) && !journal.logs.contains(*name))
        .chain(journal.views.iter().filter(|view| {
            !journal
                .relations
                .iter()
                .any(|relation| relation.guard.as_ref() == Some(view))
        }))
        .chain(journal.functions.keys().filter(|name| !own_function(name)))
        .map(String::as_str)
        .collect();
    if !foreign.is_empty() {
        return refuse(
            Kind::Refused,
            format!(
                "schema {} holds objects that emaj did not make: {}",
                quote_ident(&manifest.schema),
                foreign.join(", ")
            ),
            "move them to another schema, or drop them".to_owned(),
        );
    }
    let dropped: Vec<_> = functions
        .iter()
        .filter_map(|function| {
            Some(context! { name => &function.name, arguments => &journal.functions.get(&function.name)?.arguments })
        })
        .collect();
    let tables: Vec<&str> = REGISTRY
        .iter()
        .copied()
        .filter(|table| journal.tables.contains_key(*table))
        .collect();
    let sql = renderer.render(
        "registry/drop",
        context! { functions => dropped, tables, roles => journal.roles.clone() },
    )?;
    plan.push(
        Step::new(
            Phase::Removal,
            Action::Remove,
            format!("schema {}", quote_ident(&manifest.schema)),
            "no group is left",
            sql,
        )
        .effect("nothing of emaj remains")
        .destroying(),
    );
    Ok(plan.finish(renderer))
}
