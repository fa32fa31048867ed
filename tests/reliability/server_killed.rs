//! PostgreSQL goes down at once, and its sessions are ended, under load: the worker comes back by itself, and nothing is lost.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use emaj::cluster::Cluster;
use postgres::{Client, NoTls};

use super::truth::{self, Difference};
use super::{HEAD, lines};
use crate::support::{self, Chance, wait_for};

#[test]
fn the_worker_comes_back_and_nothing_is_lost() {
    let seed = support::seed();
    let cluster = Mutex::new(Cluster::builder().durable().start().unwrap());
    let conninfo = cluster.lock().unwrap().conninfo("postgres");
    let connect = || Client::connect(&conninfo, NoTls);
    connect().unwrap().batch_execute(truth::TABLES).unwrap();
    let directory = tempfile::Builder::new().prefix("emaj-test-").tempdir().unwrap();
    let manifest = format!(
        "{HEAD}sinks: {{ lines: {{ file: {{ path: out.ndjson }} }} }}\nbindings: {{ item: {{ table: app.item, to: lines, message: {{}} }} }}\n"
    );
    std::fs::write(directory.path().join("emaj.yaml"), manifest).unwrap();
    let env = cluster.lock().unwrap().env("postgres");
    let emaj = |args: &[&str]| support::emaj_alone(directory.path()).envs(env.clone()).args(args);
    emaj(&["install"]).run().ok();
    let out = directory.path().join("out.ndjson");
    let mut running = emaj(&["run"]).start();
    let stop = AtomicBool::new(false);
    let mut slowest = Duration::ZERO;
    let rounds = support::scale(3);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (stop, connect) = (&stop, &connect);
            scope.spawn(move || {
                let mut chance = Chance::new(seed ^ (writer << 32));
                while !stop.load(Ordering::Relaxed) {
                    let Ok(mut client) = connect() else {
                        std::thread::sleep(Duration::from_millis(50));
                        continue;
                    };
                    while !stop.load(Ordering::Relaxed) && truth::transact(&mut client, &mut chance, None).is_ok() {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                }
            });
        }
        for round in 0..rounds {
            std::thread::sleep(Duration::from_millis(700));
            if round % 3 == 1 {
                let sql = "select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()";
                connect().unwrap().batch_execute(sql).unwrap();
            } else {
                let mut cluster = cluster.lock().unwrap();
                cluster.stop_immediate().unwrap();
                cluster.start_again().unwrap();
            }
            let back = Instant::now();
            let mut client = connect().unwrap();
            let id = 100_000 + round;
            client
                .batch_execute(&format!("insert into app.item (id, w) values ({id}, 'after')"))
                .unwrap();
            let needle = format!("\"id\":{id},");
            wait_for("what was written after the fault", 60, || {
                std::fs::read_to_string(&out)
                    .unwrap_or_default()
                    .contains(&needle)
                    .then_some(())
            });
            slowest = slowest.max(back.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(running.is_running(), "{}", running.log());
    assert_eq!(running.stop(), Some(0));
    emaj(&["run", "--until-empty"]).run().ok();
    let done = truth::done(&mut connect().unwrap());
    let told: Vec<String> = lines(&out).iter().map(truth::told).collect();
    assert_eq!(truth::compare(&done, &told), Difference::default(), "seed {seed}");
    assert_eq!(truth::inversions(&told), 0, "seed {seed}");
    // (The target is 10 s on a machine of one's own.)
    assert!(slowest < Duration::from_secs(30), "back after {slowest:?}");
    println!(
        "server killed: {rounds} faults, {} events: 0 lost, 0 invented, 0 twice; back within {:.1} s (seed {seed})",
        told.len(),
        slowest.as_secs_f64()
    );
}
