//! A database that forgets: a server that crashes and did not wait for the disk, or one that knows less than the place has.

use emaj::cluster::Cluster;
use emaj::journal::{ChangeKept, FailureState, SetAside, set_aside};
use postgres::{Client, NoTls};

use super::{column, drain, install, prepare, worker};
use crate::support::rows::sink_into;
use crate::support::{Database, database, emaj_alone, shared_cluster, until};

/// Two databases; the second one gets the rows of `item` of the first, and takes none with a large number.
pub(super) fn copied() -> (Database, Database) {
    let (db, there) = (database(), database());
    db.psql("create table item (id int primary key, n int)");
    there.psql("create table item (id int primary key, n int constraint small check (n < 100))");
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ copy: {} }}\n\
             bindings: {{ items: {{ table: public.item, to: copy, row: {{}} }} }}\n",
            sink_into(&there, shared_cluster().superuser())
        ),
    );
    (db, there)
}

/// How far the other database has come by its own record.
fn position(there: &Database) -> String {
    there.psql("select received_offset from emaj_received.position")
}

#[test]
fn what_was_delivered_is_kept_where_commits_do_not_wait() {
    let folder = tempfile::tempdir().unwrap();
    // Nothing is written to disk but what somebody waits for.
    let mut cluster = Cluster::builder()
        .durable()
        .settings([
            ("synchronous_commit", "off"),
            ("wal_writer_delay", "10s"),
            ("wal_writer_flush_after", "64MB"),
            ("autovacuum", "off"),
        ])
        .start()
        .unwrap();
    let sql = |cluster: &Cluster, sql: &str| {
        let mut client = Client::connect(&cluster.conninfo("postgres"), NoTls).unwrap();
        client.batch_execute(sql).unwrap();
    };
    sql(&cluster, "create table item (id int primary key)");
    let manifest = "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: out.ndjson } } }\n\
         bindings: { items: { table: public.item, to: lines, message: { body: '{{ row.id }}' } } }\n";
    std::fs::write(folder.path().join("emaj.yaml"), manifest).unwrap();
    let env = cluster.env("postgres");
    let emaj = |args: &[&str]| emaj_alone(folder.path()).envs(env.clone()).args(args);
    emaj(&["install"]).run().ok();
    sql(&cluster, "insert into item select generate_series(1, 1000)");
    emaj(&["run", "--until-empty"]).run().ok();
    cluster.stop_immediate().unwrap();
    cluster.start_again().unwrap();
    let there = Client::connect(&cluster.conninfo("postgres"), NoTls)
        .unwrap()
        .query_one("select count(*) from item", &[])
        .unwrap();
    assert_eq!(there.get::<_, i64>(0), 1000, "what was delivered");
    sql(&cluster, "insert into item values (2000)");
    emaj(&["run", "--until-empty"]).run().ok();
    let lines = std::fs::read_to_string(folder.path().join("out.ndjson")).unwrap();
    assert_eq!(lines.lines().count(), 1001);
}

#[test]
fn a_place_that_is_further_than_the_database_gets_all_that_is_new() {
    let (db, there) = copied();
    for id in 1..=3 {
        db.psql(&format!("insert into item values ({id})"));
        let run = drain(&db).run().ok();
        assert!(!run.stderr.contains("set back"), "{run}");
    }
    // As where a standby took over that knew of less: its windows have numbers that the place has seen, and its places in the WAL are smaller.
    db.psql("update emaj.emaj_sink set sink_window = sink_window - 1");
    there.psql(
        "update emaj_received.position
            set received_offset = overlay(received_offset placing 'fffffffffffffff0' from 18)",
    );
    for id in 4..=6 {
        db.psql(&format!("insert into item values ({id})"));
        let run = drain(&db).run().ok();
        assert_eq!(run.stderr.contains("it was set back"), id == 4, "{run}");
    }
    assert_eq!(there.psql("select count(*) from item"), "6");
}

#[test]
fn a_place_that_gets_further_in_the_middle_of_a_window_gets_nothing_twice() {
    let (db, there) = copied();
    db.psql("insert into item values (1)");
    drain(&db).run().ok();
    // The worker waits for the table, loses its connection, and finds the place where another one has brought it meanwhile.
    let mut client = there.client();
    let mut table = client.transaction().unwrap();
    table.batch_execute("lock table item").unwrap();
    db.psql("insert into item values (2), (3)");
    let worker = || {
        let waits = "select pid from pg_locks where not granted and relation = 'item'::regclass";
        let pid = there.client().query_opt(waits, &[]).unwrap();
        pid.map(|row| row.get::<_, i32>(0))
    };
    // It ends when the chunk has arrived, and that is not on record.
    let run = drain(&db).env("EMAJ_FAIL_AT", "chunk.delivered").run_while(|_| {
        until("the worker waits for the table", || worker().is_some());
        there.psql("update emaj_received.position set received_offset = overlay(received_offset placing '00000000000000ff' from 1)");
        there.psql(&format!("select pg_terminate_backend({})", worker().unwrap()));
        table.rollback().unwrap();
    });
    assert_eq!(run.status, None, "{run}");
    assert_eq!(there.psql("select count(*) from item"), "3");
    let run = drain(&db).run().ok();
    assert!(run.stderr.contains("delivered 0 changes"), "{run}");
    assert!(!run.stderr.contains("set back"), "{run}");
}

#[test]
fn a_place_that_has_less_than_it_had_is_given_up_and_brought_up_to_date() {
    let (db, there) = (database(), database());
    for db in [&db, &there] {
        db.psql("create table item (id int primary key)");
    }
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  copy: {}\n  lines: {{ file: {{ path: out.ndjson }} }}\n\
             bindings:\n  items: {{ table: public.item, to: copy, row: {{}} }}\n  \
             told: {{ table: public.item, to: lines, message: {{ body: '{{{{ row.id }}}}' }} }}\n",
            sink_into(&there, shared_cluster().superuser())
        ),
    );
    let (file, note) = (db.dir().join("out.ndjson"), db.dir().join("out.ndjson.emaj"));
    db.psql("insert into item values (1)");
    drain(&db).run().ok();
    let position = position(&there);
    let kept = (std::fs::read(&file).unwrap(), std::fs::read(&note).unwrap());
    let group = db.psql("select group_name from emaj.emaj_group");
    prepare(&db, &["mark", "set", &group, "before"]).run().ok();
    for id in 2..=3 {
        db.psql(&format!("insert into item values ({id})"));
        drain(&db).run().ok();
    }
    // A standby takes over that had got the first row only, and the file is restored from a copy of that day.
    there.psql("delete from item where id > 1");
    there.psql(&format!(
        "update emaj_received.position set received_offset = '{position}'"
    ));
    std::fs::write(&file, &kept.0).unwrap();
    std::fs::write(&note, &kept.1).unwrap();
    db.psql("insert into item values (4)");
    let run = drain(&db).run().code(4);
    for sink in ["copy", "lines"] {
        let run = drain(&db).args(["--sink", sink]).run().code(4);
        assert!(
            run.stderr
                .contains(&format!("sink `{sink}` is lost: it has less than it once had")),
            "{run}"
        );
        assert!(
            run.stderr.contains(&format!("`emaj replay {sink} --from MARK`")),
            "{run}"
        );
        prepare(&db, &["sink", "resume", sink]).run().code(4);
    }
    assert!(run.stderr.contains("it has less than it once had"), "{run}");
    for look in [&["sink", "list"][..], &["status"], &["doctor", "emaj.yaml"]] {
        let look = prepare(&db, look).run();
        assert!(look.stdout.contains("it has less than it once had"), "{look}");
    }
    assert_eq!(there.psql("select count(*) from item"), "1");
    // A mark is older than what is missing: all since is delivered again.
    prepare(&db, &["replay", "copy", "--from", "before", "--yes"])
        .run()
        .ok();
    drain(&db).args(["--sink", "copy"]).run().ok();
    assert_eq!(
        there.psql("select string_agg(id::text, ' ' order by id) from item"),
        "1 2 3 4"
    );
    // Without one all rows are sent.
    prepare(&db, &["init", "emaj.yaml", "--binding", "told"]).run().ok();
    drain(&db).run().ok();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "1\n1\n2\n3\n4\n");
    // Where somebody has the place begin anew, it is gone on with.
    there.psql("drop schema emaj_received cascade");
    std::fs::remove_file(&note).unwrap();
    db.psql("insert into item values (5)");
    drain(&db).run().ok();
    assert_eq!(there.psql("select count(*) from item"), "5");
}

#[test]
fn what_is_tried_again_does_not_pass_what_has_not_been_sent() {
    let (db, there) = copied();
    db.psql("insert into item values (1, 200)");
    drain(&db).run().code(3);
    db.psql("update emaj.emaj_failure set fail_retry = 'infinity'");
    db.psql("insert into item select n, n from generate_series(2, 20) n");
    db.psql("update item set n = 5 where id = 1");
    // The place is gone before the batch is there, and the worker ends before it is back.
    let hold = db.dir().join("hold");
    let worker = worker(&db)
        .env("EMAJ_FAIL_AT", "batch.taken")
        .env("EMAJ_FAIL_HOLD", hold.to_str().unwrap())
        .start();
    until("the worker to have the batch", || hold.exists());
    let allow = |word: &str| db.psql(&format!("alter database {} allow_connections {word}", there.name()));
    allow("false");
    db.psql(&format!(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = '{}'",
        there.name()
    ));
    std::fs::remove_file(hold).unwrap();
    until("the worker to find it gone", || {
        db.psql("select sink_fault is not null from emaj.emaj_sink") == "t"
    });
    worker.kill();
    allow("true");
    // What waits is tried again by the next one, which ends there.
    drain(&db).env("EMAJ_FAIL_AT", "retry.noted").run();
    drain(&db).run().ok();
    let all = "select concat_ws(' ', id, n) from item order by id";
    assert_eq!(column(&there, all), column(&db, all));
}

#[test]
fn a_place_that_was_begun_anew_is_not_taken_for_one_that_was_set_back() {
    let (db, there) = copied();
    db.psql("insert into item values (1, 200)");
    drain(&db).run().code(3);
    db.psql("insert into item values (2, 2)");
    drain(&db).run().code(3);
    there.psql("alter table item drop constraint small; delete from emaj_received.position");
    prepare(&db, &["failures", "retry", "--sink", "copy", "--all"])
        .run()
        .ok();
    drain(&db).run().ok();
    assert_eq!(position(&there), "", "what was tried again is no place in the stream");
    for id in 3..=4 {
        db.psql(&format!("insert into item values ({id}, {id})"));
        drain(&db).run().ok();
    }
    assert_eq!(there.psql("select count(*) from item"), "4");
}

#[test]
fn an_init_that_finds_the_place_set_back_sends_all_rows() {
    let (db, there) = copied();
    db.psql("insert into item values (1, 1)");
    drain(&db).run().ok();
    let before = position(&there);
    db.psql("insert into item values (2, 2)");
    drain(&db).run().ok();
    there.psql("delete from item where id = 2");
    there.psql(&format!(
        "update emaj_received.position set received_offset = '{before}'"
    ));
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    assert_eq!(there.psql("select count(*) from item"), "2");
    db.psql("insert into item values (3, 3)");
    drain(&db).run().ok();
    assert_eq!(there.psql("select count(*) from item"), "3");
}

#[test]
fn a_change_of_a_window_that_got_another_number_is_set_aside_once() {
    let (db, _) = copied();
    let table = db.psql("select 'item'::regclass::oid").parse().unwrap();
    let change = |window: u8, place: &str, init: bool| SetAside {
        binding: "items".to_owned(),
        table,
        key: "[1]".to_owned(),
        queue: "q".to_owned(),
        keys: vec!["k".to_owned()],
        state: FailureState::Later,
        reason: Some("refused".to_owned()),
        change: ChangeKept {
            what: serde_json::json!({ "offset": format!("{window:016x}/{place}"), "replay": null, "init": init }),
            old: None,
            new: None,
        },
        retry_in: Some(1.0),
    };
    let changes = [
        change(1, "aa", false),
        change(7, "aa", false),
        change(7, "bb", false),
        // The same row, sent anew.
        change(1, "i", true),
        change(7, "i", true),
    ];
    set_aside(&mut db.client(), "emaj", "copy", &changes).unwrap();
    assert_eq!(db.psql("select count(*) from emaj.emaj_failure"), "4");
}

#[test]
fn the_log_is_kept_for_a_place_that_was_set_back() {
    let (db, there) = copied();
    db.psql("insert into item values (1, 1)");
    drain(&db).run().ok();
    there.psql("update emaj_received.position set received_offset = '0'");
    drain(&db).run().code(4);
    let is_kept = "select sink_state, emaj._not_read('item'::regclass) is not null from emaj.emaj_sink";
    assert_eq!(db.psql(is_kept), "LOST|t");
    // Until it is given up for good.
    db.psql("insert into item values (2, 2)");
    db.psql("update emaj.emaj_sink set sink_max_lag = '0', sink_moved = '-infinity'; select emaj._lose_sinks()");
    assert_eq!(db.psql(is_kept), "LOST|f");
}

/// What arrived when a worker was killed is on record there alone: whoever goes on with it notes it here, and a place that is set back behind it is noticed.
#[test]
fn what_a_place_was_found_to_have_is_missed_when_it_is_gone() {
    let (db, there) = copied();
    db.psql("insert into item values (1, 1)");
    drain(&db).run().ok();
    there.psql("create table copy as table emaj_received.position");
    db.psql("update item set n = 2");
    let run = drain(&db).env("EMAJ_FAIL_AT", "chunk.delivered").run();
    assert_eq!(run.status, None, "{run}");
    drain(&db).run().ok();
    assert_eq!(column(&there, "select n::text from item"), ["2"]);
    there.psql(
        "update item set n = 1; update emaj_received.position p set received_offset = c.received_offset from copy c",
    );
    let run = drain(&db).run().code(4);
    assert!(run.stderr.contains("set back"), "{run}");
}
