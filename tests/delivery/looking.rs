//! What the verbs that look at an installation say of its sinks.

use super::{column, drain, install, prepare};
use crate::support::receiver::{Receiver, status};
use crate::support::{Database, database};

/// A service that refuses what holds `bad`, and messages for it; the log waits two hours for the sink, and an hour for nobody.
fn scene() -> (Database, Receiver) {
    let db = database();
    db.psql("create table item (id int primary key, text text)");
    let receiver = Receiver::start(|_, request| status(if request.body.contains("bad") { 422 } else { 204 }));
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\n\
             groups: {{ g: {{ tables: [public.item], rollback: false, retention: 1 hour }} }}\n\
             sinks: {{ hook: {{ webhook: {{ url: \"{}\" }}, max_lag: 2 hours }} }}\n\
             bindings: {{ items: {{ table: public.item, to: hook, message: {{ body: \"{{{{ row.text }}}}\" }} }} }}\n",
            receiver.url()
        ),
    );
    (db, receiver)
}

/// Has all that is in the log be older.
fn age(db: &Database, time: &str) {
    db.psql(&format!(
        "update emaj.public_item_log set emaj_changed = emaj_changed - interval '{time}';
         update emaj.emaj_sink set sink_moved = sink_moved - interval '{time}';
         update emaj.emaj_mark set mark_datetime = mark_datetime - interval '{time}'"
    ));
}

#[test]
fn status_and_doctor_say_how_sinks_are_doing() {
    let (db, _receiver) = scene();
    db.psql("insert into item values (1, 'one'), (2, 'bad')");
    drain(&db).run().code(3);
    db.psql("insert into item values (3, 'three'), (4, 'four')");
    age(&db, "90 minutes");
    let run = prepare(&db, &["status", "-o", "json"]).run().ok();
    let sink = &run.stdout_json()["sinks"][0];
    assert_eq!((&sink["sink"], &sink["state"]), (&"hook".into(), &"active".into()));
    assert_eq!((&sink["changes"], &sink["set_aside"]), (&2.into(), &1.into()));
    assert_eq!(
        (&sink["worker"], &sink["max_lag"]),
        (&serde_json::Value::Null, &7200.0.into())
    );
    let run = prepare(&db, &["status"]).run().ok();
    let line = run.stdout.lines().last().unwrap();
    assert!(
        line.starts_with("hook") && line.contains("none") && line.contains("1 h 30 min"),
        "{run}"
    );

    let run = prepare(&db, &["doctor", "-o", "json"]).run().ok();
    let said = |run: &crate::support::Run| -> Vec<String> {
        let all = run.stdout_json();
        let sinks = all
            .as_array()
            .unwrap()
            .iter()
            .filter(|check| check["what"] == "sink hook");
        sinks
            .map(|check| format!("{} {} > {}", check["level"], check["found"], check["todo"]).replace('"', ""))
            .collect()
    };
    let found = said(&run);
    assert_eq!(found.len(), 2, "{run}");
    assert!(
        found[0].starts_with("warning 2 changes wait, the oldest for 90 min; the log waits for 2 h (`max_lag`)"),
        "{run}"
    );
    assert!(
        found[1].starts_with("warning it did not take 1 change > `emaj failures list --sink hook`"),
        "{run}"
    );
    prepare(&db, &["failures", "discard", "--all", "--yes"]).run().ok();
    // It was away before it was paused, and given up: that is no reason for either.
    db.psql("update emaj.emaj_sink set sink_fault = 'down: away', sink_fault_since = now()");
    let paused = prepare(&db, &["sink", "pause", "hook", "--because", "new disks", "-o", "json"])
        .run()
        .ok();
    let done = serde_json::json!({"sink": "hook", "done": "paused", "reason": "new disks"});
    assert_eq!((paused.stdout_json(), paused.stderr.as_str()), (done, ""));
    let found = said(&prepare(&db, &["doctor", "-o", "json"]).run().ok());
    assert_eq!(
        found[0],
        "warning it is paused: new disks > `emaj sink resume hook` lets it go on"
    );
    for verb in [&["sink", "list"][..], &["status"]] {
        let run = prepare(&db, verb).run().ok();
        assert!(
            run.stdout.contains("new disks") && !run.stdout.contains("away"),
            "{run}"
        );
    }
    db.psql("update emaj.emaj_sink set sink_state = 'LOST', sink_reason = 'it took nothing for 2 h'");
    let found = said(&prepare(&db, &["doctor", "-o", "json"]).run().ok());
    assert!(
        found[0].starts_with("warning it was given up: it took nothing for 2 h > "),
        "{found:?}"
    );
    db.psql("update emaj.emaj_sink set sink_state = 'PAUSED'");
    let resumed = prepare(&db, &["sink", "resume", "hook", "-o", "csv"]).run().ok();
    assert_eq!(resumed.stdout, "sink,done\nhook,resumed\n");
    drain(&db).run().ok();
    let found = said(&prepare(&db, &["doctor", "-o", "json"]).run().ok());
    assert_eq!(found, ["ok everything is delivered > "]);
}

#[test]
fn a_cursor_without_its_log_is_found_and_none_is_set_there() {
    let (db, _receiver) = scene();
    prepare(&db, &["mark", "set", "g", "old"]).run().ok();
    db.psql("insert into item values (1, 'one')");
    drain(&db).run().ok();
    age(&db, "2 hours");
    // The log may go: nobody reads it any more, and it is older than the group's retention.
    assert_eq!(db.psql("select emaj.emaj_purge_group('g')"), "1");
    let run = prepare(&db, &["replay", "hook", "--from", "old", "--yes"])
        .run()
        .code(4);
    assert!(
        run.stderr
            .contains("the log of public.item does not hold all that the sink is owed since mark `old`"),
        "{run}"
    );
    assert_eq!(column(&db, "select sink_state from emaj.emaj_sink"), ["ACTIVE"]);
    prepare(&db, &["mark", "set", "g", "new"]).run().ok();
    drain(&db).run().ok();
    prepare(&db, &["replay", "hook", "--from", "new", "--yes"]).run().ok();
    prepare(&db, &["verify"]).run().ok();

    // The sink is away for too long, and is given up.
    db.psql("insert into item values (2, 'two')");
    age(&db, "3 hours");
    db.psql("select emaj.emaj_purge_group('g')");
    let run = prepare(&db, &["verify"]).run().code(6);
    assert!(
        run.stdout.contains("sink `hook`") && run.stdout.contains("the log behind its cursor is gone"),
        "{run}"
    );
    assert!(
        db.psql("select * from emaj.emaj_verify_all()").contains("emaj init"),
        "{run}"
    );
}

/// All rows of a statement stand at one place of the log; a worker that ends in the middle of it has delivered some of them.
#[test]
fn what_is_left_of_a_statement_is_counted() {
    let db = database();
    db.psql(
        "create table b_first (id int primary key); create table c_second (id text primary key, n int); create table d_keyless (id int)",
    );
    let receiver = Receiver::start(|_, _| status(204));
    let binding = |table: &str| {
        format!("  {table}: {{ table: public.{table}, to: hook, message: {{ body: \"{{{{ row.id }}}}\" }} }}\n")
    };
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ hook: {{ webhook: {{ url: \"{}\" }} }} }}\nbindings:\n{}{}{}",
            receiver.url(),
            binding("b_first"),
            binding("c_second"),
            binding("d_keyless"),
        ),
    );
    let left = || {
        let run = prepare(&db, &["sink", "lag", "emaj.yaml", "-o", "json"]).run().ok();
        let sink = &run.stdout_json()[0];
        (sink["changes"].as_i64().unwrap(), sink["oldest"].is_null())
    };
    for (statement, changes) in [
        ("insert into b_first select generate_series(1, 1300)", 1300),
        (
            "insert into c_second select 'ü/' || n, n from generate_series(1, 1300) n",
            1300,
        ),
        ("update c_second set n = -n where n <= 1200", 1200),
        ("insert into d_keyless select generate_series(1, 1300)", 1300),
        ("update b_first set id = -id", 1300),
        ("delete from c_second", 1300),
        ("truncate b_first", 1300),
    ] {
        db.psql(statement);
        assert_eq!(left(), (changes, false), "{statement}");
        let before = receiver.got().len() as i64;
        let run = drain(&db).env("EMAJ_FAIL_AT", "chunk.noted").run();
        assert!(run.status.is_none(), "{run}");
        let arrived = receiver.got().len() as i64 - before;
        // What a transaction did to keys it changed goes in one.
        assert!(
            0 < arrived && (arrived < changes) != statement.contains("id = -id"),
            "{statement}: {arrived}"
        );
        assert_eq!(
            left(),
            (changes - arrived, arrived == changes),
            "{statement}: {arrived} arrived"
        );
        drain(&db).run().ok();
        assert_eq!(left(), (0, true), "{statement}");
    }
}
