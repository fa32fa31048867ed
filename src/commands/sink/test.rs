//! `emaj sink test`.

use std::process::ExitCode;

use serde::Serialize;

use crate::commands::run::check_names;
use crate::commands::{Context, ManifestArgs};
use crate::errors::{Kind, Result};
use crate::manifest::Diagnostics;
use crate::sink::{self, Finding};
use crate::ui::{Column, List};

/// Reaches the sinks of a manifest and says what may be done there
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    manifest: ManifestArgs,
    /// Only this sink; may be given several times
    #[arg(long, value_name = "SINK")]
    sink: Vec<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let manifest = context.load(&args.manifest.manifest)?;
    check_names(&manifest, &args.sink)?;
    let mut found = Vec::new();
    let mut wrong = Vec::new();
    for sink in &manifest.sinks {
        let name = &sink.name.value;
        if !args.sink.is_empty() && !args.sink.contains(name) {
            continue;
        }
        let opener = match sink::opener(&manifest, sink, &context.environment, "emaj sink test") {
            Ok(opener) => opener,
            Err(error) => {
                let Some(Diagnostics(problems)) = error.cause() else {
                    return Err(error);
                };
                wrong.push(error.kind());
                found.extend(problems.iter().map(|problem| Tested {
                    sink: name.clone(),
                    what: "read the settings".to_owned(),
                    problem: Some(format!("{problem:#}")),
                }));
                continue;
            }
        };
        let findings = opener.open().and_then(|mut place| place.probe());
        let findings = findings.unwrap_or_else(|fault| {
            wrong.push(match fault.is_login {
                true => Kind::Denied,
                false => Kind::Unreachable,
            });
            vec![Finding::of(format!("reach {}", opener.describe()), Some(fault.reason))]
        });
        let problems = findings.iter().filter(|finding| finding.problem.is_some());
        wrong.extend(problems.map(|finding| match finding.is_denied {
            true => Kind::Denied,
            false => Kind::Failed,
        }));
        found.extend(findings.into_iter().map(|finding| Tested {
            sink: name.clone(),
            what: finding.what,
            problem: finding.problem,
        }));
    }
    let columns = ["sink", "what", "result"].map(Column::left);
    context.output.data(&List::new(&found, columns, row))?;
    // (That a sink cannot be used tells more than a remark on another one.)
    let first = wrong.iter().find(|kind| **kind != Kind::Failed).or(wrong.first());
    Ok(ExitCode::from(first.map_or(0, |kind| kind.exit_code())))
}

#[derive(Serialize)]
struct Tested {
    sink: String,
    what: String,
    problem: Option<String>,
}

fn row(tested: &Tested) -> Vec<String> {
    vec![
        tested.sink.clone(),
        tested.what.clone(),
        tested.problem.clone().unwrap_or_else(|| "fine".to_owned()),
    ]
}
