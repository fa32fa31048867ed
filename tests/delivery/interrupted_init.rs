//! `emaj init` that was interrupted, and what happened before it is gone on with.

use rustix::process::{Pid, Signal, kill_process};

use super::lost::LOST;
use super::{column, drain, install, prepare};
use crate::reliability::named_points::uri;
use crate::support::{Database, Emaj, database};

fn init(db: &Database) -> Emaj {
    prepare(db, &["init", "emaj.yaml"])
}

/// Has it killed when so many parts are on record.
#[track_caller]
fn kill(db: &Database, parts: usize) {
    let killed = init(db).env("EMAJ_FAIL_AT", format!("init.noted:{parts}")).run();
    assert_eq!(killed.status, None, "{killed}");
}

/// Two databases with 3,000 items, and a manifest that copies them from the first to the second.
fn copied() -> (Database, Database, String) {
    let (db, copy) = (database(), database());
    for db in [&db, &copy] {
        db.psql("create table item (id int primary key, v text)");
    }
    db.psql("insert into item select n, 'old' from generate_series(1, 3000) n");
    let manifest = format!(
        "version: 1\nroles: {{ admin: null, viewer: null }}\ngroups: {{ g: {{ tables: [public.item] }} }}\nsinks: {{ copy: {{ postgres: {{ uri: \"{}\" }} }} }}\n\
         bindings: {{ items: {{ table: public.item, to: copy, row: {{}} }} }}\n",
        uri(&copy)
    );
    install(&db, &manifest);
    (db, copy, manifest)
}

fn sums(db: &Database) -> Vec<String> {
    column(
        db,
        "select concat_ws(' ', v, count(*), sum(id)) from item group by v order by v",
    )
}

#[test]
fn of_several_bindings_what_is_done_is_not_sent_again() {
    let db = database();
    db.psql(
        "create table a (id int primary key); insert into a select generate_series(1, 2000);
         create table b (id int primary key); insert into b select generate_series(1, 3000)",
    );
    let manifest = "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: out.ndjson } } }\nbindings:\n  \
                    a: { table: public.a, to: lines, message: {} }\n  b: { table: public.b, to: lines, message: {} }\n";
    install(&db, manifest);
    kill(&db, 3);
    let states = || column(&db, "select bind_init from emaj.emaj_binding order by bind_name");
    assert_eq!(states(), ["DONE", "RUNNING"]);
    let run = init(&db).run().ok();
    assert!(run.stderr.contains("sent 2000 rows: 2000 written"), "{run}");
    let lines = std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap();
    let mut lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 5000);
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 5000);
    // Rows that were changed beside the log are sent, also those of the binding that was done.
    kill(&db, 3);
    prepare(&db, &["release", "public.a", "--yes"]).run().ok();
    prepare(&db, &["install", "emaj.yaml"]).run().ok();
    let run = init(&db).run().ok();
    assert!(run.stderr.contains("sent 4000 rows: "), "{run}");
    // What is finished begins anew, and so does what is to.
    let run = init(&db).run().ok();
    assert!(run.stderr.contains("sent 5000 rows: "), "{run}");
    kill(&db, 3);
    let run = init(&db).args(["--restart"]).run().ok();
    assert!(run.stderr.contains("sent 5000 rows: "), "{run}");
}

#[test]
fn what_was_changed_beside_the_log_is_sent_again() {
    for (gap, begins, ends) in [
        (
            "released",
            &["release", "public.item", "--yes"][..],
            &["install", "emaj.yaml"][..],
        ),
        ("stopped", &["group", "stop", "g"], &["group", "start", "g"]),
    ] {
        let (db, copy, _) = copied();
        kill(&db, 1);
        prepare(&db, begins).run().ok();
        db.psql("update item set v = 'new' where id <= 500");
        prepare(&db, ends).run().ok();
        let run = init(&db).run().ok();
        assert!(
            run.stderr
                .contains("is not what is there: its rows are sent from the first on"),
            "{gap}: {run}"
        );
        assert_eq!(sums(&copy), sums(&db), "{gap}");
    }
}

/// The changes before the rows are in its hands, and with them a snapshot.
#[test]
fn what_was_changed_before_the_rows_are_read_is_sent_again() {
    let (db, copy, _) = copied();
    kill(&db, 1);
    db.psql("update item set v = 'waiting' where id = 3000");
    init(&db)
        .run_held("chunk.fetched", db.dir(), |_| {
            prepare(&db, &["group", "stop", "g"]).run().ok();
            db.psql("update item set v = 'new' where id <= 500 or id > 2000");
            prepare(&db, &["group", "start", "g", "--keep-log"]).run().ok();
        })
        .ok();
    assert_eq!(sums(&copy), sums(&db));
}

/// The first part was read before, and arrives after.
#[test]
fn what_was_changed_beside_the_log_meanwhile_is_sent_again() {
    let (db, copy, _) = copied();
    let run = init(&db).run_held("init.delivered", db.dir(), |_| {
        prepare(&db, &["group", "stop", "g"]).run().ok();
        db.psql("update item set v = 'new' where id <= 500");
        prepare(&db, &["group", "start", "g", "--keep-log"]).run().ok();
    });
    assert_eq!(run.status, Some(0), "{run}");
    assert_eq!(sums(&copy), sums(&db));
}

#[test]
fn a_column_with_values_is_sent_of_all_rows() {
    let (db, copy, _) = copied();
    kill(&db, 1);
    for db in [&db, &copy] {
        db.psql("alter table item add column n int default 7");
    }
    copy.psql("update item set n = 0");
    prepare(&db, &["install", "emaj.yaml"]).run().ok();
    init(&db).run().ok();
    assert_eq!(copy.psql("select count(*) from item where n = 7"), "3000");
}

#[test]
fn another_place_gets_all_rows() {
    let (db, copy, manifest) = copied();
    let file = manifest.replace(
        &format!("postgres: {{ uri: \"{}\" }}", uri(&copy)),
        "file: { path: out.ndjson }",
    );
    db.file("emaj.yaml", &file);
    prepare(&db, &["install", "emaj.yaml"]).run().ok();
    kill(&db, 1);
    install(&db, &manifest);
    init(&db).run().ok();
    assert_eq!(sums(&copy), ["old 3000 4501500"]);
}

#[test]
fn a_sink_that_was_given_up_goes_on_though_a_table_has_no_key() {
    for chosen in [&[][..], &["--binding", "t"], &["--binding", "t", "--binding", "k"]] {
        let db = database();
        db.psql("create table t (id int primary key); create table k (v int)");
        let manifest = "version: 1\nroles: { admin: null, viewer: null }\ngroups: { g: { tables: [public.t, public.k], rollback: false } }\n\
                        sinks: { lines: { file: { path: out.ndjson } } }\nbindings:\n  \
                        t: { table: public.t, to: lines, message: { body: 't {{ row.id }}' } }\n  k: { table: public.k, to: lines, message: { body: 'k {{ row.v }}' } }\n";
        install(&db, manifest);
        db.psql("insert into t values (1); insert into k values (1)");
        db.psql(LOST);
        let run = init(&db).args(chosen).run().ok();
        assert!(run.stderr.contains("what binding `k` missed is lost"), "{run}");
        db.psql("insert into k values (2)");
        drain(&db).run().ok();
        let lines = std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap();
        assert_eq!(lines, "\"t 1\"\n\"k 2\"\n");
    }
}

/// It is given up between the courier's look and its count.
#[test]
fn a_sink_that_was_given_up_is_not_stopped() {
    let (db, copy, manifest) = copied();
    install(&db, &manifest.replace("row: {}", "row: {}, max_deletes: 2"));
    init(&db).run().ok();
    db.psql("delete from item where id <= 5");
    let run = drain(&db).run_held("chunk.fetched", db.dir(), |_| {
        db.psql(LOST);
    });
    let run = run.code(4);
    assert!(run.stderr.contains("sink `copy` is lost: "), "{run}");
    assert_eq!(db.psql("select sink_state from emaj.emaj_sink"), "LOST");
    assert_eq!(copy.psql("select count(*) from item"), "3000");
}

/// What another sink has set aside is another's affair, and what was refused is not there.
#[test]
fn it_tells_of_its_own_sinks_only() {
    let (db, copy, manifest) = copied();
    let other = database();
    other.psql("create table item (id int primary key, v text check (v <> 'old'))");
    let both = manifest
        .replace(
            "sinks: { ",
            &format!("sinks: {{ other: {{ postgres: {{ uri: \"{}\" }} }}, ", uri(&other)),
        )
        .replace(
            "bindings: { ",
            "bindings: { others: { table: public.item, to: other, row: {} }, ",
        );
    db.psql("delete from item where id > 2");
    copy.psql("truncate item");
    install(&db, &both);
    let run = prepare(&db, &["init", "emaj.yaml", "--binding", "others"])
        .run()
        .code(3);
    assert!(run.stderr.contains("sent 2 rows: 0 written, 2 refused"), "{run}");
    let run = prepare(&db, &["init", "emaj.yaml", "--binding", "items"]).run().ok();
    assert!(run.stderr.contains("sent 2 rows"), "{run}");
}

#[test]
fn a_signal_ends_it_unless_all_is_sent() {
    let db = database();
    db.psql("create table item (id int primary key, v text)");
    let manifest = "version: 1\nroles: { admin: null, viewer: null }\nsinks: { out: { file: { path: out.ndjson } } }\n\
        bindings: { items: { table: public.item, to: out, message: {} } }\n";
    install(&db, manifest);
    db.psql("insert into item select n, 'v' from generate_series(1, 3000) n");
    drain(&db).run().ok();
    let ask_to_end = |pid| send_signal(pid, Signal::TERM);
    let run = init(&db).run_held("init.delivered", db.dir(), ask_to_end).code(143);
    assert!(run.stderr.contains("terminated; what was sent is sent"), "{run}");
    assert!(run.stderr.contains("goes on where it was"), "{run}");
    init(&db).run().ok();
    // The only part is on record: there is nothing to go on with.
    db.psql("delete from item where id > 500");
    drain(&db).run().ok();
    let run = init(&db).run_held("init.noted", db.dir(), ask_to_end).ok();
    assert!(run.stderr.contains("sent 500 rows"), "{run}");
}

fn send_signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
}
