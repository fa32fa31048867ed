//! One that is refused does not hold up the others: keys beside a poisoned one, and sinks beside a dead one, keep their speed.

use std::time::Instant;

use super::{drain, install, wait_for_lines, worker};
use crate::support;
use crate::support::receiver::{Receiver, status};
use crate::support::sinks::free_port;

#[test]
fn the_other_keys_keep_their_speed() {
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
    println!(
        "poison: {poison} of {from} refused, the others at {:.0}% of their speed",
        ratio * 100.0
    );
    assert!(ratio > 0.3, "{ratio}");
}

#[test]
fn the_other_sinks_keep_their_speed() {
    let rows = support::scale(20_000).min(500_000);
    let mut rates = [Vec::new(), Vec::new()];
    for round in 0..4 {
        let dead = round % 2;
        let db = support::database();
        db.psql("create table item (id int primary key, name text)");
        let third = [
            "file: { path: three.ndjson }".to_owned(),
            format!("webhook: {{ url: \"http://127.0.0.1:{}/\", timeout: 1 }}", free_port()),
        ];
        install(
            &db,
            &format!(
                "sinks:\n  one: {{ file: {{ path: one.ndjson }} }}\n  two: {{ file: {{ path: two.ndjson }} }}\n  three: {{ {} }}\n\
                 bindings:\n  to_one: {{ table: public.item, to: one, message: {{}} }}\n  to_two: {{ table: public.item, to: two, message: {{}} }}\n  to_three: {{ table: public.item, to: three, message: {{}} }}\n",
                third[dead]
            ),
        );
        db.psql(&format!(
            "insert into item select n, 'n' || n from generate_series(1, {rows}) n"
        ));
        let running = worker(&db).start();
        let began = Instant::now();
        for name in ["one.ndjson", "two.ndjson"] {
            wait_for_lines(&db.dir().join(name), rows, 100);
        }
        rates[dead].push(rows as f64 / began.elapsed().as_secs_f64());
        assert_eq!(running.stop(), Some(0));
    }
    let ratio = best(&rates[1]) / best(&rates[0]);
    println!(
        "dead sink: 1 of 3, the others at {:.0}% of their speed (with three that live)",
        ratio * 100.0
    );
    assert!(ratio > 0.5, "{ratio}");
}

fn best(rates: &[f64]) -> f64 {
    rates.iter().copied().fold(0.0, f64::max)
}
