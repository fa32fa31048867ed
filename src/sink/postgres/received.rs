//! How far a sink has come, noted in the other database itself: in the transaction that writes the rows.
//!
//! One table, `emaj_received.position`, made when the sink is taken over first. It is a fence too: a worker that stood still while another one took the sink over
//! finds a row that it does not know, and writes nothing.

use postgres::Client;

use crate::names::quote_ident;
use crate::render::Renderer;
use crate::sink::{Fault, Offset};

/// Whose position it is.
#[derive(Debug, Clone)]
pub(super) struct Who {
    /// The installation.
    pub(super) source: String,
    pub(super) sink: String,
}

/// What there is of the table.
#[derive(Debug)]
pub(super) struct State {
    pub(super) is_there: bool,
    has_schema: bool,
    /// What somebody with more rights has to run first.
    pub(super) to_run: Option<String>,
}

/// Looks for the table, and at what this role may do there.
pub(super) fn state(client: &mut Client) -> Result<State, Fault> {
    let row = client.query_one(
        "select current_user::text, n.oid is not null, c.oid is not null,
                case when c.oid is not null
                       then has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')
                            and has_table_privilege(c.oid, 'insert') and has_table_privilege(c.oid, 'update')
                     when n.oid is not null
                       then has_schema_privilege(n.oid, 'usage') and has_schema_privilege(n.oid, 'create')
                     else has_database_privilege(current_database(), 'create')
                end
           from (select) as one
           left join pg_catalog.pg_namespace n on n.nspname = 'emaj_received'
           left join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = 'position'",
        &[],
    )?;
    let (role, has_schema, is_there, may): (String, bool, bool, bool) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    let role = quote_ident(&role);
    let to_run = match (has_schema, is_there) {
        _ if may => None,
        (false, _) => Some(format!("create schema emaj_received authorization {role}")),
        (true, false) => Some(format!("grant usage, create on schema emaj_received to {role}")),
        (true, true) => Some(format!(
            "grant usage on schema emaj_received to {role}; grant select, insert, update on emaj_received.position to {role}"
        )),
    };
    Ok(State {
        is_there,
        has_schema,
        to_run,
    })
}

/// Makes the table when it is missing.
pub(super) fn ensure(client: &mut Client, renderer: &Renderer) -> Result<(), Fault> {
    let found = usable(client)?;
    if found.is_there {
        return Ok(());
    }
    let sql = renderer
        .render("received/create", serde_json::json!({ "has_schema": found.has_schema }))
        .map_err(Fault::down)?;
    match client.batch_execute(&sql) {
        // Another sink that leads there may have made it at the same moment.
        Err(error) if !usable(client)?.is_there => Err(error.into()),
        _ => Ok(()),
    }
}

/// Returns what there is, unless this role may not use it.
fn usable(client: &mut Client) -> Result<State, Fault> {
    let found = state(client)?;
    match &found.to_run {
        None => Ok(found),
        Some(sql) => Err(Fault::down(format!(
            "the position cannot be kept in `emaj_received.position` of the other database: let its owner run `{sql}`"
        ))),
    }
}

/// Which transaction wrote the position last: another worker that takes the sink over, or writes to it, changes that.
pub(super) type Version = String;

/// Takes the position over: who knew it before can write no more. Returns how far the sink has come. (An empty offset is there before the first row is: there has
/// to be something to be held, and to be compared.)
pub(super) fn take(client: &mut Client, who: &Who) -> Result<(Option<Offset>, Version), Fault> {
    let row = client.query_one(
        "insert into emaj_received.position as p (source, sink, received_offset) values ($1, $2, '')
             on conflict (source, sink) do update set received_at = p.received_at
         returning received_offset, xmin::text",
        &[&who.source, &who.sink],
    )?;
    let offset: String = row.get(0);
    Ok(((!offset.is_empty()).then_some(Offset(offset)), row.get(1)))
}

/// Keeps others who write for this sink waiting until the transaction ends.
///
/// # Errors
/// The position is not the one that is known.
pub(super) fn lock(client: &mut Client, who: &Who, known: Option<&Version>) -> Result<(), Fault> {
    let row = client.query_opt(
        "select xmin::text from emaj_received.position where source = $1 and sink = $2 for update",
        &[&who.source, &who.sink],
    )?;
    let found: Option<Version> = row.map(|row| row.get(0));
    match known {
        Some(known) if Some(known) != found.as_ref() => Err(Fault::down(
            "another worker has taken the sink over, or written to it: nothing is written before that is looked at",
        )),
        _ => Ok(()),
    }
}

/// Notes how far it has come; it never goes back. (Compared as UTF-8, as everywhere else.)
pub(super) fn write(client: &mut Client, who: &Who, offset: &Offset) -> Result<Version, Fault> {
    let row = client.query_one(
        "with written as (
           insert into emaj_received.position as p (source, sink, received_offset) values ($1, $2, $3)
               on conflict (source, sink)
               do update set received_offset = excluded.received_offset, received_at = excluded.received_at
               where convert_to(p.received_offset, 'UTF8') < convert_to(excluded.received_offset, 'UTF8')
           returning xmin::text as version)
         select coalesce((select version from written),
                         (select xmin::text from emaj_received.position where source = $1 and sink = $2))",
        &[&who.source, &who.sink, &offset.0],
    )?;
    Ok(row.get(0))
}
