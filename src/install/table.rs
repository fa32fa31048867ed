//! The steps for one table or sequence of a group: capture it, or let its capture follow what has changed.

use std::collections::BTreeMap;

use minijinja::context;
use minijinja::value::{Serde, Value};
use serde::Serialize;

use super::plan::{Action, Lock, Phase, Plan, Step};
use super::wanted::{Mode, WantedTable, needs_row};
use crate::catalog::{self, Generated};
use crate::journal::{self, Journal, Relation};
use crate::manifest::{ContextColumn, Group};
use crate::names::{QualifiedName, derived_name, quote_literal};
use crate::render::{RenderError, Renderer, TriggerNames, function};
use crate::ui::words::count;

/// emaj's own columns of every log table.
const OWN_COLUMNS: &[&str] = &[
    "emaj_gid",
    "emaj_txid",
    "emaj_changed",
    "emaj_ord",
    "emaj_verb",
    "emaj_tuple",
    "emaj_user",
];

/// What the tables of one group have in common.
pub(super) struct Setting<'a> {
    pub group: &'a Group,
    /// Why tables are in a group that nobody declared.
    pub bound: BTreeMap<QualifiedName, String>,
    /// The triggers fire, or should.
    pub logging: bool,
    /// The triggers are to fire.
    pub enabled: bool,
    /// Roles that may read the logs.
    pub readers: Vec<&'a str>,
    pub active_marks: i64,
}

impl Setting<'_> {
    /// Returns how many marks a rollback refuses once the group takes in a relation that was not captured at them.
    fn lost_marks(&self) -> i64 {
        if self.group.rollback { self.active_marks } else { 0 }
    }
}

/// Adds to an effect that so many earlier marks are lost, if any.
fn and_marks(effect: String, marks: i64) -> String {
    match marks {
        0 => effect,
        marks => format!(
            "{effect}; {} set before can no longer be rolled back to",
            count(marks.unsigned_abs(), "mark")
        ),
    }
}

/// Everything the templates of one table are rendered with.
#[derive(Debug, Serialize)]
struct Capture<'a> {
    group: &'a str,
    oid: u32,
    kind: &'static str,
    name: &'a QualifiedName,
    table: String,
    mode: &'static str,
    partitioned: bool,
    log: String,
    into_log: String,
    guard: Option<String>,
    columns: Vec<Column>,
    /// The numbers of the columns that are captured, and of all that are read by position.
    attnums: Vec<i16>,
    places: Vec<i16>,
    context: Vec<Extra>,
    context_declared: Vec<String>,
    key: &'a [i16],
    natts: i16,
    priority: i32,
    keep_triggers: &'a [String],
    uniform: Vec<u32>,
    partitions: Vec<&'a str>,
    enabled: bool,
    readers: &'a [&'a str],
}

/// A column of the table, at its place; `captured` is false for one that has no bytes of its own (virtual).
#[derive(Debug, Clone, Serialize)]
struct Column {
    attnum: i16,
    name: String,
    alias: String,
    log: String,
    r#type: String,
    captured: bool,
}

/// A context column.
#[derive(Debug, Clone, Serialize)]
struct Extra {
    column: String,
    r#type: &'static str,
    value: String,
}

/// Plans one table.
pub(super) fn plan(
    plan: &mut Plan,
    setting: &Setting<'_>,
    wanted: &WantedTable<'_>,
    journal: Option<&Journal>,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let known = journal.and_then(|journal| {
        Some((
            journal,
            journal
                .relations
                .iter()
                .find(|relation| relation.oid == wanted.table.oid)?,
        ))
    });
    let Some((journal, known)) = known else {
        let taken = Taken { journal, plan };
        let capture = capture(setting, wanted, &taken, None);
        let because = setting
            .bound
            .get(wanted.name)
            .map_or("in the group, and not captured yet", String::as_str);
        return create(plan, &capture, wanted, because, setting.lost_marks(), renderer);
    };
    if let Some(reason) = must_begin_anew(setting, wanted, journal, known) {
        end(plan, known, &reason, marks_of(journal, known), renderer);
        let capture = capture(
            setting,
            wanted,
            &Taken {
                journal: Some(journal),
                plan,
            },
            None,
        );
        // Of the group that it was in, the end of its capture has spoken already.
        let lost = if known.group == setting.group.name.value {
            0
        } else {
            setting.lost_marks()
        };
        return create(plan, &capture, wanted, &reason, lost, renderer);
    }
    let capture = capture(
        setting,
        wanted,
        &Taken {
            journal: Some(journal),
            plan,
        },
        Some(known),
    );
    follow(plan, setting, wanted, &capture, journal, known, renderer)
}

/// Plans one sequence: it only has to be known.
pub(super) fn plan_sequence(
    plan: &mut Plan,
    setting: &Setting<'_>,
    name: &QualifiedName,
    oid: u32,
    journal: Option<&Journal>,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let group = &setting.group.name.value;
    let known = journal.and_then(|journal| journal.relations.iter().find(|relation| relation.oid == oid));
    match known {
        Some(known) if known.group == *group && known.name == *name => plan.unchanged += 1,
        Some(known) if known.group == *group => {
            let sql = renderer.render(
                "sequence/rename",
                context! { id => known.id, name => serde_value(name) },
            )?;
            plan.push(Step::new(
                Phase::Groups,
                Action::Change,
                format!("sequence {name}"),
                format!("it was {}", known.name),
                sql,
            ));
        }
        _ => {
            let lost = setting.lost_marks();
            if let Some(known) = known {
                let marks = journal.map_or(0, |journal| marks_of(journal, known));
                end(plan, known, "it moves to another group", marks, renderer);
            }
            let sql = renderer.render("sequence/register", context! { group, oid, name => serde_value(name) })?;
            plan.push(
                Step::new(
                    Phase::Capture,
                    Action::Create,
                    format!("sequence {name}"),
                    "in the group, and not noted yet",
                    sql,
                )
                .effect(and_marks("its state is noted at every mark".to_owned(), lost)),
            );
        }
    }
    Ok(())
}

/// Returns how many marks the group that holds a relation now can be rolled back to.
fn marks_of(journal: &Journal, known: &Relation) -> i64 {
    let group = journal.groups.get(&known.group).filter(|group| group.rollback);
    group.map_or(0, |group| group.active_marks)
}

/// Ends what is captured now; the marks set before can no longer be rolled back to.
pub(super) fn end(plan: &mut Plan, known: &Relation, because: &str, marks: i64, renderer: &Renderer) {
    let schema = postgres_protocol::escape::escape_identifier(renderer.schema());
    let sql = format!("select {schema}._end_relation({});", known.id);
    let noun = if known.kind == 'S' { "sequence" } else { "table" };
    let mut step = Step::new(
        Phase::Capture,
        Action::Remove,
        format!("{noun} {}", known.name),
        because,
        sql,
    );
    if known.kind != 'S' {
        step = step.locking(Lock::AccessExclusive, known.oid);
    }
    let effect = match marks {
        0 => "its log stays readable until the group is reset".to_owned(),
        marks => format!(
            "{} can no longer be rolled back to; its log stays readable until the group is reset",
            count(marks.unsigned_abs(), "mark")
        ),
    };
    step = step.effect(effect);
    plan.push(if marks > 0 { step.destroying() } else { step });
}

/// Names that are taken in the schema: by what is there, by what this plan makes, and by what the registry knows. Of that, something may
/// be gone already (`drop table … cascade` takes the guard along); the end of its relation still drops it by its name.
struct Taken<'a> {
    journal: Option<&'a Journal>,
    plan: &'a Plan,
}

impl Taken<'_> {
    fn contains(&self, name: &str) -> bool {
        let there = self.journal.is_some_and(|journal| {
            journal.tables.contains_key(name)
                || journal.views.contains(name)
                || journal.functions.contains_key(name)
                || journal.logs.contains(name)
                || journal
                    .relations
                    .iter()
                    .any(|relation| relation.guard.as_deref() == Some(name))
        });
        there || self.plan.names.contains(name)
    }
}

/// Why the capture of a known table cannot simply go on.
fn must_begin_anew(
    setting: &Setting<'_>,
    wanted: &WantedTable<'_>,
    journal: &Journal,
    known: &Relation,
) -> Option<String> {
    if known.group != setting.group.name.value {
        return Some(format!(
            "it moves from group {} to group {}",
            known.group, setting.group.name.value
        ));
    }
    let Some(there) = known.log.as_ref().and_then(|log| journal.tables.get(log)) else {
        return Some("its log table is gone".to_owned());
    };
    if known
        .into
        .as_ref()
        .is_none_or(|part| !journal.logs.contains(part) || !journal.tables.contains_key(part))
    {
        return Some("the part of its log that is written to is gone".to_owned());
    }
    for captured in &known.columns {
        match wanted
            .table
            .columns
            .iter()
            .find(|column| column.attnum == captured.attnum)
        {
            None => return Some(format!("column {} is gone", captured.log)),
            Some(column) if column.r#type != captured.r#type => {
                return Some(format!(
                    "column {} is {} now and was {}",
                    column.name, column.r#type, captured.r#type
                ));
            }
            Some(_) => {}
        }
        if !there.contains(&captured.log) {
            return Some(format!("its log has lost column {}", captured.log));
        }
    }
    None
}

fn capture<'a>(
    setting: &'a Setting<'a>,
    wanted: &'a WantedTable<'a>,
    taken: &Taken<'_>,
    known: Option<&Relation>,
) -> Capture<'a> {
    let table = wanted.table;
    let context = extras(setting.group);
    let name_parts = [for_log(&wanted.name.schema), for_log(&wanted.name.name)];
    let derive = |suffix: &str| derived_name(&[&name_parts[0], &name_parts[1]], suffix, &|name| taken.contains(name));
    let log = known
        .and_then(|known| known.log.clone())
        .unwrap_or_else(|| derive("_log"));
    let guard = wanted.guard.then(|| {
        known
            .and_then(|known| known.guard.clone())
            .unwrap_or_else(|| derive("_guard"))
    });
    // Columns of the log that a context has left behind.
    let left: Vec<&String> = known
        .and_then(|known| Some((known, taken.journal?.tables.get(&log)?)))
        .map(|(known, there)| {
            let of_table = |name: &String| known.columns.iter().any(|column| column.log == *name);
            there.iter().filter(|name| !of_table(name)).collect()
        })
        .unwrap_or_default();
    let columns = columns(table, &context, &left);
    Capture {
        group: &setting.group.name.value,
        oid: table.oid,
        kind: if table.partitioned { "p" } else { "r" },
        name: wanted.name,
        table: wanted.name.to_string(),
        mode: wanted.mode.name(),
        partitioned: table.partitioned,
        into_log: known
            .and_then(|known| known.into.clone())
            .unwrap_or_else(|| log.clone()),
        log,
        guard,
        attnums: columns
            .iter()
            .filter(|column| column.captured)
            .map(|column| column.attnum)
            .collect(),
        places: columns.iter().map(|column| column.attnum).collect(),
        columns,
        context,
        context_declared: setting
            .group
            .context
            .iter()
            .map(|column| declared(&column.value))
            .collect(),
        key: &table.key,
        natts: table.natts,
        priority: wanted.priority,
        keep_triggers: &wanted.keep_triggers,
        uniform: table
            .partitions
            .iter()
            .filter(|partition| partition.leaf && partition.uniform)
            .map(|partition| partition.oid)
            .collect(),
        partitions: table
            .partitions
            .iter()
            .filter(|partition| partition.leaf)
            .map(|partition| partition.name.as_str())
            .collect(),
        enabled: setting.enabled,
        readers: &setting.readers,
    }
}

/// A function body is quoted with `$emaj$`: that must not occur in a name inside it.
fn sanitized(name: &str) -> String {
    name.replace("$emaj$", "_emaj_")
}

/// Rotation puts another name in the place of the log's, also inside strings of the capture function: there must be nothing in it that a
/// string would write in another way.
fn for_log(name: &str) -> String {
    sanitized(name).replace(['\'', '\\'], "_")
}

/// Names the log's columns. Virtual ones are only counted, so that what comes after them is found at its place; at the end there is no need
/// to, and they may come and go. Taken are the framework's own names, those of the context, and what is `left` in the log of an earlier one.
fn columns(table: &catalog::Table, context: &[Extra], left: &[&String]) -> Vec<Column> {
    let mut used: Vec<String> = OWN_COLUMNS
        .iter()
        .map(|name| (*name).to_owned())
        .chain(context.iter().map(|extra| extra.column.clone()))
        .chain(left.iter().map(|name| (*name).clone()))
        .collect();
    let columns = table.columns.iter().enumerate().map(|(at, column)| {
        let log = derived_name(&[&sanitized(&column.name)], "", &|name| {
            used.iter().any(|taken| taken == name)
        });
        used.push(log.clone());
        Column {
            attnum: column.attnum,
            name: column.name.clone(),
            alias: format!("emaj${}", at + 1),
            log,
            r#type: column.r#type.clone(),
            captured: column.generated != Generated::Virtual,
        }
    });
    let mut columns: Vec<Column> = columns.collect();
    if let Some(last) = columns.iter().rposition(|column| column.captured) {
        columns.truncate(last + 1);
    }
    columns
}

/// Names the context columns. Two settings may come to one name (`a.b_c`, `a_b.c`): then both keep their dots, whichever comes first.
fn extras(group: &Group) -> Vec<Extra> {
    let mut extras: Vec<Extra> = group.context.iter().map(|column| extra(&column.value)).collect();
    let names: Vec<String> = extras.iter().map(|extra| extra.column.clone()).collect();
    for (extra, declared) in extras.iter_mut().zip(&group.context) {
        let shared = names.iter().filter(|name| **name == extra.column).count() > 1;
        if let (ContextColumn::Setting(name), true) = (&declared.value, shared) {
            extra.column = derived_name(&["emaj", "setting", name], "", &|_| false);
        }
    }
    extras
}

fn extra(column: &ContextColumn) -> Extra {
    match column {
        ContextColumn::ApplicationName => Extra {
            column: "emaj_application_name".to_owned(),
            r#type: "text",
            value: "current_setting('application_name')".to_owned(),
        },
        ContextColumn::ClientAddr => Extra {
            column: "emaj_client_addr".to_owned(),
            r#type: "inet",
            value: "inet_client_addr()".to_owned(),
        },
        ContextColumn::Setting(name) => Extra {
            column: derived_name(&["emaj", &name.replace('.', "_")], "", &|name| {
                OWN_COLUMNS.contains(&name)
            }),
            r#type: "text",
            value: format!("current_setting({}, true)", quote_literal(name)),
        },
    }
}

fn declared(column: &ContextColumn) -> String {
    match column {
        ContextColumn::ApplicationName => "application_name".to_owned(),
        ContextColumn::ClientAddr => "client_addr".to_owned(),
        ContextColumn::Setting(name) => format!("setting:{name}"),
    }
}

fn create(
    plan: &mut Plan,
    capture: &Capture<'_>,
    wanted: &WantedTable<'_>,
    because: &str,
    lost_marks: i64,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let values = || serde_value(capture);
    let mut sql = renderer.render_value("log/table", values())?;
    sql.push('\n');
    sql.push_str(&renderer.render_value("log/function", values())?);
    if capture.guard.is_some() {
        sql.push('\n');
        sql.push_str(&renderer.render_value("log/guard", values())?);
    }
    plan.names.insert(capture.log.clone());
    plan.names.extend(capture.guard.clone());
    plan.push(
        Step::new(
            Phase::Logs,
            Action::Create,
            format!("log of {}", wanted.name),
            because,
            sql,
        )
        .locking(Lock::AccessShare, capture.oid)
        .effect(if capture.guard.is_some() {
            "captured columns cannot be dropped"
        } else {
            "no guard: captured columns can be dropped, at the price of the marks before"
        }),
    );
    // A partition that was detached still has the trigger that its former parent gave it.
    let strays = own_triggers(wanted, renderer.triggers());
    let mut sql = String::new();
    let mut lock = Lock::ShareRowExclusive;
    if !strays.is_empty() {
        lock = Lock::AccessExclusive;
        sql = renderer.render("log/untrigger", context! { drop_triggers => strays })?;
        sql.push('\n');
    }
    // First the entry in the registry: what the triggers are like is noted there.
    sql.push_str(&renderer.render_value("log/register", values())?);
    sql.push('\n');
    sql.push_str(&renderer.render_value("log/triggers", values())?);
    plan.push(
        Step::new(
            Phase::Capture,
            Action::Create,
            format!("capture of {}", wanted.name),
            format!("by {}: {}", capture.mode, wanted.because),
            sql,
        )
        .locking(lock, capture.oid)
        .effect(and_marks(
            format!(
                "writers wait; no row is read (about {})",
                count(wanted.table.rows as u64, "row")
            ),
            lost_marks,
        )),
    );
    Ok(())
}

/// Compares what is captured with what is wanted, and plans the difference, if any.
fn follow(
    plan: &mut Plan,
    setting: &Setting<'_>,
    wanted: &WantedTable<'_>,
    capture: &Capture<'_>,
    journal: &Journal,
    known: &Relation,
    renderer: &Renderer,
) -> Result<(), RenderError> {
    let values = || serde_value(capture);
    let mut reasons: Vec<String> = Vec::new();
    let renamed: Vec<&Column> = capture
        .columns
        .iter()
        .filter(|column| known_column(known, column).is_some_and(|old| old.log != column.log))
        .collect();
    let added: Vec<&Column> = capture
        .columns
        .iter()
        .filter(|column| column.captured && known_column(known, column).is_none())
        .collect();
    // A column of the table that had the name before gives it up: it is renamed first.
    let there = &journal.tables[&capture.log];
    let added_context: Vec<&Extra> = capture
        .context
        .iter()
        .filter(|extra| !there.contains(&extra.column) || known.columns.iter().any(|column| column.log == extra.column))
        .collect();
    let mut note = |condition: bool, reason: &dyn Fn() -> String| {
        if condition {
            reasons.push(reason());
        }
    };
    note(known.name != *wanted.name, &|| format!("it was {}", known.name));
    for column in &renamed {
        let old = known_column(known, column).map_or("", |old| old.log.as_str());
        note(true, &|| format!("column {old} is {} now", column.log));
    }
    for column in &added {
        note(true, &|| format!("column {} is new", column.name));
    }
    note(known.context != capture.context_declared, &|| {
        "its context columns".to_owned()
    });
    note(known.key != capture.key, &|| "its primary key is another".to_owned());
    note(known.mode.as_deref() != Some(capture.mode), &|| {
        format!("by {} now: {}", capture.mode, wanted.because)
    });
    note(known.priority != capture.priority, &|| "its priority".to_owned());
    note(known.keep_triggers != capture.keep_triggers, &|| {
        "the triggers it keeps".to_owned()
    });
    note(known.guard.is_some() != capture.guard.is_some(), &|| {
        if capture.guard.is_some() {
            "it is to be guarded"
        } else {
            "it is no longer guarded"
        }
        .to_owned()
    });
    note(
        capture
            .guard
            .as_ref()
            .is_some_and(|guard| known.guard.is_some() && !journal.views.contains(guard)),
        &|| "its guard is gone".to_owned(),
    );

    let rendered = function(renderer.render_value("log/function", values())?);
    let body = journal
        .functions
        .get(&capture.log)
        .map(|function| function.body.as_str());
    let triggers = triggers_differ(capture, wanted, journal, known, renderer.triggers(), setting.logging);
    let mode_changes = known.mode.as_deref() != Some(capture.mode);
    note(body.is_none(), &|| "its capture function is gone".to_owned());
    note(
        body.is_some_and(|body| body != rendered.body)
            && added.is_empty()
            && !mode_changes
            && known.context == capture.context_declared,
        &|| "its capture function is not the one that belongs there".to_owned(),
    );
    // Missing or switched off while the group logs: changes may have been lost, so earlier marks are no targets any more.
    let broken = if mode_changes {
        setting.logging && !captured_before(wanted, known, renderer.triggers())
    } else {
        triggers == Triggers::Broken
    };
    note(setting.logging && broken, &|| {
        "its capture was missing or switched off: changes made meanwhile are not in the log".to_owned()
    });
    note(!setting.logging && broken, &|| {
        "its capture triggers are not those of a table that is not logged".to_owned()
    });
    let missed =
        mode_changes && known.mode.as_deref() == Some(Mode::Statement.name()) && needs_row(wanted.table).is_some();
    note(setting.logging && missed, &|| {
        "statements that did not name it fired no trigger: changes made meanwhile may not be in the log".to_owned()
    });
    // Rows that had one value of the new key in common cannot be told apart in what was logged before.
    let other_key = setting.group.rollback && known.key != capture.key;
    let gap = setting.logging && (broken || missed || other_key);
    note(triggers == Triggers::Partitions, &|| "partitions have come".to_owned());
    let quiet = known.natts != Some(capture.natts);
    if reasons.is_empty() && !quiet {
        plan.unchanged += 1;
        return Ok(());
    }
    let because = if reasons.is_empty() {
        "a column that is not captured came or went".to_owned()
    } else {
        reasons.join("; ")
    };
    let mut sql = renderer.render_value(
        "log/follow",
        context! {
            id => known.id, gap, added => serde_value(&added), added_context => serde_value(&added_context),
            renamed => renamed.iter().map(|column| {
                let from = known_column(known, column).map_or("", |old| old.log.as_str());
                context! { from, to => &column.log, attnum => column.attnum }
            }).collect::<Vec<_>>(),
            ..values()
        },
    )?;
    if body != Some(rendered.body.as_str()) {
        sql.push('\n');
        sql.push_str(&rendered.sql);
    }
    let shape_changes = !added.is_empty()
        || known.guard != capture.guard
        || capture
            .guard
            .as_ref()
            .is_some_and(|guard| !journal.views.contains(guard));
    if shape_changes {
        if let Some(old) = known.guard.as_ref().filter(|_| capture.guard.is_none()) {
            sql.push_str(&format!(
                "\ndrop view if exists {}.{};",
                quoted(renderer.schema()),
                quoted(old)
            ));
        } else if capture.guard.is_some() {
            sql.push('\n');
            sql.push_str(&renderer.render_value("log/guard", values())?);
        }
    }
    let mut lock = Lock::ShareRowExclusive;
    if triggers != Triggers::Right {
        lock = Lock::AccessExclusive;
        sql.push('\n');
        sql.push_str(&renderer.render(
            "log/untrigger",
            context! { drop_triggers => own_triggers(wanted, renderer.triggers()) },
        )?);
        sql.push('\n');
        sql.push_str(&renderer.render_value("log/triggers", values())?);
    }
    let mut step = Step::new(
        Phase::Capture,
        Action::Change,
        format!("capture of {}", wanted.name),
        because,
        sql,
    )
    .locking(lock, capture.oid)
    .effect("writers wait; the log goes on without a gap");
    if gap {
        step = step.effect(format!(
            "{} can no longer be rolled back to",
            count(setting.active_marks.unsigned_abs(), "mark")
        ));
        if setting.active_marks > 0 {
            step = step.destroying();
        }
    }
    plan.push(step);
    Ok(())
}

/// Whether the triggers of the mode that is left are all there and fire.
fn captured_before(wanted: &WantedTable<'_>, known: &Relation, names: &TriggerNames) -> bool {
    let expected: &[&String] = if known.mode.as_deref() == Some(Mode::Statement.name()) {
        &[&names.insert, &names.update, &names.delete, &names.truncate]
    } else {
        &[&names.row, &names.truncate]
    };
    expected.iter().all(|name| {
        wanted
            .table
            .triggers
            .iter()
            .any(|trigger| trigger.name == **name && trigger.state == 'A' && !switched(known, trigger))
    })
}

/// Whether somebody else has switched a trigger off and on again, or made it anew: its row in the catalogue is not the one that was noted.
/// Clones come with partitions, and nobody notes those.
fn switched(known: &Relation, trigger: &catalog::Trigger) -> bool {
    match known.triggers.get(&trigger.oid) {
        Some(version) => *version != trigger.version,
        None => !trigger.cloned,
    }
}

fn known_column<'k>(known: &'k Relation, column: &Column) -> Option<&'k journal::Column> {
    known.columns.iter().find(|old| old.attnum == column.attnum)
}

fn serde_value<T: Serialize>(value: T) -> Value {
    Value::from(Serde(value))
}

fn quoted(name: &str) -> String {
    postgres_protocol::escape::escape_identifier(name)
}

/// What the triggers of a captured table are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Triggers {
    Right,
    /// Only partitions lack the one that catches TRUNCATE.
    Partitions,
    Broken,
}

fn triggers_differ(
    capture: &Capture<'_>,
    wanted: &WantedTable<'_>,
    journal: &Journal,
    known: &Relation,
    names: &TriggerNames,
    logging: bool,
) -> Triggers {
    let Some(function) = journal.functions.get(&capture.log).map(|function| function.oid) else {
        return Triggers::Broken;
    };
    let right = |triggers: &[catalog::Trigger], name: &str| {
        let fires = |trigger: &catalog::Trigger| match trigger.state {
            'A' => logging && !switched(known, trigger),
            _ => !logging,
        };
        triggers
            .iter()
            .any(|trigger| trigger.name == name && trigger.function == function && fires(trigger))
    };
    let expected: &[&str] = match wanted.mode {
        Mode::Statement => &[&names.insert, &names.update, &names.delete, &names.truncate],
        Mode::Row => &[&names.row, &names.truncate],
    };
    let own = wanted
        .table
        .triggers
        .iter()
        .filter(|trigger| names.contains(&trigger.name))
        .count();
    if own != expected.len() || !expected.iter().all(|name| right(&wanted.table.triggers, name)) {
        return Triggers::Broken;
    }
    let leaves = wanted.table.partitions.iter().filter(|partition| partition.leaf);
    for leaf in leaves {
        if !right(&leaf.triggers, &names.row) {
            return Triggers::Broken;
        }
        if !right(&leaf.triggers, &names.truncate) {
            return Triggers::Partitions;
        }
    }
    Triggers::Right
}

/// emaj's triggers of a table and its partitions, clones left out: they go with their parent's.
fn own_triggers(wanted: &WantedTable<'_>, names: &TriggerNames) -> Vec<Value> {
    let of = |table: String, triggers: &[catalog::Trigger]| {
        let own = triggers
            .iter()
            .filter(|trigger| names.contains(&trigger.name) && !trigger.cloned);
        own.map(|trigger| context! { name => &trigger.name, table => &table })
            .collect::<Vec<_>>()
    };
    let mut all = of(wanted.name.to_string(), &wanted.table.triggers);
    for partition in &wanted.table.partitions {
        all.extend(of(partition.name.clone(), &partition.triggers));
    }
    all
}
