//! The order of each key is kept over eight lanes; a transaction that stays open holds up its own keys and no others.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{drain, install, worker};
use crate::support::receiver::{Receiver, status};
use crate::support::{self, Chance, wait_for};

const KEYS: usize = 1000;

/// What has come so far.
struct Arrived<'r> {
    receiver: &'r Receiver,
    /// How many requests have been read.
    requests: usize,
    /// Key and number of each event, in the order of arrival.
    events: Vec<(i64, i64)>,
}

impl Arrived<'_> {
    /// Reads what has come since the last time.
    fn read(&mut self) -> &[(i64, i64)] {
        let requests = self.receiver.since(self.requests);
        self.requests += requests.len();
        // (The sink asks with HEAD whether the service is there at all.)
        for request in requests.iter().filter(|request| request.method == "POST") {
            let body = request.json();
            for event in body.as_array().unwrap_or(&vec![body.clone()]) {
                let row = &event["data"]["row"];
                self.events
                    .push((row["id"].as_i64().unwrap(), row["n"].as_i64().unwrap()));
            }
        }
        &self.events
    }
}

#[test]
fn eight_lanes_keep_the_order_of_each_key() {
    let seed = support::seed();
    let receiver = Receiver::start(|number, _| {
        // Some answers come late: what went out first is not what is answered first.
        if number % 7 == 0 {
            std::thread::sleep(Duration::from_millis(3));
        }
        status(204)
    });
    let db = support::database();
    db.psql(&format!(
        "create table hot (id int primary key, n bigint not null); insert into hot select n, 0 from generate_series(0, {KEYS}) as n"
    ));
    install(
        &db,
        &format!(
            "sinks: {{ hook: {{ webhook: {{ url: \"{}\", connections: 8, batch: 10 }} }} }}\n\
             bindings: {{ hot: {{ table: public.hot, to: hook, message: {{}} }} }}\n",
            receiver.url()
        ),
    );
    let mut long = db.client();
    let mut open = long.transaction().unwrap();
    open.batch_execute("update hot set n = n + 1 where id = 0").unwrap();
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let running = worker(&db).start();
    std::thread::scope(|scope| {
        for writer in 0..6 {
            let (db, stop) = (&db, &stop);
            scope.spawn(move || {
                let (mut client, mut chance) = (db.client(), Chance::new(seed ^ (writer << 32)));
                while !stop.load(Ordering::Relaxed) {
                    // A few keys are written all the time.
                    let id = 1 + if chance.happens(50) {
                        chance.below(8)
                    } else {
                        chance.below(KEYS)
                    };
                    client
                        .batch_execute(&format!("update hot set n = n + 1 where id = {id}"))
                        .unwrap();
                }
            });
        }
        std::thread::sleep(Duration::from_secs(support::scale(3) as u64));
        stop.store(true, Ordering::Relaxed);
    });
    let written: i64 = db
        .client()
        .query_one("select sum(n)::bigint from hot", &[])
        .unwrap()
        .get(0);
    // The long writer is still open, and all the rest arrives.
    let mut arrived = Arrived {
        receiver: &receiver,
        requests: 0,
        events: Vec::new(),
    };
    wait_for("what others wrote", 60 + support::scale(3) as u64, || {
        (arrived.read().len() as i64 >= written).then_some(())
    });
    let took = began.elapsed();
    assert!(
        arrived.events.iter().all(|(id, _)| *id != 0),
        "an uncommitted change arrived"
    );
    open.commit().unwrap();
    wait_for("what the long writer wrote", 30, || {
        arrived.read().contains(&(0, 1)).then_some(())
    });
    assert_eq!(running.stop(), Some(0));
    drain(&db).run().ok();

    let all = arrived.read();
    let mut last: HashMap<i64, i64> = HashMap::new();
    let inversions = all
        .iter()
        .filter(|(id, n)| last.insert(*id, *n).unwrap_or(0) + 1 != *n)
        .count();
    assert_eq!(inversions, 0, "of {} events, seed {seed}", all.len());
    assert_eq!(all.len() as i64, written + 1);
    println!(
        "order: {} events of {} keys, 8 lanes, one long writer open, {:.0} s: 0 inversions (seed {seed})",
        all.len(),
        last.len(),
        took.as_secs_f64()
    );
}
