//! What the connected role and the server lack for emaj to work here, with the SQL that gives it. Pure; `emaj doctor` calls it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Finding, PlanError, room};
use crate::catalog::{Catalog, ReadOnly, Server, Table};
use crate::errors::Kind;
use crate::journal::{self, Journal};
use crate::manifest::Manifest;
use crate::names::{QualifiedName, quote_ident};
use crate::render::Renderer;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    /// emaj works, but not as well as it could.
    Warning,
    /// emaj cannot do its work.
    Missing,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Missing => "missing",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub level: Level,
    pub what: String,
    pub found: String,
    /// What to do: the statements, ready to be run by somebody who may, or words.
    pub todo: String,
}

/// Looks at everything that the core needs. Without a manifest, nothing is said about single tables.
pub fn examine(manifest: Option<&Manifest>, catalog: &Catalog, journal: Option<&Journal>, schema: &str) -> Vec<Check> {
    let server = &catalog.server;
    let manifest = manifest.map(|manifest| super::delivery::complete(manifest, catalog, journal));
    let manifest = manifest.as_deref();
    let chosen = manifest.map(|manifest| chosen(manifest, catalog));
    let mut checks = vec![version(server), installation(server, journal, schema)];
    checks.extend(server.lacks.iter().map(|right| lacking(server, right)));
    checks.extend(origin(journal));
    checks.extend(broken_rollbacks(journal));
    if let Some(manifest) = manifest {
        checks.extend(roles(manifest, catalog));
    }
    match &chosen {
        Some(tables) => {
            checks.push(ownership(server, tables));
            checks.push(trust(server, tables));
            checks.push(row_security(server, tables));
        }
        None => checks.push(without_manifest(catalog)),
    }
    checks.extend(read_only(server));
    checks.push(replica(server));
    checks.push(prepared(server));
    let tables = match &chosen {
        Some(tables) => tables.iter().map(|(_, table)| 1 + table.partitions.len()).sum(),
        None => catalog.tables.len(),
    };
    checks.push(locks(server, tables));
    checks
}

pub(super) fn check(level: Level, what: &str, found: impl Into<String>, todo: impl Into<String>) -> Check {
    Check {
        level,
        what: what.to_owned(),
        found: found.into(),
        todo: todo.into(),
    }
}

fn chosen<'a>(manifest: &Manifest, catalog: &'a Catalog) -> Vec<(&'a QualifiedName, &'a Table)> {
    let names: BTreeSet<&QualifiedName> = manifest
        .groups
        .iter()
        .flat_map(|group| group.select(catalog.tables.keys()).chosen)
        .collect();
    names
        .into_iter()
        .map(|name| (name, &catalog.tables[name]))
        .filter(|(_, table)| table.extension.is_none())
        .collect()
}

fn version(server: &Server) -> Check {
    // (An older one than emaj works with was refused when the catalogue was read.)
    let found = format!("PostgreSQL {}", server.release());
    match server.newer_than_known() {
        None => check(Level::Ok, "server", found, ""),
        Some(problem) => check(Level::Warning, "server", found, problem),
    }
}

fn read_only(server: &Server) -> Option<Check> {
    let (found, todo) = match server.read_only? {
        ReadOnly::Standby => ("the server is a standby", "connect to the primary"),
        ReadOnly::ByDefault => (
            "default_transaction_read_only is on: nothing can be marked or rolled back",
            "switch it off where it is set: for the server, the database, the role or the connection",
        ),
    };
    Some(check(Level::Missing, "writing", found, todo))
}

fn installation(server: &Server, journal: Option<&Journal>, schema: &str) -> Check {
    let (role, database, name) = (
        quote_ident(&server.role),
        quote_ident(&server.database),
        quote_ident(schema),
    );
    let what = format!("schema {name}");
    if let Some(extension) = &server.schema_extension {
        return check(
            Level::Missing,
            &what,
            format!("belongs to the extension `{extension}`"),
            "choose another schema in the manifest: `schema: emaj2`",
        );
    }
    match (&server.schema_owner, journal) {
        (None, _) if server.may_create_schema => check(Level::Ok, &what, format!("{role} may create it"), ""),
        (None, _) => check(
            Level::Missing,
            &what,
            format!("{role} may not create it"),
            format!("grant create on database {database} to {role};"),
        ),
        (Some(owner), _) if !server.owns_schema => check(
            Level::Missing,
            &what,
            format!("belongs to role {owner}"),
            server.as_owner(),
        ),
        (Some(_), None) => check(
            Level::Missing,
            &what,
            "is there and holds no installation of emaj",
            "choose another schema in the manifest, or drop this one when it is empty",
        ),
        (Some(_), Some(journal)) if journal.hollow => {
            let (said, repair) = journal::hollow(schema);
            check(Level::Missing, &what, said, repair)
        }
        (Some(owner), Some(journal)) => check(
            Level::Ok,
            &what,
            format!("emaj {} is installed, owner {owner}", journal.version),
            "",
        ),
    }
}

fn lacking(server: &Server, right: &str) -> Check {
    let role = quote_ident(&server.role);
    let found = format!("{role} lacks one that an installation needs: {right}");
    check(Level::Missing, "rights", found, format!("grant {right} to {role};"))
}

fn origin(journal: Option<&Journal>) -> Option<Check> {
    // (Nothing was written at all where it is empty.)
    let journal = journal.filter(|journal| !journal.hollow)?;
    Some(match &journal.astray {
        None => check(Level::Ok, "origin", "marks and logs were written here", ""),
        Some(astray) => check(Level::Missing, "origin", &astray.problem, &astray.repair),
    })
}

fn broken_rollbacks(journal: Option<&Journal>) -> impl Iterator<Item = Check> + '_ {
    let unfinished = journal.into_iter().flat_map(|journal| &journal.rollbacks);
    unfinished.filter_map(|rollback| {
        let (sentence, todo) = rollback.trouble()?;
        let level = if rollback.standby {
            Level::Warning
        } else {
            Level::Missing
        };
        Some(check(level, "rollback", sentence, todo))
    })
}

fn roles<'a>(manifest: &'a Manifest, catalog: &'a Catalog) -> impl Iterator<Item = Check> + 'a {
    manifest.roles.names().map(|role| {
        let (what, own) = (format!("role {}", quote_ident(role)), quote_ident(&catalog.server.role));
        if catalog.roles.iter().any(|there| there == role) {
            check(Level::Ok, &what, "is there", "")
        } else if catalog.server.may_create_role {
            check(Level::Ok, &what, format!("{own} may create it"), "")
        } else {
            // (An installation does without, and says so.)
            check(
                Level::Warning,
                &what,
                format!("is not there, and {own} may not create it: nobody but the owner can use emaj"),
                format!("create role {} nologin;", quote_ident(role)),
            )
        }
    })
}

fn ownership(server: &Server, tables: &[(&QualifiedName, &Table)]) -> Check {
    let mut foreign: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, table) in tables.iter().filter(|(_, table)| !table.owned) {
        foreign.entry(&table.owner).or_default().push(name.to_string());
    }
    let role = quote_ident(&server.role);
    if foreign.is_empty() {
        let found = format!("{role} may act for the owner of all {} in the manifest", tables.len());
        return check(Level::Ok, "tables", found, "");
    }
    let list = foreign
        .iter()
        .map(|(owner, names)| format!("{} ({owner})", names.join(", ")));
    let all = foreign
        .iter()
        .flat_map(|(owner, names)| names.iter().map(move |name| (owner, name)));
    // (One grant does for all tables of an owner.)
    let todo: BTreeSet<String> = all
        .map(|(owner, name)| format!("{};", server.to_act_for(owner, &format!("table {name}"))))
        .collect();
    check(
        Level::Missing,
        "tables",
        format!(
            "{role} may not act for the owner of {}",
            list.collect::<Vec<_>>().join(", ")
        ),
        todo.into_iter().collect::<Vec<_>>().join(" "),
    )
}

fn trust(server: &Server, tables: &[(&QualifiedName, &Table)]) -> Check {
    let what = "rights of emaj's owner";
    match super::trust::excess(server, tables.iter().map(|(_, table)| *table)) {
        None => check(
            Level::Ok,
            what,
            format!("{} may do no more than the owners of the tables", server.definer),
            "",
        ),
        Some(found) => check(
            Level::Warning,
            what,
            found,
            "install emaj as the owner of the tables, or as a role that may act for them and for nobody else",
        ),
    }
}

fn row_security(server: &Server, tables: &[(&QualifiedName, &Table)]) -> Check {
    let forced = tables.iter().filter(|(_, table)| table.rls_forced);
    let names: Vec<String> = forced.map(|(name, _)| name.to_string()).collect();
    let role = quote_ident(&server.role);
    match names.as_slice() {
        [] => check(Level::Ok, "row level security", "no table forces it on its owner", ""),
        names if server.bypasses_rls => check(
            Level::Ok,
            "row level security",
            format!("{role} passes by it: {}", names.join(", ")),
            "",
        ),
        names => check(
            Level::Missing,
            "row level security",
            format!(
                "is forced on the owner: {}; a rollback would not see every row",
                names.join(", ")
            ),
            format!("alter role {role} bypassrls;"),
        ),
    }
}

fn without_manifest(catalog: &Catalog) -> Check {
    let owned = catalog.tables.values().filter(|table| table.owned).count();
    check(
        Level::Ok,
        "tables",
        format!(
            "{} may act for the owner of {owned} of {}; name a manifest to have its tables checked",
            quote_ident(&catalog.server.role),
            catalog.tables.len()
        ),
        "",
    )
}

fn replica(server: &Server) -> Check {
    let what = "session_replication_role";
    let role = quote_ident(&server.role);
    if server.may_be_replica {
        return check(Level::Ok, what, format!("{role} may set it"), "");
    }
    check(
        Level::Warning,
        what,
        format!(
            "{role} may not set it: a rollback defers foreign keys or makes them anew, which takes longer and stronger locks"
        ),
        if server.version >= 150_000 {
            format!("grant set on parameter session_replication_role to {role};")
        } else {
            "before PostgreSQL 15 only a superuser may".to_owned()
        },
    )
}

fn prepared(server: &Server) -> Check {
    let what = "max_prepared_transactions";
    match server.max_prepared_transactions {
        0 => check(
            Level::Warning,
            what,
            "0: a rollback runs in one session, never in several",
            "alter system set max_prepared_transactions = 64; -- then restart the server",
        ),
        number => check(Level::Ok, what, number.to_string(), ""),
    }
}

fn locks(server: &Server, tables: usize) -> Check {
    let (capacity, needed) = (room::capacity(server), room::to_install(tables));
    let found = format!(
        "{}: room for {capacity} locks; an installation of {tables} tables and partitions takes about {needed}",
        server.max_locks_per_transaction
    );
    // The other half is for everybody else.
    if needed <= capacity / 2 {
        return check(Level::Ok, "max_locks_per_transaction", found, "");
    }
    check(
        Level::Warning,
        "max_locks_per_transaction",
        found,
        format!(
            "alter system set max_locks_per_transaction = {}; -- then restart the server",
            room::enough(server, needed)
        ),
    )
}

/// Returns what is no longer as it was installed. While that is so of a group, its changes may go by unlogged, and it takes no marks.
pub fn drifted(findings: Vec<Finding>) -> impl Iterator<Item = Check> {
    findings.into_iter().map(|finding| {
        let level = match finding.group {
            Some(_) => Level::Missing,
            None => Level::Warning,
        };
        let what = finding.relation.as_deref().unwrap_or("installation");
        check(level, what, finding.problem, finding.repair)
    })
}

/// Returns what only a plan finds, once nothing else is missing: tables that are not there or have no key, sequences of others, groups of other manifests.
pub fn planning(manifest: &Manifest, catalog: &Catalog, journal: Option<&Journal>) -> Vec<Check> {
    let planned = super::plan(manifest, catalog, journal, &Renderer::new(&manifest.schema));
    match planned {
        Ok(plan) if plan.is_empty() => vec![check(Level::Ok, "plan", "the database is as the manifest says", "")],
        Ok(plan) => vec![check(
            Level::Ok,
            "plan",
            format!("`emaj install` would take {} steps", plan.steps.len()),
            "",
        )],
        Err(PlanError::Problems(problems)) => problems
            .0
            .into_iter()
            .map(|problem| {
                let what = if problem.kind == Kind::Manifest {
                    "manifest"
                } else {
                    "plan"
                };
                check(
                    Level::Missing,
                    what,
                    problem.what.message,
                    problem.what.next.unwrap_or_default(),
                )
            })
            .collect(),
        Err(error @ (PlanError::InTheWay { .. } | PlanError::Render(_))) => {
            vec![check(Level::Missing, "plan", error.to_string(), "")]
        }
    }
}
