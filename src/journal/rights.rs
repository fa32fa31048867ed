//! Who has which rights in the installation's schema, and which manifest gave them.

use std::collections::{BTreeMap, BTreeSet};

use postgres::GenericClient;

use super::Journal;
use crate::errors::Result;

/// What a manifest lets a role do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    Admin,
    Viewer,
}

impl Right {
    /// Returns the word of the manifest, which is that of the registry.
    pub fn name(self) -> &'static str {
        match self {
            Right::Admin => "admin",
            Right::Viewer => "viewer",
        }
    }
}

/// A role that an installed manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub manifest: String,
    pub role: String,
    pub right: Right,
    /// The role is still there.
    pub there: bool,
}

/// The rights of one role: to use the schema, to call functions, to read tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    pub usage: bool,
    pub functions: BTreeSet<String>,
    pub tables: BTreeSet<String>,
}

impl Grants {
    /// Returns what of these is not among `others`.
    pub fn without(&self, others: &Grants) -> Grants {
        Grants {
            usage: self.usage && !others.usage,
            functions: self.functions.difference(&others.functions).cloned().collect(),
            tables: self.tables.difference(&others.tables).cloned().collect(),
        }
    }

    /// Returns these without the rights on tables that are not in `tables`.
    pub fn within(mut self, tables: &BTreeSet<String>) -> Grants {
        self.tables.retain(|table| tables.contains(table));
        self
    }
}

/// Reads the roles that the manifests name.
pub(super) fn named(client: &mut impl GenericClient, s: &str) -> Result<Vec<Named>> {
    let rows = client.query(
        &format!(
            "select role_manifest, role_name, role_right = 'admin', r.oid is not null
               from {s}.emaj_role left join pg_catalog.pg_roles r on r.rolname = role_name
              order by 1, 2, 3"
        ),
        &[],
    )?;
    Ok(rows
        .iter()
        .map(|row| Named {
            manifest: row.get(0),
            role: row.get(1),
            right: if row.get(2) { Right::Admin } else { Right::Viewer },
            there: row.get(3),
        })
        .collect())
}

/// Reads the rights on the schema, its functions and its tables; the owner's are left out, those of everybody stand under `public`.
pub(super) fn grants(client: &mut impl GenericClient, s: &str, journal: &Journal) -> Result<BTreeMap<String, Grants>> {
    let mut all: BTreeMap<String, Grants> = BTreeMap::new();
    for row in &client.query(
        "select x.kind, x.name, x.oid,
                coalesce(r.rolname, 'public')::text
           from (select 'schema', nspname::text, oid, nspacl, nspowner, 'USAGE'
                   from pg_catalog.pg_namespace where oid = $1::text::regnamespace
                 union all
                 select 'function', proname, oid, coalesce(proacl, acldefault('f', proowner)), proowner, 'EXECUTE'
                   from pg_catalog.pg_proc where pronamespace = $1::text::regnamespace
                 union all
                 select 'table', relname, oid, relacl, relowner, 'SELECT'
                   from pg_catalog.pg_class where relnamespace = $1::text::regnamespace and relkind = 'r'
                ) as x(kind, name, oid, acl, owner, privilege)
          cross join lateral pg_catalog.aclexplode(x.acl) as a
           left join pg_catalog.pg_roles r on r.oid = a.grantee
          where a.privilege_type = x.privilege and a.grantee <> x.owner",
        &[&s],
    )? {
        let (kind, name): (&str, String) = (row.get(0), row.get(1));
        let of_role = all.entry(row.get(3)).or_default();
        match kind {
            "schema" => of_role.usage = true,
            "table" => drop(of_role.tables.insert(name)),
            _ => {
                if journal
                    .functions
                    .get(&name)
                    .is_some_and(|function| function.oid == row.get::<_, u32>(2))
                {
                    of_role.functions.insert(name);
                }
            }
        }
    }
    Ok(all)
}
