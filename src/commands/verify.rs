//! `emaj verify`: does what was installed still fit the database?

use std::process::ExitCode;

use serde::Serialize;

use super::act::connect;
use super::{Context, ShownArgs};
use crate::errors::{Kind, Result};
use crate::journal::{self, Inconsistency};
use crate::ui::words::count_as;
use crate::ui::{Column, Format, Tabular};

/// Looks for inconsistencies between emaj's registry, logs, triggers and the tables, and says how to mend them; exits with 6
/// when there are any
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    shown: ShownArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let (mut session, schema) = connect(context, &args.shown.installation())?;
    let found = journal::inconsistencies(&mut *session, &schema)?;
    let number = found.len();
    if number > 0 || context.output.format() != Format::Table {
        context.output.data(&Found(found))?;
    }
    if number == 0 {
        context.output.say("no inconsistency found");
        return Ok(ExitCode::SUCCESS);
    }
    context.output.say(format!(
        "{} found",
        count_as(number, "inconsistency", "inconsistencies")
    ));
    Ok(ExitCode::from(Kind::Different.exit_code()))
}

#[derive(Serialize)]
#[serde(transparent)]
struct Found(Vec<Inconsistency>);

impl Tabular for Found {
    fn columns(&self) -> Vec<Column> {
        ["group", "object", "problem", "repair"]
            .into_iter()
            .map(Column::left)
            .collect()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let cells = |one: &Inconsistency| {
            vec![
                one.group.clone().unwrap_or_default(),
                one.object.clone(),
                one.problem.clone(),
                one.repair.clone(),
            ]
        };
        self.0.iter().map(cells).collect()
    }
}
