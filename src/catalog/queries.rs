//! Which queries the server would not answer, whatever their parameters are; asked by the one who plans, because a sink would wait for them.

use std::collections::BTreeMap;

use postgres::Transaction;
use postgres::error::SqlState;

use crate::errors::Result;
use crate::pg::PATH_OF_ROLE;

/// Returns those of `queries`, statements with parameters `$1` …, that the server cannot make sense of, each with what it says. None is
/// carried out. Names are looked up by the path of the role, as the worker does it.
///
/// # Errors
/// The connection is lost, or what it does is ended.
pub fn refused_queries(client: &mut Transaction<'_>, queries: &[String]) -> Result<BTreeMap<String, String>> {
    let mut refused = BTreeMap::new();
    // (Milliseconds. Whoever alters a table that queries read is waited for once, and nothing is known of these.)
    let mut patience = 1000;
    for query in queries {
        let mut savepoint = client.transaction()?;
        savepoint.batch_execute(&format!("set local lock_timeout = {patience}; {PATH_OF_ROLE}"))?;
        let prepared = savepoint.prepare(query).map(drop);
        savepoint.rollback()?;
        match prepared.map_err(|error| (error.code().cloned(), error)) {
            Ok(()) => {}
            // (The worker takes such a parameter for a text.)
            Err((Some(SqlState::INDETERMINATE_DATATYPE), _)) => {}
            Err((Some(SqlState::LOCK_NOT_AVAILABLE), _)) => patience = 1,
            Err((_, error)) => match error.as_db_error() {
                // (57: somebody ends the session, or what it does.)
                Some(server) if !server.code().code().starts_with("57") => {
                    refused.insert(query.clone(), server.message().to_owned());
                }
                _ => return Err(error.into()),
            },
        }
    }
    Ok(refused)
}
