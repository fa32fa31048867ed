//! `emaj group show`.

use std::process::ExitCode;

use serde::Serialize;

use crate::commands::act::connect;
use crate::commands::{Context, InstallationArgs};
use crate::errors::Result;
use crate::journal::{self, GroupState, Member};
use crate::ui::{Column, Tabular};
use crate::words::bytes;

/// Shows one group: its properties, its tables and sequences, and the size of their logs
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The group
    group: String,
    #[command(flatten)]
    installation: InstallationArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<ExitCode> {
    let (mut session, schema) = connect(context, &args.installation)?;
    let groups = journal::groups(&mut *session, &schema)?;
    let group = journal::group_named(&groups, &args.group)?;
    let members = journal::members(&mut *session, &schema, &args.group)?;
    context.output.data(&Shown { group, schema, members })?;
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    group: &'a GroupState,
    /// Where the logs are.
    schema: String,
    members: Vec<Member>,
}

impl Tabular for Shown<'_> {
    fn columns(&self) -> Vec<Column> {
        vec![Column::left("what"), Column::left("value"), Column::left("log")]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let yes = |is: bool| Some(if is { "yes" } else { "no" }.to_owned());
        let properties = [
            ("group", Some(self.group.group.clone())),
            ("state", Some(self.group.state.to_lowercase())),
            ("rollback", yes(self.group.rollback)),
            ("protected", yes(self.group.protected)),
            ("manifest", Some(self.group.manifest.clone())),
            ("comment", self.group.comment.clone()),
            ("retention", self.group.retention.clone()),
            ("marks kept", self.group.keep_marks.clone()),
            ("largest size", self.group.max_size.map(bytes)),
            ("active marks", Some(self.group.active_marks.to_string())),
            ("last mark", self.group.last_mark.clone()),
        ];
        properties
            .into_iter()
            .filter_map(|(what, value)| Some(vec![what.to_owned(), value?, String::new()]))
            .chain(self.members.iter().map(member))
            .collect()
    }
}

fn member(member: &Member) -> Vec<String> {
    let mut name = member.qualified().to_string();
    if !member.exists {
        name.push_str(" (gone)");
    }
    let log = match (&member.log, &member.mode, member.log_bytes) {
        (Some(log), Some(mode), Some(size)) => format!("{log}, by {mode}, {}", bytes(size)),
        (Some(log), _, None) => format!("{log} (gone)"),
        _ => String::new(),
    };
    vec![member.kind.clone(), name, log]
}
