//! `emaj at`: a query on the tables as they were at a mark.

use std::io::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use super::act::{FORMATS, warn};
use super::{Context, InstallationArgs};
use crate::errors::{Error, Kind, Result};
use crate::past::{self, Answer, Found};
use crate::pg::Rows;
use crate::ui::{Column, Format, Stream, Tabular};
use crate::words::shell;

/// Reads the tables of a group as they were at a mark
///
/// It runs a query, reads only, locks the tables of the group as any reader does, and leaves nothing behind. Tables are named without their
/// schema; those outside the group are read as they are now.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The group
    group: String,
    /// The mark; EMAJ_LAST_MARK is the last one
    mark: String,
    /// The query
    query: String,
    #[command(flatten)]
    installation: InstallationArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    context.output.accept(FORMATS)?;
    if args.query.trim().trim_matches(';').is_empty() {
        return Err(Error::message(Kind::Usage, "there is no query").hint(format!(
            "as in: `emaj at {} {} \"select count(*) from …\"`",
            shell(&args.group),
            shell(&args.mark)
        )));
    }
    let output = context.output.clone();
    let (mut session, schema) = context.installation(&args.installation, move |notice| warn(&output, &notice))?;
    let failed = |error: Error| match error.kind() {
        kind if kind.is_signal() => error,
        _ => error.context(format!(
            "failed to read group `{}` as of mark `{}`",
            args.group, args.mark
        )),
    };
    let rows = match context.output.format() {
        Format::Csv => Rows::Csv,
        Format::Json => Rows::Json,
        _ => {
            let found = past::read(&mut session, &schema, &args.group, &args.mark, &args.query).map_err(failed)?;
            context.output.data(&Shown(found))?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let mut stream = Stream::open();
    let mut take = |piece: &[u8]| {
        stream
            .write_all(piece)
            .map_err(|error| Error::from(error).context("failed to write to standard output"))
    };
    let answer = Answer { rows, take: &mut take };
    past::stream(&mut session, &schema, &args.group, &args.mark, &args.query, answer).map_err(failed)?;
    stream
        .flush()
        .map_err(|error| Error::from(error).context("failed to write to standard output"))?;
    Ok(ExitCode::SUCCESS)
}

struct Shown(Found);

impl Serialize for Shown {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.rows.serialize(serializer)
    }
}

impl Tabular for Shown {
    fn columns(&self) -> Vec<Column> {
        self.0.columns.iter().map(Column::left).collect()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let cells = |row: &Vec<Option<String>>| row.iter().map(|cell| cell.clone().unwrap_or_default()).collect();
        self.0.rows.iter().map(cells).collect()
    }
}
