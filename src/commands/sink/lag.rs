//! `emaj sink list` and `emaj sink lag`.

use std::process::ExitCode;

use jiff::Timestamp;

use crate::commands::act::connect;
use crate::commands::{Context, ShownArgs};
use crate::errors::Result;
use crate::journal::{self, SinkLag};
use crate::ui::{Column, List};
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
        View::List => {
            let columns = ["sink", "kind", "manifest", "state", "worker", "reason"].map(Column::left);
            context.output.data(&List::new(&sinks, columns, as_listed))?;
        }
        View::Lag => {
            let columns = [
                Column::left("sink"),
                Column::left("state"),
                Column::right("changes"),
                Column::right("age"),
                Column::right("set aside"),
            ];
            context.output.data(&List::new(&sinks, columns, with_lag))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn as_listed(sink: &SinkLag) -> Vec<String> {
    vec![
        sink.sink.clone(),
        sink.kind.clone(),
        sink.manifest.clone(),
        sink.state.word().to_owned(),
        sink.worker.clone().unwrap_or_default(),
        sink.reason.clone().unwrap_or_default(),
    ]
}

fn with_lag(sink: &SinkLag) -> Vec<String> {
    let age = sink.age(Timestamp::now()).map(duration);
    vec![
        sink.sink.clone(),
        sink.state.word().to_owned(),
        sink.changes.to_string(),
        age.unwrap_or_default(),
        sink.set_aside.to_string(),
    ]
}
