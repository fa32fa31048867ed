//! `emaj doctor`: what is missing here, and the SQL that gives it.

use std::path::PathBuf;
use std::process::ExitCode;

use jiff::Timestamp;

use super::Context;
use super::act::FORMATS;
use super::args::schema_named;
use crate::errors::{Kind, Result};
use crate::install;
use crate::install::doctor::{self, Check, Level};
use crate::install::doctor_sinks;
use crate::journal;
use crate::ui::{Column, List};
use crate::words::{count, count_as};

/// Checks the rights and settings that emaj needs, and says what is missing
///
/// What is missing comes with the SQL that gives it. With a manifest, what `emaj drift` finds of its groups is missing too: changes may go by
/// unlogged. Sinks that are installed are looked at too: whether they are delivered to, keep up, and took everything. Changes
/// nothing. Exits with 12 when something necessary is missing; warnings are about what would make it better.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Manifest files, or folders of them [default: ./emaj.yaml, when it is there]
    #[arg(value_name = "MANIFEST")]
    manifest: Vec<PathBuf>,
    /// Schema of the installation, as SQL spells it, when there is no manifest
    #[arg(long, env = "EMAJ_SCHEMA", default_value = "emaj")]
    schema: String,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    context.output.accept(FORMATS)?;
    let manifest = context.load_there(&args.manifest)?;
    let mut session = context.connect(manifest.as_ref())?;
    let schema = match &manifest {
        Some(manifest) => manifest.schema.clone(),
        None => schema_named(&args.schema)?,
    };
    let schema = schema.as_str();
    let roles: Vec<&str> = manifest.iter().flat_map(|manifest| manifest.roles.names()).collect();
    let (catalog, journal) = install::survey(&mut session, schema, &roles)?;
    let installed = journal.is_some();
    let mut checks = doctor::examine(manifest.as_ref(), &catalog, journal.as_ref(), schema);
    if let Some(manifest) = &manifest {
        // (A plan would say once more what is missing.)
        if checks.iter().all(|check| check.level != Level::Missing) {
            let (catalog, journal) = install::look(&mut session, manifest)?;
            checks.extend(doctor::planning(manifest, &catalog, journal.as_ref()));
        }
        // (What is empty or was copied has been named already.)
        if journal.is_some_and(|journal| !journal.hollow && journal.astray.is_none()) {
            checks.extend(doctor::drifted(install::drift(&mut session, manifest)?));
        }
    }
    // Whoever is not the owner may still be allowed to look.
    let is_others = catalog.server.schema_owner.is_some() && !catalog.server.owns_schema;
    if installed || is_others {
        checks.extend(match journal::lag(&mut *session, schema) {
            Ok(lags) => doctor_sinks::sinks(&lags, Timestamp::now()),
            // (The schema's owner has been named already.)
            Err(_) if is_others => Vec::new(),
            Err(error) => vec![Check {
                level: Level::Warning,
                what: "sinks".to_owned(),
                found: format!("how far behind they are cannot be read: {error}"),
                todo: "ask as the owner of the installation".to_owned(),
            }],
        });
    }
    let columns = ["", "what", "found", "what to do"].map(Column::left);
    context.output.data(&List::new(&checks, columns, row))?;
    let number = |level: Level| checks.iter().filter(|check| check.level == level).count();
    let (missing, warnings) = (number(Level::Missing), number(Level::Warning));
    context.output.say(format!(
        "{}, {}",
        count_as(missing, "thing is missing", "things are missing"),
        count(warnings, "warning")
    ));
    Ok(if missing > 0 {
        ExitCode::from(Kind::Denied.exit_code())
    } else {
        ExitCode::SUCCESS
    })
}

fn row(check: &Check) -> Vec<String> {
    vec![
        check.level.name().to_owned(),
        check.what.clone(),
        check.found.clone(),
        check.todo.clone(),
    ]
}
