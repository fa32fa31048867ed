//! Reads the functions that a manifest wants to have called.

use std::collections::BTreeMap;

use postgres::GenericClient;

use super::Signature;
use crate::errors::Result;
use crate::names::QualifiedName;

/// Returns the signatures of those of `names` that are there; procedures, aggregates and window functions are not looked at.
///
/// # Errors
/// Whatever the server answers.
pub fn functions(
    client: &mut impl GenericClient,
    names: &[&QualifiedName],
) -> Result<BTreeMap<QualifiedName, Vec<Signature>>> {
    let mut found: BTreeMap<QualifiedName, Vec<Signature>> = BTreeMap::new();
    if names.is_empty() {
        return Ok(found);
    }
    let schemas: Vec<&str> = names.iter().map(|name| name.schema.as_str()).collect();
    let own: Vec<&str> = names.iter().map(|name| name.name.as_str()).collect();
    for row in &client.query(
        "select n.nspname::text, p.proname::text, p.pronargdefaults::int4,
                array(select pg_catalog.format_type(t, null) from unnest(p.proargtypes) with ordinality as a(t, place) order by place)
           from unnest($1::text[], $2::text[]) as w(nspname, proname)
           join pg_catalog.pg_namespace n on n.nspname = w.nspname
           join pg_catalog.pg_proc p on p.pronamespace = n.oid and p.proname = w.proname
          where p.prokind = 'f'
          group by n.nspname, p.oid
          order by p.oid",
        &[&schemas, &own],
    )? {
        let name = QualifiedName {
            schema: row.get(0),
            name: row.get(1),
        };
        let signature = Signature {
            defaults: usize::try_from(row.get::<_, i32>(2)).unwrap_or_default(),
            arguments: row.get(3),
        };
        found.entry(name).or_default().push(signature);
    }
    Ok(found)
}
