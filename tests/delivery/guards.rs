//! `max_deletes`: a window that would delete more is not begun, however long it is, and whoever was killed in one goes on with it.

use super::{LOGINS, column, drain, install, prepare, to_directory, worker};
use crate::reliability::named_points::uri;
use crate::support::slapd::slapd;
use crate::support::{Database, database, owner, wait_for};

/// A table with so many rows, all of them in the file.
fn items(rows: usize, limit: &str) -> Database {
    let db = database();
    db.psql("create table item (id int primary key, n int)");
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
fn a_long_window_is_read_twice_only_where_it_may_delete_too_much() {
    const TWICE: &str = "reading what is to be delivered once more";
    let db = items(9_500, "1000");
    // Few go, many are changed, and keys too.
    db.psql("delete from item where id <= 600; update item set n = 1; update item set id = -id where id <= 900");
    let run = drain(&db).run().ok();
    assert!(!run.stderr.contains(TWICE), "{run}");
    assert_eq!(lines(&db), [9_500, 600]);
    // Too many for the log alone: those that come back in the same transaction are no deletions.
    db.psql("begin; delete from item where id > 4000; insert into item select generate_series(4001, 9500); update item set n = 2; end");
    db.psql("delete from item where id between 1000 and 1999");
    let run = drain(&db).run().ok();
    assert!(run.stderr.contains(TWICE), "{run}");
    assert_eq!(lines(&db), [9_500, 1_600]);
    // One more than that.
    db.psql("update item set n = 3; delete from item where id between 2000 and 3000");
    let run = drain(&db).run().code(4);
    assert!(
        run.stderr
            .contains("would delete 1001 at once, and its `max_deletes` allows 1000"),
        "{run}"
    );
    assert_eq!(lines(&db), [9_500, 1_600]);
}

#[test]
fn where_updates_may_delete_they_are_counted() {
    let db = database();
    db.psql("create table item (id int primary key, is_there bool)");
    install(
        &db,
        "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: out.ndjson } } }\n\
         bindings: { items: { table: public.item, to: lines, when: row.is_there, max_deletes: 1000, message: { body: \"{{ event }}\" } } }\n",
    );
    db.psql("insert into item select n, true from generate_series(1, 9500) n");
    drain(&db).run().ok();
    db.psql("update item set is_there = id > 1001");
    let run = drain(&db).run().code(4);
    assert!(run.stderr.contains("would delete 1001 at once"), "{run}");
    assert_eq!(lines(&db), [9_500, 0]);
}

/// A table whose rows go to another database, which takes no row with `n` = 13.
fn copied(when: &str, limit: usize) -> (Database, Database) {
    let (db, copy) = (database(), database());
    db.psql("create table item (id int primary key, n int)");
    copy.psql("create table item (id int primary key, n int check (n <> 13))");
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ copy: {{ postgres: {{ uri: \"{}\" }} }} }}\n\
             bindings: {{ items: {{ table: public.item, to: copy{when}, max_deletes: {limit}, row: {{}} }} }}\n",
            uri(&copy)
        ),
    );
    (db, copy)
}

#[test]
fn what_waits_behind_something_counts_too() {
    // In a window of one chunk, and in a longer one.
    for more in [0, 6000] {
        let (db, copy) = copied("", 5);
        db.psql("insert into item select n, 0 from generate_series(1, 20) n");
        drain(&db).run().ok();
        db.psql("update item set n = 13 where id <= 10");
        drain(&db).run().code(3);
        db.psql(&format!(
            "delete from item where id <= 10; insert into item select n, 0 from generate_series(101, 100 + {more}) n"
        ));
        for _ in 0..2 {
            let run = drain(&db).run().code(4);
            assert!(
                run.stderr
                    .contains("would delete 10 at once, and its `max_deletes` allows 5"),
                "{run}"
            );
            assert_eq!(copy.psql("select count(*) from item"), "20", "{more}");
        }
        prepare(&db, &["sink", "resume", "copy"]).run().ok();
        drain(&db).run().ok();
        assert_eq!(copy.psql("select count(*) from item"), (10 + more).to_string());
    }
}

#[test]
fn delivered_again_a_row_that_fits_no_more_counts_once() {
    let (db, copy) = copied(", when: row.n < 10", 1);
    let group = db.psql("select min(group_name) from emaj.emaj_group");
    prepare(&db, &["mark", "set", &group, "m"]).run();
    for n in [1, 2, 3, 50] {
        db.psql(&format!(
            "insert into item values (1, {n}) on conflict (id) do update set n = {n}"
        ));
        drain(&db).run().ok();
    }
    assert_eq!(copy.psql("select count(*) from item"), "0");
    prepare(&db, &["replay", "copy", "--from", "m", "--yes"]).run().ok();
    drain(&db).run().ok();
    assert_eq!(copy.psql("select count(*) from item"), "0");
}

#[test]
fn killed_at_the_end_of_what_a_person_let_through_the_next_window_is_guarded() {
    let db = items(100, "10");
    db.psql("delete from item where id <= 20");
    drain(&db).run().code(4);
    prepare(&db, &["sink", "resume", "lines"]).run().ok();
    let run = drain(&db).env("EMAJ_FAIL_AT", "window.ended").run();
    assert_eq!(run.status, None, "{run}");
    assert_eq!(lines(&db), [100, 20]);
    db.psql("delete from item where id <= 40");
    drain(&db).run().code(4);
    assert_eq!(lines(&db), [100, 20]);
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

#[test]
fn the_worker_says_why_it_delivers_no_more_and_when_it_does_again() {
    let db = items(10, "5");
    let worker = worker(&db).start();
    let says = |count: usize, text: &str| {
        wait_for(text, 60, || (worker.log().matches(text).count() == count).then_some(()));
    };
    says(1, "delivering to ");
    db.psql("delete from item where id <= 6");
    says(
        1,
        "the sink is stopped: binding `items` would delete 6 at once, and its `max_deletes` allows 5",
    );
    says(1, "`emaj sink resume lines` lets it go on");
    prepare(&db, &["sink", "resume", "lines"]).run().ok();
    says(2, "delivering to ");
    wait_for("the deletions", 60, || (lines(&db) == [10, 6]).then_some(()));
    prepare(&db, &["sink", "pause", "lines"]).run().ok();
    says(1, "the sink is paused");
    prepare(&db, &["sink", "resume", "lines"]).run().ok();
    says(3, "delivering to ");
    // Each was said once, however long it lasted.
    says(1, "the sink is stopped");
    says(1, "the sink is paused");
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_table_whose_rows_may_not_be_counted_is_named_with_what_gives_the_right() {
    let db = database();
    let owner = owner(&db);
    let name = owner.name();
    owner
        .client()
        .batch_execute("create table item (id int primary key)")
        .unwrap();
    let manifest = format!(
        "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ lines: {{ file: {{ path: out.ndjson }} }} }}\n\
         bindings: {{ items: {{ table: {name}.item, to: lines, max_deletes: 50%, message: {{ body: \"{{{{ event }}}}\" }} }} }}\n"
    );
    std::fs::write(db.dir().join("emaj.yaml"), manifest).unwrap();
    prepare(&db, &["install", "emaj.yaml"]).user(name).run().ok();
    db.psql(&format!(
        "insert into {name}.item select generate_series(1, 100); revoke select on {name}.item from {name}"
    ));
    drain(&db).user(name).run().ok();
    db.psql(&format!("delete from {name}.item where id <= 10"));
    let run = drain(&db).user(name).run().code(12);
    assert!(
        run.stderr.contains(&format!("`grant select on {name}.item to {name}`")),
        "{run}"
    );
    db.psql(&format!("grant select on {name}.item to {name}"));
    drain(&db).user(name).run().ok();
    assert_eq!(lines(&db), [100, 10]);
}

#[test]
fn a_table_that_is_gone_is_on_record_as_what_the_sink_waits_for() {
    let db = database();
    db.psql("create table person (id int primary key, login text)");
    let slapd = slapd();
    install(&db, &to_directory(&slapd, LOGINS));
    db.psql("insert into person values (1, 'ann')");
    drain(&db).run().ok();
    // Whether another row has the name that is given up only the table would say.
    db.psql("update person set login = 'anna'; drop table person cascade");
    let run = drain(&db).run().code(1);
    assert!(
        run.stderr
            .contains("table public.person is gone: `emaj install` says what to do"),
        "{run}"
    );
    let fault = column(&db, "select sink_fault from emaj.emaj_sink");
    assert!(fault[0].starts_with("broken: table public.person is gone"), "{fault:?}");
}
