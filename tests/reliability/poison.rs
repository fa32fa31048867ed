//! One that is refused does not hold up the others: keys beside a poisoned one cost few requests more, and sinks beside a dead one do not
//! wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{drain, install, sink_list, wait_for_lines, worker};
use crate::support::receiver::{Receiver, status};
use crate::support::{self, emaj, wait_for};

#[test]
fn the_other_keys_arrive_and_what_is_refused_costs_few_requests() {
    // (One in 10,000 in the long form.)
    let (rows, every) = if super::is_long() {
        (support::scale(2_000).min(100_000), 10_000)
    } else {
        (2_000, 100)
    };
    let receiver = Receiver::start(|_, request| status(if request.body.contains("poison") { 422 } else { 204 }));
    let db = support::database();
    db.psql("create table item (id int primary key, name text)");
    install(
        &db,
        &format!(
            "sinks: {{ hook: {{ webhook: {{ url: \"{}\", batch: 50 }} }} }}\nbindings: {{ item: {{ table: public.item, to: hook, message: {{}} }} }}\n",
            receiver.url()
        ),
    );
    let events = || -> usize {
        receiver
            .got()
            .iter()
            .filter(|request| !request.body.contains("poison"))
            .map(|request| request.json().as_array().unwrap().len())
            .sum()
    };
    let mut rates = [Vec::new(), Vec::new()];
    let mut from = 0;
    for round in 0..6 {
        let poisoned = round % 2;
        let name = if poisoned == 1 {
            format!("case when n % {every} = 7 then 'poison' else 'fine' end")
        } else {
            "'fine'".to_owned()
        };
        db.psql(&format!(
            "insert into item select n, {name} from generate_series({}, {}) n",
            from + 1,
            from + rows
        ));
        from += rows;
        let (before, began) = (events(), Instant::now());
        let run = drain(&db).run();
        rates[poisoned].push((events() - before) as f64 / began.elapsed().as_secs_f64());
        assert!(matches!(run.status, Some(0 | 3)), "{run}");
    }
    let set_aside: i64 = db.psql("select count(*) from emaj.emaj_failure").parse().unwrap();
    let poison: i64 = db
        .psql("select count(*) from item where name = 'poison'")
        .parse()
        .unwrap();
    assert_eq!(set_aside, poison);
    assert_eq!(events() as i64, from as i64 - poison);
    let ratio = best(&rates[1]) / best(&rates[0]);
    let requests = receiver.got().len();
    println!(
        "poison: {poison} of {from} refused, {requests} requests, the others at {:.0}% of their speed",
        ratio * 100.0
    );
    // What is refused is found by halves: some requests each, and not one for each row beside it.
    let most = from / 50 * 2 + poison as usize * 16;
    assert!(requests <= most, "{requests} requests, {most} at most");
}

#[test]
fn the_other_sinks_come_to_the_end_while_one_does_not_answer() {
    let rows = support::scale(20_000).min(500_000);
    let mut rates = [Vec::new(), Vec::new()];
    for round in 0..4 {
        let dead = round % 2;
        let is_dead = Arc::new(AtomicBool::new(dead == 1));
        let third = Receiver::start({
            let is_dead = Arc::clone(&is_dead);
            move |_, _| {
                while is_dead.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(10));
                }
                status(204)
            }
        });
        let db = support::database();
        db.psql("create table item (id int primary key, name text)");
        install(
            &db,
            &format!(
                "sinks:\n  one: {{ file: {{ path: one.ndjson }} }}\n  two: {{ file: {{ path: two.ndjson }} }}\n  three: {{ webhook: {{ url: \"{}\", batch: 1000, timeout: 600 }} }}\n\
                 bindings:\n  to_one: {{ table: public.item, to: one, message: {{}} }}\n  to_two: {{ table: public.item, to: two, message: {{}} }}\n  to_three: {{ table: public.item, to: three, message: {{}} }}\n",
                third.url()
            ),
        );
        db.psql(&format!(
            "insert into item select n, 'n' || n from generate_series(1, {rows}) n"
        ));
        let running = worker(&db).start();
        let began = Instant::now();
        for name in ["one.ndjson", "two.ndjson"] {
            wait_for_lines(&db.dir().join(name), rows, 600);
        }
        rates[dead].push(rows as f64 / began.elapsed().as_secs_f64());
        // It was asked, has not answered, and nobody has given it up.
        if dead == 1 {
            wait_for("a request", 60, || (!third.got().is_empty()).then_some(()));
            let lag = emaj(&db).args(["sink", "lag", "-o", "json"]).run().ok().stdout_json();
            let left: Vec<_> = lag.as_array().unwrap().iter().map(|sink| &sink["changes"]).collect();
            assert!(left.contains(&&serde_json::Value::from(rows)), "{lag}");
            assert!(sink_list(&db, "three")["reason"].is_null());
        }
        is_dead.store(false, Ordering::Relaxed);
        assert_eq!(running.stop(), Some(0));
    }
    let ratio = best(&rates[1]) / best(&rates[0]);
    println!(
        "dead sink: 1 of 3, the others at {:.0}% of their speed (with three that live)",
        ratio * 100.0
    );
}

#[test]
fn a_row_that_gets_another_key_waits_for_what_is_set_aside_under_the_old_one() {
    let refuses = Arc::new(AtomicBool::new(true));
    let is_refused = Arc::clone(&refuses);
    let receiver = Receiver::start(move |_, request| {
        let refused = request.body == "1" && is_refused.load(Ordering::Relaxed);
        status(if refused { 422 } else { 204 })
    });
    let db = support::database();
    db.psql("create table item (id int primary key, name text)");
    install(
        &db,
        &format!(
            "sinks: {{ hook: {{ webhook: {{ url: \"{}\" }} }} }}\nbindings: {{ item: {{ table: public.item, to: hook, message: {{ body: \"{{{{ row.id }}}}\" }} }} }}\n",
            receiver.url()
        ),
    );
    for sql in [
        "insert into item values (1, 'a'), (5, 'other')",
        "update item set id = 2 where id = 1",
        "update item set id = 3 where id = 2",
        "insert into item values (1, 'another')",
    ] {
        db.psql(sql);
        drain(&db).run().code(3);
    }
    refuses.store(false, Ordering::Relaxed);
    let taken = || -> Vec<String> {
        let all = receiver.got();
        let refused = all.iter().position(|request| request.body == "1").unwrap();
        all.iter()
            .enumerate()
            .filter(|(at, _)| *at != refused)
            .map(|(_, request)| request.body.clone())
            .collect()
    };
    assert_eq!(taken(), ["5"], "nothing overtakes");
    wait_for("all to be taken", 30, || {
        emaj(&db).args(["failures", "retry", "--all"]).run();
        (drain(&db).run().status == Some(0)).then_some(())
    });
    let order = taken();
    let at = |wanted: &str| order.iter().position(|body| body == wanted).unwrap();
    assert_eq!(order.len(), 5, "{order:?}");
    assert!(at("1") < at("2") && at("2") < at("3"), "{order:?}");
}

fn best(rates: &[f64]) -> f64 {
    rates.iter().copied().fold(0.0, f64::max)
}
