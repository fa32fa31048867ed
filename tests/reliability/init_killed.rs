//! `emaj init` under writers, killed many times: in the end the state outside is that of the table, and no kill costs more than one part.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::named_points::uri;
use super::{drain, install, lines};
use crate::support::{self, Chance, Database, emaj};

/// Rows in one part: as JSON, and as text.
const PART: usize = 5000;
const COPIED: usize = 50_000;
/// Single writes a second, by as many writers with a pause of 4 ms each.
const WRITERS: u64 = 2;

/// Rows, and kills: ten in a long run.
fn size() -> (usize, usize) {
    (support::scale(17_000), (6 * support::scale(1)).min(10))
}

/// Sends the rows of `item` under writers and kills, until a run comes to its end. Returns how many runs were killed.
fn init_under_kills(db: &Database, rows: usize, kills: usize, part: usize, seed: u64) -> usize {
    let stop = AtomicBool::new(false);
    let mut killed = 0;
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let stop = &stop;
            scope.spawn(move || {
                let (mut client, mut chance) = (db.client(), Chance::new(seed ^ (writer << 32)));
                while !stop.load(Ordering::Relaxed) {
                    let id = 1 + chance.below(rows + 1000);
                    let sql = match chance.below(4) {
                        0 => format!("delete from item where id = {id}"),
                        1 => format!("insert into item values ({id}, nextval('n')) on conflict do nothing"),
                        _ => format!("update item set n = nextval('n') where id = {id}"),
                    };
                    client.batch_execute(&sql).unwrap();
                    std::thread::sleep(Duration::from_millis(4));
                }
            });
        }
        let mut chance = Chance::new(seed);
        // So far that all kills together may come to the last row.
        let furthest = (rows / part / kills.max(1)).max(1);
        for number in 0..kills {
            let point = *chance.pick(&[
                "init.delivered",
                "init.noted",
                "batch.delivered",
                "chunk.noted",
                "window.begun:2",
            ]);
            let point = match point.starts_with("init") {
                true => format!("{point}:{}", 1 + chance.below(furthest)),
                false => point.to_owned(),
            };
            let run = emaj(db).args(["init", "emaj.yaml"]).env("EMAJ_FAIL_AT", &point).run();
            killed += usize::from(run.status.is_none());
            assert!(
                matches!(run.status, None | Some(0)),
                "kill {number} at {point}, seed {seed}: {run}"
            );
        }
        emaj(db).args(["init", "emaj.yaml"]).run().ok();
        stop.store(true, Ordering::Relaxed);
    });
    drain(db).run().ok();
    killed
}

fn items(rows: usize) -> Database {
    let db = support::database();
    db.psql(&format!(
        "create table item (id int primary key, n bigint); insert into item select n, 0 from generate_series(1, {rows}) n; create sequence n"
    ));
    db
}

fn state(db: &Database) -> BTreeMap<i64, i64> {
    let rows = db.client().query("select id::bigint, n from item", &[]).unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[test]
fn killed_again_and_again_init_goes_on_where_it_was() {
    let seed = support::seed();
    let (rows, kills) = size();
    let db = items(rows);
    install(
        &db,
        "sinks: { lines: { file: { path: out.ndjson } } }\nbindings: { item: { table: public.item, to: lines, message: {} } }\n",
    );
    let killed = init_under_kills(&db, rows, kills, PART, seed);
    let mut told: BTreeMap<i64, i64> = BTreeMap::new();
    let mut sent = 0;
    for event in lines(&db.dir().join("out.ndjson")) {
        let data = &event["data"];
        sent += usize::from(data["event"] == "init");
        told.remove(&data["old"]["id"].as_i64().unwrap_or(-1));
        if let Some(id) = data["row"]["id"].as_i64() {
            told.insert(id, data["row"]["n"].as_i64().unwrap());
        }
    }
    assert!(told == state(&db), "the state differs, seed {seed}");
    // A run that was over before its point was reached began anew: its rows count again.
    let whole_runs = 1 + kills - killed;
    let most = whole_runs * (rows + 1000) + killed * PART;
    assert!(sent <= most, "{sent} rows were sent, {killed} kills, seed {seed}");
    println!(
        "init killed: {rows} rows, {killed} kills, {sent} rows sent, at most one part again a kill, equal state (seed {seed})"
    );
}

#[test]
fn killed_again_and_again_rows_are_copied_to_the_end() {
    let seed = support::seed();
    let (rows, kills) = size();
    let (db, copy) = (items(rows), support::database());
    copy.psql("create table item (id int primary key, n bigint)");
    install(
        &db,
        &format!(
            "sinks: {{ copy: {{ postgres: {{ uri: \"{}\" }} }} }}\nbindings: {{ item: {{ table: public.item, to: copy, row: {{}} }} }}\n",
            uri(&copy)
        ),
    );
    let killed = init_under_kills(&db, rows, kills, COPIED, seed);
    assert!(state(&copy) == state(&db), "the state differs, seed {seed}");
    println!("init killed: {rows} rows into another database, {killed} kills, equal state (seed {seed})");
}
