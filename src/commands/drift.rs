//! `emaj drift`: what in the database is no longer as it was installed.

use std::process::ExitCode;

use serde::Serialize;

use super::act::FORMATS;
use super::{Context, ManifestArgs, plan};
use crate::errors::{Kind, Result};
use crate::install::{self, Finding, Plan, PlanError};
use crate::journal;
use crate::manifest::Manifest;
use crate::pg::Session;
use crate::render::Renderer;
use crate::ui::{Column, Format, Tabular};
use crate::words::count;

/// Shows what in the database is no longer as it was installed
///
/// These are the problems that the installed functions find, and the steps by which `emaj install` would repair them. Changes nothing.
/// A change of the manifest shows as steps, too.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    manifest: ManifestArgs,
    /// Exit with 2 when something has drifted
    #[arg(long)]
    detailed_exitcode: bool,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    context.output.accept(FORMATS)?;
    let manifest = context.load(&args.manifest.manifest)?;
    let mut session = context.connect(Some(&manifest))?;
    let (catalog, journal) = install::look(&mut session, &manifest)?;
    let journal = journal.ok_or_else(|| journal::not_installed(&manifest.schema, session.wanted().dbname()))?;
    if !catalog.server.owns_schema {
        return without_plan(&args, &manifest, &mut session, &catalog.server.as_owner(), context);
    }
    let renderer = Renderer::new(&manifest.schema);
    let plan = match install::plan(&manifest, &catalog, Some(&journal), &renderer) {
        // A table that the manifest names and that is gone, or has another owner, is drift, too; what the functions say of it is worth
        // reading first.
        Err(PlanError::Problems(problems))
            if problems
                .0
                .iter()
                .all(|problem| matches!(problem.kind, Kind::Manifest | Kind::Denied)) =>
        {
            let findings = install::drift(&mut session, &manifest)?;
            context.output.data(&Drift::found(findings, &args.manifest))?;
            return Err(problems.into());
        }
        plan => plan?,
    };
    let mut drift = Drift::found(install::drift(&mut session, &manifest)?, &args.manifest);
    drift.plan = Some(plan);
    if drift.is_empty() && context.output.format() == Format::Table {
        let relations = drift.plan.as_ref().map_or(0, |plan| plan.unchanged);
        context
            .output
            .say(format!("no drift: {} as installed", count(relations, "relation")));
        return Ok(ExitCode::SUCCESS);
    }
    context.output.data(&drift)?;
    for note in drift.plan.iter().flat_map(|plan| &plan.notes) {
        context.output.warn(note);
    }
    if drift.plan.as_ref().is_some_and(Plan::is_empty) && !drift.findings.is_empty() {
        context.output.hint(format!(
            "{} found, and nothing that `emaj install` would do about it: what to do stands behind each",
            count(drift.findings.len(), "problem"),
        ));
    } else if !drift.is_empty() {
        let destroys = drift.plan.as_ref().is_some_and(Plan::destroys);
        context.output.hint(format!(
            "{} found, {} to repair: `{}`{}",
            count(drift.findings.len(), "problem"),
            count(drift.plan.as_ref().map_or(0, |plan| plan.steps.len()), "step"),
            drift.install,
            if destroys {
                ", which says what it would destroy, and how to allow it"
            } else {
                ""
            },
        ));
    }
    Ok(plan::exit_code(args.detailed_exitcode, !drift.is_empty()))
}

/// Shows what the functions find to whoever may only look: a plan is the owner's.
fn without_plan(
    args: &Args,
    manifest: &Manifest,
    session: &mut Session,
    as_owner: &str,
    context: &Context,
) -> Result<ExitCode> {
    let findings = install::drift(session, manifest)?;
    let found = findings.len();
    if found == 0 && context.output.format() == Format::Table {
        context.output.say("no drift was found");
    } else {
        context.output.data(&Drift::found(findings, &args.manifest))?;
    }
    context.output.hint(format!(
        "what `emaj install` would do about the manifest is shown to the owner of emaj's schema: {as_owner}"
    ));
    Ok(plan::exit_code(args.detailed_exitcode, found > 0))
}

/// What was found, and the plan that repairs it; none when no plan can be made.
#[derive(Serialize)]
struct Drift {
    findings: Vec<Finding>,
    plan: Option<Plan>,
    /// The command that repairs it.
    #[serde(skip)]
    install: String,
}

impl Drift {
    fn found(findings: Vec<Finding>, manifest: &ManifestArgs) -> Self {
        Drift {
            findings,
            plan: None,
            install: manifest.command("install"),
        }
    }

    fn is_empty(&self) -> bool {
        self.findings.is_empty() && self.plan.as_ref().is_some_and(Plan::is_empty)
    }
}

impl Tabular for Drift {
    fn columns(&self) -> Vec<Column> {
        ["", "what", "because", "repair"]
            .into_iter()
            .map(Column::left)
            .collect()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let found = self.findings.iter().map(|finding| {
            vec![
                "!".to_owned(),
                finding.relation.clone().unwrap_or_default(),
                finding.problem.clone(),
                finding.repair.clone(),
            ]
        });
        let steps = self.plan.iter().flat_map(|plan| &plan.steps).map(|step| {
            let repair = match (step.destroys, step.effect.as_str()) {
                (true, effect) => format!("{} (DESTROYS: {effect})", self.install),
                (false, "") => self.install.clone(),
                (false, effect) => format!("{} ({effect})", self.install),
            };
            vec![
                step.action.sign().to_owned(),
                step.object.clone(),
                step.because.clone(),
                repair,
            ]
        });
        found.chain(steps).collect()
    }
}
