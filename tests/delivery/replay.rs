//! A sink is set back to a mark only where it misses nothing by it: it has been given all up to there, and the logs hold all since.

use emaj::cluster::Cluster;
use postgres::{Client, NoTls};

use super::set_back::copied;
use super::{column, drain, install, prepare, set_aside};
use crate::support::rows::sink_into;
use crate::support::{Database, Run, database, emaj_alone, shared_cluster, wait_for};

/// Two groups with a table each, bound to one file.
fn scene(options: &str) -> Database {
    let db = database();
    db.psql("create table item (id int primary key, v text); create table other (id int primary key, v text)");
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\n\
             groups: {{ g: {{ tables: [public.item]{options} }}, h: {{ tables: [public.other]{options} }} }}\n\
             sinks: {{ lines: {{ file: {{ path: out.ndjson }}, max_lag: 1 day }} }}\n\
             bindings:\n  items: {{ table: public.item, to: lines, message: {{ body: '{{{{ row.v }}}}' }} }}\n  \
             others: {{ table: public.other, to: lines, message: {{ body: '{{{{ row.v }}}}' }} }}\n"
        ),
    );
    db
}

fn lines(db: &Database) -> Vec<String> {
    let text = std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap_or_default();
    text.lines().map(|line| line.trim_matches('"').to_owned()).collect()
}

fn mark(db: &Database, name: &str) {
    prepare(db, &["mark", "set", "g", name]).run().ok();
}

fn write(db: &Database, id: i32, text: &str) {
    db.psql(&format!("insert into item values ({id}, '{text}')"));
}

fn replay(db: &Database, mark: &str) -> Run {
    prepare(db, &["replay", "lines", "--group", "g", "--from", mark, "--yes"]).run()
}

#[track_caller]
fn is_refused(run: &Run, why: &str) {
    assert_eq!((run.status, run.stderr.contains(why)), (Some(4), true), "{run}");
}

/// Has all that was written and done be older, as it is two hours later.
fn two_hours_later(db: &Database) {
    for log in ["item", "other"] {
        db.psql(&format!(
            "update emaj.public_{log}_log set emaj_changed = emaj_changed - interval '2 hours'"
        ));
    }
    db.psql("update emaj.emaj_mark set mark_datetime = mark_datetime - interval '2 hours'");
}

/// The sink is given up, and waited for no more.
fn lose(db: &Database) {
    db.psql("update emaj.emaj_sink set sink_max_lag = '0', sink_moved = sink_moved - interval '2 days'; select emaj._lose_sinks()");
    assert_eq!(column(db, "select sink_state from emaj.emaj_sink"), ["LOST"]);
    db.psql("update emaj.emaj_sink set sink_max_lag = '1 day'");
}

#[test]
fn no_sink_is_set_on_past_what_it_was_not_given() {
    let db = scene("");
    mark(&db, "early");
    write(&db, 1, "one");
    drain(&db).run().ok();
    prepare(&db, &["sink", "pause", "lines", "--because", "new disks"])
        .run()
        .ok();
    write(&db, 2, "two");
    mark(&db, "late");
    write(&db, 3, "three");
    let why = "sink `lines` has not been given all changes up to mark `late`";
    is_refused(&replay(&db, "late"), why);
    // Back it goes, and stays paused.
    let run = replay(&db, "early").ok();
    assert!(run.stderr.contains("hint: it is paused"), "{run}");
    assert_eq!(
        column(
            &db,
            "select concat_ws(' ', sink_state, sink_reason) from emaj.emaj_sink"
        ),
        ["PAUSED new disks"]
    );
    prepare(&db, &["sink", "resume", "lines"]).run().ok();
    drain(&db).run().ok();
    assert_eq!(lines(&db), ["one", "one", "two", "three"]);
    replay(&db, "late").ok();
    drain(&db).run().ok();
    assert_eq!(lines(&db)[4..], ["three"]);
}

#[test]
fn a_sink_that_was_given_up_is_not_set_on_past_what_it_missed() {
    let db = scene("");
    mark(&db, "early");
    write(&db, 1, "one");
    drain(&db).run().ok();
    write(&db, 2, "two");
    lose(&db);
    mark(&db, "late");
    is_refused(&replay(&db, "late"), "has not been given all changes up to mark `late`");
    replay(&db, "early").ok();
    // And is not given up again for the time that it was away.
    assert_eq!(db.psql("select emaj._lose_sinks()"), "0");
    drain(&db).run().ok();
    assert_eq!(lines(&db), ["one", "one", "two"]);
}

#[test]
fn what_was_consolidated_away_is_not_delivered_again() {
    let db = scene("");
    mark(&db, "before");
    write(&db, 1, "one");
    drain(&db).run().ok();
    prepare(&db, &["rollback", "g", "before", "--yes"]).run().ok();
    drain(&db).run().ok();
    let end = db.psql("select mark_name from emaj.emaj_mark where mark_goes_back_to is not null");
    replay(&db, "before").ok();
    drain(&db).run().ok();
    prepare(&db, &["consolidate", "g", &end, "--yes"]).run().ok();
    is_refused(
        &replay(&db, "before"),
        "the log of public.item does not hold all that the sink is owed since mark `before`",
    );
    replay(&db, &end).ok();
}

#[test]
fn a_log_that_was_reset_or_dropped_is_not_taken_for_whole() {
    let why = "the log of public.other does not hold all that the sink is owed since mark `monday`";
    for acts in [
        &[&["group", "stop", "h"][..], &["group", "start", "h"]][..],
        &[&["group", "drop", "h", "--force", "--yes"]],
    ] {
        let db = scene("");
        mark(&db, "monday");
        write(&db, 1, "one");
        db.psql("insert into other values (1, 'other')");
        drain(&db).run().ok();
        for act in acts {
            prepare(&db, act).run().ok();
        }
        is_refused(&replay(&db, "monday"), why);
        prepare(&db, &["install", "emaj.yaml"]).run().ok();
        mark(&db, "tuesday");
        drain(&db).run().ok();
        replay(&db, "tuesday").ok();
    }
}

/// A place that was restored to before such a time would never get what was written in it.
#[test]
fn a_time_without_capture_is_not_passed_over() {
    let why = "the log of public.item does not hold all that the sink is owed since mark `monday`";
    for (halt, go_on) in [
        (&["group", "stop", "g"][..], &["group", "start", "g", "--keep-log"][..]),
        (&["release", "public.item", "--yes"], &["install", "emaj.yaml"]),
    ] {
        let db = scene("");
        mark(&db, "monday");
        write(&db, 1, "one");
        drain(&db).run().ok();
        prepare(&db, halt).run().ok();
        write(&db, 2, "two");
        prepare(&db, go_on).run().ok();
        is_refused(&replay(&db, "monday"), why);
        mark(&db, "tuesday");
        write(&db, 3, "three");
        drain(&db).run().ok();
        replay(&db, "tuesday").ok();
    }
}

/// Moves the table `item` from group `g` to group `h`.
fn move_item(db: &Database) {
    let manifest = std::fs::read_to_string(db.dir().join("emaj.yaml")).unwrap();
    db.file(
        "emaj.yaml",
        &manifest
            .replace("tables: [public.item]", "tables: [public.third]")
            .replace("tables: [public.other]", "tables: [public.other, public.item]"),
    );
    db.psql("create table third (id int primary key)");
    prepare(db, &["install", "emaj.yaml", "--allow-destroy"]).run().ok();
}

#[test]
fn what_goes_of_a_table_in_its_old_group_is_not_missed_by_a_replay_of_the_new_one() {
    for acts in [
        &[&["group", "stop", "g"][..], &["group", "start", "g"]][..],
        &[&["group", "drop", "g", "--force", "--yes"]],
        &[
            &["mark", "delete", "g", "monday"],
            &["mark", "set", "g", "friday"],
            &["mark", "delete", "g", "--before", "friday"],
            &["group", "purge", "g"],
        ],
    ] {
        let db = scene("");
        mark(&db, "monday");
        write(&db, 1, "one");
        drain(&db).run().ok();
        move_item(&db);
        prepare(&db, &["mark", "set", "h", "tuesday"]).run().ok();
        write(&db, 2, "two");
        drain(&db).run().ok();
        for act in acts {
            prepare(&db, act).run().ok();
        }
        prepare(&db, &["replay", "lines", "--group", "h", "--from", "tuesday", "--yes"])
            .run()
            .ok();
        drain(&db).run().ok();
        assert_eq!(lines(&db), ["one", "two", "two"], "{acts:?}");
    }
}

/// That is captured all the while, though in another log.
#[test]
fn a_table_that_moves_to_another_group_can_be_replayed_from_before() {
    let db = scene("");
    mark(&db, "monday");
    write(&db, 1, "one");
    drain(&db).run().ok();
    move_item(&db);
    write(&db, 2, "two");
    drain(&db).run().ok();
    replay(&db, "monday").ok();
    drain(&db).run().ok();
    assert_eq!(lines(&db), ["one", "two", "one", "two"]);
}

#[test]
fn rows_that_init_sent_are_not_passed_over() {
    let (db, _there) = copied();
    db.psql("insert into item values (1, 1)");
    prepare(&db, &["mark", "set", "emaj.bindings", "before"]).run().ok();
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    prepare(&db, &["mark", "set", "emaj.bindings", "after"]).run().ok();
    db.psql("update item set n = 2");
    drain(&db).run().ok();
    let replay = |mark: &str| prepare(&db, &["replay", "copy", "--from", mark, "--yes"]).run();
    let refused = replay("before");
    is_refused(&refused, "does not hold all that the sink is owed since mark `before`");
    assert!(
        refused
            .stderr
            .contains("those that it sent since the mark are in no log"),
        "{refused}"
    );
    replay("after").ok();
    drain(&db).run().ok();
}

/// What was refused before a mark and arrived behind it is in no window that begins there.
#[test]
fn what_arrived_later_than_what_came_after_it_is_not_passed_over() {
    let (db, there) = copied();
    let mark = |name: &str| prepare(&db, &["mark", "set", "emaj.bindings", name]).run().ok();
    let replay = |mark: &str| prepare(&db, &["replay", "copy", "--from", mark, "--yes"]).run();
    mark("first");
    db.psql("insert into item values (5, 500)");
    drain(&db).run().code(3);
    mark("between");
    // (A mark may have its changes on both sides.)
    db.psql("begin; insert into item values (6, 600); select emaj.emaj_set_mark_group('emaj.bindings', 'behind'); insert into item values (7, 7); commit");
    drain(&db).run().code(3);
    there.psql("alter table item drop constraint small");
    prepare(&db, &["failures", "retry", "--all"]).run().ok();
    drain(&db).run().ok();
    mark("last");
    for name in ["between", "behind"] {
        is_refused(
            &replay(name),
            &format!("written before mark `{name}`, set aside, and arrived behind it"),
        );
    }
    db.psql("insert into item values (8, 8)");
    drain(&db).run().ok();
    replay("last").ok();
    drain(&db).run().ok();
    // From the first one everything comes again.
    there.psql("delete from item");
    replay("first").ok();
    drain(&db).run().ok();
    assert_eq!(
        column(&there, "select id::text from item order by id"),
        ["5", "6", "7", "8"]
    );
    // What is known of a mark and of a binding goes with them.
    prepare(&db, &["mark", "delete", "emaj.bindings", "between"]).run().ok();
    assert_eq!(column(&db, "select count(*)::text from emaj.emaj_late"), ["1"]);
    prepare(&db, &["uninstall", "--yes"]).run().ok();
}

/// What waits of a row stands before what is delivered again of it, and is made one with that: from whichever state the place has.
#[test]
fn a_place_that_was_restored_while_something_waits_keeps_nothing_of_its_old_state() {
    let (db, there) = (database(), database());
    db.psql("create table item (id int primary key, code text, n int)");
    there.psql("create table item (code text primary key, n int constraint small check (n < 100))");
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ copy: {} }}\n\
             bindings: {{ items: {{ table: public.item, to: copy, row: {{ key: [code], columns: {{ code: row.code, n: row.n }} }} }} }}\n",
            sink_into(&there, shared_cluster().superuser())
        ),
    );
    db.psql("insert into item values (1, 'A', 1), (2, 'F', 2), (3, 'K', 3), (4, 'Z', 4)");
    drain(&db).run().ok();
    prepare(&db, &["mark", "set", "emaj.bindings", "before"]).run().ok();
    let all = || column(&there, "select concat_ws(' ', code, n) from item order by code");
    let copy = all();
    let position = || there.psql("select received_offset from emaj_received.position");
    let then = position();
    // One row goes on to other names, one goes and comes again, one goes for good.
    db.psql("update item set code = 'B' where id = 1; delete from item where id = 2; update item set code = 'L' where id = 3");
    drain(&db).run().ok();
    db.psql("update item set code = 'C', n = 100 where id = 1; insert into item values (2, 'F', 200); update item set code = 'M', n = 300 where id = 3");
    drain(&db).run().code(3);
    // Another row has one of the old names now.
    db.psql("update item set code = 'A' where id = 4");
    drain(&db).run().code(3);
    there.psql("delete from item");
    for row in &copy {
        let (code, n) = row.split_once(' ').unwrap();
        there.psql(&format!("insert into item values ('{code}', {n})"));
    }
    there.psql(&format!("update emaj_received.position set received_offset = '{then}'"));
    drain(&db).run().code(4);
    prepare(&db, &["replay", "copy", "--from", "before", "--yes"])
        .run()
        .ok();
    drain(&db).run().code(3);
    db.psql("delete from item where id in (2, 3)");
    there.psql("alter table item drop constraint small");
    prepare(&db, &["failures", "retry", "--all"]).run().ok();
    drain(&db).run().ok();
    assert_eq!((all(), set_aside(&db)), (vec!["A 4".into(), "C 100".into()], vec![]));
}

/// What is known of a binding's marks is about the sink that it had then.
#[test]
fn a_binding_that_goes_to_another_sink_can_be_replayed_there() {
    let (db, there) = (database(), database());
    db.psql("create table item (id int primary key, n int)");
    there.psql("create table item (id int primary key, n int constraint small check (n < 100))");
    let manifest = |to: &str| {
        format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ copy: {}, lines: {{ file: {{ path: out.ndjson }} }} }}\n\
             bindings: {{ items: {{ table: public.item, to: {to}, row: {{}} }} }}\n",
            sink_into(&there, shared_cluster().superuser())
        )
    };
    install(&db, &manifest("copy"));
    db.psql("insert into item values (1, 100)");
    drain(&db).run().code(3);
    prepare(&db, &["mark", "set", "emaj.bindings", "between"]).run().ok();
    there.psql("alter table item drop constraint small");
    prepare(&db, &["failures", "retry", "--all"]).run().ok();
    drain(&db).run().ok();
    let replay = |sink: &str| prepare(&db, &["replay", sink, "--from", "between", "--yes"]).run();
    is_refused(&replay("copy"), "arrived behind it");
    install(&db, &manifest("lines"));
    drain(&db).run().ok();
    replay("lines").ok();
}

/// What begins to read a log does not begin beside somebody who has seen that nobody reads it.
#[test]
fn a_binding_does_not_begin_beside_who_takes_rows_out() {
    let db = scene("");
    let manifest = std::fs::read_to_string(db.dir().join("emaj.yaml")).unwrap();
    let one = manifest.split("  others:").next().unwrap();
    db.file("emaj.yaml", one);
    prepare(&db, &["install", "emaj.yaml", "--allow-destroy"]).run().ok();
    db.file("emaj.yaml", &manifest);
    write(&db, 1, "one");
    let mut client = db.client();
    let mut rollback = client.transaction().unwrap();
    rollback
        .execute("select pg_advisory_xact_lock_shared(emaj._lock_key('replay'))", &[])
        .unwrap();
    lose(&db);
    let is_locked = |words: &[&str]| {
        let run = prepare(&db, words).run().code(11);
        assert!(run.stderr.contains("rows are being taken out of the logs"), "{run}");
    };
    is_locked(&["install", "emaj.yaml", "--wait", "0s"]);
    db.file("emaj.yaml", one);
    is_locked(&["init", "emaj.yaml"]);
    db.file("emaj.yaml", &manifest);
    rollback.commit().unwrap();
    prepare(&db, &["install", "emaj.yaml"]).run().ok();
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
}

#[test]
fn an_unlogged_rollback_while_nobody_reads_is_not_passed_over() {
    let db = scene("");
    write(&db, 1, "one");
    drain(&db).run().ok();
    mark(&db, "m");
    write(&db, 2, "two");
    drain(&db).run().ok();
    write(&db, 3, "three");
    lose(&db);
    prepare(&db, &["rollback", "g", "m", "--unlogged", "--yes"]).run().ok();
    is_refused(&replay(&db, "m"), "the log of public.item does not hold all that");
}

/// A transaction that is committed after a mark may have written long before it.
#[test]
fn what_a_purge_took_of_a_long_transaction_is_not_passed_over() {
    let db = scene(", rollback: false, retention: 1 hour");
    let mut client = db.client();
    let mut long = client.transaction().unwrap();
    long.execute("insert into item values (1, 'long')", &[]).unwrap();
    two_hours_later(&db);
    mark(&db, "noon");
    // As if it had been written two hours ago.
    long.execute(
        "update emaj.public_item_log set emaj_changed = emaj_changed - interval '2 hours'",
        &[],
    )
    .unwrap();
    long.commit().unwrap();
    mark(&db, "one");
    write(&db, 2, "short");
    drain(&db).run().ok();
    assert_eq!(db.psql("select emaj.emaj_purge_group('g')"), "1");
    is_refused(&replay(&db, "noon"), "the log of public.item does not hold all that");
    replay(&db, "one").ok();
    drain(&db).run().ok();
    assert_eq!(lines(&db), ["long", "short", "short"]);
}

#[test]
fn what_no_mark_needs_is_not_missed_by_a_replay_from_the_first_one() {
    let db = scene("");
    let mut client = db.client();
    let mut long = client.transaction().unwrap();
    long.execute("insert into other values (1, 'long')", &[]).unwrap();
    write(&db, 1, "one");
    mark(&db, "m");
    write(&db, 2, "two");
    long.commit().unwrap();
    drain(&db).run().ok();
    prepare(&db, &["mark", "delete", "g", "--before", "m"]).run().ok();
    assert_eq!(db.psql("select string_agg(v, ' ') from emaj.public_item_log"), "two");
    replay(&db, "m").ok();
    drain(&db).run().ok();
    assert_eq!(lines(&db)[3..].len(), 2);
}

#[test]
fn a_purge_under_way_and_a_replay_wait_for_each_other() {
    let db = scene(", rollback: false, retention: 1 hour");
    mark(&db, "m");
    write(&db, 1, "one");
    drain(&db).run().ok();
    two_hours_later(&db);
    let mut client = db.client();
    let mut purge = client.transaction().unwrap();
    purge.execute("select emaj.emaj_purge_group('g')", &[]).unwrap();
    let run = replay(&db, "m");
    assert_eq!(run.status, Some(11), "{run}");
    assert!(run.stderr.contains("rows are being taken out of the logs"), "{run}");
    purge.commit().unwrap();
    is_refused(&replay(&db, "m"), "the log of public.item does not hold all that");
    // And the other way round.
    let mut replays = client.transaction().unwrap();
    replays
        .execute("select pg_advisory_xact_lock(emaj._lock_key('replay'))", &[])
        .unwrap();
    write(&db, 2, "two");
    drain(&db).run().ok();
    two_hours_later(&db);
    assert_eq!(db.psql("select emaj.emaj_purge_group('g')"), "0");
    replays.commit().unwrap();
    assert_eq!(db.psql("select emaj.emaj_purge_group('g')"), "1");
}

/// `CST` is a time zone of America where times are read.
#[test]
fn times_are_kept_as_they_are_wherever_the_database_is() {
    let db = scene(", rollback: false, retention: 10 hours");
    mark(&db, "m");
    write(&db, 1, "one");
    drain(&db).run().ok();
    db.psql(&format!(
        "alter database \"{0}\" set datestyle = 'SQL, DMY'; alter database \"{0}\" set timezone = 'Asia/Shanghai'",
        db.name()
    ));
    assert_eq!(db.psql("select emaj.emaj_purge_group('g')"), "0");
    let previous = "select emaj.emaj_get_previous_mark_group('g', mark_datetime + interval '1 second') = mark_name \
         from emaj.emaj_mark where mark_name = 'm'";
    assert_eq!(db.psql(previous), "t");
    // A sink is given up when its time is over, not fourteen hours before.
    write(&db, 2, "two");
    db.psql("update emaj.emaj_sink set sink_max_lag = '10 hours', sink_moved = sink_moved - interval '2 days'");
    assert_eq!(db.psql("select emaj._lose_sinks()"), "0");
}

/// What was set aside of a row that is gone makes it no more, once the place is as the table is.
#[test]
fn what_is_set_aside_goes_when_a_sink_begins_anew_but_for_messages() {
    let (db, _there) = copied();
    db.psql("insert into item values (1, 200)");
    drain(&db).run().code(3);
    db.psql("delete from item where id = 1; insert into item values (2, 2)");
    lose(&db);
    db.psql(
        "insert into emaj.emaj_failure (fail_sink, fail_binding, fail_key, fail_queue, fail_keys, fail_state, fail_change)
         select fail_sink, 'told', fail_key, fail_queue, fail_keys, 'BEHIND', fail_change from emaj.emaj_failure;
         insert into emaj.emaj_binding (bind_name, bind_manifest, bind_oid, bind_schema, bind_table, bind_kind, bind_fingerprint, bind_since)
         select 'told', bind_manifest, bind_oid, bind_schema, bind_table, 'message', bind_fingerprint, bind_since from emaj.emaj_binding",
    );
    emaj::journal::begin_anew(&mut db.client(), "emaj", "copy").unwrap();
    assert_eq!(set_aside(&db), ["told [1] later"]);
}

/// A worker that has everything is not taken for one that is away, however long nothing happens.
#[test]
fn a_worker_that_waits_says_that_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = Cluster::builder().settings([("autovacuum", "off")]).start().unwrap();
    let mut client = Client::connect(&cluster.conninfo("postgres"), NoTls).unwrap();
    client.batch_execute("create table item (id int primary key)").unwrap();
    let manifest = "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: out.ndjson }, max_lag: 2 hours } }\n\
         bindings: { items: { table: public.item, to: lines, message: { body: '{{ row.id }}' } } }\n";
    std::fs::write(folder.path().join("emaj.yaml"), manifest).unwrap();
    let env = cluster.env("postgres");
    let emaj = |args: &[&str]| emaj_alone(folder.path()).envs(env.clone()).args(args);
    emaj(&["install"]).run().ok();
    let _worker = emaj(&["run", "emaj.yaml"]).start();
    wait_for("the worker", 60, || {
        let taken = "select from emaj.emaj_sink where sink_worker is not null";
        client.query_opt(taken, &[]).unwrap()
    });
    client
        .execute(
            "update emaj.emaj_sink set sink_moved = clock_timestamp() - interval '1 hour'",
            &[],
        )
        .unwrap();
    wait_for("a sign of life", 60, || {
        let moved = "select from emaj.emaj_sink where sink_moved > clock_timestamp() - interval '30 minutes'";
        client.query_opt(moved, &[]).unwrap()
    });
}
