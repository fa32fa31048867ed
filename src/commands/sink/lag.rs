//! `emaj sink list` and `emaj sink lag`.

use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;

use crate::commands::act::connect;
use crate::commands::{Context, ShownArgs};
use crate::errors::Result;
use crate::journal::{self, SinkLag};
use crate::ui::{Column, Tabular};
use crate::words::duration;

/// Of which installation
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    shown: ShownArgs,
}

/// What is wanted to be seen.
#[derive(Debug, Clone, Copy)]
pub(super) enum View {
    List,
    Lag,
}

pub(super) fn run(args: &Args, view: View, context: &Context) -> Result<ExitCode> {
    let (mut session, schema) = connect(context, &args.shown.installation())?;
    let sinks = journal::lag(&mut *session, &schema)?;
    match view {
        View::List => context.output.data(&List(sinks))?,
        View::Lag => context.output.data(&Lag(sinks))?,
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
#[serde(transparent)]
struct List(Vec<SinkLag>);

impl Tabular for List {
    fn columns(&self) -> Vec<Column> {
        ["sink", "kind", "manifest", "state", "worker", "reason"]
            .into_iter()
            .map(Column::left)
            .collect()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let cells = |sink: &SinkLag| {
            vec![
                sink.sink.clone(),
                sink.kind.clone(),
                sink.manifest.clone(),
                sink.state.word().to_owned(),
                sink.worker.clone().unwrap_or_default(),
                sink.reason.clone().unwrap_or_default(),
            ]
        };
        self.0.iter().map(cells).collect()
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Lag(Vec<SinkLag>);

impl Tabular for Lag {
    fn columns(&self) -> Vec<Column> {
        vec![
            Column::left("sink"),
            Column::left("state"),
            Column::right("changes"),
            Column::right("age"),
            Column::right("set aside"),
        ]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let cells = |sink: &SinkLag| {
            let age = sink.age(Timestamp::now()).map(duration);
            vec![
                sink.sink.clone(),
                sink.state.word().to_owned(),
                sink.changes.to_string(),
                age.unwrap_or_default(),
                sink.set_aside.to_string(),
            ]
        };
        self.0.iter().map(cells).collect()
    }
}
