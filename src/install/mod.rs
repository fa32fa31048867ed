//! From a manifest to a database: what is wanted, what is there, and the steps between. Pure: values in, a plan out.
//!
//! `wanted` resolves the manifest against the catalogue, `framework`, `rights`, `table`, `group`, `delivery`, `action` and `removal` turn
//! differences into
//! [`Step`]s, each with its reason, and `plan` holds the plan and its script. `apply` is the one part that touches the database:
//! it carries a plan out in one transaction, or in several where `portions` has divided an uninstall. Called by `commands/` (plan, install,
//! uninstall, drift).
//! Beside them: `drift` asks the installed functions what no longer fits, `draft` makes a manifest of what is there, `doctor` looks
//! for rights and settings that are missing, `repair` for an installation that was restored, copied or upgraded, `trust` for rights that are too many, `width` for rows that are too long, `ties` for foreign keys that leave a group, `room` for the server's locks, `foreign` for what stands in the way of an uninstall.

mod action;
mod apply;
mod delivery;
pub mod doctor;
pub mod doctor_sinks;
pub mod draft;
mod drift;
mod foreign;
mod framework;
mod group;
mod obstacle;
mod plan;
mod portions;
mod removal;
mod repair;
mod rights;
mod room;
mod survey;
mod table;
mod ties;
mod trust;
mod wanted;
mod width;

use crate::catalog::Catalog;
use crate::errors::{Error, Kind};
use crate::journal::{self, Journal, TornRollback};
use crate::manifest::Manifest;
use crate::names::quote_ident;
use crate::render::{RenderError, Renderer};

pub use apply::{apply, look};
pub use drift::{Finding, drift};
pub use foreign::foreign;
pub use plan::{Plan, Step};
pub use removal::uninstall;
pub use repair::repair;
pub use survey::survey;
pub use wanted::Problems;

/// What a plan cannot be made for.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    Problems(#[from] Problems),
    /// What is in the way that no file says.
    #[error("{message}")]
    InTheWay { kind: Kind, message: String, next: String },
    #[error(transparent)]
    Render(#[from] RenderError),
}

impl From<PlanError> for Error {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Problems(problems) => problems.into(),
            PlanError::InTheWay { kind, message, next } => Error::message(kind, message).hint(next),
            PlanError::Render(error) => error.into(),
        }
    }
}

/// Refuses an installation that is not where it was made, or whose registry is empty.
fn check_home(manifest: &Manifest, journal: &Journal) -> Result<(), PlanError> {
    let astray = journal.astray.as_ref();
    let hollow = journal.hollow.then(|| journal::hollow(&manifest.schema));
    match hollow.or_else(|| astray.map(|astray| (astray.problem.clone(), astray.repair.clone()))) {
        None => Ok(()),
        Some((message, next)) => Err(PlanError::InTheWay {
            kind: Kind::Refused,
            message,
            next,
        }),
    }
}

/// Refuses what only the schema's owner may do.
fn check_owner(manifest: &Manifest, catalog: &Catalog) -> Result<(), PlanError> {
    if catalog.server.owns_schema {
        return Ok(());
    }
    let owner = catalog.server.schema_owner.as_deref().unwrap_or_default();
    Err(PlanError::InTheWay {
        kind: Kind::Denied,
        message: format!("schema {} belongs to role {owner}", quote_ident(&manifest.schema)),
        next: catalog.server.as_owner(),
    })
}

/// Refuses what would take away what a torn rollback of these groups is mended with.
fn check_torn<'a>(
    mut torn: impl Iterator<Item = &'a TornRollback>,
    is_ours: impl Fn(&String) -> bool,
) -> Result<(), PlanError> {
    match torn.find(|torn| torn.groups.iter().any(&is_ours)) {
        Some(torn) => Err(PlanError::InTheWay {
            kind: Kind::Refused,
            message: torn.sentence(),
            next: torn.repair.clone(),
        }),
        None => Ok(()),
    }
}

/// Returns the torn rollbacks that an install does not come before: it does where the groups log, and have drifted or have new columns.
fn torn_still(journal: &Journal) -> impl Iterator<Item = &TornRollback> {
    let logs = |name: &String| journal.groups.get(name).is_some_and(|group| group.logging);
    journal
        .torn
        .iter()
        .filter(move |torn| !torn.drifted || !torn.groups.iter().all(logs))
}

/// Plans the steps that make the database as `manifest` says. No step: it is so already.
///
/// # Errors
/// Every problem between manifest and database at once, each with its place in the manifest.
pub fn plan(
    manifest: &Manifest,
    catalog: &Catalog,
    journal: Option<&Journal>,
    renderer: &Renderer,
) -> Result<Plan, PlanError> {
    let manifest = &*delivery::complete(manifest, catalog, journal);
    wanted::check_server(manifest, catalog, journal)?;
    if let Some(journal) = journal {
        check_home(manifest, journal)?;
        let is_ours = |name: &String| {
            let installed = journal.groups.get(name);
            installed.is_some_and(|group| group.manifest == manifest.name)
                || manifest.groups.iter().any(|group| group.name.value == *name)
        };
        check_torn(torn_still(journal), is_ours)?;
    }
    let wanted = wanted::resolve(manifest, catalog, journal)?;
    let mut plan = Plan::new(manifest, catalog.server.schema_owner.clone(), wanted.notes);
    let captured = wanted.groups.iter().flat_map(|group| &group.tables);
    plan.notes
        .extend(trust::excess(&catalog.server, captured.map(|wanted| wanted.table)));
    plan.notes.extend(ties::notes(&wanted.groups, catalog, journal));
    let made = framework::plan(&mut plan, manifest, catalog, journal, renderer)?;
    for group in &wanted.groups {
        group::plan(&mut plan, manifest, group, catalog, journal, renderer)?;
    }
    delivery::plan(&mut plan, manifest, &wanted.bindings, catalog, journal, renderer)?;
    delivery::tell_gaps(&mut plan, manifest, journal);
    removal::plan(&mut plan, manifest, &wanted.groups, catalog, journal, renderer)?;
    rights::plan(&mut plan, manifest, catalog, journal, &made, renderer)?;
    rights::close(&mut plan, manifest, catalog, journal, renderer)?;
    Ok(plan.finish(renderer))
}
