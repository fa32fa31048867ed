//! What somebody else made in emaj's schema, or made to lean on what is there: an uninstall stops for it, and names it all.
//!
//! Read for an uninstall only: it is a walk through everything that depends on the schema. Called by `commands/uninstall`.

use postgres_protocol::escape::escape_identifier;

use super::apply::act_as_owner;
use crate::errors::Result;
use crate::journal::{Journal, registry};
use crate::manifest::Manifest;
use crate::pg::{Session, classify};
use crate::render::{RenderError, Renderer};

/// An object that is not emaj's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Its kind and its full name: `function emaj.mine(integer)`, `view public.changes`.
    pub what: String,
    /// The group whose log, capture function or guard it leans on, when it does.
    pub group: Option<String>,
}

/// Returns every object in the schema that emaj did not make, and every object elsewhere that would keep one of emaj's from being
/// dropped.
///
/// # Errors
/// Whatever the server answers.
pub fn foreign(
    session: &mut Session,
    manifest: &Manifest,
    journal: &Journal,
    renderer: &Renderer,
) -> Result<Vec<Foreign>> {
    let functions: Vec<u32> = own_functions(journal, renderer)?;
    let tables = registry::tables(renderer)?;
    let failed = |error| classify(error, "look for objects of others");
    let mut transaction = session.transaction().map_err(failed)?;
    act_as_owner(&mut transaction, &manifest.schema)?;
    let found = transaction
        .query(
            &QUERY.replace("{s}", &escape_identifier(&manifest.schema)),
            &[
                &manifest.schema,
                &tables,
                &functions,
                &renderer.triggers().all().as_slice(),
            ],
        )
        .map_err(failed)?;
    transaction.rollback().map_err(failed)?;
    Ok(found
        .iter()
        .map(|row| Foreign {
            what: row.get(0),
            group: row.get(1),
        })
        .collect())
}

fn own_functions(journal: &Journal, renderer: &Renderer) -> Result<Vec<u32>, RenderError> {
    let functions = renderer.functions()?;
    let there = functions.iter().filter_map(|own| journal.functions.get(&own.name));
    Ok(there.map(|function| function.oid).collect())
}

/// `inside` is all that lives in the schema, `captured` what capture made there. Objects that belong to another one (the sequence of an
/// identity, the type of a table) go with it, and those of an extension are told by the extension.
const QUERY: &str = "
  with ns as (
    select oid from pg_namespace where nspname = $1
  ),
  inside(classid, objid) as (
    select 'pg_class'::regclass::oid, c.oid from pg_class c join ns on ns.oid = c.relnamespace
    union
    select 'pg_proc'::regclass, p.oid from pg_proc p join ns on ns.oid = p.pronamespace
    union
    select 'pg_type'::regclass, t.oid from pg_type t join ns on ns.oid = t.typnamespace
    union
    select d.classid, d.objid from pg_depend d join ns on ns.oid = d.refobjid
     where d.refclassid = 'pg_namespace'::regclass and d.deptype = 'n'
  ),
  captured(classid, objid, by, of) as (
    select 'pg_class'::regclass::oid, c.oid, r.rel_group, r.rel_oid from pg_class c join ns on ns.oid = c.relnamespace
      join {s}.emaj_relation r on c.relkind = 'r' and c.relname = r.rel_log or c.relkind = 'v' and c.relname = r.rel_guard
    union all
    -- The parts of a log.
    select 'pg_class'::regclass, i.inhrelid, r.rel_group, r.rel_oid from pg_inherits i
      join pg_class l on l.oid = i.inhparent join ns on ns.oid = l.relnamespace
      join {s}.emaj_relation r on l.relname = r.rel_log
    union all
    select 'pg_proc'::regclass, p.oid, r.rel_group, r.rel_oid from pg_proc p join ns on ns.oid = p.pronamespace
      join {s}.emaj_relation r on p.proname = r.rel_log
     where p.pronargs = 0 and p.prorettype = 'trigger'::regtype
    union all
    -- What is done inside the transaction belongs to a binding, and to no group.
    select 'pg_proc'::regclass, p.oid, '', null from pg_proc p join ns on ns.oid = p.pronamespace
      join {s}.emaj_binding on p.proname = bind_action
     where p.pronargs = 0 and p.prorettype = 'trigger'::regtype
  ),
  strangers(classid, objid, part, by) as (
    select d.classid, d.objid, 0, null
      from pg_depend d
      join ns on ns.oid = d.refobjid
     where d.refclassid = 'pg_namespace'::regclass
       and d.deptype = 'n'
       and (d.classid, d.objid) not in (select classid, objid from captured)
       and not exists (select from pg_depend o where o.classid = d.classid and o.objid = d.objid
                          -- A partitioned table belongs to itself.
                          and (o.refclassid, o.refobjid) <> (d.classid, d.objid) and o.deptype in ('i', 'e'))
       and not (d.classid = 'pg_proc'::regclass and d.objid = any ($3::oid[]))
       and not (d.classid = 'pg_class'::regclass
                and exists (select from pg_class c where c.oid = d.objid and c.relkind = 'r' and c.relname = any ($2::text[])))
       and not (d.classid = 'pg_type'::regclass
                and exists (select from pg_type t where t.oid = d.objid and t.typtype = 'c' and t.typname = 'emaj_position'))
    union
    select case when r.oid is null then d.classid else 'pg_class'::regclass end, coalesce(r.ev_class, d.objid),
           case when r.oid is null then d.objsubid else 0 end, c.by
      from inside i
      join pg_depend d on d.refclassid = i.classid and d.refobjid = i.objid and d.deptype = 'n'
      left join captured c on c.classid = i.classid and c.objid = i.objid
      -- A view is held by its rule.
      left join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
      left join pg_constraint k on d.classid = 'pg_constraint'::regclass and k.oid = d.objid
      left join pg_attrdef a on d.classid = 'pg_attrdef'::regclass and a.oid = d.objid
      left join pg_policy p on d.classid = 'pg_policy'::regclass and p.oid = d.objid
      left join pg_trigger t on d.classid = 'pg_trigger'::regclass and t.oid = d.objid
     where (d.classid, d.objid) not in (select classid, objid from inside)
       -- What belongs to an object inside goes with it, or is told with it.
       and not exists (
         select from pg_class o join ns on ns.oid = o.relnamespace
          where o.oid in (r.ev_class, k.conrelid, a.adrelid, p.polrelid, t.tgrelid))
       -- (One that was renamed captures its table all the same.)
       and not (t.oid is not null and c.by is not null
                and (t.tgname = any ($4::text[]) or t.tgrelid = c.of or t.tgrelid in (select relid from pg_partition_tree(c.of))))
       and not (t.oid is not null and c.by = '')
    union
    -- What goes with a table without a word, and that nobody but somebody else has made.
    select d.classid, d.objid, 0, c.by
      from inside i
      join pg_depend d on d.refclassid = i.classid and d.refobjid = i.objid and d.deptype = 'a'
      left join captured c on c.classid = i.classid and c.objid = i.objid
      left join pg_index x on d.classid = 'pg_class'::regclass and x.indexrelid = d.objid
      left join pg_class xc on xc.oid = x.indexrelid
      left join pg_am m on m.oid = xc.relam
     where d.classid in ('pg_statistic_ext'::regclass, 'pg_publication_rel'::regclass)
        -- (A log has one index of emaj's, in each of its parts.)
        or c.classid is not null and m.amname <> 'brin'
  )
  select i.type || ' ' || replace(i.identity, 'pg_catalog.', ''), min(s.by)
    from strangers s
   cross join lateral pg_identify_object(s.classid, s.objid, s.part) as i
   group by 1
   order by 1";
