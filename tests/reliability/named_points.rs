//! Killed at each named point of the worker's steps, and started again: nothing is lost, a repeat has the id it had, and a file and another
//! database have everything once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::{drain, install, lines};
use crate::support::receiver::{Receiver, status};
use crate::support::{self, Chance, Database, emaj};

/// Reached by every run that has something to deliver.
pub const ON_THE_WAY: &[&str] = &[
    "sink.opened",
    "window.begun",
    "chunk.fetched",
    "batch.taken",
    "batch.delivered",
    "chunk.delivered",
    "chunk.noted",
    "window.delivered",
    "window.ended",
];
/// Reached when something is refused, and when it is tried again.
pub const ASIDE: &[&str] = &["aside.written", "aside.noted"];
pub const AGAIN: &[&str] = &["retry.delivered", "retry.noted"];

struct Scene {
    db: Database,
    copy: Database,
    receiver: Receiver,
    refuses: Arc<AtomicBool>,
    chance: Chance,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let (db, copy) = (support::database(), support::database());
        db.psql("create table item (id int primary key, n bigint, w text); create sequence n");
        copy.psql("create table item (id int primary key, n bigint, w text)");
        let refuses = Arc::new(AtomicBool::new(true));
        let is_refused = Arc::clone(&refuses);
        let receiver = Receiver::start(move |_, request| {
            let poison = request.body.contains("poison") && is_refused.load(Ordering::Relaxed);
            status(if poison { 422 } else { 204 })
        });
        install(
            &db,
            &format!(
                "sinks:\n  lines: {{ file: {{ path: out.ndjson }} }}\n  copy: {{ postgres: {{ uri: \"{}\" }} }}\n  hook: {{ webhook: {{ url: \"{}\", batch: 10 }} }}\n\
                 bindings:\n  to_lines: {{ table: public.item, to: lines, message: {{}} }}\n  to_copy: {{ table: public.item, to: copy, row: {{ table: public.item }} }}\n  \
                 to_hook: {{ table: public.item, to: hook, message: {{}} }}\n",
                uri(&copy),
                receiver.url()
            ),
        );
        Scene {
            db,
            copy,
            receiver,
            refuses,
            chance: Chance::new(seed),
        }
    }

    /// Writes to some rows, one write a transaction; with `poison`, three times to one that the web service refuses.
    fn write(&mut self, poison: bool) {
        let mut client = self.db.client();
        for _ in 0..30 {
            let id = self.chance.below(40);
            let sql = match self.chance.below(6) {
                0 => format!("delete from item where id = {id}"),
                1 => format!(
                    "update item set n = nextval('n'), id = id + 1000 where id = {id} and not exists (select from item where id = {id} + 1000)"
                ),
                2 => format!("delete from item where id = {id} + 1000"),
                _ => format!(
                    "insert into item values ({id}, nextval('n'), 'x') on conflict (id) do update set n = excluded.n"
                ),
            };
            client.batch_execute(&sql).unwrap();
        }
        if poison {
            let id = 5000 + self.chance.below(1_000_000);
            let id = format!(
                "insert into item values ({id}, nextval('n'), 'poison'); update item set n = nextval('n') where id = {id}; update item set n = nextval('n') where id = {id}"
            );
            for sql in id.split("; ") {
                client.batch_execute(sql).unwrap();
            }
        }
    }

    /// Has the program killed at a point; returns whether it came there.
    fn killed_at(&self, point: &str) -> bool {
        let run = drain(&self.db).env("EMAJ_FAIL_AT", point).run();
        assert!(matches!(run.status, None | Some(0 | 3)), "{point}: {run}");
        run.status.is_none()
    }

    /// Runs it to the end, unattended but for what a person has to look at.
    fn recover(&self, point: &str) {
        let run = drain(&self.db).run();
        assert!(matches!(run.status, Some(0 | 3)), "after {point}: {run}");
        self.refuses.store(false, Ordering::Relaxed);
        emaj(&self.db).args(["failures", "retry", "--all"]).run();
        let run = drain(&self.db).run();
        assert_eq!(run.status, Some(0), "after {point}: {run}");
        self.refuses.store(true, Ordering::Relaxed);
    }

    /// Looks at all three places.
    fn check(&self, point: &str) {
        let rows = "select string_agg(i::text, ' ' order by id) from item i";
        assert_eq!(self.copy.psql(rows), self.db.psql(rows), "{point}: the other database");
        let in_file = lines(&self.db.dir().join("out.ndjson"));
        let ids: HashSet<&str> = in_file.iter().map(|event| event["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), in_file.len(), "{point}: something is in the file twice");
        let wanted: HashMap<String, Value> = in_file
            .iter()
            .map(|event| (name_of(event, "to_lines-"), event["data"].clone()))
            .collect();
        let mut arrived: HashMap<String, Value> = HashMap::new();
        let mut rows: HashMap<String, i64> = HashMap::new();
        for request in self.receiver.got() {
            for event in request.json().as_array().unwrap() {
                let name = name_of(event, "to_hook-");
                if let Some(before) = arrived.insert(name.clone(), event["data"].clone()) {
                    assert_eq!(before, event["data"], "{point}: one id, two events");
                } else if let (Some(id), Some(n)) =
                    (event["data"]["row"]["id"].as_i64(), event["data"]["row"]["n"].as_i64())
                {
                    if request.body.contains("poison") {
                        continue;
                    }
                    let last = rows.insert(id.to_string(), n).unwrap_or(0);
                    assert!(last < n, "{point}: key {id} went from {last} to {n}");
                }
            }
        }
        assert_eq!(arrived.len(), wanted.len(), "{point}: the web service");
        for (name, mut data) in wanted {
            data["binding"] = "to_hook".into();
            assert_eq!(arrived.get(&name), Some(&data), "{point}: {name}");
        }
    }
}

fn name_of(event: &Value, prefix: &str) -> String {
    event["id"].as_str().unwrap().strip_prefix(prefix).unwrap().to_owned()
}

/// A URI that leads to a database over the cluster's socket.
pub fn uri(db: &Database) -> String {
    let host = support::shared_cluster()
        .socket_dir()
        .display()
        .to_string()
        .replace('/', "%2F");
    let cluster = support::shared_cluster();
    format!(
        "postgresql://{}@{host}:{}/{}",
        cluster.superuser(),
        cluster.port(),
        db.name()
    )
}

#[test]
fn killed_at_every_point_nothing_is_lost_and_nothing_is_told_twice_with_another_id() {
    let seed = support::seed();
    let mut scene = Scene::new(seed);
    let (mut kills, mut rounds) = (0, 0);
    for passage in 1..=support::scale(1) {
        for point in ON_THE_WAY.iter().chain(ASIDE).chain(AGAIN) {
            let at = format!("{point}:{passage}");
            scene.write(ASIDE.contains(point) || AGAIN.contains(point));
            if AGAIN.contains(point) {
                assert_eq!(drain(&scene.db).run().status, Some(3), "seed {seed}");
                scene.refuses.store(false, Ordering::Relaxed);
                emaj(&scene.db).args(["failures", "retry", "--all"]).run().ok();
            }
            let killed = scene.killed_at(&at);
            scene.refuses.store(true, Ordering::Relaxed);
            assert!(killed || passage > 1, "{at} was not reached, seed {seed}");
            scene.recover(&at);
            kills += usize::from(killed);
            rounds += 1;
        }
        scene.check(&format!("passage {passage}, seed {seed}"));
    }
    println!(
        "named points: {kills} kills in {rounds} rounds, 3 sinks: all recovered unattended, 0 lost, 0 repeats with another id (seed {seed})"
    );
}
