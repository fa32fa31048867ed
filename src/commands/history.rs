//! `emaj history`: what was done by emaj, when and by whom.

use std::process::ExitCode;

use super::act::connect;
use super::moment::moment_of;
use super::{Context, ShownArgs};
use crate::errors::Result;
use crate::journal::{self, Event, Wanted};
use crate::ui::{Column, List};
use crate::words::moment;

/// Shows what was done, when and by whom, the newest first
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only what was done to this group
    #[arg(long, short, value_name = "GROUP")]
    group: Option<String>,
    /// At most so many rows
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32))]
    limit: u32,
    /// Only what was done since: a time (`2026-11-21 10:00`, `yesterday`) or how long ago (`90min`, `24h`)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    #[command(flatten)]
    shown: ShownArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let (mut session, schema) = connect(context, &args.shown.installation())?;
    let since = args.since.map(|text| moment_of(&mut session, &text)).transpose()?;
    let wanted = Wanted {
        group: args.group.as_deref(),
        since,
        limit: args.limit.into(),
    };
    let events = journal::history(&mut *session, &schema, &wanted)?;
    // A group that is gone has a history.
    if let (Some(group), true) = (&args.group, events.is_empty()) {
        journal::group_named(&journal::groups(&mut *session, &schema)?, group)?;
    }
    let columns = ["time", "what", "object", "details", "user"].map(Column::left);
    context.output.data(&List::new(&events, columns, row))?;
    Ok(ExitCode::SUCCESS)
}

fn row(event: &Event) -> Vec<String> {
    let what = [event.function.as_str(), event.event.as_str()];
    vec![
        moment(event.time),
        what.join(" ").trim_end().to_owned(),
        event.object.clone(),
        event.wording.clone(),
        event.user.clone(),
    ]
}
