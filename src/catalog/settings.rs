//! Which settings of the server cannot be read by the role at work; asked by the one who plans, because capture would fail on them.

use std::collections::BTreeMap;

use postgres::Transaction;
use postgres::error::SqlState;

use crate::errors::Result;

/// Returns those of `names` that may not be read, each with what PostgreSQL says. One that is not there (yet) may be.
///
/// # Errors
/// Whatever else the server answers.
pub fn unreadable_settings(client: &mut Transaction<'_>, names: &[&str]) -> Result<BTreeMap<String, String>> {
    let mut unreadable = BTreeMap::new();
    for name in names {
        let mut savepoint = client.transaction()?;
        let asked = savepoint.query_one("select pg_catalog.current_setting($1, true)", &[name]);
        savepoint.rollback()?;
        match asked {
            Ok(_) => {}
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                let said = error
                    .as_db_error()
                    .map_or_else(String::new, |error| error.message().to_owned());
                unreadable.insert((*name).to_owned(), said);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(unreadable)
}
