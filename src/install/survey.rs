//! A look at a database for those who have no manifest yet, or perhaps no rights: `emaj new --from-db` and `emaj doctor`.

use postgres::IsolationLevel;

use super::apply::act_as_owner;
use crate::catalog::{self, Catalog};
use crate::errors::Result;
use crate::journal::{self, Journal};
use crate::pg::{Session, read_again};

/// Reads the catalogue, and the registry in `schema` where the role may act for its owner.
///
/// # Errors
/// Whatever the server answers.
pub fn survey(session: &mut Session, schema: &str, roles: &[&str]) -> Result<(Catalog, Option<Journal>)> {
    read_again(|| one_look(session, schema, roles))
}

fn one_look(session: &mut Session, schema: &str, roles: &[&str]) -> Result<(Catalog, Option<Journal>)> {
    let mut transaction = session
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()?;
    let catalog = catalog::read(&mut transaction, schema, roles)?;
    let journal = if catalog.server.owns_schema && catalog.server.schema_extension.is_none() {
        act_as_owner(&mut transaction, schema)?;
        journal::read(&mut transaction, schema)?
    } else {
        None
    };
    transaction.rollback()?;
    Ok((catalog, journal))
}
