//! `emaj plan`: what `install` would change, for review and for CI.

use std::collections::BTreeSet;
use std::process::ExitCode;

use super::install::allowed;
use super::{Context, ManifestArgs};
use crate::catalog::Catalog;
use crate::errors::Result;
use crate::install::{self, Plan, Step};
use crate::journal::Journal;
use crate::manifest::Manifest;
use crate::pg::{Locking, Session};
use crate::render::Renderer;
use crate::ui::{Column, Format, Tabular};
use crate::words::{count, count_are};

/// The formats of every verb that makes a plan.
pub(super) const FORMATS: &[Format] = &[Format::Table, Format::Json, Format::Sql, Format::Markdown];

/// Shows what `install` would change in the database, and why; changes nothing
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    manifest: ManifestArgs,
    /// Exit with 2 when there are changes to make
    #[arg(long)]
    detailed_exitcode: bool,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    context.output.accept(FORMATS)?;
    let manifest = context.load(&args.manifest.manifest)?;
    let mut session = context.connect(Some(&manifest))?;
    let (catalog, journal) = install::look(&mut session, &manifest)?;
    let renderer = Renderer::new(&manifest.schema);
    let plan = install::plan(&manifest, &catalog, journal.as_ref(), &renderer)?;
    show(&plan, "--allow-destroy", context)?;
    Ok(exit_code(args.detailed_exitcode, !plan.is_empty()))
}

/// Returns 2 when there are changes and the caller asked to be told so.
pub(super) fn exit_code(detailed: bool, changes: bool) -> ExitCode {
    ExitCode::from(if detailed && changes { 2 } else { 0 })
}

/// Shows a plan: its steps as data, its notes and its sum as talk. `flag` is what allows it to destroy something.
pub(super) fn show(plan: &Plan, flag: &str, context: &Context) -> Result<()> {
    for note in &plan.notes {
        context.output.warn(note);
    }
    if plan.is_empty() && matches!(context.output.format(), Format::Table) {
        context.output.say(format!(
            "nothing to do: {} as the manifest says",
            count_are(plan.unchanged, "relation")
        ));
        return Ok(());
    }
    context.output.data_ahead(plan)?;
    if matches!(context.output.format(), Format::Table | Format::Markdown) {
        context.output.say(sum(plan, flag));
    }
    Ok(())
}

/// What a verb asks before it carries a plan out, and says of it.
pub(super) struct Asking<'a> {
    pub question: &'a str,
    /// While it is done: `uninstalling`.
    pub doing: &'a str,
    /// Afterwards: `uninstalled`.
    pub done: &'a str,
    pub yes: bool,
    pub locking: Locking,
}

/// Asks whether a plan that was shown is to be carried out, does it, and says so. If it has become another one meanwhile, that one may
/// destroy something else only with `--yes`.
pub(super) fn carry_out(
    shown: &Plan,
    make: &dyn Fn(&Catalog, Option<&Journal>) -> Result<Plan>,
    asking: &Asking<'_>,
    manifest: &Manifest,
    session: &mut Session,
    context: &Context,
) -> Result<()> {
    context.output.confirm(asking.question, asking.yes)?;
    let progress = context.output.progress(asking.doing, None);
    let plan = install::apply(
        session,
        manifest,
        asking.locking,
        make,
        &mut |plan| match plan.fingerprint == shown.fingerprint {
            true => Ok(()),
            false => allowed(
                plan,
                asking.yes || destroyed(plan).is_subset(&destroyed(shown)),
                "--yes",
            ),
        },
        &|| progress.advance(1),
    )?;
    drop(progress);
    let steps = count(plan.taken(), "step");
    context.output.say(format!("{}: {steps} taken", asking.done));
    Ok(())
}

/// Returns what a plan destroys something of: groups, or single objects.
fn destroyed(plan: &Plan) -> BTreeSet<&str> {
    let steps = plan.steps.iter().filter(|step| step.destroys);
    steps
        .map(|step| step.group.as_deref().unwrap_or(&step.object))
        .collect()
}

/// Returns the sum of a plan in one sentence.
fn sum(plan: &Plan, flag: &str) -> String {
    let destroyed = plan.steps.iter().filter(|step| step.destroys).count();
    let mut text = format!(
        "{} to take, {} unchanged",
        count(plan.steps.len(), "step"),
        count_are(plan.unchanged, "relation")
    );
    if destroyed > 0 {
        text.push_str(&format!(
            "; {} something that cannot be made again (`{flag}`)",
            if destroyed == 1 {
                "1 destroys".to_owned()
            } else {
                format!("{destroyed} destroy")
            }
        ));
    }
    text
}

/// As JSON it is what `install --plan` reads back.
impl Tabular for Plan {
    fn columns(&self) -> Vec<Column> {
        ["", "what", "because", "lock", "effect"]
            .into_iter()
            .map(Column::left)
            .collect()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        self.steps.iter().map(row).collect()
    }

    fn sql(&self) -> Option<String> {
        Some(self.script())
    }
}

fn row(step: &Step) -> Vec<String> {
    let effect = if step.destroys {
        format!("DESTROYS: {}", step.effect)
    } else {
        step.effect.clone()
    };
    vec![
        step.action.sign().to_owned(),
        step.object.clone(),
        step.because.clone(),
        step.lock.map(|lock| lock.name().to_owned()).unwrap_or_default(),
        effect,
    ]
}
