//! A plan: steps in the order in which they run, each with its reason, its lock and what it will cost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::delivery::Gap;
use crate::journal::{ActiveMarks, Relation};
use crate::manifest::Manifest;
use crate::names::{hex, one_line, quote_literal};
use crate::pg;
use crate::render::Renderer;
use crate::words::count;

/// The order of the work. Everything before [`Phase::Capture`] leaves the application alone; from there on its writers wait. Rows of groups are
/// locked together with the tables and sequences of all of them: a transaction that writes a table and sets a mark, or the other way round, would be ended as a deadlock otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Schema,
    Functions,
    Groups,
    Logs,
    Capture,
    Start,
    Delivery,
    Removal,
}

/// What a step does to its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Create,
    Change,
    Start,
    Remove,
}

impl Action {
    /// Returns the sign that stands for the action in a table.
    pub fn sign(self) -> &'static str {
        match self {
            Action::Create => "+",
            Action::Change => "~",
            Action::Start => ">",
            Action::Remove => "-",
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Action::Create => "create",
            Action::Change => "change",
            Action::Start => "start",
            Action::Remove => "remove",
        }
    }
}

/// The lock a step holds on an application's table, to the end of the installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Lock {
    #[serde(rename = "ACCESS SHARE")]
    AccessShare,
    #[serde(rename = "SHARE ROW EXCLUSIVE")]
    ShareRowExclusive,
    #[serde(rename = "ACCESS EXCLUSIVE")]
    AccessExclusive,
}

impl Lock {
    pub fn name(self) -> &'static str {
        match self {
            Lock::AccessShare => "ACCESS SHARE",
            Lock::ShareRowExclusive => "SHARE ROW EXCLUSIVE",
            Lock::AccessExclusive => "ACCESS EXCLUSIVE",
        }
    }
}

/// A part of a step.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// What it does, to complete "failed to …".
    pub doing: String,
    pub sql: String,
}

/// One step: what, because of what, at what cost, and the SQL that does it.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    pub phase: Phase,
    pub action: Action,
    /// What it is done to: `table shop.customer`, `group billing`.
    pub object: String,
    pub because: String,
    /// The lock on the application's table, and what it keeps out.
    pub lock: Option<Lock>,
    /// What it will cost or leave behind, in words.
    pub effect: String,
    /// Something is lost that cannot be made again: log rows, or marks to roll back to.
    pub destroys: bool,
    pub sql: String,
    /// The group whose marks are lost with what it takes away, and those that it has.
    #[serde(skip)]
    loses: Option<(String, ActiveMarks)>,
    /// The entry in the registry of what is captured already and follows or ends, and its name.
    #[serde(skip)]
    captured: Option<(i64, String)>,
    /// What the SQL consists of, where a failure should say which of many things it was about; empty: one thing.
    #[serde(skip)]
    parts: Vec<Part>,
    /// The tables to be locked before the phase begins.
    #[serde(skip)]
    pub tables: Vec<u32>,
    /// The sequences that a mark notes.
    #[serde(skip)]
    pub sequences: Vec<u32>,
    /// The group that it takes out, or takes something out of, and whose row it locks.
    #[serde(skip)]
    pub group: Option<String>,
    /// About how many locks it takes; 0 where that is next to nothing.
    #[serde(skip)]
    locks: i64,
    /// It is carried out before the others, in a transaction of its own; what is left is the plan of then.
    #[serde(skip)]
    alone: bool,
}

impl Step {
    pub fn new(
        phase: Phase,
        action: Action,
        object: impl Into<String>,
        because: impl Into<String>,
        sql: String,
    ) -> Self {
        Step {
            phase,
            action,
            object: object.into(),
            because: because.into(),
            lock: None,
            effect: String::new(),
            destroys: false,
            sql,
            loses: None,
            captured: None,
            parts: Vec::new(),
            tables: Vec::new(),
            sequences: Vec::new(),
            group: None,
            locks: 0,
            alone: false,
        }
    }

    /// Makes a step of many parts, which run one after the other.
    pub(super) fn of_parts(
        phase: Phase,
        action: Action,
        object: impl Into<String>,
        because: impl Into<String>,
        parts: Vec<Part>,
    ) -> Self {
        let sql = parts
            .iter()
            .map(|part| part.sql.as_str())
            .collect::<Vec<_>>()
            .join("\n");
        Step {
            parts,
            ..Step::new(phase, action, object, because, sql)
        }
    }

    /// Says which lock the step takes on the table with this oid; a lock that keeps writers out is taken for all steps together.
    pub fn locking(mut self, lock: Lock, table: u32) -> Self {
        self.lock = Some(lock);
        if lock > Lock::AccessShare {
            self.tables.push(table);
        }
        self
    }

    /// Says that the step locks the group's row; all of them are locked together.
    pub fn holding(mut self, group: &str) -> Self {
        self.group = Some(group.to_owned());
        self
    }

    /// Says that the step sets a mark, which notes these sequences.
    pub fn marking(mut self, sequences: &[u32]) -> Self {
        self.sequences.extend_from_slice(sequences);
        self
    }

    /// Says what it follows or ends. Released, it is another plan.
    pub(super) fn changing(mut self, known: &Relation) -> Self {
        self.captured = Some((known.id, known.name.to_string()));
        self
    }

    /// Says about how many locks the step takes (see `room`).
    pub(super) fn taking(mut self, locks: i64) -> Self {
        self.locks = locks;
        self
    }

    /// Gives the step a transaction of its own, before all that have none.
    pub(super) fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    pub fn effect(mut self, effect: impl Into<String>) -> Self {
        self.effect = effect.into();
        self
    }

    pub fn destroying(mut self) -> Self {
        self.destroys = true;
        self
    }

    /// Returns what it does, to complete "failed to …".
    fn doing(&self) -> String {
        format!("{} {}", self.action.verb(), self.object)
    }

    /// Adds to the effect.
    pub(super) fn also(&mut self, effect: &str) {
        if !self.effect.is_empty() {
            self.effect.push_str("; ");
        }
        self.effect.push_str(effect);
    }

    /// Adds to the effect what becomes of so many marks, if there are any.
    pub(super) fn and_marks(&mut self, marks: i64, fate: &str) {
        if marks > 0 {
            self.also(&format!("{} {fate}", count(marks, "mark")));
        }
    }

    /// Says that the marks of this group are lost. With others it is another plan.
    pub(super) fn losing(mut self, group: &str, marks: ActiveMarks) -> Self {
        self.destroys |= marks.count > 0;
        self.loses = Some((group.to_owned(), marks));
        self.and_marks(marks.count, "can no longer be rolled back to");
        self
    }
}

/// The names of what a plan makes in the schema for tables and bindings, or puts in the place of what is there.
#[derive(Debug, Clone, Default)]
pub(super) struct Made {
    pub logs: BTreeSet<String>,
    pub guards: BTreeSet<String>,
    pub functions: BTreeSet<String>,
}

/// The steps that make a database as a manifest says.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    pub manifest: String,
    pub schema: String,
    /// A hash of the script: a saved plan fits only while a new one would be the same.
    pub fingerprint: String,
    pub steps: Vec<Step>,
    /// What the reviewer should know beside the steps.
    pub notes: Vec<String>,
    /// Relations that are as they should be already.
    pub unchanged: usize,
    /// How many steps were taken before this plan was made, in transactions of their own.
    #[serde(skip)]
    before: usize,
    /// Who owns the installation and therefore what is made, quoted; none while there is no schema.
    #[serde(skip)]
    owner: Option<String>,
    /// What the history says of it; none when there is no history left.
    #[serde(skip)]
    pub(super) event: Option<&'static str>,
    /// The groups that are there and that it changes, and whether they log. In another state it is another plan.
    #[serde(skip)]
    pub(super) groups: BTreeMap<String, bool>,
    #[serde(skip)]
    lock: Option<String>,
    /// What refuses the installation under its locks when the registry is another than when it was planned.
    #[serde(skip)]
    registry: Option<String>,
    /// What refuses the installation at its end when a table was altered while its lock was waited for.
    #[serde(skip)]
    pub(super) looks: Vec<String>,
    /// Names in the schema that this plan gives away.
    #[serde(skip)]
    pub(super) names: BTreeSet<String>,
    #[serde(skip)]
    pub(super) made: Made,
    /// What the logs of bound tables do not say.
    #[serde(skip)]
    pub(super) gaps: Vec<Gap>,
    /// What closes what was made to everybody else, once all of it is.
    #[serde(skip)]
    pub(super) close: Option<String>,
}

impl Plan {
    pub(super) fn new(manifest: &Manifest, owner: Option<String>, notes: Vec<String>) -> Self {
        Plan {
            owner,
            event: Some("INSTALL"),
            manifest: manifest.name.clone(),
            schema: manifest.schema.clone(),
            fingerprint: String::new(),
            steps: Vec::new(),
            notes,
            unchanged: 0,
            before: 0,
            groups: BTreeMap::new(),
            lock: None,
            registry: None,
            looks: Vec::new(),
            names: BTreeSet::new(),
            made: Made::default(),
            gaps: Vec::new(),
            close: None,
        }
    }

    pub(super) fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Brings the steps into order, works out the lock that comes first, and seals the plan with its fingerprint.
    pub(super) fn finish(mut self, renderer: &Renderer) -> Self {
        // What is captured no more goes first: a trigger of a partitioned table is there on its partitions, and has the name of theirs.
        self.steps.sort_by_key(|step| {
            (
                !step.alone,
                step.phase,
                step.phase == Phase::Capture && step.action != Action::Remove,
            )
        });
        let together: Vec<&Step> = self.steps.iter().filter(|step| !step.alone).collect();
        self.lock = locks(&together, self.groups.keys(), renderer);
        self.registry = self.registry(renderer);
        for step in self.steps.iter_mut().filter(|step| step.alone) {
            let lock = locks(&[&*step], [], renderer);
            step.parts = lock
                .map(|sql| ("lock the tables".to_owned(), sql))
                .into_iter()
                .chain([(step.doing(), std::mem::take(&mut step.sql))])
                .map(|(doing, sql)| Part { doing, sql })
                .collect();
            step.sql = step
                .parts
                .iter()
                .map(|part| part.sql.as_str())
                .collect::<Vec<_>>()
                .join("\n");
        }
        self.fingerprint = hex(&Sha256::digest(self.script()));
        self
    }

    /// Returns the fingerprint of the plan that is left once its first step has been taken, where that has a transaction of its own.
    pub(super) fn rest(&self) -> Option<String> {
        let (_, rest) = self.steps.split_first().filter(|(first, _)| first.alone)?;
        let rest = Plan {
            steps: rest.to_vec(),
            before: 0,
            ..self.clone()
        };
        Some(hex(&Sha256::digest(rest.script())))
    }

    /// Returns what looks, once nobody can change them, whether the groups are in the state, what follows or ends is captured, and the
    /// marks that are lost are those of when this was planned.
    fn registry(&self, renderer: &Renderer) -> Option<String> {
        let schema = postgres_protocol::escape::escape_identifier(renderer.schema());
        let refuse = |what: &str, when: &str| format!("select {schema}._refuse({what}, '{REVIEW}')\n  {when};");
        let since = |what: &str| quote_literal(&format!("since this was planned {what}"));
        let groups = self.groups.iter().map(|(group, logs)| {
            let (state, past) = if *logs { ("LOGGING", "stopped") } else { ("IDLE", "started") };
            refuse(
                &since(&format!("group `{group}` was {past} or dropped")),
                &format!(
                    "where not exists (select from {schema}.emaj_group where group_name = {} and group_state = '{state}')",
                    quote_literal(group),
                ),
            )
        });
        let captured: BTreeMap<i64, &String> = self
            .steps
            .iter()
            .filter_map(|step| step.captured.as_ref())
            .map(|(id, name)| (*id, name))
            .collect();
        let rows: Vec<String> = captured
            .into_iter()
            .map(|(id, name)| format!("({id}, {})", quote_literal(name)))
            .collect();
        let captured = (!rows.is_empty()).then(|| {
            refuse(
                "format('since this was planned %s was released', name)",
                &format!(
                    "from (values {}) as captured(id, name)
 where not exists (select from {schema}.emaj_relation where rel_id = id and rel_ended is null)",
                    rows.join(", "),
                ),
            )
        });
        let lost: BTreeMap<_, _> = self
            .steps
            .iter()
            .filter_map(|step| step.loses.as_ref())
            .map(|(group, marks)| (group, marks))
            .collect();
        let marks = lost.into_iter().map(|(group, marks)| {
            let last = marks.last.map_or("null".to_owned(), |id| id.to_string());
            refuse(
                &since(&format!(
                    "marks of group `{group}` were set or deleted: others would be lost"
                )),
                &format!(
                    "from {schema}.emaj_mark where mark_group = {} and mark_state = 'ACTIVE' having (count(*), max(mark_id)) is distinct from ({}, {last})",
                    quote_literal(group),
                    marks.count,
                ),
            )
        });
        let looks: Vec<String> = groups.chain(captured).chain(marks).collect();
        (!looks.is_empty()).then(|| looks.join("\n"))
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Notes how many steps were taken before it.
    pub(super) fn after(mut self, steps: usize) -> Self {
        self.before = steps;
        self
    }

    /// Returns about how many locks its first transaction takes.
    pub(super) fn locks(&self) -> i64 {
        let (alone, together) = self.divided();
        let steps = alone.first().map_or(together, std::slice::from_ref);
        let locked: BTreeSet<u32> = steps.iter().flat_map(|step| step.tables.iter().copied()).collect();
        let told: i64 = steps.iter().map(|step| step.locks).sum();
        told.max(i64::try_from(locked.len()).unwrap_or(i64::MAX))
    }

    /// Returns how an install takes fewer locks in one transaction, if there is a way: it depends on what most of them are for.
    pub(super) fn with_fewer(&self) -> Option<&'static str> {
        self.event.filter(|event| *event == "INSTALL")?;
        let locks = |phase: Phase, action: Action| -> i64 {
            let steps = self
                .steps
                .iter()
                .filter(|step| (step.phase, step.action) == (phase, action));
            steps.map(|step| step.locks).sum()
        };
        let captured = locks(Phase::Capture, Action::Create);
        match locks(Phase::Removal, Action::Remove) {
            dropped if dropped > captured => Some(
                "begin anew: `emaj uninstall` takes out in several transactions what is too much for one, with the marks of all groups of the manifest",
            ),
            _ if captured > 0 => Some("take fewer at a time: install a manifest that names some of the tables first"),
            _ => None,
        }
    }

    /// Returns how many steps are taken when it is done, with those that had a transaction of their own.
    pub fn taken(&self) -> usize {
        self.before + self.steps.len()
    }

    /// Returns the application's tables that it locks.
    pub(super) fn tables(&self) -> BTreeSet<u32> {
        self.steps.iter().flat_map(|step| step.tables.iter().copied()).collect()
    }

    pub fn destroys(&self) -> bool {
        self.steps.iter().any(|step| step.destroys)
    }

    /// Returns the steps that have a transaction of their own, and the others.
    fn divided(&self) -> (&[Step], &[Step]) {
        self.steps.split_at(self.steps.partition_point(|step| step.alone))
    }

    /// Returns the statements of each transaction, in their order.
    pub(super) fn transactions(&self) -> Vec<Vec<Statement<'_>>> {
        let (alone, together) = self.divided();
        let alone = alone.iter().map(|step| vec![Statement::Step(step)]);
        alone.chain([self.statements(together)]).collect()
    }

    /// Returns the statements of the last transaction: the locks before the first step that needs one; what closes what was made, the last looks and
    /// the entry in the history at the end.
    fn statements<'a>(&'a self, together: &'a [Step]) -> Vec<Statement<'a>> {
        let mut statements = Vec::with_capacity(together.len() + self.looks.len() + 5);
        let mut locked = false;
        for step in together {
            if step.phase >= Phase::Capture && !locked {
                statements.extend(self.lock.as_deref().map(Statement::Lock));
                statements.extend(self.registry.as_deref().map(Statement::Registry));
                locked = true;
            }
            statements.push(Statement::Step(step));
        }
        statements.extend(self.close.as_deref().map(Statement::Close));
        statements.extend(self.looks.iter().map(|look| Statement::Look(look)));
        statements.extend(self.record().map(Statement::Record));
        statements
    }

    fn record(&self) -> Option<String> {
        let event = self.event.filter(|_| !self.is_empty())?;
        Some(format!(
            "select {}._hist({}, '', {}, {});",
            postgres_protocol::escape::escape_identifier(&self.schema),
            quote_literal(event),
            quote_literal(&self.manifest),
            quote_literal(&count(self.taken(), "step")),
        ))
    }

    /// Returns the whole script, as `emaj plan -o sql` shows it; psql can run it.
    pub fn script(&self) -> String {
        let begin = format!(
            "begin isolation level read committed;\n{}\n{ONE_AT_A_TIME};\n{}",
            settings(Duration::from_secs(5)),
            match &self.owner {
                Some(owner) => format!("set local role {owner};\n"),
                None => String::new(),
            }
        );
        let transactions: Vec<String> = self
            .transactions()
            .iter()
            .map(|statements| format!("{begin}{}\ncommit;\n", titled(statements)))
            .collect();
        transactions.join("\n")
    }
}

/// Returns the statements one after the other, each with what it is for.
fn titled(statements: &[Statement<'_>]) -> String {
    statements
        .iter()
        .map(|statement| {
            let title = match statement {
                Statement::Lock(_) => "from here on writers of these tables wait".to_owned(),
                Statement::Registry(_) => {
                    "groups, what they capture and the marks that are lost are still those of when this was planned"
                        .to_owned()
                }
                Statement::Step(step) => format!("{} {}: {}", step.action.sign(), step.object, step.because),
                Statement::Close(_) => {
                    "what was made is nobody's but the owner's, and logs are there to be read".to_owned()
                }
                Statement::Look(_) => "the tables are still what they were when this was planned".to_owned(),
                Statement::Record(_) => "the history".to_owned(),
            };
            format!("\n-- {}\n{}\n", one_line(&title), statement.sql().trim())
        })
        .collect()
}

/// Returns what locks all tables at once, with the sequences that marks note and the groups' rows, and gives way as a whole: a lock that is held while
/// another is waited for keeps writers out, or whoever sets marks.
fn locks<'a>(steps: &[&'a Step], groups: impl IntoIterator<Item = &'a String>, renderer: &Renderer) -> Option<String> {
    let schema = postgres_protocol::escape::escape_identifier(renderer.schema());
    let alone = steps.iter().filter(|step| step.lock == Some(Lock::AccessExclusive));
    let alone: BTreeSet<&u32> = alone.flat_map(|step| &step.tables).collect();
    let tables: BTreeSet<&u32> = steps.iter().flat_map(|step| &step.tables).collect();
    let sequences: BTreeSet<&u32> = steps.iter().flat_map(|step| &step.sequences).collect();
    let taken_out = steps.iter().filter_map(|step| step.group.as_ref());
    let groups: BTreeSet<&String> = groups.into_iter().chain(taken_out).collect();
    if tables.is_empty() && sequences.is_empty() && groups.is_empty() {
        return None;
    }
    let names: Vec<String> = groups.into_iter().map(|name| quote_literal(name)).collect();
    Some(format!(
        "select {schema}._lock({}, {}, array[{}]::text[], {});",
        array(tables.into_iter().chain(sequences)),
        quote_literal(&Lock::ShareRowExclusive.name().to_lowercase()),
        names.join(", "),
        array(alone),
    ))
}

fn array<'a>(oids: impl IntoIterator<Item = &'a u32>) -> String {
    let list: Vec<String> = oids.into_iter().map(ToString::to_string).collect();
    format!("array[{}]::oid[]", list.join(", "))
}

/// What is left to do where a plan is outdated.
pub(super) const REVIEW: &str = "review a new plan";

/// One installation at a time in a database, whatever its schema: they may meet on a table.
pub(super) const ONE_AT_A_TIME: &str = "select pg_advisory_xact_lock(hashtextextended('emaj install', 0))";

/// Returns the settings under which a plan is made and carried out, by this program or by psql. Types are written as the functions see them.
pub(super) fn settings(lock_timeout: Duration) -> String {
    format!(
        "{}
set local client_encoding = 'UTF8';
set local standard_conforming_strings = on;
set local check_function_bodies = off;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
set local quote_all_identifiers = off;",
        pg::limits(lock_timeout)
    )
}

/// A statement of a plan's script.
#[derive(Debug)]
pub enum Statement<'a> {
    /// Locks tables together.
    Lock(&'a str),
    /// Refuses when a group is in another state by now, what follows or ends was released, or the marks that are lost are others.
    Registry(&'a str),
    Step(&'a Step),
    /// Takes from everybody else what default privileges gave on what was made.
    Close(&'a str),
    /// Refuses when a table is another by now.
    Look(&'a str),
    /// Enters the installation into the history.
    Record(String),
}

impl Statement<'_> {
    pub fn sql(&self) -> &str {
        match self {
            Statement::Lock(sql) | Statement::Registry(sql) | Statement::Close(sql) | Statement::Look(sql) => sql,
            Statement::Step(step) => &step.sql,
            Statement::Record(sql) => sql,
        }
    }

    /// Returns what is sent to the server, one after the other, each with what it does, to complete "failed to …".
    pub(super) fn parts(&self) -> Vec<(String, &str)> {
        match self {
            Statement::Step(step) if !step.parts.is_empty() => step
                .parts
                .iter()
                .map(|part| (part.doing.clone(), part.sql.as_str()))
                .collect(),
            _ => vec![(self.doing(), self.sql())],
        }
    }

    /// Returns what it does, to complete "failed to …".
    fn doing(&self) -> String {
        match self {
            Statement::Lock(_) => "lock the tables".to_owned(),
            Statement::Registry(_) => "look at the registry once more".to_owned(),
            Statement::Step(step) => step.doing(),
            Statement::Close(_) => "close what was made to everybody else".to_owned(),
            Statement::Look(_) => "look at the tables once more".to_owned(),
            Statement::Record(_) => "write the history".to_owned(),
        }
    }
}
