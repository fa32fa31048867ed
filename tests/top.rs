//! `emaj top`: every committed change is shown in one interval, whoever commits when; it ends as it is asked to.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::shop::Shop;
use crate::support::{Worker, wait_for};

fn shop() -> Shop {
    Shop::open(
        "create schema a; create schema b; create table a.t (id serial primary key, v int); create table b.t (id int primary key); create table b.u (id int primary key)",
        "version: 1\nroles: { admin: null, viewer: null }\ngroups: { one: { tables: [a.*] }, two: { tables: [b.*] } }\n",
    )
}

fn blocks(worker: &Worker) -> Vec<Value> {
    let log = worker.log();
    // The last line may be under way.
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}:\n{log}")))
        .collect()
}

/// Waits for a block that is as it should be, and returns all until then.
fn until(worker: &Worker, what: &str, is: impl Fn(&Value) -> bool) -> Vec<Value> {
    wait_for(what, 120, || {
        let blocks = blocks(worker);
        blocks.iter().any(&is).then_some(blocks)
    })
}

/// What a block says of a table or sequence since the start.
fn total(block: &Value, what: &str, name: &str) -> i64 {
    let lines = block[what].as_array().unwrap();
    let found = lines.iter().find(|line| {
        format!(
            "{}.{}",
            line["schema"].as_str().unwrap(),
            line["name"].as_str().unwrap()
        ) == name
    });
    found.map_or(0, |line| line["total"].as_i64().unwrap())
}

#[test]
fn every_committed_change_is_shown_once() {
    let shop = shop();
    shop.sql("insert into a.t (v) values (0), (0), (0)");
    let mut early = shop.db.client_as(&shop.owner);
    early.batch_execute("begin; insert into b.t values (1), (2)").unwrap();
    let worker = shop.emaj(&["top", "--interval", "100ms", "-o", "json"]).start();
    let first = until(&worker, "the first block", |_| true);
    assert_eq!(
        first[0]["tables"],
        serde_json::json!([]),
        "what was before, and what is not committed"
    );
    assert_eq!(first[0]["groups"].as_array().unwrap().len(), 2);
    // Committed in an interval after the one in which it was written.
    early.batch_execute("commit").unwrap();
    let writers: Vec<_> = (0..3)
        .map(|number| {
            let mut client = shop.db.client_as(&shop.owner);
            std::thread::spawn(move || {
                for n in 0..20 {
                    client
                        .batch_execute(&format!(
                            "insert into a.t (v) values ({number}); update a.t set v = v + 1 where id = {n} % 3 + 1"
                        ))
                        .unwrap();
                    client
                        .batch_execute(&format!(
                            "begin; insert into b.u values ({number} * 100 + {n}); rollback"
                        ))
                        .unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    shop.sql("truncate b.t");
    // 60 inserts and 60 updates; two rows came and were truncated.
    let all = until(&worker, "all changes", |block| {
        total(block, "tables", "a.t") >= 120 && total(block, "tables", "b.t") >= 4
    });
    let last = until(&worker, "one more block", |block| {
        block["since_start"].as_f64() > all.last().unwrap()["since_start"].as_f64()
    });
    let end = last.last().unwrap();
    assert_eq!(
        [
            total(end, "tables", "a.t"),
            total(end, "tables", "b.t"),
            total(end, "tables", "b.u"),
            total(end, "sequences", "a.t_id_seq")
        ],
        [120, 4, 0, 60]
    );
    for group in end["groups"].as_array().unwrap() {
        let name = group["group"].as_str().unwrap();
        assert_eq!(group["total"], if name == "one" { 120 } else { 4 });
        let of_intervals = last.iter().flat_map(|block| block["groups"].as_array().unwrap());
        let sum: i64 = of_intervals
            .filter(|line| line["group"] == name)
            .map(|line| line["changes"].as_i64().unwrap())
            .sum();
        assert_eq!(group["total"], sum, "the intervals add up");
    }
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn it_ends_with_ctrl_c_and_by_itself() {
    let shop = shop();
    let mut worker = shop.emaj(&["top", "one", "--interval", "1h"]).start();
    // It has looked once when its session has been idle after a transaction.
    let looked = "select exists (select from pg_stat_activity where datname = current_database() and state = 'idle' and usename = $1 and query = 'COMMIT')";
    let mut client = shop.db.client();
    wait_for("its first look", 60, || {
        client
            .query_one(looked, &[&shop.owner])
            .unwrap()
            .get::<_, bool>(0)
            .then_some(())
    });
    kill_process(Pid::from_raw(worker.id().cast_signed()).unwrap(), Signal::INT).unwrap();
    assert_eq!(wait_for("its end", 60, || worker.ended()), 0);
    let run = shop.run(&["top", "two", "--interval", "100ms", "--count", "2"]).ok();
    let headings: Vec<&str> = run
        .stdout
        .lines()
        .filter(|line| line.contains(" since the start"))
        .collect();
    assert_eq!(headings.len(), 2, "{run}");
    assert_eq!(
        run.stdout.lines().filter(|line| line.starts_with("group ")).count(),
        2,
        "{run}"
    );
    assert!(!run.stdout.contains('\u{1b}'), "nothing is drawn over in a pipe: {run}");
}

#[test]
fn a_viewer_watches_and_mistakes_are_told() {
    let shop = shop();
    let viewer = format!("{}_viewer", shop.db.name());
    shop.db
        .client()
        .batch_execute(&format!("create role {viewer} login"))
        .unwrap();
    shop.db.file(
        "emaj.yaml",
        &format!("version: 1\nroles: {{ admin: null, viewer: {viewer} }}\ngroups: {{ one: {{ tables: [a.*] }}, two: {{ tables: [b.*] }} }}\n"),
    );
    shop.run(&["install"]).ok();
    shop.sql("insert into a.t (v) values (1)");
    shop.run(&["mark", "set", "one", "m"]).ok();
    let watching = |words: &[&str]| crate::support::emaj(&shop.db).user(&viewer).args(words).run();
    let run = watching(&["top", "--interval", "100ms", "--count", "1", "-o", "json"]).ok();
    assert_eq!(run.stdout_json()["groups"].as_array().unwrap().len(), 2);
    let run = watching(&["stat", "one", "-o", "json"]).ok();
    assert_eq!(run.stdout_json()[0]["changes"], 1, "{run}");
    for words in [
        ["--detailed", "-ocsv"],
        ["--sequences", "-ocsv"],
        ["--intervals", "-ocsv"],
    ] {
        watching(&[&["stat", "one"], &words[..]].concat()).ok();
    }
    let run = watching(&["top", "three"]).code(4);
    assert!(run.stderr.contains("unknown group `three`"), "{run}");
    let run = watching(&["top", "--interval", "5"]).code(64);
    assert!(run.stderr.contains("`5` has no unit: write `5s`"), "{run}");
    let run = watching(&["top", "--interval", "5ms"]).code(64);
    assert!(run.stderr.contains("shorter than 100 ms"), "{run}");
    watching(&["top", "--count", "0"]).code(64);
    watching(&["top", "-o", "csv"]).code(64);
    shop.db
        .client()
        .batch_execute(&format!("drop owned by {viewer}; drop role {viewer}"))
        .unwrap();
}
