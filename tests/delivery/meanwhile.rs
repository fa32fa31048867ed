//! What waits for a sink while other things happen: the worker is killed, the row goes, the sink leads elsewhere, the binding is taken out.

use super::set_back::copied;
use super::{column, drain, install, items_to_hook, prepare, set_aside};
use crate::support::receiver::{Receiver, status};
use crate::support::rows::sink_into;
use crate::support::{Database, database, until};

const ROWS: &str = "select concat_ws(' ', id, n) from item order by id";

/// Has everything tried again.
fn again(db: &Database) {
    prepare(db, &["failures", "retry", "--all"]).run().ok();
    drain(db).run().ok();
    assert_eq!(set_aside(db), [] as [&str; 0]);
}

#[test]
fn what_waits_behind_a_row_is_on_record_before_the_place_goes_beyond_it() {
    let (db, there) = (database(), database());
    db.psql("create table parent (id int primary key); create table child (id int primary key, parent int, txt text)");
    there.psql("create table parent (id int primary key); create table child (id int primary key, parent int references parent, txt text)");
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ copy: {} }}\nbindings:\n  \
             children: {{ table: public.child, to: copy, row: {{}} }}\n  parents: {{ table: public.parent, to: copy, row: {{}} }}\n",
            sink_into(&there, "postgres")
        ),
    );
    db.psql("insert into child values (1, 10, 'a')");
    drain(&db).run().code(3);
    // One change waits behind that, and what it waits for comes in the same chunk.
    db.psql("update child set txt = 'b'");
    db.psql("insert into parent values (10)");
    assert_eq!(drain(&db).env("EMAJ_FAIL_AT", "chunk.delivered").run().status, None);
    drain(&db).run().ok();
    assert_eq!(column(&there, "select txt from child"), ["b"]);
}

#[test]
fn what_cannot_be_told_goes_on_record_behind_what_was_told_of_its_row() {
    for point in ["batch.delivered", "aside.noted", "chunk.delivered"] {
        let db = database();
        db.psql("create table item (id int primary key, n int)");
        install(
            &db,
            "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: out.txt } } }\n\
             bindings: { items: { table: public.item, to: lines, message: { body: '{{ row.id }} {{ 10 // row.n }}' } } }\n",
        );
        for sql in [
            "insert into item values (1, 5)",
            "insert into item values (2, null)",
            "update item set n = null where id = 1",
            "insert into item values (3, 5)",
            "update item set n = 2 where id = 1",
        ] {
            db.psql(sql);
        }
        assert_eq!(drain(&db).env("EMAJ_FAIL_AT", point).run().status, None, "{point}");
        drain(&db).run().code(3);
        let lines = std::fs::read_to_string(db.dir().join("out.txt")).unwrap();
        assert_eq!(lines, "\"1 2\"\n\"3 2\"\n", "{point}");
        assert_eq!(
            set_aside(&db),
            ["items [2] never", "items [1] never", "items [1] behind"],
            "{point}"
        );
    }
}
