//! What the database is: tables, sequences, rights. Read in a few bulk queries, whatever the number of tables.
//!
//! Only facts, no opinion: what they mean for a manifest is decided in `install`. What emaj wrote itself is read by `journal`.

mod functions;
mod queries;
mod read;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::Serialize;

use crate::names::{QualifiedName, quote_ident};
use crate::pg::Span;

pub use functions::functions;
pub use queries::refused_queries;
pub use read::{check_owner, read};
pub use settings::unreadable_settings;

/// The major versions of PostgreSQL that the tests run on. An older one is refused, with a newer one emaj warns and goes on.
pub const VERSIONS: RangeInclusive<i32> = 14..=18;

/// The facts a plan is made from.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    pub server: Server,
    pub tables: BTreeMap<QualifiedName, Table>,
    pub sequences: BTreeMap<QualifiedName, Sequence>,
    /// Tables and sequences that are not among them, because some name of theirs is not UTF-8.
    pub unreadable: Vec<String>,
    /// Schemas of emaj: the installation's, other installations', and what is left of one. Nothing of them is among the tables and sequences.
    pub emaj_schemas: BTreeSet<String>,
    /// Schemas that the role may not use: what is in them cannot be named.
    pub closed_schemas: BTreeSet<String>,
    /// Roles of the cluster that were asked for and exist.
    pub roles: Vec<String>,
    /// Functions that were asked for and exist, with all their signatures.
    pub functions: BTreeMap<QualifiedName, Vec<Signature>>,
    /// Intervals of the manifest, by what is written there.
    pub intervals: BTreeMap<String, Span>,
    /// Settings of the manifest that emaj's owner may not read, each with what PostgreSQL says.
    pub unreadable_settings: BTreeMap<String, String>,
    /// Queries of the manifest that the server can make no sense of, each with what it says.
    pub refused_queries: BTreeMap<String, String>,
    /// The event triggers that fire: what forbids DDL, if anything does.
    pub event_triggers: Vec<EventTrigger>,
}

/// Why a session cannot write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOnly {
    Standby,
    ByDefault,
}

/// The server, the database and what the connected role may do there.
#[derive(Debug, Clone, Default)]
pub struct Server {
    /// `server_version_num`, for example 150018.
    pub version: i32,
    pub database: String,
    pub role: String,
    /// It has the rights of the roles it is a member of. Since 16 each membership says that for itself.
    pub inherits: bool,
    /// Roles that are superusers, or may act as one: none of them is to be granted. Quoted.
    pub superusers: BTreeSet<String>,
    /// Rights without which nothing can be installed, as `grant` names them: `usage on language plpgsql`.
    pub lacks: Vec<String>,
    pub may_create_role: bool,
    pub may_create_schema: bool,
    pub bypasses_rls: bool,
    /// May set `session_replication_role`.
    pub may_be_replica: bool,
    pub max_prepared_transactions: i32,
    /// Why nothing can be written, if so.
    pub read_only: Option<ReadOnly>,
    pub max_connections: i32,
    pub max_locks_per_transaction: i32,
    /// Who owns the installation schema, when it exists.
    pub schema_owner: Option<String>,
    /// With whose rights emaj's functions run: the schema's owner; while there is none, the connected role. Quoted.
    pub definer: String,
    pub definer_superuser: bool,
    /// Other roles whose rights that one has; not filled in for a superuser, who has them all. Quoted.
    pub definer_acts_for: Vec<String>,
    /// The connected role has the rights of the owner of the installation schema without acting as that role.
    pub has_rights_of_owner: bool,
    /// The connected role is, or may act as, the owner of the installation schema.
    pub owns_schema: bool,
    /// The connected role is a member of that owner, as it was granted: since 16 that alone need not let it act as the owner.
    pub in_owner: bool,
    /// The schema belongs to an extension of this name.
    pub schema_extension: Option<String>,
}

/// The right to act as a role (`set role`), for `pg_has_role`. Since 16 a membership may come without it, as the one does that whoever
/// creates a role gets.
pub const TO_ACT_AS: &str =
    "case when current_setting('server_version_num')::int >= 160000 then 'set' else 'member' end";

impl Server {
    /// Returns the major version, for example 15.
    pub fn major(&self) -> i32 {
        self.version / 10_000
    }

    /// Returns the version as people write it, for example `15.18`.
    pub fn release(&self) -> String {
        format!("{}.{}", self.major(), self.version % 10_000)
    }

    /// Returns the statements that let the connected role act for the owner (quoted) of an object, given as `table shop.t`. (`_drift` says the same
    /// for emaj's owner.)
    pub fn to_act_for(&self, owner: &str, object: &str) -> String {
        match self.superusers.contains(owner) {
            true => format!("alter {object} owner to {}", quote_ident(&self.role)),
            false => self.grant_of(owner),
        }
    }

    /// Returns the statements that give the connected role the rights of another one, which is no superuser. Since 16 a membership may be there without
    /// its rights, or without leave to act as the other, and would stay so.
    fn grant_of(&self, owner: &str) -> String {
        let role = quote_ident(&self.role);
        match (self.major(), self.inherits) {
            (16.., _) => format!("grant {owner} to {role} with inherit true, set true"),
            (_, true) => format!("grant {owner} to {role}"),
            (_, false) => format!("grant {owner} to {role}; alter role {role} inherit"),
        }
    }

    /// Returns how to have all rights of the owner of the installation schema.
    pub fn with_rights_of_owner(&self) -> String {
        let owner = self.schema_owner.as_deref().unwrap_or_default();
        match self.superusers.contains(owner) {
            true => format!("connect as {owner}"),
            false => format!("connect as {owner}, or: {}", self.grant_of(owner)),
        }
    }

    /// Returns how to work as the owner of the installation schema.
    pub fn as_owner(&self) -> String {
        let owner = self.schema_owner.as_deref().unwrap_or_default();
        let anew = if self.in_owner { " with set true" } else { "" };
        match self.superusers.contains(owner) {
            true => format!("connect as {owner}"),
            false => format!(
                "connect as {owner}, or: grant {owner} to {}{anew}",
                quote_ident(&self.role)
            ),
        }
    }

    /// Returns what to say of a server that is newer than every one known, if it is.
    pub fn newer_than_known(&self) -> Option<String> {
        (self.major() > *VERSIONS.end()).then(|| {
            format!(
                "the server is PostgreSQL {}, and emaj is tested with {} to {}",
                self.release(),
                VERSIONS.start(),
                VERSIONS.end()
            )
        })
    }
}

/// A table or partitioned table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub oid: u32,
    pub partitioned: bool,
    pub persistence: Persistence,
    /// The partitioned tables above it, the topmost first.
    pub ancestors: Vec<u32>,
    /// Takes part in inheritance that is not partitioning.
    pub inherits: bool,
    pub owned: bool,
    pub owner: String,
    /// Which of the rights that a group needs the role has not, `trigger` for one: an owner may have taken them from themselves.
    pub lacks: Vec<String>,
    pub rls_forced: bool,
    pub replicated: bool,
    pub extension: Option<String>,
    pub rows: Option<f64>,
    /// The highest column number ever used.
    pub natts: i16,
    /// The columns there are, by number.
    pub columns: Vec<Column>,
    /// The column numbers of the primary key, in key order.
    pub key: Vec<i16>,
    pub triggers: Vec<Trigger>,
    /// Partitions below it, leaves and others.
    pub partitions: Vec<Partition>,
    pub sequences: Vec<u32>,
    /// The tables that its foreign keys refer to.
    pub refers_to: Vec<u32>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Persistence {
    #[default]
    Permanent,
    Unlogged,
}

/// A column as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Column {
    pub attnum: i16,
    pub name: String,
    /// The type as the log keeps it (a domain's base type), with the column's collation where that is not the type's.
    pub r#type: String,
    pub generated: Generated,
    /// What it is computed with: its entry in `pg_attrdef`, which another expression replaces (from 17 on; before, none can).
    pub expression: Option<u32>,
    /// `pg_attribute.attlen` and `attalign`.
    pub length: i16,
    pub align: u8,
    /// What the role may not use and would have to, to make a column of that type: `type app.mood` or `schema app`.
    pub log_lacks: Option<String>,
    /// The same for a view that selects the column itself (a domain, say).
    pub guard_lacks: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub enum Generated {
    #[default]
    No,
    Stored,
    Virtual,
}

/// A trigger that is not internal to PostgreSQL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trigger {
    pub oid: u32,
    /// Who wrote its row in the catalogue: another transaction, another version.
    pub version: String,
    pub name: String,
    /// `pg_trigger.tgenabled`: O, D, R or A.
    pub state: char,
    pub function: u32,
    /// Copied from a partitioned parent.
    pub cloned: bool,
}

/// A partition of a captured table.
#[derive(Debug, Clone, Default)]
pub struct Partition {
    pub oid: u32,
    pub name: QualifiedName,
    pub leaf: bool,
    pub owned: bool,
    pub owner: String,
    /// As a table's.
    pub lacks: Vec<String>,
    pub persistence: Persistence,
    /// Its columns have the order of its topmost parent.
    pub uniform: bool,
    /// Which transaction made it a partition where it is now: another one when it went and came again. (The `xmin` of its row in `pg_inherits`.)
    pub attached: String,
    pub triggers: Vec<Trigger>,
}

/// An event trigger that is not switched off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTrigger {
    /// Quoted, as is the owner.
    pub name: String,
    pub owner: String,
    /// As the context of an error names it: `public.forbid()`.
    pub function: String,
}

/// What a function takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signature {
    /// Types as PostgreSQL prints them.
    pub arguments: Vec<String>,
    /// How many at the end may be left out.
    pub defaults: usize,
}

#[derive(Debug, Clone, Default)]
pub struct Sequence {
    pub oid: u32,
    pub owned: bool,
    pub owner: String,
    pub extension: Option<String>,
}

impl Catalog {
    /// Returns what a name that is in no group stands for, where it is not the application's: to be said after the name.
    pub fn not_the_application(&self, name: &QualifiedName) -> Option<&'static str> {
        match name.schema.as_str() {
            schema if self.emaj_schemas.contains(schema) => Some("is emaj's own"),
            "pg_catalog" | "information_schema" | "pg_toast" => Some("is PostgreSQL's own"),
            "pg_temp" => Some("is temporary"),
            schema if schema.starts_with("pg_temp_") || schema.starts_with("pg_toast_temp_") => Some("is temporary"),
            _ => None,
        }
    }

    /// Finds one table by its oid; it looks at them all.
    pub fn table(&self, oid: u32) -> Option<(&QualifiedName, &Table)> {
        self.tables.iter().find(|(_, table)| table.oid == oid)
    }
}
