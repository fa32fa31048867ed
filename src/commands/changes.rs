//! `emaj changes`: what was changed between two marks.

use std::path::PathBuf;
use std::process::ExitCode;

use super::act::{FORMATS, connect};
use super::args::table_named;
use super::moment::moment_of;
use super::{Context, InstallationArgs};
use crate::changes::{self, Change, Filter, Form, Target, Values, Wanted, What};
use crate::errors::{Error, Kind, Result};
use crate::journal::{Gap, WindowWanted};
use crate::names::quote_ident;
use crate::pg::Session;
use crate::ui::{Column, Format, Stream, Tabular};
use crate::words::{bytes, count, moment};
use clap::ValueEnum;

/// Shows the changes between two marks: all of them, or what they amount to; also as a script that does them again
///
/// For people it lists the first of them; `-o csv` and `-o json` (an object a line) give all of them, and `-o sql` a script that does them
/// again on a copy of the database as it was at the first mark.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The group
    group: String,
    /// Only this table; may be given several times
    #[arg(long, value_name = "SCHEMA.TABLE")]
    table: Vec<String>,
    /// From this mark on [default: the last one; the last before `--to`, `--since` and `--txid`, where they are given]
    #[arg(long, value_name = "MARK")]
    from: Option<String>,
    /// Up to this mark [default: now]
    #[arg(long, value_name = "MARK")]
    to: Option<String>,
    /// What of them
    #[arg(long, value_enum, default_value_t)]
    what: WhatArg,
    /// Only changes by this role; may be given several times
    #[arg(long, value_name = "ROLE", help_heading = "Which changes (with `--what all`)")]
    user: Vec<String>,
    /// Only changes of this kind; may be given several times
    #[arg(long, value_enum, help_heading = "Which changes (with `--what all`)")]
    verb: Vec<Verb>,
    /// Only changes of this transaction; may be given several times
    #[arg(long, value_name = "NUMBER", help_heading = "Which changes (with `--what all`)")]
    txid: Vec<i64>,
    /// Only changes since: a time (`2026-11-21 10:00`, `yesterday`) or how long ago (`90min`, `24h`)
    #[arg(long, value_name = "TIME", help_heading = "Which changes (with `--what all`)")]
    since: Option<String>,
    /// Only changes before: a time, or how long ago
    #[arg(long, value_name = "TIME", help_heading = "Which changes (with `--what all`)")]
    until: Option<String>,
    /// Write a file for each table into this directory (for `-o sql` one file); it is made when it is not there
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Write over files that are there
    #[arg(long, requires = "dir")]
    force: bool,
    /// How many changes are listed for people
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    limit: u32,
    #[command(flatten)]
    installation: InstallationArgs,
}

/// `changes::What`, as it is said.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum WhatArg {
    /// Every change
    #[default]
    All,
    /// The first and the last state of each key that was touched
    Ends,
    /// The net effect on each key
    Net,
}

/// What a change does.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Verb {
    Insert,
    Update,
    Delete,
    Truncate,
}

impl Verb {
    fn in_log(self) -> &'static str {
        match self {
            Verb::Insert => "INS",
            Verb::Update => "UPD",
            Verb::Delete => "DEL",
            Verb::Truncate => "TRU",
        }
    }
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let form = match context.output.format() {
        Format::Csv => Some(Form::Csv),
        Format::Json => Some(Form::Json),
        Format::Sql => Some(Form::Sql),
        Format::Table | Format::Markdown => None,
    };
    if form.is_none() && args.dir.is_some() {
        return Err(Error::message(
            Kind::Usage,
            "files are written as `-o csv`, `-o json` or `-o sql`",
        ));
    }
    let (mut session, schema) = if form == Some(Form::Sql) {
        context.installation(&args.installation, |_| {})?
    } else {
        connect(context, &args.installation)?
    };
    let tables = args
        .table
        .iter()
        .map(|name| table_named(name))
        .collect::<Result<Vec<_>>>()?;
    let filter = filter(&mut session, &args)?;
    let wanted = Wanted {
        window: WindowWanted {
            group: &args.group,
            from: args.from.as_deref(),
            to: args.to.as_deref(),
            tables: &tables,
            since: filter.since,
            txids: &args.txid,
        },
        what: match args.what {
            WhatArg::All => What::All,
            WhatArg::Ends => What::Ends,
            WhatArg::Net => What::Net,
        },
        filter,
    };
    for role in no_roles(&mut session, &args.user)? {
        context.output.warn(format!(
            "there is no role `{role}`: only what it did while there was one can be found"
        ));
    }
    let failed = |error: Error| match error.kind() {
        kind if kind.is_signal() => error,
        Kind::Denied => error
            .context(format!("failed to read the changes of group `{}`", args.group))
            .hint("connect as the owner of emaj's schema, or as a member of the manifest's `roles`"),
        _ => error.context(format!("failed to read the changes of group `{}`", args.group)),
    };
    let Some(form) = form else {
        return list(&mut session, &schema, &wanted, args.limit as usize, context).map_err(failed);
    };
    let mut stream = Stream::open();
    let target = match &args.dir {
        None => Target::Stream(&mut stream),
        Some(path) => Target::Directory {
            path,
            force: args.force,
        },
    };
    let written = changes::write(&mut session, &schema, &wanted, form, target).map_err(failed)?;
    say_gaps(&written.gaps, context);
    say_where(&wanted, &written.window, context);
    if let Some(dir) = &args.dir {
        context.output.say(format!(
            "wrote the changes {} to {} in `{}`: {}",
            written.window,
            count(written.files.len(), "file"),
            dir.display(),
            bytes(written.bytes)
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn filter(session: &mut Session, args: &Args) -> Result<Filter> {
    let mut moment = |text: &Option<String>| text.as_ref().map(|text| moment_of(session, text)).transpose();
    Ok(Filter {
        since: moment(&args.since)?,
        until: moment(&args.until)?,
        users: args.user.clone(),
        verbs: args.verb.iter().map(|verb| verb.in_log().to_owned()).collect(),
        txids: args.txid.clone(),
    })
}

/// Returns the names that no role has now.
fn no_roles(session: &mut Session, names: &[String]) -> Result<Vec<String>> {
    let rows = session.query(
        "select name from pg_catalog.unnest($1::text[]) as name where pg_catalog.to_regrole(pg_catalog.quote_ident(name)) is null",
        &[&names],
    )?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Lists the first changes for people.
fn list(session: &mut Session, schema: &str, wanted: &Wanted<'_>, limit: usize, context: &Context) -> Result<ExitCode> {
    context.output.accept(FORMATS)?;
    let (window, changes, is_more) = changes::first(session, schema, wanted, limit)?;
    say_gaps(&window.gaps, context);
    let shown = changes.len();
    context.output.data(&Listed(changes))?;
    if is_more {
        context.output.say(match shown {
            1 => "this is the first change, there are more".to_owned(),
            _ => format!("these are the first {}, there are more", count(shown, "change")),
        });
        context
            .output
            .hint("`--limit` lists more, `-o csv` and `-o json` give all");
    }
    say_where(wanted, &window.words(), context);
    Ok(ExitCode::SUCCESS)
}

fn say_gaps(gaps: &[Gap], context: &Context) {
    for gap in gaps {
        context.output.warn(format!("not all of it is in the log: {gap}"));
    }
}

/// Says where it was looked for what was chosen, when nobody has said where to look: what is not there may be further back.
fn say_where(wanted: &Wanted<'_>, window: &str, context: &Context) {
    if wanted.window.from.is_none() && !wanted.filter.is_empty() {
        context.output.say(format!("looked through the changes {window}"));
        context.output.hint("`--from` looks from another mark on");
    }
}

#[derive(serde::Serialize)]
#[serde(transparent)]
struct Listed(Vec<Change>);

impl Tabular for Listed {
    fn columns(&self) -> Vec<Column> {
        ["time", "role", "transaction", "table", "verb", "change"]
            .into_iter()
            .map(Column::left)
            .collect()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let cells = |change: &Change| {
            vec![
                change.time.parse().map_or_else(|_| change.time.clone(), moment),
                change.user.clone(),
                change.txid.to_string(),
                change.qualified().to_string(),
                change.verb.clone(),
                difference(change.old.as_ref(), change.new.as_ref()),
            ]
        };
        self.0.iter().map(cells).collect()
    }
}

/// Returns a change in one line: what an update changed, the row that came or went.
fn difference(old: Option<&Values>, new: Option<&Values>) -> String {
    let cells: Vec<String> = match (old, new) {
        (Some(old), Some(new)) => old
            .0
            .iter()
            .zip(&new.0)
            .enumerate()
            .filter_map(|(at, ((name, before), (_, after)))| {
                let name = quote_ident(name);
                match before.get() == after.get() {
                    // The first column is nearly always the key, or a part of it.
                    true if at == 0 => Some(format!("{name} {}", short(before.get()))),
                    true => None,
                    false => Some(format!("{name} {} → {}", short(before.get()), short(after.get()))),
                }
            })
            .collect(),
        (Some(row), None) | (None, Some(row)) => row
            .0
            .iter()
            .map(|(name, value)| format!("{} {}", quote_ident(name), short(value.get())))
            .collect(),
        (None, None) => Vec::new(),
    };
    cells.join(", ")
}

/// Cuts a long value.
fn short(value: &str) -> String {
    const LONGEST: usize = 40;
    if value.chars().count() <= LONGEST {
        return value.to_owned();
    }
    value.chars().take(LONGEST).chain("…".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_one_line() {
        let row = |text: &str| serde_json::from_str::<Values>(text).unwrap();
        let (old, new) = (
            row(r#"{"id": 1, "v": 1.50, "w": null}"#),
            row(r#"{"id": 1, "v": "b", "w": null}"#),
        );
        assert_eq!(difference(Some(&old), Some(&new)), r#"id 1, v 1.50 → "b""#);
        assert_eq!(difference(Some(&old), None), "id 1, v 1.50, w null");
        assert_eq!(difference(None, None), "");
        let long = row(&format!(r#"{{"Odd": "{}"}}"#, "x".repeat(100)));
        assert_eq!(difference(None, Some(&long)), format!("\"Odd\" \"{}…", "x".repeat(39)));
    }
}
