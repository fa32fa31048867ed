//! Workers are many, are killed, and lose their database: everything arrives, in order.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use emaj::cluster::Cluster;
use postgres::{Client, NoTls};

use super::{PEOPLE, PERSON, column, drain, install, items_to_hook, logins, prepare, set_aside, to_directory, worker};
use crate::support::receiver::{Answer, Receiver, status};
use crate::support::slapd::{PASSWORD, Slapd, slapd};
use crate::support::{Chance, Database, database, emaj_alone, scale, seed, until, wait_for};

/// What every row should be in the directory, and what is there.
fn compared(wanted: &[String], slapd: &Slapd) -> Option<String> {
    let names = slapd.dump();
    let mut there: Vec<String> = names
        .split("\nuid=")
        .skip(1)
        .map(|entry| {
            let line = |name: &str| {
                let line = entry.lines().find_map(|line| line.trim().strip_prefix(name));
                line.unwrap_or_default().to_owned()
            };
            format!("{} {}", line("uid: "), line("sn: "))
        })
        .collect();
    there.sort();
    let differing: Vec<_> = there.iter().filter(|line| !wanted.contains(line)).take(5).collect();
    (there != wanted).then(|| format!("{} entries, {} rows; {differing:?}", there.len(), wanted.len()))
}

/// Changes rows by chance, one transaction each; login and key are among what changes.
fn one_change(client: &mut Client, chance: &mut Chance, number: usize) {
    let id = chance.below(40);
    let sql = match chance.below(6) {
        0 | 1 => format!("insert into person values ({id}, 'l{number}', 'n{number}') on conflict do nothing"),
        2 => format!("delete from person where id = {id}"),
        3 => format!("update person set login = 'r{number}' where id = {id}"),
        4 => format!(
            "update person set id = {} where id = {id} and not exists (select from person where id = {0})",
            chance.below(40)
        ),
        _ => format!("update person set name = 'm{number}' where id % 5 = {}", id % 5),
    };
    client.batch_execute(&sql).unwrap();
}

#[test]
fn killed_at_any_moment_nothing_is_lost() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    let seed = seed();
    println!("EMAJ_SEED={seed}");
    let mut chance = Chance::new(seed);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut client, mut chance) = (db.client(), Chance::new(seed + 1));
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                number += 1;
                one_change(&mut client, &mut chance, number);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        for _ in 0..scale(8) {
            let worker = worker(&db).start();
            std::thread::sleep(Duration::from_millis(100 + chance.below(700) as u64));
            worker.kill();
        }
        over.store(true, Ordering::Relaxed);
    });
    drain(&db).run().ok();
    let rows = column(
        &db,
        "select login || ' ' || name from person order by (login || ' ' || name) collate \"C\"",
    );
    assert_eq!(compared(&rows, &slapd), None);
    assert_eq!(set_aside(&db), [] as [&str; 0]);
}

#[test]
fn two_workers_share_and_take_over() {
    let db = database();
    db.psql("create table item (id int primary key, text text)");
    install(
        &db,
        "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: out.ndjson } } }\n\
         bindings: { items: { table: public.item, to: lines, message: {} } }\n",
    );
    let ids = |db: &Database| -> Vec<i64> {
        let text = std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap_or_default();
        let id = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["data"]["row"]["id"].as_i64();
        text.lines().filter_map(id).collect()
    };
    let mut workers = vec![worker(&db).start(), worker(&db).start(), worker(&db).start()];
    let mut next = 0;
    for _ in 0..3 {
        for _ in 0..20 {
            next += 1;
            db.client()
                .batch_execute(&format!("insert into item values ({next}, 'x')"))
                .unwrap();
        }
        wait_for("the lines", 30, || (ids(&db).len() as i64 >= next).then_some(()));
        // The one that delivers is killed; another one takes over.
        let who = column(&db, "select split_part(sink_worker, '@', 1) from emaj.emaj_sink").remove(0);
        let at = workers
            .iter()
            .position(|worker| worker.id().to_string() == who)
            .expect("one of ours");
        workers.remove(at).kill();
    }
    assert_eq!(ids(&db), (1..=next).collect::<Vec<_>>(), "each once, in order");
}

/// A worker with a sink of its own and one for all: each has a request under way, and neither is answered before both are seen.
#[test]
fn two_workers_deliver_to_two_sinks_at_the_same_time() {
    let db = database();
    db.psql("create table item (id int primary key)");
    let is_held = Arc::new(AtomicBool::new(true));
    let held = || {
        let is_held = Arc::clone(&is_held);
        Receiver::start(move |_, _| {
            while is_held.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            status(204)
        })
    };
    let hooks = [held(), held()];
    let posts = |hook: &Receiver| -> Vec<String> {
        let posts = hook.got().into_iter().filter(|request| request.method == "POST");
        posts.map(|request| request.body).collect()
    };
    let sink =
        |name: &str, hook: &Receiver| format!("  {name}: {{ webhook: {{ url: \"{}\", timeout: 600 }} }}\n", hook.url());
    let binding = |name: &str| {
        format!("  {name}: {{ table: public.item, to: {name}, message: {{ body: '{{{{ row.id }}}}' }} }}\n")
    };
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n{}{}bindings:\n{}{}",
            sink("one", &hooks[0]),
            sink("two", &hooks[1]),
            binding("one"),
            binding("two")
        ),
    );
    let who = || {
        let who = "select sink_name || ' ' || split_part(sink_worker, '@', 1) from emaj.emaj_sink where sink_worker is not null order by 1";
        column(&db, who)
    };
    let first = worker(&db).args(["--sink", "one"]).start();
    let of_first = format!("one {}", first.id());
    until("the first worker", || who() == [of_first.clone()]);
    let second = worker(&db).start();
    let of_second = format!("two {}", second.id());
    until("the second worker", || who() == [of_first.clone(), of_second.clone()]);
    db.psql("insert into item values (1)");
    until("both requests", || hooks.iter().all(|hook| posts(hook) == ["1"]));
    assert_eq!(who(), [of_first, of_second]);
    is_held.store(false, Ordering::Relaxed);
    db.psql("insert into item values (2)");
    until("the next change", || hooks.iter().all(|hook| posts(hook).len() > 1));
    drain(&db).run().ok();
    // The one that is for all takes over what the other one leaves.
    assert_eq!(first.stop(), Some(0));
    let id = second.id();
    until("the change of hands", || {
        who() == [format!("one {id}"), format!("two {id}")]
    });
    db.psql("insert into item values (3)");
    drain(&db).run().ok();
    for hook in &hooks {
        assert_eq!(posts(hook), ["1", "2", "3"]);
    }
}

#[test]
fn who_only_wants_everything_delivered_need_not_do_it_himself() {
    let db = database();
    db.psql("create table item (id int primary key, text text)");
    let manifest = |url: &str| {
        format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ hook: {{ webhook: {{ url: \"{url}\" }} }} }}\n\
             bindings: {{ items: {{ table: public.item, to: hook, message: {{}} }} }}\n"
        )
    };
    // It answers slowly: the other worker is asked to deliver, not to have delivered.
    let receiver = Receiver::start(|_, _| Answer::Late(Duration::from_millis(50), 204));
    install(&db, &manifest(&receiver.url()));
    let other = worker(&db).start();
    wait_for("the other worker", 30, || {
        column(&db, "select 'it' from emaj.emaj_sink where sink_worker is not null").pop()
    });
    drain(&db).run().ok();
    for first in [1, 31, 61] {
        db.psql(&format!(
            "insert into item select n, 'x' from generate_series({first}, {first} + 29) n"
        ));
        let run = drain(&db).run().ok();
        assert!(run.stderr.contains("delivers to it"), "{run}");
        assert_eq!(receiver.got().len(), first + 29);
    }
    assert_eq!(other.stop(), Some(0));
    let port = receiver.port;
    drop(receiver);
    // Where the place is out of reach for the other one, it is for this one too.
    let other = worker(&db).start();
    db.psql("insert into item values (0, 'x')");
    wait_for("the fault", 30, || {
        column(
            &db,
            "select sink_fault from emaj.emaj_sink where sink_fault is not null",
        )
        .pop()
    });
    let run = drain(&db).run().code(13);
    assert!(
        run.stderr.contains("sink `hook` is down: ") && run.stderr.contains(&port.to_string()),
        "{run}"
    );
    assert_eq!(other.stop(), Some(0));
}

#[test]
fn a_restart_of_the_database_is_survived() {
    let (db, slapd) = (database(), slapd());
    let mut cluster = Cluster::builder().durable().start().unwrap();
    let connect = |cluster: &Cluster| Client::connect(&cluster.conninfo("postgres"), NoTls).unwrap();
    connect(&cluster).batch_execute(PERSON).unwrap();
    std::fs::write(db.dir().join("emaj.yaml"), to_directory(&slapd, PEOPLE)).unwrap();
    let prepare = |args: &[&str]| {
        emaj_alone(db.dir())
            .envs(cluster.env("postgres"))
            .env("LDAP_PASSWORD", PASSWORD)
            .args(args)
    };
    prepare(&["install", "emaj.yaml"]).run().ok();
    let worker = prepare(&["run", "emaj.yaml"]).start();
    // It is there: a database that goes away while it comes is an error.
    connect(&cluster)
        .batch_execute("insert into person values (1, 'p1', 'x')")
        .unwrap();
    wait_for("the first entry", 60, || {
        slapd.entry("uid=p1,ou=people,dc=example,dc=org")
    });
    let mut number = 1;
    for restart in 0..3 {
        let mut client = connect(&cluster);
        for _ in 0..100 {
            number += 1;
            client
                .batch_execute(&format!("insert into person values ({number}, 'p{number}', 'x')"))
                .unwrap();
        }
        match restart {
            0 => cluster.stop_immediate().unwrap(),
            1 => cluster.kill9_postmaster().unwrap(),
            _ => {
                let others = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and backend_type = 'client backend'";
                client.batch_execute(others).unwrap();
                continue;
            }
        }
        std::thread::sleep(Duration::from_millis(300));
        cluster.start_again().unwrap();
    }
    let began = Instant::now();
    connect(&cluster)
        .batch_execute("insert into person values (0, 'last', 'x')")
        .unwrap();
    wait_for("the worker", 60, || slapd.entry("uid=last,ou=people,dc=example,dc=org"));
    // (It has 10 s; a loaded machine has more.)
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}\n{}",
        began.elapsed(),
        worker.log()
    );
    // What shares no entry arrives side by side: the last change need not be the last to arrive.
    wait_for("all entries", 30, || (logins(&slapd).len() == number + 1).then_some(()));
    let aside: i64 = connect(&cluster)
        .query_one("select count(*) from emaj.emaj_failure", &[])
        .unwrap()
        .get(0);
    assert_eq!(aside, 0, "{}", worker.log());
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn an_idle_worker_costs_next_to_nothing() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    let worker = worker(&db).start();
    db.psql("insert into person values (1, 'ann', 'x')");
    wait_for("the entry", 30, || (logins(&slapd) == ["ann"]).then_some(()));
    let commits = || -> i64 {
        std::thread::sleep(Duration::from_millis(1500));
        db.client()
            .query_one(
                "select xact_commit from pg_stat_database where datname = current_database()",
                &[],
            )
            .unwrap()
            .get(0)
    };
    let before = commits();
    std::thread::sleep(Duration::from_secs(3));
    let looks = commits() - before;
    assert!(looks < 400, "{looks} transactions in 4.5 s of nothing");
    let ticks = |id: u32| -> u64 {
        let stat = Command::new("cat")
            .arg(format!("/proc/{id}/stat"))
            .output()
            .unwrap()
            .stdout;
        let stat = String::from_utf8(stat).unwrap();
        stat.split_whitespace()
            .skip(13)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().unwrap())
            .sum()
    };
    let before = ticks(worker.id());
    std::thread::sleep(Duration::from_secs(2));
    assert!(
        ticks(worker.id()) - before < 30,
        "an idle worker keeps a processor busy"
    );
}

/// A snapshot is held for ten seconds; the rest of the window is neither sorted again nor read in a later one.
#[test]
fn a_long_window_is_sorted_once() {
    let db = database();
    db.psql("create table item (id int primary key)");
    let (is_held, is_slow) = (Arc::new(AtomicBool::new(true)), AtomicBool::new(true));
    let receiver = Receiver::start({
        let is_held = Arc::clone(&is_held);
        move |_, request| {
            // In the second chunk for longer than a slice, in the third until it was looked at.
            if request.body == "10600" && is_slow.swap(false, Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(10_500));
            }
            while request.body == "15000" && is_held.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
            }
            status(204)
        }
    });
    install(&db, &items_to_hook(&receiver.url(), "{{ row.id }}"));
    db.psql("insert into item select generate_series(10001, 19000)");
    std::thread::scope(|scope| {
        let run = scope.spawn(|| drain(&db).run().ok());
        let began = Instant::now();
        let reads =
            "select state from pg_stat_activity where datname = current_database() and query like '% emaj_window'";
        while column(&db, reads) != ["idle"] {
            assert!(began.elapsed() < Duration::from_secs(60), "{:?}", column(&db, reads));
            std::thread::sleep(Duration::from_millis(50));
        }
        db.psql("insert into item values (19001); delete from item where id = 18999");
        is_held.store(false, Ordering::Relaxed);
        run.join().unwrap();
    });
    let mut arrived: Vec<i32> = receiver
        .got()
        .iter()
        .map(|request| request.body.parse().unwrap())
        .collect();
    arrived.sort_unstable();
    let mut expected: Vec<i32> = (10001..=19001).chain([18999]).collect();
    expected.sort_unstable();
    assert_eq!(arrived, expected);
}

/// A chunk whose messages all share a key takes as many answers as it has changes: a pause does not wait for them, and none comes twice.
#[test]
fn a_pause_does_not_wait_for_a_chunk() {
    let db = database();
    db.psql("create table item (id int primary key)");
    let is_slow = Arc::new(AtomicBool::new(true));
    let receiver = Receiver::start({
        let is_slow = Arc::clone(&is_slow);
        move |_, _| match is_slow.load(Ordering::Relaxed) {
            true => Answer::Late(Duration::from_millis(100), 204),
            false => status(204),
        }
    });
    install(
        &db,
        &items_to_hook(&receiver.url(), "{{ row.id }}").replace("message: {", "message: { key: all,"),
    );
    db.psql("insert into item select generate_series(1001, 1400)");
    let worker = worker(&db).start();
    wait_for("the first messages", 30, || receiver.got().get(2).cloned());
    prepare(&db, &["sink", "pause", "hook"]).run().ok();
    wait_for("the pause", 120, || worker.log().contains("is paused").then_some(()));
    let arrived = receiver.got().len();
    assert!(arrived < 400, "all of the chunk has gone before");
    is_slow.store(false, Ordering::Relaxed);
    prepare(&db, &["sink", "resume", "hook"]).run().ok();
    drain(&db).run().ok();
    assert_eq!(worker.stop(), Some(0));
    let bodies: Vec<String> = receiver.got().into_iter().map(|request| request.body).collect();
    let expected: Vec<String> = (1001..=1400).map(|id: i32| id.to_string()).collect();
    assert_eq!(bodies, expected);
}
