//! The steps for an installation that is not where it was made: after a restore, in a copy of the database, after pg_upgrade.
//!
//! Pure, as all of `install` but `apply`. Called by `commands/verify`; what `home` calls decides in the database whether it may be so.

use minijinja::context;

use super::plan::{Action, Lock, Phase, Plan, Step};
use super::removal::captured_by;
use super::{PlanError, action, check_owner, framework};
use crate::catalog::Catalog;
use crate::journal::{Astray, Journal, Origin, Relation};
use crate::manifest::Manifest;
use crate::names::{quote_ident, quote_literal};
use crate::render::Renderer;
use crate::words::count;

/// Registry tables that make a schema an installation: without them what stays is tables to be read.
const KEYSTONES: &[&str] = &["emaj_install", "emaj_seal"];

/// Plans the repair. After a restore the schema of the old installation is called `archive` from then on.
///
/// # Errors
/// Rights that are missing.
pub fn repair(
    manifest: &Manifest,
    astray: &Astray,
    archive: &str,
    catalog: &Catalog,
    journal: &Journal,
    renderer: &Renderer,
) -> Result<Plan, PlanError> {
    check_owner(manifest, catalog)?;
    let mut plan = Plan::new(manifest, catalog.server.schema_owner.clone(), Vec::new());
    plan.event = None;
    match astray.origin {
        Origin::Restored => archive_old(&mut plan, astray, archive, catalog, journal, renderer)?,
        Origin::Copied | Origin::Upgraded => home(&mut plan, astray, journal, renderer),
    }
    Ok(plan.finish(renderer))
}

fn home(plan: &mut Plan, astray: &Astray, journal: &Journal, renderer: &Renderer) {
    let mut effect = "marks and logs are kept".to_owned();
    let copied = astray.origin == Origin::Copied && !journal.sinks.is_empty();
    if copied {
        effect += &format!(
            "; {} and what was set aside for them are given up here, until `emaj init`",
            count(journal.sinks.len(), "sink")
        );
    } else if astray.origin == Origin::Upgraded {
        effect += "; triggers are taken as they are";
    }
    let mut step = Step::new(
        Phase::Delivery,
        Action::Change,
        format!("schema {}", quote_ident(renderer.schema())),
        &astray.problem,
        format!(
            "select {}._settle({});",
            postgres_protocol::escape::escape_identifier(renderer.schema()),
            quote_literal(astray.origin.word())
        ),
    )
    .effect(effect);
    step.destroys = copied;
    plan.push(step);
}

fn archive_old(
    plan: &mut Plan,
    astray: &Astray,
    archive: &str,
    catalog: &Catalog,
    journal: &Journal,
    renderer: &Renderer,
) -> Result<(), PlanError> {
    let relations: Vec<&Relation> = journal
        .relations
        .iter()
        .filter(|relation| relation.log.is_some())
        .collect();
    let sql = renderer.render(
        "registry/release",
        context! { relations => relations.iter().map(|relation| relation.id).collect::<Vec<_>>() },
    )?;
    let mut capture = Step::new(
        Phase::Removal,
        Action::Remove,
        format!("capture of {}", count(relations.len(), "table")),
        &astray.problem,
        sql,
    )
    .effect("changes are not written down until `emaj install`");
    capture.lock = Some(Lock::AccessExclusive);
    capture.tables = captured_by(&relations, catalog, journal, renderer);
    plan.push(capture);
    for (name, binding) in &journal.bindings {
        if let Some(made) = action::end(binding, catalog, journal, renderer)? {
            let object = format!("trigger of binding {name}");
            let step = Step::new(
                Phase::Removal,
                Action::Remove,
                object,
                &astray.problem,
                made.sql.clone(),
            );
            plan.push(made.place(step).effect("it is not done any more until `emaj install`"));
        }
    }

    let dropped = framework::functions_there(journal, renderer)?;
    let keystones: Vec<&str> = KEYSTONES
        .iter()
        .copied()
        .filter(|table| journal.tables.contains_key(*table))
        .collect();
    let sql = renderer.render(
        "registry/archive",
        context! { functions => dropped, tables => keystones, archive },
    )?;
    plan.push(
        Step::new(
            Phase::Removal,
            Action::Change,
            format!("schema {}", quote_ident(renderer.schema())),
            "its marks, positions and cursors mean nothing here",
            sql,
        )
        .effect(format!(
            "it is called {} from then on: logs, marks and history stay readable there, as plain tables",
            quote_ident(archive)
        ))
        .destroying(),
    );
    Ok(())
}
