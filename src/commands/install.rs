//! `emaj install`: makes the database as the manifest says.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{Context, LockArgs, ManifestArgs, plan};
use crate::errors::{Error, Kind, Result, UNCHANGED};
use crate::install::{self, Plan};
use crate::render::Renderer;
use crate::words::count;

/// Makes the database as the manifest says; again: only the difference
///
/// In one transaction: all of it, or nothing.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    manifest: ManifestArgs,
    /// Allow steps that lose log rows, marks or the place of a sink
    #[arg(long)]
    allow_destroy: bool,
    /// Carry out this saved plan (`emaj plan -o json`), and refuse when it no longer fits
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Show the plan and stop before the first step
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    lock: LockArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    context.output.accept(plan::FORMATS)?;
    let manifest = context.load(&args.manifest.manifest)?;
    let saved = args.plan.as_deref().map(fingerprint).transpose()?;
    let mut session = context.connect(Some(&manifest))?;
    let renderer = Renderer::new(&manifest.schema);
    let make = |catalog: &_, journal: Option<&_>| Ok(install::plan(&manifest, catalog, journal, &renderer)?);
    if args.dry_run {
        let (catalog, journal) = install::look(&mut session, &manifest)?;
        let plan = make(&catalog, journal.as_ref())?;
        fits(&plan, saved.as_deref())?;
        plan::show(&plan, "--allow-destroy", context)?;
        return Ok(ExitCode::SUCCESS);
    }
    // (What is being done is shown once it is agreed to: the plan is read before.)
    let progress = OnceCell::new();
    let plan = install::apply(
        &mut session,
        &manifest,
        args.lock.locking(),
        &make,
        &mut |plan| {
            fits(plan, saved.as_deref())?;
            plan::show(plan, "--allow-destroy", context)?;
            allowed(plan, args.allow_destroy, "--allow-destroy")?;
            progress.get_or_init(|| context.output.progress("installing", None));
            Ok(())
        },
        &|| _ = progress.get().map(|progress| progress.advance(1)),
    )?;
    drop(progress);
    if !plan.is_empty() {
        context
            .output
            .say(format!("installed: {} taken", count(plan.steps.len(), "step")));
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses a plan that loses something, unless that was allowed.
pub(super) fn allowed(plan: &Plan, allowed: bool, flag: &str) -> Result<()> {
    if plan.destroys() && !allowed {
        let losses: Vec<String> = plan
            .steps
            .iter()
            .filter(|step| step.destroys)
            .map(|step| format!("{}: {}", step.object, step.effect))
            .collect();
        return Err(
            Error::message(Kind::Refused, format!("this would destroy: {}", losses.join("; ")))
                .hint(format!("say `{flag}` when that is what you want; {UNCHANGED}")),
        );
    }
    Ok(())
}

fn fits(plan: &Plan, saved: Option<&str>) -> Result<()> {
    match saved {
        Some(saved) if saved != plan.fingerprint => Err(Error::message(
            Kind::Refused,
            "the saved plan no longer fits: the manifest or the database has changed since",
        )
        .hint("make and review a new one with `emaj plan -o json`; nothing was changed")),
        _ => Ok(()),
    }
}

fn fingerprint(path: &Path) -> Result<String> {
    let bad = |reason: String| {
        Error::message(Kind::Usage, format!("{} is no saved plan: {reason}", path.display()))
            .hint("save one with `emaj plan -o json > plan.json`")
    };
    let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    let saved: serde_json::Value = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
    saved["fingerprint"]
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| bad("it has no fingerprint".to_owned()))
}
