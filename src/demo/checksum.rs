//! Checksums of everything in the application's schemas, made without emaj: they are what its work is measured by.

use std::collections::BTreeMap;

use crate::errors::Result;
use crate::pg::{Session, classify};

/// Rows and checksum by name, of every table (partitions are part of theirs) and every sequence.
pub(super) type Checksums = BTreeMap<String, (i64, String)>;

/// One query a relation: a table's rows in the order of its primary key (of their text, where it has none), a sequence's state.
const QUERIES: &str = r#"
  select format('%I.%I', n.nspname, c.relname),
         case when c.relkind = 'S'
              then format('select 1::bigint, md5(row(t.last_value, t.is_called, s.*)::text)
                             from %I.%I as t, pg_catalog.pg_sequence as s where s.seqrelid = %s', n.nspname, c.relname, c.oid)
              else format('select count(*), md5(coalesce(string_agg(md5(t::text), '''' order by %s), '''')) from %I.%I as t',
                     coalesce((select string_agg(format('t.%I', a.attname), ', ' order by k.place)
                                 from pg_catalog.pg_index i
                                cross join lateral unnest(i.indkey::smallint[]) with ordinality as k(attnum, place)
                                 join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.attnum
                                where i.indrelid = c.oid and i.indisprimary), 't::text collate "C"'),
                     n.nspname, c.relname)
         end
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
   where n.nspname in ('shop', 'Odd Schema', 'hr')
     and c.relkind in ('r', 'p', 'S')
     and not c.relispartition"#;

/// Reads them.
///
/// # Errors
/// Whatever the server answers.
pub(super) fn read(session: &mut Session) -> Result<Checksums> {
    let mut sums = Checksums::new();
    for row in &session
        .query(QUERIES, &[])
        .map_err(|error| classify(error, "read checksums"))?
    {
        let sum = session
            .query_one(row.get::<_, &str>(1), &[])
            .map_err(|error| classify(error, "read checksums"))?;
        sums.insert(row.get(0), (sum.get(0), sum.get(1)));
    }
    Ok(sums)
}

/// Returns the names of the relations that are not the same in both.
pub(super) fn differing<'a>(one: &'a Checksums, other: &'a Checksums) -> Vec<&'a str> {
    let mut names: Vec<&str> = one.keys().chain(other.keys()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| one.get(*name) != other.get(*name));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_row_another_sum_and_a_missing_relation_are_differences() {
        let sums = |list: &[(&str, i64, &str)]| -> Checksums {
            let entry = |(name, rows, sum): &(&str, i64, &str)| ((*name).to_owned(), (*rows, (*sum).to_owned()));
            list.iter().map(entry).collect()
        };
        let one = sums(&[("a", 1, "x"), ("b", 2, "y"), ("c", 3, "z")]);
        assert!(differing(&one, &one).is_empty());
        let other = sums(&[("a", 1, "x"), ("b", 3, "y"), ("d", 3, "z")]);
        assert_eq!(differing(&one, &other), ["b", "c", "d"]);
        assert_eq!(
            differing(&one, &sums(&[("a", 1, "q"), ("b", 2, "y"), ("c", 3, "z")])),
            ["a"]
        );
    }
}
