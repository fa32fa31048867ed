//! `max_deletes`: a window that would delete more is not begun, however long it is, and whoever was killed in one goes on with it.

use super::{drain, install, prepare};
use crate::support::{Database, database};

/// A table with so many rows, all of them in the file.
fn items(rows: usize, limit: &str) -> Database {
    let db = database();
    db.psql("create table item (id int primary key)");
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ lines: {{ file: {{ path: out.ndjson }} }} }}\n\
             bindings: {{ items: {{ table: public.item, to: lines, max_deletes: {limit}, message: {{ body: \"{{{{ event }}}}\" }} }} }}\n"
        ),
    );
    db.psql(&format!("insert into item select generate_series(1, {rows})"));
    drain(&db).run().ok();
    assert_eq!(lines(&db), [rows, 0]);
    db
}

/// How many inserts and how many deletes arrived.
fn lines(db: &Database) -> [usize; 2] {
    let text = std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap_or_default();
    ["insert", "delete"].map(|event| text.lines().filter(|line| line.trim_matches('"') == event).count())
}

#[test]
fn of_a_window_that_deletes_too_much_nothing_is_delivered_however_long_it_is() {
    let db = items(9_500, "5000");
    db.psql("delete from item where id <= 9000; insert into item select generate_series(10001, 10600)");
    for _ in 0..2 {
        let run = drain(&db).run().code(4);
        assert!(
            run.stderr
                .contains("is stopped: binding `items` would delete 9000 at once, and its `max_deletes` allows 5000"),
            "{run}"
        );
        assert_eq!(lines(&db), [9_500, 0]);
    }
    prepare(&db, &["sink", "resume", "lines"]).run().ok();
    drain(&db).run().ok();
    assert_eq!(lines(&db), [10_100, 9_000]);
    // That was for once.
    db.psql("insert into item select generate_series(20001, 26000); delete from item where id > 20000");
    drain(&db).run().ok();
    db.psql("insert into item select generate_series(30001, 36000)");
    drain(&db).run().ok();
    db.psql("delete from item where id > 30000");
    drain(&db).run().code(4);
    assert_eq!(lines(&db), [16_100, 9_000]);
}

#[test]
fn killed_in_a_long_window_it_goes_on_and_counts_what_is_left() {
    let db = items(9_500, "9000");
    db.psql("delete from item where id <= 9000");
    let run = drain(&db).env("EMAJ_FAIL_AT", "chunk.noted:2").run();
    assert_eq!(run.status, None, "{run}");
    let [_, before] = lines(&db);
    assert!(0 < before && before < 9_000, "{before}");
    drain(&db).run().ok();
    assert_eq!(lines(&db), [9_500, 9_000]);
}

#[test]
fn a_share_is_one_of_the_rows_that_are_there_and_of_those_that_go() {
    let db = items(100, "10%");
    db.psql("delete from item where id <= 10");
    drain(&db).run().ok();
    assert_eq!(lines(&db), [100, 10]);
    db.psql("delete from item where id <= 20");
    let run = drain(&db).run().code(4);
    assert!(
        run.stderr
            .contains("would delete 10 at once, and its `max_deletes` allows 9"),
        "{run}"
    );
    assert_eq!(lines(&db), [100, 10]);
}
