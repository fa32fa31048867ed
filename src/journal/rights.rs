//! Who has which rights in the installation's schema, and which manifest gave them.

use std::collections::{BTreeMap, BTreeSet};

use postgres::{GenericClient, Row};

use super::Journal;
use crate::errors::Result;
use crate::pg::Lossy;

/// The comment of a role that emaj made. Roles are the cluster's: it tells each database that uses the role.
pub const ROLE_MADE_BY_EMAJ: &str = "made by emaj; dropped when the last database that uses it is rid of emaj";

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
    /// As it is called now; one that is not there any more: as it was called.
    pub role: String,
    /// As it was called when the manifest named it.
    pub noted: String,
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
            "select role_manifest, coalesce(r.rolname, role_name)::text, role_right = 'admin', r.oid is not null, role_name
               from {s}.emaj_role left join pg_catalog.pg_roles r on r.oid = role_oid
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
            noted: row.get(4),
        })
        .collect())
}

/// A right that somebody other than the owner has on the schema or on something in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// `schema`, `table`, `view`, `sequence` or `function`.
    pub kind: String,
    pub name: String,
    /// As SQL names it: quoted, with its schema, a function with its parameters.
    pub label: String,
    /// None: everybody.
    pub role: Option<String>,
    /// In capitals, as PostgreSQL lists it: `DELETE`.
    pub privilege: String,
}

/// Reads every right on the schema, its functions, tables, views and sequences; the owner's are left out. Of several functions with one
/// name only emaj's counts.
pub(super) fn held(client: &mut impl GenericClient, s: &str, journal: &Journal) -> Result<Vec<Held>> {
    let rows = client.query(
        "select x.kind, x.name, x.oid, x.label, r.rolname::text, a.privilege_type
           from (select 'schema', nspname::text, oid, $1::text, nspacl, nspowner
                   from pg_catalog.pg_namespace where oid = $1::text::regnamespace
                 union all
                 select 'function', proname, oid, pg_catalog.format('%s.%I(%s)', $1::text, proname, pg_catalog.pg_get_function_identity_arguments(oid)),
                        coalesce(proacl, acldefault('f', proowner)), proowner
                   from pg_catalog.pg_proc where pronamespace = $1::text::regnamespace
                 union all
                 select case relkind when 'r' then 'table' when 'v' then 'view' else 'sequence' end, relname, oid,
                        pg_catalog.format('%s.%I', $1::text, relname), relacl, relowner
                   from pg_catalog.pg_class where relnamespace = $1::text::regnamespace and relkind in ('r', 'v', 'S')
                ) as x(kind, name, oid, label, acl, owner)
          cross join lateral pg_catalog.aclexplode(x.acl) as a
           left join pg_catalog.pg_roles r on r.oid = a.grantee
          where a.grantee <> x.owner",
        &[&s],
    )?;
    let ours = |row: &Row| {
        let function = journal.functions.get(row.get::<_, &str>(1));
        row.get::<_, &str>(0) != "function" || function.is_some_and(|function| function.oid == row.get::<_, u32>(2))
    };
    let held = |row: &Row| Held {
        kind: row.get(0),
        name: row.get(1),
        label: row.get(3),
        role: Lossy::get_opt(row, 4),
        privilege: row.get(5),
    };
    Ok(rows.iter().filter(|row| ours(row)).map(held).collect())
}

/// Gathers what each role may use, call and read; what everybody may is left out.
pub(super) fn grants(held: &[Held]) -> BTreeMap<String, Grants> {
    let mut all: BTreeMap<String, Grants> = BTreeMap::new();
    for right in held {
        let Some(role) = &right.role else { continue };
        let of_role = all.entry(role.clone()).or_default();
        match (right.kind.as_str(), right.privilege.as_str()) {
            ("schema", "USAGE") => of_role.usage = true,
            ("table", "SELECT") => drop(of_role.tables.insert(right.name.clone())),
            ("function", "EXECUTE") => drop(of_role.functions.insert(right.name.clone())),
            _ => {}
        }
    }
    all
}
