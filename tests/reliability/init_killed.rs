//! `emaj init` under writers, killed many times: in the end the state outside is that of the table, and no kill costs more than one chunk.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{drain, install, lines};
use crate::support::{self, Chance, emaj};

/// Rows in one chunk.
const CHUNK: usize = 5000;

#[test]
fn killed_again_and_again_init_goes_on_where_it_was() {
    let seed = support::seed();
    let (rows, kills) = (support::scale(17_000), 2 * support::scale(3));
    let db = support::database();
    db.psql(&format!(
        "create table item (id int primary key, n bigint); insert into item select n, 0 from generate_series(1, {rows}) n; create sequence n"
    ));
    install(
        &db,
        "sinks: { lines: { file: { path: out.ndjson } } }\nbindings: { item: { table: public.item, to: lines, message: {} } }\n",
    );
    let stop = AtomicBool::new(false);
    let mut killed = 0;
    std::thread::scope(|scope| {
        for writer in 0..3 {
            let (db, stop) = (&db, &stop);
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
        for number in 0..kills {
            let point = *chance.pick(&[
                "init.delivered",
                "init.noted",
                "batch.delivered",
                "chunk.noted",
                "window.begun:2",
            ]);
            let run = emaj(&db).args(["init", "emaj.yaml"]).env("EMAJ_FAIL_AT", point).run();
            killed += usize::from(run.status.is_none());
            assert!(
                matches!(run.status, None | Some(0)),
                "kill {number} at {point}, seed {seed}: {run}"
            );
        }
        emaj(&db).args(["init", "emaj.yaml"]).run().ok();
        stop.store(true, Ordering::Relaxed);
    });
    drain(&db).run().ok();

    let mut state: BTreeMap<i64, i64> = BTreeMap::new();
    let mut sent = 0;
    for event in lines(&db.dir().join("out.ndjson")) {
        let data = &event["data"];
        sent += usize::from(data["event"] == "init");
        state.remove(&data["old"]["id"].as_i64().unwrap_or(-1));
        if let Some(id) = data["row"]["id"].as_i64() {
            state.insert(id, data["row"]["n"].as_i64().unwrap());
        }
    }
    let wanted: BTreeMap<i64, i64> = db
        .client()
        .query("select id::bigint, n from item", &[])
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    assert!(state == wanted, "the state differs, seed {seed}");
    // A run that was over before its point was reached began anew: its rows count again.
    let whole_runs = 1 + kills - killed;
    let most = whole_runs * (rows + 1000) + killed * CHUNK;
    assert!(sent <= most, "{sent} rows were sent, {killed} kills, seed {seed}");
    println!(
        "init killed: {rows} rows, {killed} kills, {sent} rows sent, at most one chunk again a kill, equal state (seed {seed})"
    );
}
