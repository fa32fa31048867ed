//! Whether an installation is where it was made, or was restored, copied or upgraded into this database.
//!
//! Decided in the database (`registry/origin`); its sentences are shown as they come from there.

use postgres::GenericClient;
use postgres_protocol::escape::escape_identifier;

use crate::errors::{Error, Kind, Result};

/// How an installation came to a database that is not the one it was made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// By pg_upgrade: transaction numbers go on.
    Upgraded,
    /// By `create database … template`: transaction numbers go on, and the other database delivers to the sinks.
    Copied,
    /// By a dump: transaction numbers mean nothing here.
    Restored,
}

impl Origin {
    /// Returns the word for it in SQL.
    pub fn word(self) -> &'static str {
        match self {
            Origin::Upgraded => "upgraded",
            Origin::Copied => "copied",
            Origin::Restored => "restored",
        }
    }
}

/// An installation that is not at home, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Astray {
    pub origin: Origin,
    pub problem: String,
    pub repair: String,
}

impl From<Astray> for Error {
    fn from(astray: Astray) -> Self {
        Error::message(Kind::Refused, astray.problem).hint(astray.repair)
    }
}

/// Returns how the installation got lost; none when it is at home.
///
/// # Errors
/// Whatever the server answers.
pub fn astray(client: &mut impl GenericClient, schema: &str) -> Result<Option<Astray>> {
    let row = client.query_one(
        &format!(
            "select origin, coalesce(origin_problem, ''), coalesce(origin_repair, '') from {}.emaj_origin()",
            escape_identifier(schema)
        ),
        &[],
    )?;
    let origin = match row.get(0) {
        "home" => return Ok(None),
        "upgraded" => Origin::Upgraded,
        "copied" => Origin::Copied,
        _ => Origin::Restored,
    };
    Ok(Some(Astray {
        origin,
        problem: row.get(1),
        repair: row.get(2),
    }))
}

/// Refuses an installation that is not at home.
///
/// # Errors
/// [`Kind::Refused`] with the repair; whatever the server answers.
pub fn check_origin(client: &mut impl GenericClient, schema: &str) -> Result<()> {
    astray(client, schema)?.map_or(Ok(()), |astray| Err(astray.into()))
}

/// Returns a name that no schema has yet, for the old installation: `emaj_old`, `emaj_old2`, …
///
/// # Errors
/// Whatever the server answers.
pub fn free_schema(client: &mut impl GenericClient, schema: &str) -> Result<String> {
    let row = client.query_one(
        "select name
           from (select 1 as place, left($1::text, 50) || '_old' as name
                  union all
                 select i, left($1::text, 50) || '_old' || i from pg_catalog.generate_series(2, 1000) as i) as names
          where not exists (select from pg_catalog.pg_namespace where nspname = name)
          order by place limit 1",
        &[&schema],
    )?;
    Ok(row.get(0))
}
