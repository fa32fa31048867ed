//! Places that are down, slow, refuse the login, are busy, or answer nonsense: the worker says so, nothing is lost, and when they are well
//! again everything arrives without a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{drain, install, items, sink_list, worker};
use crate::support::receiver::{Answer, Receiver, status};
use crate::support::slapd::{ACCOUNT, PASSWORD, slapd};
use crate::support::{Database, emaj, wait_for};

fn insert(db: &Database, from: usize, number: usize) {
    db.psql(&format!(
        "insert into item select n, 'n' || n from generate_series({from}, {}) n",
        from + number - 1
    ));
}

/// Waits until the database says that the sink is down; how long it took.
#[track_caller]
fn wait_until_it_is_said(db: &Database, sink: &str, what: &str) -> Duration {
    let began = Instant::now();
    wait_for(&format!("word that the sink is {what}"), 30, || {
        sink_list(db, sink)["reason"]
            .as_str()
            .is_some_and(|reason| reason.starts_with("down: "))
            .then_some(())
    });
    began.elapsed()
}

#[test]
fn a_web_service_that_is_ill_and_gets_well() {
    let db = items();
    let mode = Arc::new(AtomicUsize::new(0));
    let decide = {
        let mode = Arc::clone(&mode);
        move |_, _: &_| match mode.load(Ordering::Relaxed) {
            0 => status(204),
            1 => Answer::Reset,
            2 => Answer::Late(Duration::from_millis(1500), 204),
            code => status(code as u16),
        }
    };
    let mut receiver = Some(Receiver::start(decide.clone()));
    let port = receiver.as_ref().unwrap().port;
    let url = receiver.as_ref().unwrap().url();
    install(
        &db,
        &format!(
            "sinks: {{ hook: {{ webhook: {{ url: \"{url}\", timeout: 1, connections: 2, batch: 5 }} }} }}\nbindings: {{ item: {{ table: public.item, to: hook, message: {{}} }} }}\n"
        ),
    );
    let mut running = worker(&db).start();
    let (mut written, mut slowest, mut said) = (0, Duration::ZERO, Duration::ZERO);
    let mut before = 0;
    // 0 is down altogether.
    let faults = [1, 2, 401, 403, 404, 429, 503, 500, 400, 0];
    for (at, fault) in faults.into_iter().enumerate() {
        mode.store(fault, Ordering::Relaxed);
        if fault == 0 {
            // Connections that are open end as well.
            mode.store(1, Ordering::Relaxed);
            before = receiver.take().unwrap().got().len();
        }
        insert(&db, 1 + at * 20, 20);
        written += 20;
        if [500, 400].contains(&fault) {
            wait_for("word that changes are set aside", 30, || {
                (db.psql("select count(*) from emaj.emaj_failure") != "0").then_some(())
            });
        } else {
            said = said.max(wait_until_it_is_said(&db, "hook", &fault.to_string()));
        }
        // A place that is ill is not hammered.
        let asked = |receiver: &Option<Receiver>| receiver.as_ref().map_or(0, |receiver| receiver.got().len());
        let (from, since) = (asked(&receiver), Instant::now());
        std::thread::sleep(Duration::from_millis(400));
        let rate = (asked(&receiver) - from) as f64 / since.elapsed().as_secs_f64();
        assert!(
            rate < 60.0 || fault == 500 || fault == 400,
            "{fault}: asked {rate:.0} times a second"
        );

        mode.store(0, Ordering::Relaxed);
        let healed = Instant::now();
        if fault == 0 {
            receiver = Some(Receiver::listen(port, None, decide.clone()));
        }
        if fault == 400 {
            wait_for("all to be set aside or delivered", 30, || (lag(&db) == 0).then_some(()));
            emaj(&db).args(["failures", "retry", "--all"]).run().ok();
        }
        wait_for(&format!("delivery after {fault}"), 30, || {
            (lag(&db) == 0 && db.psql("select count(*) from emaj.emaj_failure") == "0").then_some(())
        });
        slowest = slowest.max(healed.elapsed());
        wait_for("the fault to be over", 10, || {
            sink_list(&db, "hook")["reason"].is_null().then_some(())
        });
    }
    assert!(running.is_running());
    assert_eq!(running.stop(), Some(0));
    drain(&db).run().ok();
    assert!(before > 0);
    println!(
        "sink faults, webhook: {} faults, {written} events: 0 lost; said within {:.1} s, drained within {:.1} s of healing",
        faults.len(),
        said.as_secs_f64(),
        slowest.as_secs_f64()
    );
}

/// How many changes are not delivered yet.
fn lag(db: &Database) -> u64 {
    let all = emaj(db).args(["sink", "lag", "-o", "json"]).run().ok().stdout_json();
    all[0]["changes"].as_u64().unwrap()
}

#[test]
fn a_directory_that_is_ill_and_gets_well() {
    let db = items();
    let mut directory = slapd();
    install(
        &db,
        &format!(
            "sinks: {{ people: {{ ldap: {{ url: \"{}\", bind_dn: \"{ACCOUNT}\", password: \"${{env:LDAP_PASSWORD}}\" }} }} }}\n\
             bindings: {{ item: {{ table: public.item, to: people, entry: {{ dn: \"uid={{{{ row.id }}}},ou=people,dc=example,dc=org\", object_classes: [inetOrgPerson], attributes: {{ cn: \"{{{{ row.name }}}}\", sn: x }} }} }} }}\n",
            directory.url()
        ),
    );
    let running = worker(&db).env("LDAP_PASSWORD", PASSWORD).start();
    let count = |directory: &crate::support::slapd::Slapd| directory.names("ou=people,dc=example,dc=org").len() - 1;
    let secret = |directory: &crate::support::slapd::Slapd, password: &str| {
        directory.modify(&format!(
            "dn: {ACCOUNT}\nchangetype: modify\nreplace: userPassword\nuserPassword: {password}\n"
        ));
    };
    insert(&db, 1, 10);
    wait_for("the first entries", 30, || (count(&directory) == 10).then_some(()));

    // (The connection that is open stays logged in.)
    secret(&directory, "another");
    directory.stop();
    insert(&db, 11, 10);
    wait_until_it_is_said(&db, "people", "down");
    directory.start();
    wait_for("word of the login", 30, || {
        sink_list(&db, "people")["reason"]
            .as_str()
            .unwrap_or_default()
            .contains("invalidCredentials")
            .then_some(())
    });
    // It tries again at once when it is told to, and does not try often before that: a directory may lock the account.
    std::thread::sleep(Duration::from_secs(3));
    let refused = directory.log().matches("RESULT tag=97 err=49").count();
    assert_eq!(refused, 1, "{}", directory.log());
    secret(&directory, PASSWORD);
    running.hang_up();
    let healed = Instant::now();
    wait_for("all entries", 30, || (count(&directory) == 20).then_some(()));
    let took = healed.elapsed();
    wait_for("the fault to be over", 10, || {
        sink_list(&db, "people")["reason"].is_null().then_some(())
    });
    assert_eq!(running.stop(), Some(0));
    println!(
        "sink faults, LDAP: down, then a refused login: 0 lost, drained within {:.1} s of healing",
        took.as_secs_f64()
    );
}
