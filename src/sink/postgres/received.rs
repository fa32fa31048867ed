//! How far a sink has come, noted in the other database itself: in the transaction that writes the rows.
//!
//! One table, `emaj_received.position`, made when the first batch comes.

use postgres::Client;

use crate::names::quote_ident;
use crate::render::Renderer;
use crate::sink::fault::of_postgres;
use crate::sink::{Fault, Offset};

/// Whose position it is.
#[derive(Debug, Clone)]
pub(super) struct Who {
    /// The installation.
    pub(super) source: String,
    pub(super) sink: String,
}

/// Tells whether the table is there.
pub(super) fn is_there(client: &mut Client) -> Result<bool, Fault> {
    client
        .query_one(
            "select pg_catalog.to_regclass('emaj_received.position') is not null",
            &[],
        )
        .map(|row| row.get(0))
        .map_err(|error| of_postgres(&error))
}

/// Makes the table.
pub(super) fn create(client: &mut Client, renderer: &Renderer) -> Result<(), Fault> {
    let sql = renderer.render("received/create", ()).map_err(Fault::down)?;
    let Err(error) = client.batch_execute(&sql) else {
        return Ok(());
    };
    // Another session may have been quicker.
    if is_there(client)? {
        return Ok(());
    }
    let fault = of_postgres(&error);
    let role: String = client
        .query_one("select current_user::text", &[])
        .map(|row| row.get(0))
        .map_err(|error| of_postgres(&error))?;
    Err(Fault::down(format!(
        "the other database has no `emaj_received.position`, and `{role}` may not make it: {fault}; let its owner run \
         `create schema emaj_received authorization {}`",
        quote_ident(&role)
    )))
}

/// Returns how far it has come.
pub(super) fn read(client: &mut Client, who: &Who) -> Result<Option<Offset>, Fault> {
    let row = client
        .query_opt(
            "select received_offset from emaj_received.position where source = $1 and sink = $2",
            &[&who.source, &who.sink],
        )
        .map_err(|error| of_postgres(&error))?;
    Ok(row.map(|row| Offset(row.get(0))))
}

/// Keeps others who write for this sink waiting until the transaction ends.
pub(super) fn lock(client: &mut Client, who: &Who) -> Result<(), Fault> {
    client
        .execute(
            "select from emaj_received.position where source = $1 and sink = $2 for update",
            &[&who.source, &who.sink],
        )
        .map_err(|error| of_postgres(&error))?;
    Ok(())
}

/// Notes how far it has come.
pub(super) fn write(client: &mut Client, who: &Who, offset: &Offset) -> Result<(), Fault> {
    client
        .execute(
            "insert into emaj_received.position (source, sink, received_offset) values ($1, $2, $3)
                 on conflict (source, sink)
                 do update set received_offset = excluded.received_offset, received_at = excluded.received_at",
            &[&who.source, &who.sink, &offset.0],
        )
        .map_err(|error| of_postgres(&error))?;
    Ok(())
}
