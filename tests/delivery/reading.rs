//! How rows and logs are read: tables with keys of every type, with heirs, and as they were before they were changed.

use super::{column, drain, install, prepare};
use crate::support::rows::sink_into;
use crate::support::{Database, database};

/// A manifest that keeps a copy of `item` in another database.
fn items_to(copy: &Database) -> String {
    format!(
        "version: 1\nroles: {{ admin: null, viewer: null }}\ngroups: {{ shop: {{ tables: [public.item] }} }}\nsinks: {{ copy: {} }}\n\
         bindings: {{ items: {{ table: public.item, to: copy, row: {{}} }} }}\n",
        sink_into(copy, "postgres")
    )
}

#[test]
fn rows_are_read_in_the_order_of_their_own_type() {
    let mixed = "((case when n % 2 = 0 then 'a' else 'B' end) || n)::citext";
    let path = "('a.b' || n)::ltree";
    for (extension, columns, key, values) in [
        ("citext", "id citext", "id", mixed.to_owned()),
        ("ltree", "id ltree", "id", path.to_owned()),
        ("citext", "at int, id citext", "at, id", format!("n % 2, {mixed}")),
        ("ltree", "id ltree, at int", "id, at", format!("{path}, n")),
    ] {
        let (db, copy) = (database(), database());
        for place in [&db, &copy] {
            place.psql(&format!(
                "create extension {extension}; create table item ({columns}, n int, primary key ({key}))"
            ));
        }
        let values = format!("insert into item select {values}, n from generate_series(1, 2600) n");
        db.psql(&values);
        copy.psql(&format!("{values} where n <= 1300"));
        install(&db, &items_to(&copy));
        let rows = |place: &Database| column(place, &format!("select concat_ws(' ', {key}, n) from item order by n"));
        prepare(&db, &["init", "emaj.yaml", "--prune"]).run().ok();
        assert!(rows(&copy) == rows(&db), "{key}");
        prepare(&db, &["mark", "set", "shop", "monday"]).run().ok();
        db.psql("update item set n = n + 10000 where n % 100 = 0");
        drain(&db).run().ok();
        copy.psql("update item set n = 0 where n > 10000");
        prepare(&db, &["replay", "copy", "--from", "monday", "--yes"])
            .run()
            .ok();
        let run = drain(&db).run().ok();
        assert!(!run.stderr.contains("as they were"), "{run}");
        assert!(rows(&copy) == rows(&db), "{key}");
    }
}
