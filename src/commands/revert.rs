//! `emaj revert`: takes one transaction, one row, or what a role did back.

use std::process::ExitCode;

use serde::Serialize;

use super::act::{act, connect};
use super::args::table_named;
use super::{ActArgs, AskArgs, Context};
use crate::errors::{Error, Kind, Result};
use crate::names::parse_ident;
use crate::revert::{self, Reverted, Step, Wanted, Which};
use crate::ui::{Column, Format, Tabular};
use crate::words::{count, shell};

/// How many keys are shown for people.
const SHOWN: usize = 50;

/// Takes back one transaction, one row, or what one role did
///
/// What others did stays. It is shown first, and done as ordinary changes between two new marks, so that it can be undone. Refused where
/// others changed the same rows later.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["txid", "user", "table"]))]
pub struct Args {
    /// The group
    group: String,
    /// Take back this transaction (`emaj changes` shows the numbers)
    #[arg(long, value_name = "NUMBER")]
    txid: Option<i64>,
    /// Take back what this role did since the mark
    #[arg(long, value_name = "ROLE")]
    user: Option<String>,
    /// Take back what was done to one row of this table since the mark
    #[arg(long, value_name = "SCHEMA.TABLE", requires = "key")]
    table: Option<String>,
    /// A column of the row's key and its value; for a key of several columns several times
    #[arg(long, value_name = "COLUMN=VALUE", requires = "table")]
    key: Vec<String>,
    /// The mark to look back to [default: the last one; for a transaction the last one before it]
    #[arg(long, value_name = "MARK")]
    from: Option<String>,
    /// Take rows back that others changed later, too: these later changes are lost
    #[arg(long)]
    allow_later: bool,
    #[command(flatten)]
    ask: AskArgs,
    /// Show what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    act: ActArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    let wanted = wanted(&args)?;
    let (mut session, schema) = connect(context, &args.act.installation)?;
    let doing = format!("revert {} in group `{}`", wanted.words(), wanted.group);
    let steps =
        revert::plan(&mut session, &schema, &wanted).map_err(|error| error.context(format!("failed to {doing}")))?;
    let lost = steps.iter().filter(|step| step.later.is_some()).count();
    let sentence = format!("{} in {}", count(steps.len(), "row"), count(tables(&steps), "table"));
    if args.dry_run {
        let is_cut = context.output.format() == Format::Table && steps.len() > SHOWN;
        let mut shown = steps;
        if is_cut {
            shown.truncate(SHOWN);
        }
        context.output.data(&Planned(shown))?;
        if is_cut {
            context.output.say("… (`-o json` and `-o csv` list all of them)");
        }
        context
            .output
            .say(format!("would take back {}: {sentence}", wanted.words()));
    } else if !args.ask.yes {
        let lines: Vec<String> = steps.iter().take(SHOWN).map(line).collect();
        context.output.say(lines.join("\n"));
        if steps.len() > SHOWN {
            context.output.say("…");
        }
    }
    if lost > 0 && !args.allow_later {
        return Err(
            Error::message(Kind::Refused, format!("others have changed {lost} of these rows later"))
                .context(format!("failed to {doing}; nothing was changed"))
                .hint("`--dry-run` shows which, and by whom; with `--allow-later` those later changes are lost"),
        );
    }
    if args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    context.output.confirm(
        &format!("This takes back {}: {sentence}. Go on?", wanted.words()),
        args.ask.yes,
    )?;
    let (done, undo) = act(&mut session, &args.act.lock, &doing, &mut |transaction| {
        revert::run(transaction, &schema, &wanted, args.allow_later)
    })?;
    let rows: i64 = done
        .iter()
        .map(|table| table.deleted + table.updated + table.inserted)
        .sum();
    context.output.data(&Done(done))?;
    context
        .output
        .say(format!("reverted {}: {} changed", wanted.words(), count(rows, "row")));
    if let Some(undo) = undo {
        context.output.hint(format!(
            "undo it with `emaj rollback {} {}{}`",
            shell(&wanted.group),
            shell(&undo),
            args.act.installation.named()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn wanted(args: &Args) -> Result<Wanted> {
    let which = match (&args.txid, &args.user, &args.table) {
        (Some(number), ..) => Which::Transaction(*number),
        (_, Some(role), _) => Which::User(role.clone()),
        (.., Some(table)) => Which::Row(table_named(table)?, columns(&args.key)?),
        _ => return Err(Error::message(Kind::Usage, "nothing says what to revert")),
    };
    Ok(Wanted {
        group: args.group.clone(),
        mark: args.from.clone(),
        which,
    })
}

fn columns(texts: &[String]) -> Result<Vec<(String, String)>> {
    let mut columns: Vec<(String, String)> = Vec::new();
    for text in texts {
        let (name, value) = column(text)?;
        if columns.iter().any(|(known, _)| *known == name) {
            return Err(
                Error::message(Kind::Usage, format!("column `{name}` of the key has two values"))
                    .hint("one row is reverted at a time; `--key` names each column of its key once"),
            );
        }
        columns.push((name, value));
    }
    Ok(columns)
}

/// Reads `COLUMN=VALUE`; the value may hold anything.
fn column(text: &str) -> Result<(String, String)> {
    let wrong = || {
        Error::message(Kind::Usage, format!("`{text}` is no column of a key with its value"))
            .hint("write `--key id=17`; odd names in double quotes")
    };
    // A quoted name may hold the sign.
    for (at, _) in text.match_indices('=') {
        if let Ok(name) = parse_ident(&text[..at]) {
            return Ok((name, text[at + 1..].to_owned()));
        }
    }
    Err(wrong())
}

fn tables(steps: &[Step]) -> usize {
    let mut names: Vec<_> = steps.iter().map(Step::qualified).collect();
    names.sort();
    names.dedup();
    names.len()
}

fn line(step: &Step) -> String {
    let later = step.later.as_ref().map(|later| format!(" (changed later: {later})"));
    format!(
        "{} {} {}{}",
        step.action,
        step.qualified(),
        step.key,
        later.unwrap_or_default()
    )
}

#[derive(Serialize)]
#[serde(transparent)]
struct Planned(Vec<Step>);

impl Tabular for Planned {
    fn columns(&self) -> Vec<Column> {
        ["table", "would be", "key", "changed later"]
            .into_iter()
            .map(Column::left)
            .collect()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let done = |action: &str| match action {
            "insert" => "inserted".to_owned(),
            other => format!("{other}d"),
        };
        let cells = |step: &Step| {
            vec![
                step.qualified().to_string(),
                done(&step.action),
                step.key.clone(),
                step.later.clone().unwrap_or_default(),
            ]
        };
        self.0.iter().map(cells).collect()
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Done(Vec<Reverted>);

impl Tabular for Done {
    fn columns(&self) -> Vec<Column> {
        vec![
            Column::left("table"),
            Column::right("deleted"),
            Column::right("updated"),
            Column::right("inserted"),
        ]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let cells = |table: &Reverted| {
            vec![
                table.qualified().to_string(),
                table.deleted.to_string(),
                table.updated.to_string(),
                table.inserted.to_string(),
            ]
        };
        self.0.iter().map(cells).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_and_its_value() {
        let pair = |text: &str| column(text).map(|(name, value)| format!("{name}|{value}")).ok();
        assert_eq!(pair("id=17").as_deref(), Some("id|17"));
        assert_eq!(pair("ID=a=b").as_deref(), Some("id|a=b"));
        assert_eq!(pair("\"A=b\"=").as_deref(), Some("A=b|"));
        assert_eq!(pair("id"), None);
        assert_eq!(pair("=x"), None);
    }
}
