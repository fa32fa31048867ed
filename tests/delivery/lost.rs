//! A sink that has lost its place in the log begins anew: with the rows of all its bindings, from the first one on.

use postgres::Client;

use super::set_back::copied;
use super::{column, drain, install, prepare, set_aside};
use crate::reliability::named_points::uri;
use crate::support::{Database, database, until};

const MANIFEST: &str = "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: out.ndjson } } }\nbindings:\n  \
     items: { table: public.item, to: lines, message: { body: 'item {{ row.id }} {{ row.n }}' } }\n  \
     olds: { table: public.old, to: lines, message: { body: 'old {{ row.id }}' } }\n";

pub(super) const LOST: &str = "update emaj.emaj_sink set sink_state = 'LOST', sink_reason = 'the log is gone', sink_from = emaj._position(), \
     sink_until = null, sink_offset = null";

/// Two tables that feed one file; of the first one more rows than go at once.
fn scene() -> Database {
    let db = database();
    db.psql("create table item (id int primary key, n int); create table old (id int primary key)");
    db.psql("insert into item select n, 0 from generate_series(1, 1500) n; insert into old values (1)");
    install(&db, MANIFEST);
    db
}

/// What happens when the log does not go back to the sink's place any more, after changes that it was owed.
fn lose(db: &Database) {
    db.psql("update item set n = 1 where id = 7; insert into old values (2)");
    db.psql(LOST);
}

fn lines(db: &Database) -> Vec<String> {
    let text = std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap_or_default();
    text.lines().map(|line| line.trim_matches('"').to_owned()).collect()
}

#[test]
fn it_begins_anew_with_all_its_bindings_or_not_at_all() {
    let db = scene();
    lose(&db);
    let before = column(
        &db,
        "select concat_ws(' ', bind_name, bind_init) from emaj.emaj_binding order by 1",
    );
    let run = prepare(&db, &["init", "emaj.yaml", "--binding", "items"]).run().code(4);
    assert!(
        run.stderr
            .contains("sink `lines` has lost its place in the log, and would never get what binding `olds` missed"),
        "{run}"
    );
    assert!(run.stderr.contains("`emaj init` without `--binding`"), "{run}");
    assert_eq!(
        column(
            &db,
            "select concat_ws(' ', bind_name, bind_init) from emaj.emaj_binding order by 1"
        ),
        before
    );
    assert_eq!(lines(&db), [] as [&str; 0]);
    // Nothing else lets it go on: it would miss what it was owed.
    let run = drain(&db).run().code(4);
    assert!(
        run.stderr
            .contains("hint: `emaj init` sends all rows anew and lets it go on from there")
            && !run.stderr.contains("resume"),
        "{run}"
    );
    for verb in ["pause", "resume"] {
        let run = prepare(&db, &["sink", verb, "lines"]).run().code(4);
        assert!(run.stderr.contains("sink `lines` was given up"), "{verb}: {run}");
    }
    // Nor does it go back to where a replay was to end.
    db.psql("update emaj.emaj_sink set sink_replay = pg_current_snapshot()");
    prepare(&db, &["init", "emaj.yaml"]).run().ok();
    assert_eq!(db.psql("select sink_replay is null from emaj.emaj_sink"), "t");
    let lines = lines(&db);
    assert!(lines.contains(&"item 7 1".to_owned()) && lines.contains(&"old 2".to_owned()));
    assert_eq!(lines.len(), 1502);
    drain(&db).run().ok();
}

#[test]
fn an_init_that_was_under_way_is_begun_again() {
    let db = scene();
    let killed = prepare(&db, &["init", "emaj.yaml"])
        .env("EMAJ_FAIL_AT", "init.noted")
        .run();
    assert_eq!(killed.status, None, "{killed}");
    assert_eq!(lines(&db).len(), 1000);
    // It concerns a row that is sent already.
    lose(&db);
    let run = prepare(&db, &["init", "emaj.yaml"]).run().ok();
    assert!(run.stderr.contains("sent 1502 rows: "), "{run}");
    assert!(lines(&db).contains(&"item 7 1".to_owned()));
    drain(&db).run().ok();
}

#[test]
fn what_was_deleted_meanwhile_is_taken_away_by_a_prune_and_said_without_one() {
    let (db, there) = (database(), database());
    let item = "create table item (id int primary key, n int)";
    there.psql(item);
    db.psql(item);
    let to = format!("{{ postgres: {{ uri: \"{}\" }} }}", uri(&there));
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ copy: {to} }}\n\
             bindings: {{ items: {{ table: public.item, to: copy, row: {{}} }} }}\n"
        ),
    );
    db.psql("insert into item values (1, 1), (2, 2)");
    drain(&db).run().ok();
    db.psql("delete from item where id = 1; insert into item values (3, 3)");
    db.psql(LOST);
    let next =
        "`emaj init --prune` sends all rows anew, takes away what was deleted meanwhile, and lets it go on from there";
    for command in [
        &["run", "emaj.yaml", "--until-empty"][..],
        &["sink", "resume", "copy"],
        &["doctor", "emaj.yaml"],
    ] {
        let run = prepare(&db, command).run();
        assert!(format!("{}{}", run.stdout, run.stderr).contains(next), "{run}");
    }
    let rows = || column(&there, "select id::text from item order by 1");
    let run = prepare(&db, &["init", "emaj.yaml"]).run().ok();
    let said = "what was deleted since the sink was given up stays at the places of binding `items`";
    assert!(
        run.stderr.contains(said) && run.stderr.contains("hint: `emaj init --prune` takes it away"),
        "{run}"
    );
    assert_eq!(rows(), ["1", "2", "3"]);
    db.psql(LOST);
    let run = prepare(&db, &["init", "emaj.yaml", "--prune"]).run().ok();
    assert!(!run.stderr.contains(said), "{run}");
    assert_eq!(rows(), ["2", "3"]);
}

/// Does `work` while somebody has what a courier `holds` when it moves its cursor, and moves it as soon as that is waited for.
fn beside_a_courier(db: &Database, holds: &str, work: impl FnOnce(&mut Client) + Send) {
    let (mut courier, mut other, mut looks) = (db.client(), db.client(), db.client());
    let mut noted = courier.transaction().unwrap();
    noted.batch_execute(holds).unwrap();
    let process: i32 = other.query_one("select pg_backend_pid()", &[]).unwrap().get(0);
    std::thread::scope(|scope| {
        let working = scope.spawn(|| work(&mut other));
        until("it waits for the courier", || {
            let row = looks.query_one("select cardinality(pg_blocking_pids($1)) > 0", &[&process]);
            row.unwrap().get(0)
        });
        noted
            .batch_execute("update emaj.emaj_sink set sink_window = sink_window")
            .unwrap();
        noted.commit().unwrap();
        working.join().unwrap();
    });
}

/// A table in a group whose log is kept for a sink only, and that sink away for longer than its limit.
fn away() -> Database {
    let db = database();
    db.psql("create table item (id int primary key, n int)");
    let groups = "groups: { g: { tables: [public.item], rollback: false, retention: 0 seconds } }\nsinks:";
    let manifest = MANIFEST.split("  olds:").next().unwrap().replace("sinks:", groups);
    install(
        &db,
        &manifest.replace("path: out.ndjson }", "path: out.ndjson }, max_lag: 2 hours"),
    );
    db.psql("insert into item values (1, 0)");
    drain(&db).run().ok();
    db.psql("insert into item values (2, 0)");
    db.psql("update emaj.public_item_log set emaj_changed = emaj_changed - interval '3 hours'; update emaj.emaj_sink set sink_moved = sink_moved - interval '3 hours'");
    db
}

fn state(db: &Database) -> String {
    db.psql("select sink_state from emaj.emaj_sink")
}

#[test]
fn a_log_that_somebody_has_locked_is_looked_at_the_next_time() {
    let db = away();
    let mut other = db.client();
    let mut locked = other.transaction().unwrap();
    locked
        .batch_execute("lock table emaj.public_item_log in access exclusive mode")
        .unwrap();
    db.psql("select emaj.emaj_trim_group('g')");
    assert_eq!(state(&db), "ACTIVE");
    locked.commit().unwrap();
    db.psql("select emaj.emaj_trim_group('g')");
    assert_eq!(state(&db), "LOST");
}

#[test]
fn a_sink_is_given_up_behind_what_couriers_have_before_it() {
    let db = away();
    // (Or the purge gives in after half a second.)
    db.psql("alter function emaj._purge(bigint[], bigint) set lock_timeout = 0");
    beside_a_courier(&db, "update emaj.emaj_binding set bind_init_done = 0", |client| {
        client.batch_execute("select emaj.emaj_purge_group('g')").unwrap();
    });
    assert_eq!(state(&db), "LOST");
    let left = || {
        column(
            &db,
            "select concat(emaj_tuple, ' ', id) from emaj.public_item_log where emaj_tuple <> ''",
        )
    };
    assert_eq!(left(), ["NEW 2"]);
    prepare(&db, &["group", "purge", "g"]).run().ok();
    assert_eq!(left(), [] as [&str; 0]);
}

#[test]
fn it_begins_anew_behind_what_couriers_have_before_it() {
    let (db, _there) = copied();
    db.psql("insert into item values (1, 200)");
    drain(&db).run().code(3);
    db.psql(LOST);
    beside_a_courier(&db, "update emaj.emaj_failure set fail_attempts = 0", |client| {
        let mut transaction = client.transaction().unwrap();
        emaj::journal::begin_anew(&mut transaction, "emaj", "copy").unwrap();
        transaction.commit().unwrap();
    });
    assert_eq!(state(&db), "ACTIVE");
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}
