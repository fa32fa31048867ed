//! A place is down for a while: writers go on, nothing is lost, and other places do not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{PEOPLE, PERSON, column, drain, install, items_to_hook, logins, prepare, set_aside, to_directory, worker};
use crate::support::nats::Nats;
use crate::support::receiver::{Answer, Receiver, status};
use crate::support::slapd::slapd;
use crate::support::{database, wait_for};

#[test]
fn after_an_outage_all_arrives() {
    let (db, mut slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    let worker = worker(&db).start();
    db.psql("insert into person values (1, 'ann', 'Ann'), (2, 'bob', 'Bob')");
    wait_for("the first entries", 30, || (logins(&slapd).len() == 2).then_some(()));
    slapd.stop();
    for number in 0..50 {
        db.psql(&format!(
            "update person set name = 'n{number}'; insert into person values ({number} + 10, 'p{number}', 'x')"
        ));
    }
    db.psql("update person set login = 'anna' where id = 1; delete from person where id = 2");
    let fault = || {
        column(
            &db,
            "select sink_fault from emaj.emaj_sink where sink_fault is not null",
        )
        .pop()
    };
    let fault = wait_for("the fault", 30, fault);
    assert!(!fault.contains("canary"), "{fault}");
    let run = prepare(&db, &["sink", "list"]).run().ok();
    assert!(run.stdout.contains("directory"), "{run}");
    slapd.start();
    let expected = column(&db, "select login from person order by login collate \"C\"");
    wait_for("everything", 60, || (logins(&slapd) == expected).then_some(()));
    wait_for("the end", 30, || {
        // (It may not be called so yet.)
        let entry = slapd.entry("uid=anna,ou=people,dc=example,dc=org")?;
        (entry.get("sn")? == &[b"n49".to_vec()]).then_some(())
    });
    assert_eq!(set_aside(&db), [] as [&str; 0], "an outage is no fault of a change");
    // (It is noted behind the entries.)
    wait_for("the fault to be over", 30, || {
        let faults = "select sink_fault from emaj.emaj_sink where sink_fault is not null";
        column(&db, faults).is_empty().then_some(())
    });
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_log_that_cannot_be_read_is_shown_until_it_can() {
    let db = database();
    db.psql(PERSON);
    install(
        &db,
        "version: 1\nroles: { admin: null, viewer: null }\nsinks: { lines: { file: { path: out.ndjson } } }\n\
         bindings: { people: { table: public.person, to: lines, message: {} } }\n",
    );
    let log = db.psql("select format('emaj.%I', rel_log) from emaj.emaj_relation where rel_name = 'person'");
    db.psql("insert into person values (1, 'ann', 'Ann')");
    db.psql(&format!("alter table {log} rename column mail to post"));
    let worker = worker(&db).start();
    let fault = || {
        let faults = "select sink_fault from emaj.emaj_sink where sink_fault is not null";
        column(&db, faults).pop()
    };
    let fault_said = wait_for("the fault", 30, fault);
    assert!(
        fault_said.starts_with("broken: ") && fault_said.contains("mail"),
        "{fault_said}"
    );
    for verb in [&["sink", "list"][..], &["status"], &["doctor"]] {
        let run = prepare(&db, verb).run();
        assert!(run.stdout.contains("broken: "), "{run}");
    }
    db.psql(&format!("alter table {log} rename column post to mail"));
    wait_for("no fault", 30, || fault().is_none().then_some(()));
    let arrived = std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap();
    assert_eq!(arrived.lines().count(), 1, "{arrived}");
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_service_that_is_there_and_takes_nothing_is_down() {
    let db = database();
    db.psql("create table item (id int primary key)");
    let is_mute = Arc::new(AtomicBool::new(true));
    let mute = Arc::clone(&is_mute);
    let receiver = Receiver::start(move |_, request| {
        let poisoned = request.body == "7" || mute.load(Ordering::SeqCst);
        match request.method.as_str() {
            "POST" if poisoned => Answer::Reset,
            _ => status(204),
        }
    });
    install(&db, &items_to_hook(&receiver.url(), "{{ row.id }}"));
    db.psql("insert into item select generate_series(1, 20)");
    let worker = worker(&db).start();
    let fault = || {
        column(
            &db,
            "select sink_fault from emaj.emaj_sink where sink_fault is not null",
        )
        .pop()
    };
    let said = wait_for("the fault", 30, || {
        fault().filter(|fault| fault.starts_with("down: nothing gets an answer"))
    });
    assert!(said.contains("can be reached"), "{said}");
    // It has been tried several times.
    let tries = receiver.got().len();
    wait_for("more tries", 60, || (receiver.got().len() > tries + 40).then_some(()));
    assert!(set_aside(&db).len() <= 3, "{:?}", set_aside(&db));
    is_mute.store(false, Ordering::SeqCst);
    wait_for("all but one", 60, || {
        (set_aside(&db) == ["items [7] later"]).then_some(())
    });
    wait_for("no fault", 30, || fault().is_none().then_some(()));
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_worker_ends_though_the_place_is_down() {
    let (db, mut slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    db.psql("insert into person values (1, 'ann', 'Ann')");
    slapd.stop();
    let run = drain(&db).run().code(13);
    assert!(run.stderr.contains("sink `directory` is down"), "{run}");
    assert!(!run.stderr.contains("canary"), "{run}");
    let worker = worker(&db).start();
    wait_for("the fault", 30, || {
        (column(
            &db,
            "select sink_worker from emaj.emaj_sink where sink_fault is not null",
        )
        .len()
            == 1)
            .then_some(())
    });
    std::thread::sleep(Duration::from_millis(700));
    let began = Instant::now();
    assert_eq!(worker.stop(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5));
    // Somebody waits for it.
    let run = std::thread::scope(|scope| {
        let run = scope.spawn(|| prepare(&db, &["run", "emaj.yaml", "--until-empty", "--wait", "60s"]).run());
        std::thread::sleep(Duration::from_millis(500));
        slapd.start();
        run.join().unwrap()
    });
    run.ok();
    assert_eq!(logins(&slapd), ["ann"]);
}

#[test]
fn a_wrong_password_is_an_outage() {
    let (db, slapd) = (database(), slapd());
    db.psql(PERSON);
    install(&db, &to_directory(&slapd, PEOPLE));
    db.psql("insert into person values (1, 'ann', 'Ann')");
    let run = drain(&db).env("LDAP_PASSWORD", "wrong-canary").run().code(13);
    assert!(!format!("{run}").contains("wrong-canary"), "{run}");
    assert_eq!(set_aside(&db), [] as [&str; 0]);
    drain(&db).run().ok();
    assert_eq!(logins(&slapd), ["ann"]);
}

#[test]
fn one_of_three_sinks_is_dead() {
    let (db, mut slapd, nats) = (database(), slapd(), Nats::start());
    nats.stream("PEOPLE", &["people.>"], serde_json::json!({}));
    db.psql(PERSON);
    let manifest = to_directory(&slapd, PEOPLE).replace(
        "bindings:",
        &format!(
            "  broker: {{ nats: {{ url: \"{}\" }} }}\n  lines: {{ file: {{ path: out.ndjson }} }}\nbindings:\n\
             \x20 published: {{ table: public.person, to: broker, message: {{ subject: \"people.{{{{ row.id }}}}\" }} }}\n\
             \x20 written: {{ table: public.person, to: lines, message: {{}} }}",
            nats.url()
        ),
    );
    install(&db, &manifest);
    slapd.stop();
    let worker = worker(&db).start();
    let lines = || {
        std::fs::read_to_string(db.dir().join("out.ndjson"))
            .unwrap_or_default()
            .lines()
            .count()
    };
    for number in 1..=20 {
        db.psql(&format!("insert into person values ({number}, 'p{number}', 'x')"));
        let began = Instant::now();
        wait_for("the other two", 20, || {
            (lines() == number && nats.count("PEOPLE") == number as u64).then_some(())
        });
        // (Delivery takes some 50 ms; a wait for the dead one would take seconds.)
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "{number}: {:?}",
            began.elapsed()
        );
    }
    slapd.start();
    wait_for("the directory", 60, || (logins(&slapd).len() == 20).then_some(()));
    assert_eq!((lines(), nats.count("PEOPLE")), (20, 20));
    assert_eq!(worker.stop(), Some(0));
}

/// Who only wants everything delivered does not wait for a place that says how long it is away, nor asks it before.
#[test]
fn a_place_is_not_asked_before_the_time_that_it_says() {
    let db = database();
    db.psql("create table item (id int primary key)");
    let receiver = Receiver::start(|_, _| Answer::Say(429, "retry-after: 60\r\n", String::new()));
    install(&db, &items_to_hook(&receiver.url(), "{{ row.id }}"));
    db.psql("insert into item values (1)");
    let run = prepare(&db, &["run", "emaj.yaml", "--until-empty", "--wait", "5s"])
        .run()
        .code(13);
    assert_eq!(receiver.got().len(), 1, "{run}");
    assert!(run.stderr.contains("answered 429"), "{run}");
}

/// What a stream has acknowledged behind a message that it does not take is not sent again.
#[test]
fn what_is_there_behind_what_all_waits_for_is_not_sent_again() {
    let nats = Nats::start();
    nats.stream(
        "PAID",
        &["shop.paid"],
        serde_json::json!({ "duplicate_window": 100_000_000 }),
    );
    let db = database();
    db.psql("create table item (id int primary key, status text)");
    install(
        &db,
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ bus: {{ nats: {{ url: \"{}\", timeout: 5 }} }} }}\n\
             bindings: {{ items: {{ table: public.item, to: bus, message: {{ subject: \"shop.{{{{ row.status }}}}\", body: \"{{{{ row.id }}}}\" }} }} }}\n",
            nats.url()
        ),
    );
    db.psql("insert into item values (1, 'new'), (2, 'paid'), (3, 'paid')");
    // It is tried several times within that time.
    let run = prepare(&db, &["run", "emaj.yaml", "--until-empty", "--wait", "5s"])
        .run()
        .code(13);
    assert!(run.stderr.contains("no stream holds"), "{run}");
    assert_eq!(nats.count("PAID"), 2);
}
