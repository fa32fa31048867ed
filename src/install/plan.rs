//! A plan: steps in the order in which they run, each with its reason, its lock and what it will cost.

use std::collections::BTreeSet;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::manifest::Manifest;
use crate::names::quote_literal;
use crate::render::Renderer;

/// The order of the work. Everything before [`Phase::Capture`] leaves the application alone; from there on its writers wait.
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
    /// The tables to be locked before the phase begins.
    #[serde(skip)]
    pub tables: Vec<u32>,
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
            tables: Vec::new(),
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

    pub fn effect(mut self, effect: impl Into<String>) -> Self {
        self.effect = effect.into();
        self
    }

    pub fn destroying(mut self) -> Self {
        self.destroys = true;
        self
    }
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
    #[serde(skip)]
    locks: Vec<String>,
    /// Names in the schema that this plan gives away.
    #[serde(skip)]
    pub(super) names: BTreeSet<String>,
}

impl Plan {
    pub(super) fn new(manifest: &Manifest, notes: Vec<String>) -> Self {
        Plan {
            manifest: manifest.name.clone(),
            schema: manifest.schema.clone(),
            fingerprint: String::new(),
            steps: Vec::new(),
            notes,
            unchanged: 0,
            locks: Vec::new(),
            names: BTreeSet::new(),
        }
    }

    pub(super) fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Brings the steps into order, works out the locks that come first, and seals the plan with its fingerprint.
    pub(super) fn finish(mut self, renderer: &Renderer) -> Self {
        self.steps.sort_by_key(|step| step.phase);
        for lock in [Lock::AccessExclusive, Lock::ShareRowExclusive] {
            let mut tables: Vec<u32> = self
                .steps
                .iter()
                .filter(|step| step.lock == Some(lock))
                .flat_map(|step| step.tables.iter().copied())
                .collect();
            tables.sort_unstable();
            tables.dedup();
            if !tables.is_empty() {
                let list: Vec<String> = tables.iter().map(ToString::to_string).collect();
                self.locks.push(format!(
                    "select {}._lock(array[{}]::oid[], {});",
                    postgres_protocol::escape::escape_identifier(renderer.schema()),
                    list.join(", "),
                    quote_literal(&lock.name().to_lowercase()),
                ));
            }
        }
        let digest = Sha256::digest(self.script());
        self.fingerprint = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub fn destroys(&self) -> bool {
        self.steps.iter().any(|step| step.destroys)
    }

    /// Returns the statements in their order; the locks stand before the first step that needs one.
    pub fn statements(&self) -> Vec<(Option<&Step>, &str)> {
        let mut statements: Vec<(Option<&Step>, &str)> = Vec::with_capacity(self.steps.len() + 2);
        let mut locked = false;
        for step in &self.steps {
            if step.phase >= Phase::Capture && !locked {
                statements.extend(self.locks.iter().map(|lock| (None, lock.as_str())));
                locked = true;
            }
            statements.push((Some(step), &step.sql));
        }
        statements
    }

    /// Returns the whole script, as `emaj plan -o sql` shows it; psql can run it.
    pub fn script(&self) -> String {
        let mut script = String::from(
            "begin;\nset local check_function_bodies = off;\nset local client_min_messages = warning;\nset local lock_timeout = '5s';\n",
        );
        for (step, sql) in self.statements() {
            if let Some(step) = step {
                script.push_str(&format!(
                    "\n-- {} {}: {}\n",
                    step.action.sign(),
                    one_line(&step.object),
                    one_line(&step.because)
                ));
            } else {
                script.push_str("\n-- from here on writers of these tables wait\n");
            }
            script.push_str(sql.trim());
            script.push('\n');
        }
        script.push_str("\ncommit;\n");
        script
    }
}

/// A comment ends with its line: a name with a line break must not get out of it.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}
