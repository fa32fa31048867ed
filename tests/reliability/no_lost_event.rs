//! No event is lost and none invented: writers with aborts, savepoints and prepared transactions, commits in any order, and a worker
//! that is killed again and again meanwhile; what arrived is held against a record that the application keeps itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use emaj::cluster::Cluster;
use postgres::{Client, NoTls};
use serde_json::{Value, json};

use super::truth::{self, Difference};
use super::{HEAD, is_long, lines};
use crate::support::nats::Nats;
use crate::support::{self, Chance};

#[test]
fn what_was_committed_arrives_and_nothing_else() {
    let seed = support::seed();
    let settings = [("max_prepared_transactions", "70"), ("max_connections", "150")];
    let cluster = Cluster::builder().settings(settings).start().unwrap();
    let client = || Client::connect(&cluster.conninfo("postgres"), NoTls).unwrap();
    client().batch_execute(truth::TABLES).unwrap();
    let nats = Nats::start();
    nats.stream("ITEMS", &["items.>"], json!({}));
    let directory = tempfile::Builder::new().prefix("emaj-test-").tempdir().unwrap();
    let manifest = format!(
        "{HEAD}sinks:\n  lines: {{ file: {{ path: out.ndjson }} }}\n  bus: {{ nats: {{ url: \"{}\", stream: ITEMS }} }}\n\
         bindings:\n  to_lines: {{ table: app.item, to: lines, message: {{}} }}\n  \
         to_bus: {{ table: app.item, to: bus, message: {{ subject: \"items.{{{{ row.id }}}}\" }} }}\n",
        nats.url()
    );
    std::fs::write(directory.path().join("emaj.yaml"), manifest).unwrap();
    let emaj = |args: &[&str]| {
        support::emaj_alone(directory.path())
            .envs(cluster.env("postgres"))
            .args(args)
    };
    emaj(&["install"]).run().ok();

    let stop = AtomicBool::new(false);
    let writers = if is_long() { 64 } else { 12 };
    let time = Duration::from_secs(support::scale(4) as u64);
    let began = Instant::now();
    let mut kills = 0;
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let (stop, client) = (&stop, &client);
            scope.spawn(move || {
                let (mut client, mut chance) = (client(), Chance::new(seed ^ (writer << 32)));
                while !stop.load(Ordering::Relaxed) {
                    if let Err(error) = truth::transact(&mut client, &mut chance, Some(&format!("two-{writer}"))) {
                        // PostgreSQL's own answer to writers in each other's way.
                        assert!(error.code().is_some_and(|code| code.code() == "40P01"), "{error:?}");
                        client.batch_execute("rollback").unwrap();
                    }
                }
            });
        }
        let mut chance = Chance::new(seed);
        while began.elapsed() < time {
            let worker = emaj(&["run"]).start();
            std::thread::sleep(Duration::from_millis(400 + chance.below(1200) as u64));
            worker.kill();
            kills += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    emaj(&["run", "--until-empty"]).run().ok();
    let took = began.elapsed();

    let done = truth::done(&mut client());
    let in_file: Vec<String> = lines(&directory.path().join("out.ndjson"))
        .iter()
        .map(truth::told)
        .collect();
    let bodies = nats
        .messages("ITEMS")
        .into_iter()
        .map(|(_, _, body)| serde_json::from_str::<Value>(&body).unwrap());
    let in_stream: Vec<String> = bodies.map(|event| truth::told(&event)).collect();
    for (place, told) in [("file", &in_file), ("NATS", &in_stream)] {
        assert_eq!(
            truth::compare(&done, told),
            Difference::default(),
            "{place}, seed {seed}"
        );
        assert_eq!(truth::inversions(told), 0, "{place}, seed {seed}");
    }
    assert!(done.len() > 500, "only {} events", done.len());
    println!(
        "no lost event: {} events of {writers} writers, 2 sinks, {kills} kills, {:.0} s: 0 missing, 0 invented, 0 twice, 0 inversions (seed {seed})",
        done.len(),
        took.as_secs_f64()
    );
}
