//! A worker as those see it who look after it: its addresses, its log, systemd, signals, and a manifest that changes under it.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::receiver::{Answer, Receiver, status};
use crate::support::sinks::free_port;
use crate::support::slapd::{ACCOUNT, PASSWORD, slapd};
use crate::support::{Database, Emaj, database, emaj, shared_cluster};
use crate::support::{Worker, wait_for};

/// A value of a row that is seen nowhere but in the sink.
const CANARY: &str = "canary-4711";
const SECRET: &str = "whsec_c2VjcmV0LWNhbmFyeS0wODE1LXNlY3JldA==";

fn webhook(port: u16) -> String {
    format!(
        "version: 1
roles: {{ admin: null, viewer: null }}
sinks:
  hook: {{ webhook: {{ url: \"http://127.0.0.1:{port}/hook\", secret: \"${{env:HOOK_SECRET}}\", timeout: 5 }} }}
bindings:
  people: {{ table: public.person, to: hook, message: {{}} }}
"
    )
}

fn install(db: &Database, manifest: &str) {
    db.file("emaj.yaml", manifest);
    emaj(db).args(["install", "emaj.yaml"]).run().ok();
}

fn person(manifest: &str) -> Database {
    let db = database();
    db.psql("create table person (id int primary key, name text)");
    install(&db, manifest);
    db
}

fn worker(db: &Database) -> Emaj {
    emaj(db)
        .env("HOOK_SECRET", SECRET)
        .args(["run", "emaj.yaml", "--listen", "127.0.0.1:0"])
}

/// The address that a worker says it listens to.
pub fn address(worker: &Worker) -> String {
    wait_for("the address", 120, || {
        let log = worker.log();
        let begin = log.find("http://127.0.0.1:")?;
        let address: String = log[begin..]
            .chars()
            .take_while(|c| !c.is_whitespace() && *c != '"')
            .collect();
        log[begin..].contains('\n').then_some(address)
    })
}

/// Status, type and body of an answer.
fn get(address: &str, path: &str) -> (u16, String, String) {
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .new_agent();
    let mut answer = agent
        .get(format!("{address}{path}"))
        .call()
        .expect("the worker answers");
    let content_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
    (
        answer.status().as_u16(),
        content_type,
        answer.body_mut().read_to_string().unwrap(),
    )
}

pub fn ready(address: &str) -> (u16, Value) {
    let (status, _, body) = get(address, "/ready");
    (status, serde_json::from_str(&body).expect("JSON"))
}

/// Waits until the worker is ready, or is not any more; returns what it says then and how long it took.
#[track_caller]
fn until_ready(address: &str, wanted: bool, worker: &Worker) -> (Value, Duration) {
    let began = Instant::now();
    let said = wait_for(&format!("ready: {wanted}\n{}", worker.log()), 30, || {
        let (status, said) = ready(address);
        assert_eq!(said["ready"], status == 200, "{said}");
        (said["ready"] == wanted).then_some(said)
    });
    (said, began.elapsed())
}

fn metric(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{'))
    })?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[test]
fn metrics_count_what_arrives_and_tell_no_secret() {
    let receiver = Receiver::start(|_, request| match request.method.as_str() {
        "POST" if request.body.contains("\"refused\"") => status(400),
        _ => status(204),
    });
    let db = person(&webhook(receiver.port));
    let worker = worker(&db).start();
    let at = address(&worker);
    until_ready(&at, true, &worker);
    db.psql(&format!("insert into person select n, '{CANARY}' from generate_series(1, 5) n; insert into person values (6, 'refused'), (7, 'x')"));
    let text = wait_for("the metrics", 30, || {
        let (status, content_type, text) = get(&at, "/metrics");
        assert_eq!(
            (status, content_type.split(';').next()),
            (200, Some("application/openmetrics-text"))
        );
        let is_there = metric(&text, "emaj_sink_written_total") == Some(6.0)
            && metric(&text, "emaj_sink_set_aside") == Some(1.0)
            && metric(&text, "emaj_sink_lag_changes") == Some(0.0);
        is_there.then_some(text)
    });
    assert!(text.ends_with("# EOF\n"), "{text}");
    for (name, least) in [
        ("emaj_sink_refused_total", 1.0),
        ("emaj_sink_up", 1.0),
        ("emaj_sink_caught_up_timestamp_seconds", 1_700_000_000.0),
        ("emaj_build_info", 1.0),
        ("process_start_time_seconds", 1_700_000_000.0),
        ("process_resident_memory_bytes", 1_000_000.0),
        ("emaj_sink_unchanged_total", 0.0),
        ("emaj_sink_sent_total", 0.0),
        ("emaj_sink_delay_seconds", 0.0),
        ("emaj_sink_lag_seconds", 0.0),
    ] {
        let value = metric(&text, name);
        assert!(value.is_some_and(|value| value >= least), "{name}: {value:?}\n{text}");
    }
    assert_eq!(metric(&text, "emaj_ready"), Some(0.0), "one is set aside");
    assert!(
        text.contains("emaj_sink_state{sink=\"hook\",kind=\"webhook\",state=\"up\"} 1"),
        "{text}"
    );
    let (code, said) = ready(&at);
    assert_eq!(
        (
            code,
            &said["sinks"]["hook"]["set_aside"],
            &said["sinks"]["hook"]["state"]
        ),
        (503, &1.into(), &"up".into())
    );
    assert_eq!(get(&at, "/health").0, 200);
    assert_eq!(get(&at, "/other").0, 404);
    let shown = text + &said.to_string() + &worker.log();
    for secret in [CANARY, SECRET, "secret-canary"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    emaj(&db).args(["failures", "discard", "--all", "--yes"]).run().ok();
    until_ready(&at, true, &worker);
    // What every page and alert speaks of is there.
    let names = regex::Regex::new(r"\b(emaj_(?:sink|build|ready)\w*|process_\w+)").unwrap();
    for page in ["docs/alerts.yaml", "docs/operating.md"] {
        let page = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
        for name in names.find_iter(&page) {
            assert!(metric(&shown, name.as_str()).is_some(), "{}", name.as_str());
        }
    }
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn ready_follows_the_place_also_while_nothing_is_delivered() {
    let receiver = Receiver::start(|_, _| status(204));
    let port = receiver.port;
    let db = person(&webhook(port));
    let worker = worker(&db).start();
    let at = address(&worker);
    until_ready(&at, true, &worker);
    drop(receiver);
    let (said, time) = until_ready(&at, false, &worker);
    assert_eq!(said["sinks"]["hook"]["state"], "down", "{said}");
    assert!(said["sinks"]["hook"]["reason"].as_str().unwrap().len() > 5, "{said}");
    println!("not ready after {time:?}");
    db.psql("insert into person values (1, 'waits')");
    let receiver = Receiver::listen(port, None, |_, _| status(204));
    let (_, time) = until_ready(&at, true, &worker);
    println!("ready again after {time:?}");
    wait_for("the change", 30, || {
        receiver
            .got()
            .iter()
            .any(|request| request.method == "POST")
            .then_some(())
    });
    // A person pauses it: that is not ready either, and says why.
    emaj(&db)
        .args(["sink", "pause", "hook", "--because", "a move"])
        .run()
        .ok();
    let (said, _) = until_ready(&at, false, &worker);
    assert_eq!(
        (&said["sinks"]["hook"]["state"], &said["sinks"]["hook"]["reason"]),
        (&"paused".into(), &"a move".into())
    );
    emaj(&db).args(["sink", "resume", "hook"]).run().ok();
    until_ready(&at, true, &worker);
    // A database that does not answer is noticed too, and the worker still answers.
    let mut client = db.client();
    let mut lock = client.transaction().unwrap();
    lock.batch_execute("lock table emaj.emaj_sink in access exclusive mode")
        .unwrap();
    let (said, time) = until_ready(&at, false, &worker);
    assert_eq!(said["sinks"]["hook"]["state"], "broken", "{said}");
    println!("not ready after {time:?} without an answer of the database");
    lock.rollback().unwrap();
    until_ready(&at, true, &worker);
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_worker_ends_soon_whatever_its_sink_does() {
    // Down: nothing listens.
    let port = free_port();
    let db = person(&webhook(port));
    let down = worker(&db).start();
    let at = address(&down);
    db.psql("insert into person values (1, 'first')");
    let (said, _) = until_ready(&at, false, &down);
    wait_for("the sink to be known as down", 20, || {
        (ready(&at).1["sinks"]["hook"]["state"] == "down").then_some(())
    });
    assert_ne!(said["ready"], true);
    let began = Instant::now();
    assert_eq!(down.stop(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // Slow: the request under way is finished, and those behind it are left for the next worker.
    let receiver = Receiver::listen(port, None, |_, _| Answer::Late(Duration::from_millis(700), 204));
    db.psql("insert into person select n, 'more' from generate_series(2, 60) n");
    let slow = worker(&db).start();
    wait_for("the first request", 20, || {
        receiver
            .got()
            .iter()
            .any(|request| request.method == "POST")
            .then_some(())
    });
    let began = Instant::now();
    assert_eq!(slow.stop(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(receiver);
    let receiver = Receiver::listen(port, None, |_, _| status(204));
    emaj(&db)
        .env("HOOK_SECRET", SECRET)
        .args(["run", "emaj.yaml", "--until-empty", "--wait", "10s"])
        .run()
        .ok();
    let arrived: std::collections::BTreeSet<i64> = receiver
        .got()
        .iter()
        .filter(|request| request.method == "POST")
        .filter_map(|request| request.json()["data"]["row"]["id"].as_i64())
        .collect();
    assert!(arrived.iter().any(|id| *id == 60) && arrived.len() > 40, "{arrived:?}");
}

#[test]
fn systemd_is_told_and_a_courier_that_hangs_stops_the_watchdog() {
    let receiver = Receiver::start(|_, _| status(204));
    let db = person(&webhook(receiver.port));
    let path = db.dir().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut heard = String::new();
    let mut hear = move || {
        let mut part = [0; 4096];
        let mut new = String::new();
        while let Ok(length) = socket.recv(&mut part) {
            new += &String::from_utf8_lossy(&part[..length]);
            new.push('\n');
        }
        heard += &new;
        (heard.clone(), new)
    };
    let worker = worker(&db)
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "2000000")
        .start();
    wait_for("the first words", 20, || {
        let (all, _) = hear();
        let is_all = ["READY=1", "STATUS=1 of 1 sinks up", "WATCHDOG=1"]
            .iter()
            .all(|word| all.contains(word));
        is_all.then_some(())
    });
    let mut client = db.client();
    let mut lock = client.transaction().unwrap();
    lock.batch_execute("lock table emaj.emaj_sink in access exclusive mode")
        .unwrap();
    std::thread::sleep(Duration::from_millis(4800));
    hear();
    std::thread::sleep(Duration::from_secs(2));
    let (_, new) = hear();
    assert!(!new.contains("WATCHDOG=1"), "the courier hangs: {new}");
    lock.rollback().unwrap();
    wait_for("the watchdog again", 20, || {
        hear().1.contains("WATCHDOG=1").then_some(())
    });
    drop(receiver);
    wait_for("the sink to be down", 30, || {
        hear().0.contains("0 of 1 sinks up; hook is down").then_some(())
    });
    assert_eq!(worker.stop(), Some(0));
    assert!(hear().0.contains("STOPPING=1"));
}

#[test]
fn the_log_as_json_is_one_object_a_line_without_values() {
    let receiver = Receiver::start(|_, request| match request.method.as_str() {
        "POST" => status(400),
        _ => status(204),
    });
    let db = person(&webhook(receiver.port));
    let worker = worker(&db)
        .args(["--log-format", "json"])
        .env("EMAJ_LOG", "emaj=trace")
        .start();
    let at = address(&worker);
    db.psql(&format!("insert into person values (1, '{CANARY}')"));
    wait_for("the change to be set aside", 30, || {
        (ready(&at).1["sinks"]["hook"]["set_aside"] == 1).then_some(())
    });
    drop(receiver);
    wait_for("the sink to be down", 30, || {
        (ready(&at).1["sinks"]["hook"]["state"] == "down").then_some(())
    });
    let log = worker.log();
    assert_eq!(worker.stop(), Some(0));
    let mut sinks = 0;
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            line["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(),
            "{line}"
        );
        assert!(
            ["trace", "debug", "info", "warn", "error"].contains(&line["level"].as_str().unwrap()),
            "{line}"
        );
        assert!(line["message"].is_string(), "{line}");
        sinks += usize::from(line["sink"] == "hook");
    }
    assert!(sinks >= 3, "{log}");
    for secret in [CANARY, SECRET, "secret-canary"] {
        assert!(!log.contains(secret), "{log}");
    }
    // A worker that cannot begin says so in the same form.
    std::fs::write(db.dir().join("emaj.yaml"), "version: 2\n").unwrap();
    let run = emaj(&db)
        .args(["run", "emaj.yaml", "--log-format", "json"])
        .run()
        .code(65);
    for line in run.stderr.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(line["level"], "error", "{line}");
    }
}

#[test]
fn a_manifest_that_is_installed_anew_is_followed() {
    let first = Receiver::start(|_, _| status(204));
    let db = person(&webhook(first.port));
    let worker = worker(&db).start();
    let at = address(&worker);
    until_ready(&at, true, &worker);
    let bodies = |receiver: &Receiver| -> Vec<String> {
        let posts = receiver.got().into_iter().filter(|request| request.method == "POST");
        posts.map(|request| request.body).collect()
    };
    // Edited and installed: the worker reads it anew.
    let edited = webhook(first.port).replace("message: {}", "message: { body: \"second {{ row.id }}\" }");
    install(&db, &edited);
    db.psql("insert into person values (1, 'a')");
    wait_for("the new body", 30, || {
        bodies(&first).contains(&"second 1".to_owned()).then_some(())
    });
    // Another sink, to which nothing was bound before: nothing else has changed.
    let lines = db.dir().join("lines.ndjson");
    let edited = edited
        .replace("sinks:\n", "sinks:\n  lines: { file: { path: lines.ndjson } }\n")
        .replace(
            "bindings:\n",
            "bindings:\n  written: { table: public.person, to: lines, message: {} }\n",
        );
    install(&db, &edited);
    db.psql("insert into person values (10, 'a')");
    wait_for("a line", 30, || {
        fs::read_to_string(&lines)
            .is_ok_and(|lines| lines.contains("\"id\":10"))
            .then_some(())
    });
    // Installed from elsewhere: the worker's file is not what is installed, and it says so, until it is.
    let third = edited.replace("second", "third");
    db.file("other.yaml", &third.replace("version: 1", "version: 1\nname: emaj"));
    emaj(&db).args(["install", "other.yaml"]).run().ok();
    db.psql("insert into person values (2, 'a')");
    let (said, _) = until_ready(&at, false, &worker);
    assert_eq!(said["sinks"]["hook"]["state"], "broken", "{said}");
    assert!(
        said["sinks"]["hook"]["reason"].as_str().unwrap().contains("people"),
        "{said}"
    );
    db.file("emaj.yaml", &third);
    until_ready(&at, true, &worker);
    wait_for("the third body", 30, || {
        bodies(&first).contains(&"third 2".to_owned()).then_some(())
    });
    // Settings of a sink are installed nowhere: SIGHUP has them read.
    let second = Receiver::start(|_, _| status(204));
    db.file(
        "emaj.yaml",
        &third.replace(&first.port.to_string(), &second.port.to_string()),
    );
    worker.hang_up();
    wait_for("the manifest to be read", 20, || {
        (worker.log().matches("the manifest was read anew").count() > 3).then_some(())
    });
    db.psql("insert into person values (3, 'a')");
    wait_for("the other place", 30, || {
        bodies(&second).contains(&"third 3".to_owned()).then_some(())
    });
    assert!(!bodies(&first).contains(&"third 3".to_owned()));
    // One that cannot be read changes nothing.
    db.file("emaj.yaml", "version: 1\nsinks: [\n");
    worker.hang_up();
    wait_for("the complaint", 20, || {
        worker.log().contains("cannot be used").then_some(())
    });
    db.psql("insert into person values (4, 'a')");
    wait_for("the next change", 30, || {
        bodies(&second).contains(&"third 4".to_owned()).then_some(())
    });
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_worker_that_nothing_is_bound_to_says_so() {
    let db = database();
    db.psql("create table person (id int primary key, name text)");
    let head = "version: 1\nroles: { admin: null, viewer: null }\nsinks: { a: { file: { path: a } }, b: { file: { path: b } } }\n";
    install(&db, &format!("{head}groups: {{ g: {{ tables: [public.person] }} }}\n"));
    let run = emaj(&db).args(["run", "emaj.yaml"]).run().code(4);
    assert!(
        run.stderr
            .contains("no binding of the manifest goes to a sink: there is nothing to deliver"),
        "{run}"
    );
    install(
        &db,
        &format!(
            "{head}groups: {{ g: {{ tables: [public.person] }} }}\nbindings: {{ c: {{ table: public.person, to: a, message: {{}} }} }}\n"
        ),
    );
    emaj(&db).args(["run", "emaj.yaml", "--until-empty"]).run().ok();
    let run = emaj(&db)
        .args(["run", "emaj.yaml", "--until-empty", "--sink", "b"])
        .run()
        .code(4);
    assert!(run.stderr.contains("goes to sink `b`: there is nothing"), "{run}");
}

/// Of each sink all is told that is known, whatever is missing at another one.
#[test]
fn a_test_goes_on_behind_a_setting_that_is_missing() {
    let db = database();
    let manifest = "version: 1\nroles: { admin: null, viewer: null }\nsinks:\n  away: { webhook: { url: \"${env:NO_URL}\" } }\n  lines: { file: { path: out.ndjson } }\n\
                    bindings: { a: { table: public.person, to: away, message: {} }, b: { table: public.person, to: lines, message: {} } }\n";
    db.file("emaj.yaml", manifest);
    let run = emaj(&db)
        .args(["sink", "test", "emaj.yaml", "-o", "json"])
        .run()
        .code(65);
    let found = run.stdout_json();
    assert_eq!(found[0]["sink"], "away", "{run}");
    let problem = found[0]["problem"].as_str().unwrap();
    assert!(
        problem.starts_with("emaj.yaml:4:")
            && problem.contains("`NO_URL` is not set (hint: set `NO_URL` where emaj runs)"),
        "{run}"
    );
    let others: Vec<&Value> = found
        .as_array()
        .unwrap()
        .iter()
        .filter(|found| found["sink"] == "lines")
        .collect();
    assert!(
        !others.is_empty() && others.iter().all(|found| found["problem"].is_null()),
        "{run}"
    );
}

/// A script can tell a wrong password from a place that is away, whatever else is remarked on.
#[test]
fn a_test_tells_a_refused_login_from_a_place_that_is_away() {
    let (db, mut slapd) = (database(), slapd());
    let role = format!("{}_copy", db.name());
    db.psql(&format!("create role {role} login password 'right'"));
    let port = shared_cluster().port();
    let hook = Receiver::start(|_, request| {
        status(match request.path.as_str() {
            "/401" => 401,
            "/403" => 403,
            _ => 200,
        })
    });
    let ldap = |url: &str, password: &str| {
        format!("{{ ldap: {{ url: \"{url}\", bind_dn: \"{ACCOUNT}\", password: \"{password}\", timeout: 5 }} }}")
    };
    let postgres = |user: &str, password: &str| {
        format!(
            "{{ postgres: {{ host: 127.0.0.1, port: {port}, dbname: {}, user: {user}, password: {password} }} }}",
            db.name()
        )
    };
    let webhook = |path: &str| format!("{{ webhook: {{ url: \"http://127.0.0.1:{}{path}\" }} }}", hook.port);
    let away = format!(
        "{{ webhook: {{ url: \"http://127.0.0.1:{}/\", timeout: 5 }} }}",
        free_port()
    );
    let url = slapd.url();
    let tested = |sinks: &[&str]| {
        let list = |say: &dyn Fn(usize, &str) -> String| {
            let all = sinks.iter().enumerate().map(|(at, sink)| say(at, sink));
            all.collect::<String>()
        };
        let bindings = list(&|at, sink| {
            let kind = match sink {
                sink if sink.contains("ldap:") => "value: { dn: \"cn=b\", attribute: sn, value: x }",
                sink if sink.contains("postgres:") => "row: {}",
                _ => "message: {}",
            };
            format!("  b{at}: {{ table: public.person, to: s{at}, {kind} }}\n")
        });
        let sinks = list(&|at, sink| format!("  s{at}: {sink}\n"));
        let manifest =
            format!("version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n{sinks}bindings:\n{bindings}");
        db.file("emaj.yaml", &manifest);
        let run = emaj(&db).args(["sink", "test", "emaj.yaml"]).run();
        assert!(!run.to_string().contains("canary"), "{run}");
        run
    };
    let (right, wrong) = (ldap(&url, PASSWORD), ldap(&url, "canary-wrong"));
    tested(&[&wrong]).code(12);
    tested(&[&postgres(&role, "canary-wrong")]).code(12);
    tested(&[&postgres("nobody_here", "canary-wrong")]).code(12);
    tested(&[&webhook("/401")]).code(12);
    tested(&[&webhook("/403")]).code(12);
    tested(&[&webhook("/"), &right]).ok();
    // The role is let in, and may not keep the position.
    let run = tested(&[&postgres(&role, "right")]).code(12);
    assert!(run.stdout.contains("this role may not"), "{run}");
    tested(&[&away]).code(13);
    // The first of several decides.
    tested(&[&webhook("/"), &wrong, &away]).code(12);
    tested(&[&away, &wrong]).code(13);
    slapd.stop();
    tested(&[&right]).code(13);
    // (A redirect is no refusal, and tells less than one.)
    let moved = Receiver::start(|_, _| Answer::Say(301, "location: /there\r\n", String::new()));
    let moved = format!("{{ webhook: {{ url: \"{}\" }} }}", moved.url());
    tested(&[&moved]).code(1);
    tested(&[&moved, &webhook("/401")]).code(12);
    db.psql(&format!("drop role {role}"));
}

/// A secret is mounted late, or forgotten: the other sinks go on, and the one goes on by itself when it is there.
#[test]
fn a_setting_that_is_missing_stops_one_sink_until_it_is_there() {
    let db = person(
        "version: 1\nroles: { admin: null, viewer: null }\nsinks:\n  there: { file: { path: there.ndjson } }\n  later: { file: { path: \"${file:where}\" } }\n\
         bindings: { a: { table: public.person, to: there, message: {} }, b: { table: public.person, to: later, message: {} } }\n",
    );
    let lines = |file: &str| {
        fs::read_to_string(db.dir().join(file))
            .unwrap_or_default()
            .lines()
            .count()
    };
    db.psql("insert into person values (1, 'a')");
    let run = emaj(&db).args(["run", "emaj.yaml", "--until-empty"]).run().code(65);
    assert_eq!(run.stderr.matches("--> emaj.yaml:5:").count(), 1, "{run}");
    assert_eq!(lines("there.ndjson"), 1);

    let mut worker = worker(&db).start();
    let address = address(&worker);
    db.psql("insert into person values (2, 'a')");
    wait_for("the sink that is there", 60, || {
        (lines("there.ndjson") == 2).then_some(())
    });
    let listed = wait_for("the reason", 60, || {
        let listed = emaj(&db).args(["sink", "list", "-o", "json"]).run().ok();
        listed.stdout.contains("emaj.yaml:5:").then_some(listed)
    });
    assert!(
        listed.stdout.contains("down: emaj.yaml:5:") && listed.stdout.contains("failed to read `where`"),
        "{listed}"
    );
    until_ready(&address, false, &worker);
    assert!(worker.is_running());
    db.file("where", "later.ndjson");
    wait_for("the sink that came later", 60, || {
        (lines("later.ndjson") == 2).then_some(())
    });
    until_ready(&address, true, &worker);
    wait_for("nothing to be wrong any more", 60, || {
        let listed = emaj(&db).args(["sink", "list", "-o", "json"]).run().ok();
        (!listed.stdout.contains("emaj.yaml:5:")).then_some(())
    });
    assert_eq!(worker.stop(), Some(0));

    // Where no sink is without, somebody forgot something: all is said at once.
    fs::remove_file(db.dir().join("where")).unwrap();
    let both = fs::read_to_string(db.dir().join("emaj.yaml"))
        .unwrap()
        .replace("path: there.ndjson", "path: \"${env:NO_PATH}\"");
    db.file("emaj.yaml", &both);
    let run = emaj(&db).args(["run", "emaj.yaml"]).run().code(65);
    for part in [
        "the manifest has 2 errors",
        "`NO_PATH` is not set",
        "failed to read `where`",
    ] {
        assert!(run.stderr.contains(part), "{part}: {run}");
    }
}

#[test]
fn a_worker_under_which_all_was_uninstalled_asks_for_nothing_that_is_gone() {
    let db = person(&webhook(9));
    let worker = emaj(&db).env("HOOK_SECRET", SECRET).args(["run", "emaj.yaml"]).start();
    wait_for("the worker", 60, || {
        worker.log().contains("delivering to").then_some(())
    });
    emaj(&db).args(["uninstall", "--all", "--yes"]).run().ok();
    wait_for("a word about it", 60, || {
        worker.log().contains("emaj is not installed in schema").then_some(())
    });
    // (What was under way when it went may have met that.)
    let met = worker.log().matches("does not exist").count();
    wait_for("more words", 60, || {
        (worker.log().matches("emaj is not installed in schema").count() > 3).then_some(())
    });
    assert_eq!(worker.log().matches("does not exist").count(), met, "{}", worker.log());
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_sink_of_another_kind_is_followed() {
    let db = database();
    db.psql("create table person (id int primary key, name text)");
    let receiver = Receiver::start(|_, _| status(204));
    let hook = webhook(receiver.port);
    let written = hook.lines().map(|line| {
        if line.contains("webhook") {
            "  hook: { file: { path: out.ndjson } }"
        } else {
            line
        }
    });
    install(&db, &written.collect::<Vec<_>>().join("\n"));
    let worker = worker(&db).start();
    let lines = || fs::read_to_string(db.dir().join("out.ndjson")).unwrap_or_default();
    db.psql("insert into person values (1, 'a')");
    wait_for("a line", 30, || lines().contains("\"id\":1").then_some(()));
    install(&db, &hook);
    db.psql("insert into person values (2, 'a')");
    wait_for("a request", 30, || {
        let mut got = receiver.got().into_iter();
        got.any(|request| request.body.contains("\"id\":2")).then_some(())
    });
    assert!(!lines().contains("\"id\":2"), "{}", lines());
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn a_worker_takes_out_of_the_logs_what_nothing_needs() {
    let db = database();
    db.psql("create table person (id int primary key, name text)");
    install(
        &db,
        "version: 1
roles: { admin: null, viewer: null }
groups: { g: { tables: [public.person], rollback: false, retention: 1 second } }
sinks: { lines: { file: { path: out.ndjson } } }
bindings: { people: { table: public.person, to: lines, message: {} } }
",
    );
    let worker = emaj(&db).args(["run", "emaj.yaml", "--purge-every", "500ms"]).start();
    db.psql("insert into person select n from generate_series(1, 100) n");
    wait_for("the log to be empty", 40, || {
        (db.psql("select count(*) from emaj.public_person_log") == "0").then_some(())
    });
    let lines = std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap();
    assert_eq!(lines.lines().count(), 100, "nothing goes before it is delivered");
    wait_for("a word about it", 10, || {
        worker.log().contains("100 rows went out of the logs").then_some(())
    });
    assert_eq!(
        worker.log().matches("went out of the logs").count(),
        1,
        "nothing to do is nothing to say"
    );
    assert_eq!(worker.stop(), Some(0));
}

#[test]
fn an_address_that_is_taken_is_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let db = person(&webhook(free_port()));
    let run = emaj(&db)
        .env("HOOK_SECRET", SECRET)
        .args(["run", "emaj.yaml", "--listen", &address])
        .run()
        .code(1);
    assert!(run.stderr.contains(&format!("failed to listen to {address}")), "{run}");
    emaj(&db)
        .args(["run", "emaj.yaml", "--listen", "nowhere"])
        .run()
        .code(64);
}

/// The unit of the documentation is one that systemd reads.
#[test]
fn the_unit_is_in_order() {
    let unit = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/emaj.service");
    let text = std::fs::read_to_string(&unit).unwrap();
    for line in [
        "Type=notify",
        "ExecStart=/usr/bin/emaj run ",
        "WatchdogSec=",
        "Restart=on-failure",
    ] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line}\n{text}");
    }
    let mut section = "";
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        match line.strip_prefix('[') {
            Some(name) => section = name.trim_end_matches(']'),
            None => assert!(!section.is_empty() && line.contains('='), "{line}"),
        }
    }
    assert_eq!(section, "Install");
    // What the unit runs are options that there are.
    let start = text
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart=/usr/bin/emaj "))
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let run = crate::support::emaj_alone(directory.path())
        .args(start.split_whitespace())
        .run();
    assert_ne!(run.status, Some(64), "{run}");
    // Where systemd is, it has the last word.
    let verdict = std::process::Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&unit)
        .output();
    if let Ok(verdict) = verdict {
        let said = String::from_utf8_lossy(&verdict.stderr);
        let wrong: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("emaj.service") && !line.contains("/usr/bin/emaj is not executable"))
            .collect();
        assert!(wrong.is_empty(), "{said}");
    }
}

#[test]
fn a_courier_that_panics_is_started_again_and_says_so_without_the_text() {
    let receiver = Receiver::start(|_, request| status(if request.body.contains("poison") { 422 } else { 204 }));
    let db = person(&format!(
        "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks:\n  hook: {{ webhook: {{ url: \"{}\" }} }}\n  lines: {{ file: {{ path: out.ndjson }} }}\n\
         bindings:\n  to_hook: {{ table: public.person, to: hook, message: {{}} }}\n  to_lines: {{ table: public.person, to: lines, message: {{}} }}\n",
        receiver.url()
    ));
    let file = db.file("panic", "");
    let running = worker(&db)
        .env("EMAJ_FAIL_AT", "aside.written")
        .env("EMAJ_FAIL_PANIC", file.to_str().unwrap())
        .start();
    let address = address(&running);
    db.psql("insert into person values (1, 'poison')");
    let said = wait_for("word of it", 30, || {
        let sinks = ready(&address).1["sinks"].clone();
        (sinks["hook"]["state"] == "broken").then(|| sinks["hook"]["reason"].to_string())
    });
    assert!(said.contains("the courier of sink `hook` broke down"), "{said}");
    // The other sink is not concerned.
    db.psql("insert into person values (2, 'fine')");
    wait_for("the lines", 30, || {
        let text = std::fs::read_to_string(db.dir().join("out.ndjson")).unwrap_or_default();
        (text.lines().count() == 2).then_some(())
    });
    assert_eq!(get(&address, "/health").0, 200);
    wait_for("another try", 30, || {
        (running.log().matches("broke down at src/fail_at.rs").count() > 1).then_some(())
    });
    assert!(!running.log().contains("wished at"), "{}", running.log());
    std::fs::remove_file(file).unwrap();
    wait_for("the change to be set aside", 30, || {
        (db.psql("select count(*) from emaj.emaj_failure") == "1").then_some(())
    });
    wait_for("the other change", 30, || {
        receiver
            .got()
            .iter()
            .any(|request| request.body.contains("fine"))
            .then_some(())
    });
    wait_for("the sink to be up", 30, || {
        (ready(&address).1["sinks"]["hook"]["state"] == "up").then_some(())
    });
    assert_eq!(running.stop(), Some(0));
}
