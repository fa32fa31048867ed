//! `emaj stat`: how much was changed between two marks.

use std::process::ExitCode;

use super::act::connect;
use super::args::table_named;
use super::{Context, InstallationArgs};
use crate::errors::{Error, Result};
use crate::journal::{self, Interval, RoleChanges, SequenceStat, StatWanted, TableStat};
use crate::names::QualifiedName;
use crate::pg::Interrupt;
use crate::ui::{Column, List, Tabular};
use crate::words::{moment, quoted};

/// Counts the changes of a group's tables between two marks; an update counts once
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Groups
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    /// Count from this mark on [default: all that the log holds]
    #[arg(long, value_name = "MARK")]
    from: Option<String>,
    /// Count up to this mark [default: now]
    #[arg(long, value_name = "MARK")]
    to: Option<String>,
    /// Only this table, or with `--sequences` this sequence; may be given several times
    #[arg(long, value_name = "NAME")]
    table: Vec<String>,
    /// Count by role and verb
    #[arg(long, conflicts_with_all = ["sequences", "intervals"])]
    detailed: bool,
    /// Count what was drawn from sequences
    #[arg(long)]
    sequences: bool,
    /// Count between each two successive marks
    #[arg(long)]
    intervals: bool,
    #[command(flatten)]
    installation: InstallationArgs,
}

pub fn run(mut args: Args, context: &Context) -> Result<ExitCode> {
    args.groups.sort();
    args.groups.dedup();
    let names = args
        .table
        .iter()
        .map(|name| table_named(name))
        .collect::<Result<Vec<_>>>()?;
    let (mut session, schema) = connect(context, &args.installation)?;
    let astray = journal::astray(&mut *session, &schema)?;
    if let Some(astray) = &astray {
        context
            .output
            .warn(format!("what is counted may be wrong: {}", astray.problem));
        context.output.hint(&astray.repair);
    }
    let wanted = StatWanted {
        groups: &args.groups,
        from: args.from.as_deref(),
        to: args.to.as_deref(),
        names: &names,
    };
    let failed = |error: Error| {
        error.context(format!(
            "failed to count the changes of {}",
            quoted("group", &args.groups)
        ))
    };
    let several = args.groups.len() > 1;
    let restored = astray.is_some_and(|astray| astray.origin == journal::Origin::Restored);
    let inexactly = if restored { "≈" } else { "≥" };
    let interrupt = Interrupt::listen(&session)?;
    let client = &mut *session;
    let failed = |error| interrupt.cause(failed(error));
    journal::check_names(client, &schema, &wanted, args.sequences).map_err(failed)?;
    if !args.sequences && !args.detailed {
        journal::count_intervals(client, &schema, &wanted).map_err(failed)?;
    }
    let inexact = if args.intervals {
        let mut rows = journal::interval_stat(client, &schema, &wanted, args.sequences).map_err(failed)?;
        // Of named tables every interval is shown, of all tables those in which something was changed, or may have been.
        let may_have = |row: &Interval| !row.exact && !restored;
        rows.retain(|row| !names.is_empty() || row.changes != 0 || row.altered == Some(true) || may_have(row));
        let inexact = rows.iter().any(|row| !row.exact);
        context.output.data(&by_interval(&rows, several, inexactly))?;
        inexact
    } else if args.sequences {
        let rows = journal::sequence_stat(client, &schema, &wanted).map_err(failed)?;
        context.output.data(&by_sequence(&rows, several))?;
        false
    } else if args.detailed {
        let rows = journal::detailed_stat(client, &schema, &wanted).map_err(failed)?;
        let inexact = rows.iter().any(|row| !row.exact);
        context.output.data(&by_role(&rows, several, inexactly))?;
        inexact
    } else {
        let rows = journal::table_stat(client, &schema, &wanted).map_err(failed)?;
        let inexact = rows.iter().any(|row| !row.exact);
        context.output.data(&by_table(&rows, several, inexactly))?;
        inexact
    };
    if inexact && !restored {
        context
            .output
            .warn("`≥`: at least as many; some log rows of that time were gone before they were counted, or the group was stopped for a while");
    }
    Ok(ExitCode::SUCCESS)
}

/// A count as people read it. What is not exact is a lower bound, and in a restored copy a guess.
fn number(changes: i64, exact: bool, inexactly: &str) -> String {
    if exact {
        changes.to_string()
    } else {
        format!("{inexactly} {changes}")
    }
}

/// Puts the group in front where there are several.
fn columns(several: bool, columns: impl IntoIterator<Item = Column>) -> Vec<Column> {
    let group = several.then(|| Column::left("group"));
    group.into_iter().chain(columns).collect()
}

fn cells(several: bool, group: &str, cells: impl IntoIterator<Item = String>) -> Vec<String> {
    let group = several.then(|| group.to_owned());
    group.into_iter().chain(cells).collect()
}

fn qualified(schema: &str, name: &str) -> String {
    QualifiedName::new(schema, name).to_string()
}

fn by_table(rows: &[TableStat], several: bool, inexactly: &'static str) -> impl Tabular {
    let own = [Column::left("table"), Column::right("changes")];
    List::new(rows, columns(several, own), move |row: &TableStat| {
        let shown = [
            qualified(&row.schema, &row.table),
            number(row.changes, row.exact, inexactly),
        ];
        cells(several, &row.group, shown)
    })
}

fn by_role(rows: &[RoleChanges], several: bool, inexactly: &'static str) -> impl Tabular {
    let own = [
        Column::left("table"),
        Column::left("role"),
        Column::left("verb"),
        Column::right("changes"),
    ];
    List::new(rows, columns(several, own), move |row: &RoleChanges| {
        let shown = [
            qualified(&row.schema, &row.table),
            row.role.clone(),
            row.verb.clone(),
            number(row.changes, row.exact, inexactly),
        ];
        cells(several, &row.group, shown)
    })
}

fn by_sequence(rows: &[SequenceStat], several: bool) -> impl Tabular {
    let own = [
        Column::left("sequence"),
        Column::right("increments"),
        Column::left("altered"),
    ];
    List::new(rows, columns(several, own), move |row: &SequenceStat| {
        let shown = [
            qualified(&row.schema, &row.sequence),
            row.increments.to_string(),
            altered(row.altered),
        ];
        cells(several, &row.group, shown)
    })
}

fn altered(altered: bool) -> String {
    if altered { "altered" } else { "" }.to_owned()
}

fn by_interval(rows: &[Interval], several: bool, inexactly: &'static str) -> impl Tabular {
    let own = [
        Column::left("name"),
        Column::left("from"),
        Column::left("since"),
        Column::left("to"),
        Column::right("changes"),
        Column::left("notes"),
    ];
    List::new(rows, columns(several, own), move |row: &Interval| {
        let rollbacks = (row.rollbacks > 0).then(|| crate::words::count(row.rollbacks, "rollback"));
        let altered = row.altered.filter(|is| *is).map(altered);
        let notes: Vec<String> = altered.into_iter().chain(rollbacks).collect();
        let shown = [
            qualified(&row.schema, &row.name),
            row.from.clone(),
            moment(row.since),
            row.to.clone().unwrap_or_else(|| "now".to_owned()),
            number(row.changes, row.exact, inexactly),
            notes.join("; "),
        ];
        cells(several, &row.group, shown)
    })
}
