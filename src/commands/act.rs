//! What the verbs that change something share: connecting to the installation, one transaction, saying what was done.
//!
//! People are told in sentences, on stderr; with `-o json` (csv, markdown) the same is data on stdout.

use postgres::Transaction;
use postgres_protocol::escape::escape_identifier;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{Context, InstallationArgs, LockArgs};
use crate::catalog;
use crate::errors::{Error, Kind, Result};
use crate::journal;
use crate::pg::{self, Notice, Session};
use crate::ui::{Column, Format, List, Output, Tabular};

/// The formats of every verb here.
pub(super) const FORMATS: &[Format] = &[Format::Table, Format::Json, Format::Csv, Format::Markdown];

/// Connects to the installation; warnings of the server are said.
pub(super) fn connect(context: &Context, args: &InstallationArgs) -> Result<(Session, String)> {
    context.output.accept(FORMATS)?;
    let output = context.output.clone();
    context.installation(args, move |notice| warn(&output, &notice))
}

/// As [`connect`], for what only the owner of the installation may do, and where it was made: all that changes where a sink is.
pub(super) fn connect_as_owner(context: &Context, args: &InstallationArgs) -> Result<(Session, String)> {
    let (mut session, schema) = connect(context, args)?;
    catalog::check_owner(&mut *session, &schema)?;
    journal::check_origin(&mut *session, &schema)?;
    Ok((session, schema))
}

/// Says a warning of the server; its notices are for nobody here.
pub(super) fn warn(output: &Output, notice: &Notice) {
    // Class 01 is a warning in every language the server may speak.
    if notice.code.starts_with("01") {
        output.warn(&notice.message);
    }
}

/// Warns of every rollback in several sessions that broke off: it holds locks until somebody ends it.
pub(super) fn warn_of_broken_rollbacks(session: &mut Session, schema: &str, context: &Context) -> Result<()> {
    let unfinished = journal::unfinished_rollbacks(&mut **session, schema)?;
    for (sentence, next) in unfinished.iter().filter_map(journal::UnfinishedRollback::trouble) {
        context.output.warn(sentence);
        context.output.hint(next);
    }
    Ok(())
}

/// Carries `work` out in one transaction; `doing` completes "failed to …".
pub(super) fn act<T>(
    session: &mut Session,
    lock: &LockArgs,
    doing: &str,
    work: &mut dyn FnMut(&mut Transaction<'_>) -> Result<T>,
) -> Result<T> {
    let done = pg::transact(session, lock.locking(), &mut |transaction| {
        work(transaction).map_err(|error| error.context(format!("failed to {doing}")))
    });
    done.map_err(with_right)
}

/// Returns the call of a function of the installation, given as `emaj_stop_group($1, $2)`.
pub(super) fn call(schema: &str, function: &str) -> String {
    format!("select {}.{function}", escape_identifier(schema))
}

/// Adds what to do when a role lacks a right.
pub(super) fn with_right(error: Error) -> Error {
    if error.kind() == Kind::Denied {
        error.hint(
            "connect as the owner of emaj's schema, or as a member of the manifest's `roles.admin`; who is that already lacks a right on what is named: \
             emaj's owner has to own its tables, or be a member of the roles that do",
        )
    } else {
        error
    }
}

/// What was done to one group, mark or table.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Done {
    pub group: String,
    pub done: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// How many relations, or log rows when that is what went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
    #[serde(skip)]
    pub sentence: String,
}

/// Tells what was done.
pub(super) fn tell(output: &Output, all: &[Done]) -> Result<()> {
    if output.format() != Format::Table {
        let columns = [
            Column::left("group"),
            Column::left("done"),
            Column::left("mark"),
            Column::right("count"),
        ];
        return output.data(&List::new(all, columns, row));
    }
    for done in all {
        output.say(&done.sentence);
    }
    Ok(())
}

fn row(done: &Done) -> Vec<String> {
    vec![
        done.group.clone(),
        done.done.to_owned(),
        done.mark.clone().unwrap_or_default(),
        done.count.map(|count| count.to_string()).unwrap_or_default(),
    ]
}

/// What was done to something that is no group: a record of named values.
pub(super) struct Record<'a>(pub &'a [(&'static str, Value)]);

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Tabular for Record<'_> {
    fn columns(&self) -> Vec<Column> {
        self.0.iter().map(|(name, _)| Column::left(*name)).collect()
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let cell = |(_, value): &(&str, Value)| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        vec![self.0.iter().map(cell).collect()]
    }
}

/// Tells what was done: people in a sentence, programs as a record.
pub(super) fn tell_record(output: &Output, record: &[(&'static str, Value)], sentence: &str) -> Result<()> {
    if output.format() != Format::Table {
        return output.data(&Record(record));
    }
    output.say(sentence);
    Ok(())
}
