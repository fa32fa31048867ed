//! Whether a pooler stands between this program and the server, and whether it hands the server's connections around.
//!
//! Behind one that does so after each transaction (PgBouncer's `pool_mode = transaction`), settings, locks and prepared statements of a
//! session stay where the next transaction of somebody else comes by. Such a connection is refused before anything is set. A
//! server that is spoken to directly knows the [`MARK`] that came with the login; a pooler refuses it or leaves it out. Only then is
//! it found out, by a second connection, what sort of pooler it is. Called by `session`; `attempt` sends the mark.

use postgres::{Client, SimpleQueryMessage};

use crate::errors::{Error, Kind};

/// What is sent with the login, beside the options that were given.
pub(super) const MARK: &str = "-c emaj.direct=on";

/// The states with which poolers refuse options: a protocol violation (PgBouncer), a feature that is not supported (RDS Proxy).
pub(super) const NO_OPTIONS: [&str; 2] = ["08P01", "0A000"];

/// Names that are not qualified are PostgreSQL's own. What is committed is kept, whatever the role or the database has set: what comes next is
/// built on it. (A commit that waits for the disk takes all earlier ones with it, also those that did not wait.) A session may wait for a
/// person's answer, or for others at work: being idle does not end it.
const SETTINGS: &str = "select pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false),
       pg_catalog.set_config('quote_all_identifiers', 'off', false),
       case when pg_catalog.current_setting('idle_session_timeout', true) is not null
            then pg_catalog.set_config('idle_session_timeout', '0', false) end,
       pg_catalog.set_config('synchronous_commit',
         case when pg_catalog.current_setting('synchronous_commit') operator(pg_catalog.=) 'off' then 'local'
              else pg_catalog.current_setting('synchronous_commit') end, false)";

/// How often the two connections are compared: others who use the pool may come between.
const ROUNDS: u32 = 3;

/// Settles a connection if it leads to the server directly, and says whether it does. Otherwise nothing is set.
pub(super) fn settle_if_direct(client: &mut Client) -> Result<bool, postgres::Error> {
    let answers = client.simple_query(&format!(
        "{SETTINGS} where pg_catalog.current_setting('emaj.direct', true) operator(pg_catalog.=) 'on'"
    ))?;
    Ok(answers
        .iter()
        .any(|answer| matches!(answer, SimpleQueryMessage::Row(_))))
}

/// Settles a connection that stays with one server process.
pub(super) fn settle(client: &mut Client) -> Result<(), postgres::Error> {
    client.batch_execute(SETTINGS)
}

/// Returns whether two open connections through a pooler are served by the same process, or one of them by several. Each is asked
/// twice in turn, for pools that take the process used last and for those that take the next.
pub(super) fn is_shared(first: &mut Client, second: &mut Client) -> Result<bool, postgres::Error> {
    let one = process(first)?;
    for _ in 0..ROUNDS {
        if process(first)? != one || process(second)? == one {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the number of the server's process, as text.
fn process(client: &mut Client) -> Result<Option<String>, postgres::Error> {
    let answers = client.simple_query("select pg_catalog.pg_backend_pid()")?;
    Ok(answers.iter().find_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

/// Returns the refusal of a connection to `to`.
pub(super) fn shared(to: &str) -> Error {
    Error::message(
        Kind::Refused,
        format!(
            "`{to}` is a pooler that lends a connection of the server for one transaction only: what emaj sets and locks would stay on it, for \
             the application to find"
        ),
    )
    .hint("connect to the server itself, or through a pool in session mode (PgBouncer: `pool_mode = session`); nothing was changed")
}
