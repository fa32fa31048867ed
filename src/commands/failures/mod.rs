//! `emaj failures`: what sinks did not take.

use std::process::ExitCode;

use clap::Subcommand;
use postgres::Client;
use serde::Serialize;

use super::act::{connect, connect_as_owner, tell_record};
use super::sink::unknown_sink;
use super::{AskArgs, Context, InstallationArgs};
use crate::errors::{Error, Kind, Result};
use crate::journal::{self, Failure, FailureFilter, FailureKept};
use crate::pg::Session;
use crate::ui::{Column, Format, Tabular};
use crate::words::{count, moment};

/// Shows what sinks did not take, has it tried again or discards it
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists what is set aside, in order; what waits behind an earlier change of its key too
    List(Shown),
    /// Shows changes that are set aside, with the values of their rows
    Show(Shown),
    /// Has changes tried again by the worker, each key in its order
    Retry(ChosenOrAll),
    /// Discards changes: they will never arrive
    Discard(ChosenOrAll),
}

/// Which changes.
#[derive(Debug, clap::Args)]
struct Chosen {
    /// Only these, by their numbers
    #[arg(value_name = "ID", value_parser = number)]
    ids: Vec<i64>,
    /// Only those of this sink
    #[arg(long)]
    sink: Option<String>,
    /// Only those of this binding
    #[arg(long)]
    binding: Option<String>,
    /// Only those of this key, a JSON array as `list` shows it
    #[arg(long)]
    key: Option<String>,
    #[command(flatten)]
    installation: InstallationArgs,
}

/// Which changes, and how many of them.
#[derive(Debug, clap::Args)]
struct Shown {
    #[command(flatten)]
    chosen: Chosen,
    /// At most so many changes; by default 100 for people, and all as CSV or JSON
    #[arg(long, short = 'n', value_name = "N")]
    limit: Option<u32>,
}

/// Which changes, where none named must not mean all.
#[derive(Debug, clap::Args)]
struct ChosenOrAll {
    #[command(flatten)]
    chosen: Chosen,
    /// All of them
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    ask: AskArgs,
}

/// Reads the number of a change; a manifest is easily put in its place.
fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| {
        let name = match [".yaml", ".yml", "/"].iter().any(|end| text.ends_with(end)) {
            true => "; a manifest is named with `-f`",
            false => "",
        };
        format!("a change is named by its number, as `emaj failures list` shows it{name}")
    })
}

impl Chosen {
    fn filter(&self) -> FailureFilter<'_> {
        FailureFilter {
            sink: self.sink.as_deref(),
            binding: self.binding.as_deref(),
            key: self.key.as_deref(),
            ids: &self.ids,
        }
    }

    /// Refuses a sink or a binding that is not installed, and numbers that none of the changes has.
    fn check(&self, session: &mut Session, schema: &str) -> Result<()> {
        if let Some(sink) = &self.sink
            && journal::sink_named(&mut **session, schema, sink)?.is_none()
        {
            return Err(unknown_sink(session, schema, sink));
        }
        if let Some(binding) = &self.binding
            && !journal::is_bound(&mut **session, schema, binding)?
        {
            return Err(
                Error::message(Kind::Refused, format!("no binding `{binding}` is installed"))
                    .hint("`emaj failures list` names the bindings of what is set aside"),
            );
        }
        let filter = FailureFilter {
            ids: &self.ids,
            ..FailureFilter::default()
        };
        let there: Vec<i64> = match self.ids.as_slice() {
            [] => Vec::new(),
            _ => journal::failures(&mut **session, schema, &filter, None)?
                .iter()
                .map(|one| one.id)
                .collect(),
        };
        match self.ids.iter().find(|id| !there.contains(id)) {
            None => Ok(()),
            Some(id) => Err(Error::message(Kind::Refused, format!("no change {id} is set aside"))
                .hint("`emaj failures list` shows those that are")),
        }
    }

    fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.sink.is_none() && self.binding.is_none() && self.key.is_none()
    }
}

impl Shown {
    /// Reads what is asked for and shows it; says when there is more.
    fn show<T, D: Tabular>(
        &self,
        context: &Context,
        read: impl FnOnce(&mut Client, &str, &FailureFilter<'_>, Option<i64>) -> Result<Vec<T>>,
        table: impl FnOnce(Vec<T>) -> D,
    ) -> Result<()> {
        let output = &context.output;
        let most = match output.format() {
            Format::Table | Format::Markdown => self.limit.or(Some(100)),
            _ => self.limit,
        };
        let (mut session, schema) = connect(context, &self.chosen.installation)?;
        self.chosen.check(&mut session, &schema)?;
        let filter = self.chosen.filter();
        let found = read(&mut session, &schema, &filter, most.map(i64::from))?;
        let shown = found.len() as u64;
        output.data(&table(found))?;
        if most.is_some_and(|most| u64::from(most) == shown) {
            let all = journal::count_failures(&mut *session, &schema, &filter)?;
            if all > shown {
                output.say(format!("these are {shown} of {}", count(all, "change")));
                output.hint("`--limit` shows more, `-o csv` and `-o json` all");
            }
        }
        Ok(())
    }
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    match args.verb {
        Verb::List(shown) => shown.show(context, journal::failures::<Client>, List)?,
        Verb::Show(shown) => shown.show(context, journal::failures_kept::<Client>, Whole::of)?,
        Verb::Retry(args) => {
            args.check()?;
            let (mut session, schema) = connect_as_owner(context, &args.chosen.installation)?;
            args.chosen.check(&mut session, &schema)?;
            let keys = journal::retry(&mut *session, &schema, &args.chosen.filter())?;
            let sentence = format!("{} will be tried again by the worker", count(keys as u64, "key"));
            let record = [("done", "retried".into()), ("keys", keys.into())];
            tell_record(&context.output, &record, &sentence)?;
        }
        Verb::Discard(args) => {
            args.check()?;
            let (mut session, schema) = connect_as_owner(context, &args.chosen.installation)?;
            args.chosen.check(&mut session, &schema)?;
            let found = journal::count_failures(&mut *session, &schema, &args.chosen.filter())?;
            let question = format!("discard {}? They will never arrive", count(found, "change"));
            context.output.confirm(&question, args.ask.yes)?;
            // As one: what waits behind what is gone has to come to the front.
            let mut transaction = session.transaction()?;
            let gone = journal::discard(&mut transaction, &schema, &args.chosen.filter())?;
            transaction.commit()?;
            let record = [("done", "discarded".into()), ("changes", gone.into())];
            tell_record(
                &context.output,
                &record,
                &format!("discarded {}", count(gone, "change")),
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl ChosenOrAll {
    fn check(&self) -> Result<()> {
        match self.chosen.is_empty() && !self.all {
            true => Err(Error::message(Kind::Usage, "it is not said which changes are meant")
                .hint("name their numbers, `--sink`, `--binding` or `--key`; or say `--all`")),
            false => Ok(()),
        }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct List(Vec<Failure>);

impl Tabular for List {
    fn columns(&self) -> Vec<Column> {
        vec![
            Column::right("id"),
            Column::left("sink"),
            Column::left("binding"),
            Column::left("key"),
            Column::left("state"),
            Column::right("attempts"),
            Column::left("since"),
            Column::left("reason"),
        ]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let cells = |failure: &Failure| {
            vec![
                failure.id.to_string(),
                failure.sink.clone(),
                failure.binding.clone(),
                failure.key.clone(),
                failure.state.word().to_owned(),
                failure.attempts.to_string(),
                moment(failure.time),
                failure.reason.clone().unwrap_or_default(),
            ]
        };
        self.0.iter().map(cells).collect()
    }
}

/// A change with the rows it has.
#[derive(Serialize)]
struct WithRows {
    #[serde(flatten)]
    failure: Failure,
    old: Option<String>,
    row: Option<String>,
}

impl From<FailureKept> for WithRows {
    fn from(kept: FailureKept) -> Self {
        WithRows {
            failure: kept.failure,
            old: kept.change.old,
            row: kept.change.new,
        }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Whole(Vec<WithRows>);

impl Whole {
    fn of(kept: Vec<FailureKept>) -> Whole {
        Whole(kept.into_iter().map(WithRows::from).collect())
    }
}

impl Tabular for Whole {
    fn columns(&self) -> Vec<Column> {
        vec![
            Column::right("id"),
            Column::left("binding"),
            Column::left("state"),
            Column::left("reason"),
            Column::left("old"),
            Column::left("row"),
        ]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let cells = |one: &WithRows| {
            vec![
                one.failure.id.to_string(),
                one.failure.binding.clone(),
                one.failure.state.word().to_owned(),
                one.failure.reason.clone().unwrap_or_default(),
                one.old.clone().unwrap_or_default(),
                one.row.clone().unwrap_or_default(),
            ]
        };
        self.0.iter().map(cells).collect()
    }
}
