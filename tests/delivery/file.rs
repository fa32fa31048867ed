//! Into a file: which changes arrive, in which order, how often.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{drain, install};
use crate::support::{Database, database, emaj, peak_of, wait_for};

const MANIFEST: &str = "
version: 1
roles: { admin: null, viewer: null }
sinks:
  lines: { file: { path: out.ndjson } }
bindings:
  people: { table: public.person, to: lines, message: {} }
";

fn lines(db: &Database) -> Vec<Value> {
    let text = std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect()
}

/// Event, row and old row of each line.
fn data(db: &Database) -> Vec<Value> {
    lines(db)
        .iter()
        .map(|line| json!([line["data"]["event"], line["data"]["row"], line["data"]["old"]]))
        .collect()
}

#[test]
fn lines_on_standard_output_are_all_that_is_there() {
    let db = database();
    db.psql("create table person (id int primary key, name text)");
    install(&db, &MANIFEST.replace("path: out.ndjson", "path: '-'"));
    let mut told = HashSet::new();
    for (sql, expected) in [
        (
            "insert into person values (1, 'Ann'), (2, 'Bob')",
            &[("insert", 1), ("insert", 2)][..],
        ),
        ("update person set name = 'Rob' where id = 2", &[("update", 2)]),
        ("select", &[]),
        ("insert into person values (3, E'two\\nlines')", &[("insert", 3)]),
    ] {
        db.psql(sql);
        let run = drain(&db).run().ok();
        let events: Vec<Value> = run
            .stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let data = |event: &Value| (event["data"]["event"].clone(), event["data"]["row"]["id"].clone());
        let wanted: Vec<_> = expected.iter().map(|(event, id)| (json!(event), json!(id))).collect();
        assert_eq!(events.iter().map(data).collect::<Vec<_>>(), wanted, "{run}");
        assert!(events.iter().all(|event| told.insert(event["id"].to_string())), "{run}");
    }
}

#[test]
fn changes_arrive_once_and_in_order() {
    let db = database();
    db.psql("create table person (id int primary key, name text); insert into person values (1, 'Ann')");
    install(&db, MANIFEST);
    drain(&db).run().ok();
    assert_eq!(data(&db), [] as [Value; 0], "rows that were there before are init's");

    db.psql("insert into person values (2, 'Bob')");
    db.psql("update person set name = 'Rob' where id = 2");
    db.psql("update person set name = name; delete from person where id = 1");
    drain(&db).run().ok();
    let expected = [
        json!(["insert", {"id": 2, "name": "Bob"}, null]),
        json!(["update", {"id": 2, "name": "Rob"}, {"id": 2, "name": "Bob"}]),
        json!(["delete", null, {"id": 1, "name": "Ann"}]),
    ];
    assert_eq!(data(&db), expected);
    drain(&db).run().ok();
    assert_eq!(data(&db), expected, "a second run delivers nothing");
    let ids: Vec<String> = lines(&db).iter().map(|line| line["id"].to_string()).collect();
    assert_eq!(ids.len(), ids.iter().collect::<HashSet<_>>().len(), "{ids:?}");
}

/// CloudEvents wants a reference to a URI there.
#[test]
fn the_source_of_an_event_is_the_path_of_a_uri() {
    let db = database();
    db.psql("create table person (id int primary key, name text)");
    install(
        &db,
        &MANIFEST.replace("version: 1\n", "version: 1\nschema: '\"my Sch%41 é\"'\n"),
    );
    db.psql("insert into person values (1, 'Ann')");
    drain(&db).run().ok();
    let lines = lines(&db);
    let source = lines[0]["source"].as_str().unwrap();
    let parts: Vec<&str> = source.split('/').collect();
    assert!(
        parts.len() == 5 && parts[..2] == ["", "emaj"] && parts[3] == "my%20Sch%2541%20%C3%A9",
        "{source}"
    );
    db.psql("insert into person values (2, 'Bob')");
    drain(&db).run().ok();
    assert_eq!(data(&db).len(), 2);
}

#[test]
fn what_a_transaction_took_back_is_never_seen() {
    let db = database();
    db.psql("create table person (id int primary key, name text)");
    install(&db, MANIFEST);
    db.psql("begin; insert into person values (1, 'never'); rollback");
    db.psql(
        "begin; insert into person values (2, 'kept'); savepoint s; update person set name = 'never' where id = 2;
         insert into person values (3, 'never'); rollback to s; insert into person values (4, 'a'); update person set name = 'b' where id = 4; commit",
    );
    let mut late = db.client();
    let mut late = late.transaction().unwrap();
    late.batch_execute("insert into person values (5, 'late')").unwrap();
    db.psql("insert into person values (6, 'early')");
    drain(&db).run().ok();
    late.batch_execute("insert into person values (7, 'late')").unwrap();
    late.commit().unwrap();
    drain(&db).run().ok();
    let names: Vec<Value> = data(&db).iter().map(|line| line[1]["name"].clone()).collect();
    assert_eq!(
        names,
        [json!("kept"), json!("b"), json!("early"), json!("late"), json!("late")]
    );
}

#[test]
fn changed_keys_truncates_and_rollbacks_arrive_too() {
    let db = database();
    db.psql("create table person (id int primary key deferrable, name text)");
    install(
        &db,
        &MANIFEST.replace("sinks:", "groups: { g: { tables: [public.person] } }\nsinks:"),
    );
    db.psql("insert into person values (1, 'a'), (2, 'b')");
    emaj(&db).args(["mark", "set", "g", "here"]).run().ok();
    db.psql("update person set id = 3 - id");
    db.psql("update person set id = 9 where id = 1");
    db.psql("truncate person");
    drain(&db).run().ok();
    let all = data(&db);
    assert_eq!(all.len(), 7, "{all:#?}");
    assert_eq!(
        all[4],
        json!(["update", {"id": 9, "name": "b"}, {"id": 1, "name": "b"}])
    );
    assert_eq!([&all[5][0], &all[6][0]], ["delete", "delete"]);

    emaj(&db).args(["rollback", "g", "here", "--yes"]).run().ok();
    drain(&db).run().ok();
    let mut back: Vec<Value> = data(&db)[7..].iter().map(|line| line[1].clone()).collect();
    back.sort_by_key(|row| row["id"].as_i64());
    assert_eq!(back, [json!({"id": 1, "name": "a"}), json!({"id": 2, "name": "b"})]);

    db.psql("delete from person where id = 1");
    emaj(&db)
        .args(["rollback", "g", "here", "--yes", "--unlogged"])
        .run()
        .ok();
    drain(&db).run().ok();
    let last: Vec<Value> = data(&db)[9..].iter().map(|line| line[0].clone()).collect();
    assert_eq!(
        last,
        ["delete", "insert"],
        "an unlogged rollback of a bound table is delivered as well"
    );
}

#[test]
fn init_sends_the_rows_that_were_there() {
    let db = database();
    db.psql("create table person (id int primary key, name text); insert into person select n, 'p' || n from generate_series(1, 12345) as n");
    install(&db, MANIFEST);
    db.psql("update person set name = 'changed' where id = 12345");
    emaj(&db).args(["init", "emaj.yaml"]).run().ok();
    drain(&db).run().ok();
    let all = data(&db);
    let inits = all.iter().filter(|line| line[0] == "init").count();
    assert_eq!((all.len(), inits), (12346, 12345));
    let last = all.iter().rfind(|line| line[1]["id"] == 12345).unwrap();
    assert_eq!(last[1]["name"], "changed");
}

#[test]
fn a_replay_has_what_the_transaction_of_the_mark_wrote_after_it() {
    let db = database();
    db.psql("create table person (id int primary key, name text)");
    install(&db, MANIFEST);
    let group = db.psql("select group_name from emaj.emaj_group");
    let mut client = db.client();
    let mut own = client.transaction().unwrap();
    own.execute("insert into person values (1, 'before')", &[]).unwrap();
    // A younger transaction is over when the mark is set: the mark's snapshot ends behind both.
    db.psql("insert into person values (2, 'beside')");
    own.execute("select emaj.emaj_set_mark_group($1, 'm')", &[&group])
        .unwrap();
    own.execute("insert into person values (3, 'after')", &[]).unwrap();
    own.commit().unwrap();
    drain(&db).run().ok();
    assert_eq!(lines(&db).len(), 3);
    emaj(&db).args(["replay", "lines", "--from", "m", "--yes"]).run().ok();
    drain(&db).run().ok();
    let again: Vec<Value> = data(&db).split_off(3);
    assert_eq!(again, [json!(["insert", { "id": 3, "name": "after" }, null])]);
}

#[test]
fn a_file_that_is_removed_under_the_worker_loses_nothing() {
    let db = database();
    db.psql("create table person (id int primary key, name text)");
    install(&db, MANIFEST);
    let worker = super::worker(&db).start();
    db.psql("insert into person values (1, 'Ann')");
    wait_for("the first line", 60, || (lines(&db).len() == 1).then_some(()));
    let (path, elsewhere) = (db.dir().join("out.ndjson"), db.dir().join("elsewhere"));
    // What is not noted yet comes again, into another file.
    let noted = format!("\"length\":{}", std::fs::metadata(&path).unwrap().len());
    wait_for("its note", 60, || {
        let note = std::fs::read_to_string(db.dir().join("out.ndjson.emaj")).unwrap();
        note.contains(&noted).then_some(())
    });
    // (A copy: what goes into the removed file must not come back with it.)
    std::fs::copy(&path, &elsewhere).unwrap();
    std::fs::remove_file(&path).unwrap();
    db.psql("insert into person values (2, 'Bob')");
    wait_for("what is said of it", 60, || {
        worker.log().contains("somebody moved or cut it").then_some(())
    });
    std::fs::rename(&elsewhere, &path).unwrap();
    wait_for("the second line", 60, || (lines(&db).len() == 2).then_some(()));
    assert_eq!(worker.stop(), Some(0));
    let events: Vec<Value> = lines(&db)
        .iter()
        .map(|line| line["data"]["row"]["id"].clone())
        .collect();
    assert_eq!(events, [1, 2]);
}

#[test]
fn an_event_without_a_type_is_no_event() {
    let db = database();
    db.psql("create table person (id int primary key, kind text)");
    install(
        &db,
        &MANIFEST.replace(
            "message: {}",
            "message: { type: \"{{ row.kind }}\", key: \"{{ row.kind[:2] }}\" }",
        ),
    );
    db.psql("insert into person values (1, 'born'), (2, ''), (3, 'x')");
    drain(&db).run().code(3);
    let types: Vec<Value> = lines(&db)
        .iter()
        .map(|line| json!([line["type"], line["subject"]]))
        .collect();
    assert_eq!(types, [json!(["born", "bo"]), json!(["x", "x"])]);
    let said = emaj(&db).args(["failures", "list"]).run().ok().stdout;
    assert!(said.contains("`type` gives an empty text"), "{said}");
    // An empty key is no subject; with a body of its own a message is no event.
    install(
        &db,
        &MANIFEST.replace("message: {}", "message: { key: \"{{ row.kind }}\" }"),
    );
    emaj(&db).args(["failures", "retry", "--all"]).run().ok();
    drain(&db).run().ok();
    let last = lines(&db).pop().unwrap();
    assert_eq!(
        (&last["type"], last.get("subject")),
        (&json!("public.person.insert"), None),
        "{last}"
    );
}

#[test]
fn rows_without_a_key_come_once_wherever_their_log_is_stored() {
    let db = database();
    // (What is said of its rows is not the same in every session.)
    db.psql("create table item (v text, at timestamptz default now(), part float8 default 1/3.0)");
    db.psql(&format!("alter database {} set timezone = 'Asia/Tokyo'", db.name()));
    install(
        &db,
        "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: out.ndjson } } }\n\
         bindings: { items: { table: public.item, to: lines, message: {} } }\n",
    );
    db.psql("insert into item select 'old ' || n from generate_series(1, 300) n");
    drain(&db).run().ok();
    // More than go at once, each of them twice.
    db.psql("insert into item select 'new ' || n / 2 from generate_series(0, 1999) n");
    drain(&db).env("EMAJ_FAIL_AT", "chunk.noted").run();
    let there = lines(&db).len();
    assert!(300 < there && there < 2_300, "{there}");
    let lag = emaj(&db).args(["sink", "lag", "-o", "json"]).run().ok().stdout_json();
    let left = usize::try_from(lag[0]["changes"].as_u64().unwrap()).unwrap();
    assert!(left.abs_diff(2_300 - there) <= 1, "{left} of {there}");
    // Its rows move to other places of another file.
    let log = db.psql("select format('emaj.%I', rel_log) from emaj.emaj_relation");
    db.psql(&format!("delete from {log} where v like 'old%'"));
    db.psql(&format!("vacuum full {log}"));
    drain(&db).run().ok();
    let mut new: Vec<String> = lines(&db)[300..]
        .iter()
        .map(|line| line["data"]["row"]["v"].to_string())
        .collect();
    new.sort();
    let mut expected: Vec<String> = (0..2_000).map(|n| format!("\"new {}\"", n / 2)).collect();
    expected.sort();
    assert_eq!(new, expected);
    let ids: std::collections::HashSet<String> = lines(&db).iter().map(|line| line["id"].to_string()).collect();
    assert_eq!(ids.len(), 2_300);
    // Rows that are updated and deleted have ids of their own as well.
    db.psql("update item set v = 'x' where v like 'old%'; delete from item where v = 'x'");
    drain(&db).run().ok();
    let ids: std::collections::HashSet<String> = lines(&db).iter().map(|line| line["id"].to_string()).collect();
    assert_eq!(ids.len(), lines(&db).len());
}

#[test]
fn what_is_tried_again_sets_nothing_back() {
    let db = database();
    db.psql("create table item (id int primary key, n numeric)");
    let manifest = |n: &str| {
        "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: out.ndjson } } }\n\
         bindings: { items: { table: public.item, to: lines, message: { body: '[{{ row.id }}, {{ N }}]' } } }\n"
            .replace('N', n)
    };
    install(&db, &manifest("row.n / 1"));
    db.psql("insert into item values (1, 1), (2, null)");
    drain(&db).run().code(3);
    install(&db, &manifest("row.n | default(0, true)"));
    db.psql("insert into item values (3, 3), (4, 4)");
    // Delivered and not noted; then what was set aside is delivered, and these come again.
    let killed = drain(&db).env("EMAJ_FAIL_AT", "chunk.delivered").run();
    assert_eq!(killed.status, None, "{killed}");
    emaj(&db).args(["failures", "retry", "--all"]).run().ok();
    let killed = drain(&db).env("EMAJ_FAIL_AT", "chunk.delivered").run();
    assert_eq!(killed.status, None, "{killed}");
    drain(&db).run().ok();
    let ids: Vec<Value> = lines(&db).iter().map(|line| line[0].clone()).collect();
    assert_eq!(ids, [1, 3, 4, 2]);
}

#[test]
fn what_others_added_between_two_runs_is_said_when_it_is_cut_off() {
    let db = database();
    db.psql("create table person (id int primary key, name text)");
    install(&db, MANIFEST);
    db.psql("insert into person values (1, 'Ann')");
    drain(&db).run().ok();
    let path = db.dir().join("out.ndjson");
    let written = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{written}{{\"mine\":1}}\n")).unwrap();
    db.psql("insert into person values (2, 'Bob')");
    let run = drain(&db).run().ok();
    let said = format!(
        "has {} bytes where {1} were written: what is behind the {1} is cut off",
        written.len() + 11,
        written.len()
    );
    assert!(run.stderr.contains(&said), "{run}");
    assert_eq!(lines(&db).len(), 2);
    let run = drain(&db).run().ok();
    assert!(!run.stderr.contains("cut off"), "{run}");
}

#[test]
fn long_keys_arrive_and_are_gone_on_behind() {
    let db = database();
    db.psql("create table person (id text primary key, name text)");
    install(&db, MANIFEST);
    // (More than are fetched at once, in one statement: they have one place in the WAL.)
    db.psql("insert into person select repeat('x', 5000) || n, 'n' || n from generate_series(1, 700) n");
    let killed = drain(&db).env("EMAJ_FAIL_AT", "chunk.noted").run();
    assert_eq!(killed.status, None, "{killed}");
    let left: u64 = 700 - lines(&db).len() as u64;
    assert!((1..700).contains(&left), "{left}");
    let lag = emaj(&db).args(["sink", "lag", "-o", "json"]).run().ok().stdout_json();
    assert_eq!(lag[0]["changes"], left, "{lag}");
    drain(&db).run().ok();
    let mut names: Vec<String> = lines(&db)
        .iter()
        .map(|line| line["data"]["row"]["name"].to_string())
        .collect();
    assert_eq!(names.len(), 700);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 700, "each of them once");
}

#[test]
fn what_was_set_aside_is_there_once_when_the_worker_is_killed_behind_its_line() {
    for kind in [
        "message: { body: '[{{ row.id }}, {{ N }}]' }",
        "row: { columns: { id: row.id, n: \"N\" } }",
    ] {
        let db = database();
        db.psql("create table item (id int primary key, n numeric)");
        let manifest = |n: &str| {
            let items = kind.replace('N', n);
            format!(
                "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ lines: {{ file: {{ path: out.ndjson }} }} }}\n\
                 bindings: {{ items: {{ table: public.item, to: lines, {items} }} }}\n"
            )
        };
        install(&db, &manifest("row.n / 1"));
        db.psql("insert into item values (1, null)");
        drain(&db).run().code(3);
        install(&db, &manifest("row.n | default(0, true)"));
        emaj(&db).args(["failures", "retry", "--all"]).run().ok();
        let killed = drain(&db).env("EMAJ_FAIL_AT", "retry.delivered").run();
        assert_eq!(killed.status, None, "{killed}");
        assert_eq!(lines(&db).len(), 1);
        drain(&db).run().ok();
        assert_eq!(lines(&db).len(), 1, "{kind}");
    }
}

#[test]
fn a_file_at_its_limit_of_size_is_down_and_the_others_go_on() {
    let db = database();
    db.psql("create table person (id int primary key, name text)");
    let other = "  beside: { file: { path: beside.ndjson } }\nbindings:\n  ids: { table: public.person, to: beside, message: { body: \"{{ row.id }}\" } }\n";
    install(&db, &MANIFEST.replace("bindings:\n", other));
    db.psql("insert into person select n, repeat('x', 1000) from generate_series(1, 40) n");
    let run = drain(&db).with_files_up_to(20_000).run().code(13);
    assert!(run.stderr.contains("sink `lines` is down"), "{run}");
    let beside = std::fs::read_to_string(db.dir().join("beside.ndjson")).unwrap();
    assert_eq!(beside.lines().count(), 40, "{run}");
    drain(&db).run().ok();
    assert_eq!(lines(&db).len(), 40);
}

/// How wide rows are is seen only when they are there: what is read at once is what there is room for, whatever stood before it. Behind narrow rows, and among them.
#[test]
fn wide_rows_behind_narrow_ones_take_little_memory() {
    for (wide, is_wide) in [(500_000, "n > 1500"), (200_000, "n % 100 > 70")] {
        let db = database();
        db.psql("create table person (id int primary key, name text)");
        install(&db, MANIFEST);
        db.psql(&format!(
            "insert into person select n, repeat('x', case when {is_wide} then {wide} else 1 end) from generate_series(1, 1700) n"
        ));
        db.psql("update person set name = 'y' where id in (1, 1699); insert into person select n, 'z' from generate_series(1701, 2400) n");
        let mut peak = 0;
        drain(&db).run_while(|pid| peak = peak_of(pid)).ok();
        assert!(peak > 0 && peak <= 128 << 10, "{peak} kB where {is_wide}");
        let text = std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap();
        let mut ids: Vec<i64> = text
            .lines()
            .map(|line| {
                serde_json::from_str::<Value>(line).unwrap()["data"]["row"]["id"]
                    .as_i64()
                    .unwrap()
            })
            .collect();
        // (What one statement wrote is in the order of the keys' texts.)
        assert!(ids[..1700].iter().all(|id| *id <= 1700));
        ids.sort_unstable();
        let mut expected: Vec<i64> = (1..=2400).chain([1, 1699]).collect();
        expected.sort_unstable();
        assert!(ids == expected, "{} lines where {is_wide}", ids.len());
    }
}
