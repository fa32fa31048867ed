//! `emaj validate`: what is wrong with a manifest, all of it, without a database.

use std::process::ExitCode;

use serde::Serialize;

use super::act::FORMATS;
use super::{Context, ManifestArgs};
use crate::errors::{Kind, Result};
use crate::manifest::{self, Diagnostic, Diagnostics, Severity};
use crate::ui::{Column, Format, Tabular};
use crate::words::count;

/// Says everything that is wrong with a manifest; needs no database
///
/// Each problem comes with its place, what was found and what was expected. Exits with 65 when there is an error; warnings alone are
/// no reason.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    manifest: ManifestArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    context.output.accept(FORMATS)?;
    let (name, problems, holds) = match manifest::load(&args.manifest.manifest) {
        Ok(loaded) => {
            let manifest = loaded.manifest;
            let holds = format!(
                "{}, {}, {}",
                count(manifest.groups.len(), "group"),
                count(manifest.sinks.len(), "sink"),
                count(manifest.bindings.len(), "binding"),
            );
            (Some(manifest.name), loaded.warnings, holds)
        }
        Err(Diagnostics(problems)) => (None, problems, String::new()),
    };
    let verdict = Verdict {
        valid: name.is_some(),
        manifest: name,
        problems: Diagnostics(problems),
    };
    if context.output.format() != Format::Table {
        context.output.data(&verdict)?;
    } else if !verdict.problems.0.is_empty() {
        context.output.text(&(verdict.problems.render(true) + "\n"))?;
    }
    match &verdict.manifest {
        Some(name) => context
            .output
            .say(format!("manifest `{name}` is valid: {holds}{}", verdict.warnings())),
        None => context.output.say(format!(
            "the manifest is not valid: {}{}",
            count(verdict.number(Severity::Error), "error"),
            verdict.warnings()
        )),
    }
    Ok(if verdict.valid {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(Kind::Manifest.exit_code())
    })
}

/// What was found.
#[derive(Serialize)]
struct Verdict {
    valid: bool,
    /// Its name; none when there is an error.
    manifest: Option<String>,
    problems: Diagnostics,
}

impl Verdict {
    fn number(&self, severity: Severity) -> usize {
        self.problems
            .0
            .iter()
            .filter(|found| found.severity == severity)
            .count()
    }

    fn warnings(&self) -> String {
        match self.number(Severity::Warning) {
            0 => String::new(),
            number => format!("; {}", count(number, "warning")),
        }
    }
}

impl Tabular for Verdict {
    fn columns(&self) -> Vec<Column> {
        ["severity", "place", "problem", "expected", "found", "next"]
            .into_iter()
            .map(Column::left)
            .collect()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        self.problems.0.iter().map(row).collect()
    }
}

fn row(problem: &Diagnostic) -> Vec<String> {
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let file = problem.file.display();
    let place = match problem.line {
        0 => file.to_string(),
        line => format!("{file}:{line}:{}", problem.column),
    };
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    vec![
        severity.to_owned(),
        place,
        problem.message.clone(),
        text(&problem.expected),
        text(&problem.found),
        text(&problem.next),
    ]
}
