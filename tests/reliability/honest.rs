//! Whatever is wrong, no command says that all is well: exit codes and reports over thirty faults.

use std::time::Duration;

use super::{HEAD, drain, install, items, sink_list, worker};
use crate::operating::{address, ready};
use crate::support::receiver::{Answer, Receiver, status};
use crate::support::sinks::free_port;
use crate::support::{Database, emaj, wait_for};

fn manifest(sink: &str, more: &str) -> String {
    format!(
        "sinks: {{ out: {{ {sink} }} }}\nbindings: {{ item: {{ table: public.item, to: out, message: {{}}{more} }} }}\n"
    )
}

/// Installs a sink, gives it something to deliver, and expects `emaj run --until-empty` to end with a code and a word about why.
#[track_caller]
fn expect(sink: &str, code: i32, word: &str) {
    let db = items();
    install(&db, &manifest(sink, ""));
    db.psql("insert into item values (1, 'a')");
    let run = drain(&db).run().code(code);
    assert!(run.stderr.contains(word), "{word}: {run}");
    let reason = sink_list(&db, "out")["reason"].clone();
    if code == 13 {
        assert!(
            reason.as_str().is_some_and(|reason| reason.starts_with("down: ")),
            "{reason}"
        );
    }
    // It is no better the second time, and nothing was lost meanwhile.
    drain(&db).run().code(code);
    not_ready(&db, if code == 13 { "down" } else { "up" });
    let lag = emaj(&db).args(["sink", "lag", "-o", "json"]).run().ok().stdout_json();
    assert_eq!(
        lag[0]["changes"].as_u64().unwrap() + lag[0]["set_aside"].as_u64().unwrap(),
        1,
        "{lag}"
    );
}

/// Starts a worker and asks whether it is ready, until its sink is known to be in a state and what is set aside is counted: then it is not.
#[track_caller]
fn not_ready(db: &Database, state: &str) {
    let running = worker(db).args(["--listen", "127.0.0.1:0"]).start();
    let at = address(&running);
    wait_for(&format!("not to be ready, and sink `out` to be {state}"), 120, || {
        let (status, said) = ready(&at);
        assert_eq!(said["ready"], status == 200, "{said}");
        (status == 503 && said["sinks"]["out"]["state"] == state).then_some(())
    });
}

#[test]
fn a_web_service_that_refuses() {
    for (answer, code) in [
        (400, 3),
        (401, 13),
        (403, 13),
        (404, 13),
        (410, 13),
        (413, 3),
        (422, 3),
        (429, 13),
        (500, 3),
        (502, 13),
        (503, 13),
        (301, 13),
        (418, 3),
        (599, 3),
    ] {
        let receiver = Receiver::start(move |_, _| status(answer));
        let word = if code == 3 {
            "set aside".to_owned()
        } else {
            answer.to_string()
        };
        expect(&format!("webhook: {{ url: \"{}\" }}", receiver.url()), code, &word);
    }
}

#[test]
fn a_place_that_is_not_there() {
    let reset = Receiver::start(|_, _| Answer::Reset);
    let late = Receiver::start(|_, _| Answer::Late(Duration::from_secs(3), 204));
    let busy = Receiver::start(|_, _| Answer::Say(429, "retry-after: 1000\r\n", String::new()));
    let port = free_port();
    for sink in [
        format!("webhook: {{ url: \"http://127.0.0.1:{port}/\" }}"),
        format!("webhook: {{ url: \"{}\" }}", reset.url()),
        format!("webhook: {{ url: \"{}\", timeout: 1 }}", late.url()),
        format!("webhook: {{ url: \"{}\" }}", busy.url()),
        // TLS is spoken to something that does not.
        format!("webhook: {{ url: \"{}\" }}", busy.url().replace("http:", "https:")),
        "file: { path: no/such/folder/out }".to_owned(),
        "file: { path: . }".to_owned(),
    ] {
        expect(&sink, 13, "sink `out`");
    }
    for sink in [
        format!("nats: {{ url: \"nats://127.0.0.1:{port}\", timeout: 2 }}"),
        format!("kafka: {{ brokers: [\"127.0.0.1:{port}\"], timeout: 2 }}"),
    ] {
        let db = items();
        let address = if sink.starts_with("nats") {
            "subject: a"
        } else {
            "topic: a"
        };
        install(
            &db,
            &manifest(&sink, "").replace("message: {}", &format!("message: {{ {address} }}")),
        );
        db.psql("insert into item values (1, 'a')");
        drain(&db).run().code(13);
        not_ready(&db, "down");
    }
}

#[test]
fn a_database_that_is_not_as_the_manifest_says() {
    let db = items();
    let file = manifest("file: { path: out.ndjson }", "");
    db.file("emaj.yaml", &format!("{HEAD}{file}"));
    drain(&db).run().code(10);
    install(&db, &file);
    db.psql("insert into item values (1, 'a')");
    drain(&db).env("PGPORT", free_port().to_string()).run().code(13);
    drain(&db).user("nobody_at_all").run().code(12);
    // A binding that is not installed.
    db.file(
        "emaj.yaml",
        &format!("{HEAD}{}", manifest("file: { path: out.ndjson }", ", when: row.id > 0")),
    );
    drain(&db).run().code(4);
    not_ready(&db, "broken");
    // A sink that is not.
    db.file(
        "emaj.yaml",
        &format!(
            "{HEAD}{}",
            file.replace("out:", "other:").replace("to: out", "to: other")
        ),
    );
    drain(&db).run().code(10);
    db.file("emaj.yaml", &format!("{HEAD}{file}"));
    emaj(&db).args(["sink", "pause", "out"]).run().ok();
    drain(&db).run().code(4);
    not_ready(&db, "paused");
    assert_eq!(sink_list(&db, "out")["state"], "paused");
    emaj(&db).args(["sink", "resume", "out"]).run().ok();
    db.psql("alter table emaj.emaj_sink rename to was");
    assert_ne!(drain(&db).run().status, Some(0));
    db.psql("alter table emaj.was rename to emaj_sink");
    drain(&db).run().code(0);
    assert_eq!(
        std::fs::read_to_string(db.dir().join("out.ndjson"))
            .unwrap()
            .lines()
            .count(),
        1
    );
}

#[test]
fn a_worker_that_runs_says_what_is_wrong_and_when_it_is_over() {
    let db = items();
    let port = free_port();
    install(
        &db,
        &manifest(&format!("webhook: {{ url: \"http://127.0.0.1:{port}/\" }}"), ""),
    );
    let running = worker(&db).start();
    // Nothing to deliver, and nothing known to be wrong: but who delivers is known.
    wait_for("the worker's name", 20, || {
        sink_list(&db, "out")["worker"].is_string().then_some(())
    });
    db.psql("insert into item values (1, 'a')");
    wait_for("word of the fault", 30, || {
        sink_list(&db, "out")["reason"].is_string().then_some(())
    });
    let receiver = Receiver::listen(port, None, |_, _| status(204));
    wait_for("delivery", 30, || {
        (receiver.got().iter().any(|request| request.method == "POST")).then_some(())
    });
    wait_for("the end of the fault", 30, || {
        sink_list(&db, "out")["reason"].is_null().then_some(())
    });
    assert_eq!(running.stop(), Some(0));
    assert!(sink_list(&db, "out")["worker"].is_null(), "nobody delivers any more");
}
