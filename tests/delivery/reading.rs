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

#[test]
fn rows_of_tables_that_inherit_are_not_those_of_the_table() {
    let (db, copy) = (database(), database());
    let item = "create table item (id int primary key, n int)";
    db.psql(&format!(
        "{item}; create table special (primary key (id)) inherits (item);
         insert into item values (1, 1), (2, 2); insert into special values (1, 10), (7, 70)"
    ));
    copy.psql(item);
    install(&db, &items_to(&copy));
    let rows = "select concat_ws(' ', id, n) from only item order by id";
    prepare(&db, &["init", "emaj.yaml", "--prune"]).run().ok();
    assert_eq!(column(&copy, rows), ["1 1", "2 2"]);
    prepare(&db, &["mark", "set", "shop", "monday"]).run().ok();
    db.psql("update item set n = n + 1; delete from only item where id = 2; insert into special values (2, 20)");
    drain(&db).run().ok();
    assert_eq!(column(&copy, rows), ["1 2"]);
    prepare(&db, &["replay", "copy", "--from", "monday", "--yes"])
        .run()
        .ok();
    drain(&db).run().ok();
    assert_eq!(column(&copy, rows), ["1 2"], "each row as it is now");
}
