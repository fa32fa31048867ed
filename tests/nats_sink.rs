//! NATS against a real server: what the stream holds afterwards, also after the same again, a refusal, a server gone and back.

use std::time::{Duration, Instant};

use emaj::sink::{Action, Delivery, Opener};
use serde_json::json;

use crate::support::nats::Nats;
use crate::support::sinks::{certificate, event, plain, reason, sink, with_header, words};
use crate::support::{Database, database, emaj, shared_cluster};

fn bus(nats: &Nats, more: &str) -> Box<dyn Opener> {
    sink(
        &format!("{{ nats: {{ url: \"{}\", timeout: 5{more} }} }}", nats.url()),
        &[],
    )
}

fn events(range: std::ops::Range<usize>) -> Vec<Delivery> {
    range
        .map(|at| event(&format!("e{at}"), &format!("shop.k{}", at % 7), &format!("k{}", at % 7)))
        .collect()
}

#[test]
fn messages_arrive_in_order_and_the_same_again_is_recognised() {
    let nats = Nats::start();
    nats.stream("SHOP", &["shop.>"], json!({}));
    let opener = bus(&nats, ", stream: SHOP");
    assert_eq!(
        (opener.lanes(), opener.describe()),
        (1, format!("NATS at 127.0.0.1:{}", nats.port))
    );
    let mut sink = opener.open().unwrap();
    let mut batch = events(0..500);
    batch.push(with_header(
        plain("own", "shop.own", "own", "h\u{e9}llo"),
        "X-Name",
        "Ren\u{e9}e: a",
    ));
    assert_eq!(words(&sink.deliver(&batch)), ["written"; 501]);
    // Again, as after a crash: by the same connection, and by another one.
    assert_eq!(words(&sink.deliver(&batch[490..])), ["unchanged"; 11]);
    assert_eq!(
        words(&opener.open().unwrap().deliver(&events(498..502))),
        ["unchanged", "unchanged", "written", "written"]
    );
    let held = nats.messages("SHOP");
    assert_eq!(held.len(), 503);
    for (at, (subject, headers, body)) in held[..500].iter().enumerate() {
        assert_eq!(*subject, format!("shop.k{}", at % 7));
        assert!(headers.contains(&format!("Nats-Msg-Id: e{at}\r\n")), "{headers}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(body).unwrap()["id"],
            format!("e{at}")
        );
    }
    let (subject, headers, body) = &held[500];
    assert_eq!((subject.as_str(), body.as_str()), ("shop.own", "h\u{e9}llo"));
    assert!(
        headers.contains("X-Name: Ren\u{e9}e: a\r\n") && headers.contains("Content-Type: text/plain"),
        "{headers}"
    );
}

#[test]
fn what_the_stream_does_not_take_is_set_aside_and_the_others_go_on() {
    let nats = Nats::start();
    nats.stream("SHOP", &["shop.*.x", "shop.k.*.b"], json!({ "max_msg_size": 2000 }));
    let mut sink = bus(&nats, ", stream: SHOP").open().unwrap();
    let batch = [
        event("e1", "shop.1.x", "1"),
        event("e2", "other.1.x", "2"),
        event("e3", "shop.1.x", "2"),
        plain("e4", "shop.k.a.b", "4", &"x".repeat(3000)),
        plain("e5", "shop.k.a.b", "5", &"x".repeat(2 << 20)),
        event("e6", "shop.1.x.y", "6"),
        event("e7", "shop.k.7.b", "7"),
    ];
    let outcomes = sink.deliver(&batch);
    assert_eq!(
        words(&outcomes),
        ["written", "later", "later", "never", "never", "later", "written"]
    );
    assert!(
        reason(&outcomes[..2]).contains("it holds shop.*.x, shop.k.*.b"),
        "{}",
        reason(&outcomes[..2])
    );
    assert!(
        reason(&outcomes[..4]).contains("2000 bytes"),
        "{}",
        reason(&outcomes[..4])
    );
    assert_eq!(nats.count("SHOP"), 2);
    // The stream is changed: the same connection goes on.
    let more = json!({ "name": "SHOP", "subjects": ["shop.*.x", "shop.k.*.b", "other.>"], "max_msg_size": 2000,
                       "storage": "file", "retention": "limits", "num_replicas": 1 });
    assert!(nats.ask("STREAM.UPDATE.SHOP", &more)["error"].is_null());
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(words(&sink.deliver(&batch[1..3])), ["written", "written"]);
    // Without a stream in the manifest, the server and its stream say so.
    let mut sink = bus(&nats, "").open().unwrap();
    let outcomes = sink.deliver(&[batch[3].clone(), batch[4].clone(), event("e8", "shop.8.x", "8")]);
    assert_eq!(words(&outcomes), ["never", "never", "written"]);
    assert!(reason(&outcomes[..1]).contains("10054"), "{}", reason(&outcomes[..1]));
    assert!(
        reason(&outcomes[..2]).contains("max_payload"),
        "{}",
        reason(&outcomes[..2])
    );
    // A header that breaks its line would be another one, `Nats-Rollup` say.
    for (name, value) in [
        ("x", "a\r\nNats-Rollup: all"),
        ("x", "a\nb"),
        ("Nats-Msg-Id", "e1"),
        ("nats-rollup", "all"),
        ("a b", "c"),
    ] {
        let hostile = with_header(event("e9", "shop.9.x", "9"), name, value);
        assert_eq!(words(&sink.deliver(&[hostile])), ["never"], "{name}");
    }
    for subject in [
        "shop.*.x",
        "shop.>",
        "shop..x",
        "",
        "shop.a b.x",
        "$JS.API.STREAM.PURGE.SHOP",
        "a\r\nPUB b 0\r\n",
    ] {
        assert_eq!(
            words(&sink.deliver(&[event("e9", subject, "9")])),
            ["never"],
            "{subject}"
        );
    }
    assert_eq!(nats.count("SHOP"), 5);
}

#[test]
fn without_a_stream_the_place_is_down_until_there_is_one() {
    let nats = Nats::start();
    let fault = bus(&nats, ", stream: SHOP").open().err().unwrap();
    assert!(
        fault.reason.contains("stream not found") && fault.reason.contains("nats stream add"),
        "{fault}"
    );
    let opener = bus(&nats, "");
    let outcomes = opener.open().unwrap().deliver(&events(0..3));
    assert_eq!(words(&outcomes), ["down"; 3]);
    assert!(
        reason(&outcomes).contains("no stream holds the message's subject"),
        "{}",
        reason(&outcomes)
    );
    nats.stream("PAID", &["paid.>"], json!({}));
    let mixed = [
        event("p1", "other.1", "1"),
        event("p2", "paid.2", "2"),
        event("p3", "paid.3", "3"),
    ];
    let outcomes = opener.open().unwrap().deliver(&mixed);
    assert_eq!(words(&outcomes), ["down", "written", "written"]);
    nats.stream("SHOP", &["shop.>"], json!({ "max_msgs": 2, "discard": "new" }));
    let outcomes = opener.open().unwrap().deliver(&events(0..3));
    assert_eq!(words(&outcomes), ["written", "written", "down"]);
    assert!(
        reason(&outcomes).contains("maximum messages exceeded"),
        "{}",
        reason(&outcomes)
    );
}

#[test]
fn a_subject_that_is_full_holds_up_no_other() {
    let nats = Nats::start();
    let settings = json!({ "max_msgs_per_subject": 1, "discard": "new", "discard_new_per_subject": true });
    nats.stream("SHOP", &["shop.>"], settings);
    let mut sink = bus(&nats, "").open().unwrap();
    let batch = [
        event("e1", "shop.bern", "1"),
        event("e2", "shop.bern", "2"),
        event("e3", "shop.genf", "3"),
    ];
    let outcomes = sink.deliver(&batch);
    assert_eq!(words(&outcomes), ["written", "later", "written"]);
    assert!(
        reason(&outcomes[..2]).contains("per subject"),
        "{}",
        reason(&outcomes[..2])
    );
    let answer = nats.ask("STREAM.PURGE.SHOP", &json!({ "filter": "shop.bern" }));
    assert!(answer["error"].is_null(), "{answer}");
    assert_eq!(words(&sink.deliver(&batch[1..2])), ["written"]);
}

#[test]
fn a_subject_that_is_too_long_holds_up_no_other() {
    let nats = Nats::start();
    nats.stream("SHOP", &["shop.>"], json!({}));
    let mut sink = bus(&nats, ", stream: SHOP").open().unwrap();
    let long = |id: &str, length: usize| {
        let subject = format!("shop.{}", "x".repeat(length - 5));
        plain(id, &subject, id, &" ".repeat(100_000))
    };
    let outcomes = sink.deliver(&[long("e1", 4000), long("e2", 4001), event("e3", "shop.3", "3")]);
    assert_eq!(words(&outcomes), ["written", "never", "written"]);
    assert!(
        reason(&outcomes[..2]).contains("it has 4001 bytes"),
        "{}",
        reason(&outcomes[..2])
    );
    // Where the server takes less, it says why it closes the connection. (That may be read too late to be told.)
    let nats = Nats::with("max_control_line: 512", json!({}));
    nats.stream("SHOP", &["shop.>"], json!({}));
    let opener = bus(&nats, ", stream: SHOP");
    let event = event("e4", &format!("shop.{}", "x".repeat(1000)), "4");
    let is_said = |_| {
        let outcomes = opener.open().unwrap().deliver(std::slice::from_ref(&event));
        assert_eq!(words(&outcomes), ["down"]);
        reason(&outcomes).ends_with("the server says: nats: maximum control line exceeded")
    };
    assert!((0..50).any(is_said));
}

#[test]
fn a_server_that_goes_is_noticed_at_once_and_all_arrives_when_it_is_back() {
    let mut nats = Nats::start();
    nats.stream("SHOP", &["shop.>"], json!({}));
    let opener = bus(&nats, ", stream: SHOP");
    let mut sink = opener.open().unwrap();
    assert_eq!(words(&sink.deliver(&events(0..10))), ["written"; 10]);
    nats.down();
    let begin = Instant::now();
    let outcomes = sink.deliver(&events(10..20));
    assert_eq!(words(&outcomes), ["down"]);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert!(opener.open().is_err());
    nats.up();
    // The old connection is not taken up again: what was on its way would be missing.
    assert_eq!(words(&sink.deliver(&events(10..20))), ["down"]);
    let mut sink = opener.open().unwrap();
    assert_eq!(words(&sink.deliver(&events(5..20)))[5..], ["written"; 10]);
    let bodies: Vec<String> = nats
        .messages("SHOP")
        .into_iter()
        .map(|(_, headers, _)| headers)
        .collect();
    assert_eq!(bodies.len(), 20);
    for (at, headers) in bodies.iter().enumerate() {
        assert!(headers.contains(&format!("Nats-Msg-Id: e{at}\r\n")), "{at}: {headers}");
    }
}

#[test]
fn a_server_killed_in_the_middle_loses_nothing_and_swaps_nothing() {
    let mut nats = Nats::start();
    nats.stream("SHOP", &["shop.>"], json!({}));
    let opener = bus(&nats, ", stream: SHOP");
    let all = events(0..6000);
    let mut done = 0;
    let mut kills = 0;
    while done < all.len() {
        let Ok(mut sink) = opener.open() else {
            nats.up();
            continue;
        };
        let batch = all[done..all.len().min(done + 2000)].to_vec();
        let worker = std::thread::spawn(move || sink.deliver(&batch));
        if kills < 4 {
            kills += 1;
            std::thread::sleep(Duration::from_millis(10 * kills));
            nats.down();
        }
        let outcomes = worker.join().unwrap();
        done += words(&outcomes)
            .iter()
            .take_while(|word| ["written", "unchanged"].contains(word))
            .count();
    }
    let ids: Vec<String> = nats
        .messages("SHOP")
        .iter()
        .map(|(_, _, body)| {
            serde_json::from_str::<serde_json::Value>(body).unwrap()["id"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let expected: Vec<String> = (0..6000).map(|at| format!("e{at}")).collect();
    assert!(ids == expected, "{} of {}", ids.len(), expected.len());
}

#[test]
fn the_login_and_its_refusal() {
    let configuration = "authorization { users = [ { user: emaj, password: \"canary-password\" } ] }";
    let nats = Nats::with(configuration, json!({ "user": "emaj", "pass": "canary-password" }));
    nats.stream("SHOP", &["shop.>"], json!({}));
    let settings = format!(
        "{{ nats: {{ url: \"{}\", timeout: 5, user: emaj, password: \"${{env:PW}}\" }} }}",
        nats.url()
    );
    let good = sink(&settings, &[("PW", "canary-password")]);
    assert_eq!(words(&good.open().unwrap().deliver(&events(0..2))), ["written"; 2]);
    let fault = sink(&settings, &[("PW", "canary-wrong")]).open().err().unwrap();
    assert!(
        fault.reason.contains("it refuses the login") && !fault.reason.contains("canary"),
        "{fault}"
    );
    assert!(bus(&nats, "").open().is_err());
    let token = Nats::with(
        "authorization { token: \"canary-token\" }",
        json!({ "auth_token": "canary-token" }),
    );
    token.stream("SHOP", &["shop.>"], json!({}));
    let settings = format!(
        "{{ nats: {{ url: \"{}\", timeout: 5, token: \"${{env:T}}\" }} }}",
        token.url()
    );
    assert_eq!(
        words(
            &sink(&settings, &[("T", "canary-token")])
                .open()
                .unwrap()
                .deliver(&events(0..1))
        ),
        ["written"]
    );
    let fault = sink(&settings, &[("T", "canary-other")]).open().err().unwrap();
    assert!(
        fault.reason.contains("it refuses the login") && !fault.reason.contains("canary"),
        "{fault}"
    );
    let file = nats.file("emaj.creds", "canary: no JWT");
    let fault = bus(&nats, &format!(", credentials_file: \"{file}\""))
        .open()
        .err()
        .unwrap();
    assert!(
        fault.reason.contains("holds no JWT and seed") && !fault.reason.contains("canary"),
        "{fault}"
    );
}

#[test]
fn rights_that_are_missing_are_the_servers_word() {
    let configuration = "authorization { users = [
        { user: admin, password: admin }
        { user: emaj, password: emaj, permissions: { publish: [\"shop.allowed\"], subscribe: [\"_INBOX.>\"] } } ] }";
    let nats = Nats::with(configuration, json!({ "user": "admin", "pass": "admin" }));
    nats.stream("SHOP", &["shop.>"], json!({}));
    let settings = format!(
        "{{ nats: {{ url: \"{}\", timeout: 1, user: emaj, password: \"${{env:PW}}\" }} }}",
        nats.url()
    );
    let opener = sink(&settings, &[("PW", "emaj")]);
    assert_eq!(
        words(&opener.open().unwrap().deliver(&[event("e1", "shop.allowed", "1")])),
        ["written"]
    );
    let outcomes = opener.open().unwrap().deliver(&[event("e2", "shop.denied", "1")]);
    assert_eq!(words(&outcomes), ["down"]);
    assert!(
        reason(&outcomes).contains("Permissions Violation"),
        "{}",
        reason(&outcomes)
    );
}

#[test]
fn tls_is_verified_by_the_authority_of_the_manifest() {
    let (chain, key) = certificate();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("chain.pem"), &chain).unwrap();
    std::fs::write(path("key.pem"), &key).unwrap();
    std::fs::write(path("other.pem"), certificate().0).unwrap();
    let configuration = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\" }}",
        path("chain.pem"),
        path("key.pem")
    );
    let nats = Nats::with(&configuration, json!({}));
    let settings = |file: &str| {
        format!(
            "{{ nats: {{ url: \"tls://localhost:{}\", timeout: 5, ca_file: \"{}\" }} }}",
            nats.port,
            path(file)
        )
    };
    let findings = sink(&settings("chain.pem"), &[]).open().unwrap().probe().unwrap();
    assert!(findings.iter().all(|finding| finding.problem.is_none()), "{findings:?}");
    let fault = |settings: &str| sink(settings, &[]).open().err().unwrap().reason;
    let other = fault(&settings("other.pem"));
    let hint = "other.pem` (`ca_file`) does not hold the authority that signed the server's certificate)";
    assert!(other.ends_with(hint), "{other}");
    let hint = "(hint: name the file of the authority that signed the server's certificate as `ca_file`)";
    for scheme in ["tls", "nats"] {
        let without = fault(&format!(
            "{{ nats: {{ url: \"{scheme}://localhost:{}\", timeout: 5 }} }}",
            nats.port
        ));
        assert!(without.ends_with(hint), "{without}");
    }
    let clear = Nats::start();
    let without = fault(&format!(
        "{{ nats: {{ url: \"tls://localhost:{}\", timeout: 5 }} }}",
        clear.port
    ));
    assert!(without.contains("(hint: does the server speak TLS?"), "{without}");
}

#[test]
fn a_probe_and_a_preview_come_before_the_first_delivery() {
    let nats = Nats::start();
    nats.stream(
        "SHOP",
        &["shop.>", "more"],
        json!({ "duplicate_window": 600_000_000_000_u64 }),
    );
    let mut sink = bus(&nats, ", stream: SHOP").open().unwrap();
    let findings = sink.probe().unwrap();
    assert!(findings.iter().all(|finding| finding.problem.is_none()), "{findings:?}");
    let what = &findings.last().unwrap().what;
    assert_eq!(
        what,
        "stream `SHOP`: holds shop.>, more; duplicates are recognised for 600 s"
    );
    let line = sink
        .preview(&[with_header(event("e1", "shop.1", "7"), "x-n", "v")])
        .unwrap()
        .remove(0);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["address"], &line["key"], &line["body"]["id"]),
        (&"shop.1".into(), &"7".into(), &"e1".into())
    );
    assert_eq!(
        (&line["headers"]["Nats-Msg-Id"], &line["headers"]["x-n"]),
        (&"e1".into(), &"v".into())
    );
    assert_eq!(nats.count("SHOP"), 0, "the preview sends nothing");
}

#[test]
fn an_idle_connection_stays() {
    let nats = Nats::with("ping_interval: \"300ms\"\nping_max: 2", json!({}));
    nats.stream("SHOP", &["shop.>"], json!({}));
    let mut sink = bus(&nats, "").open().unwrap();
    assert_eq!(words(&sink.deliver(&events(0..1))), ["written"]);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(words(&sink.deliver(&events(1..2))), ["written"]);
}

#[test]
fn a_replay_arrives_within_the_duplicate_window_and_once() {
    let nats = Nats::start();
    nats.stream("SHOP", &["shop.>"], json!({}));
    let db = database();
    db.psql("create table item (id int primary key)");
    let manifest = format!(
        "version: 1\nroles: {{ admin: null, viewer: null }}\ngroups: {{ g: {{ tables: [public.item] }} }}\nsinks: {{ bus: {{ nats: {{ url: \"{}\", stream: SHOP, timeout: 5 }} }} }}\n\
         bindings: {{ items: {{ table: public.item, to: bus, message: {{ subject: \"shop.{{{{ row.id }}}}\" }} }} }}\n",
        nats.url()
    );
    std::fs::write(db.dir().join("emaj.yaml"), manifest).unwrap();
    let run = |args: &[&str]| emaj(&db).args(args).run();
    let deliver = || run(&["run", "emaj.yaml", "--until-empty"]).ok().stderr;
    let replay = || run(&["replay", "bus", "--from", "m", "--yes"]).ok();
    run(&["install", "emaj.yaml"]).ok();
    run(&["mark", "set", "g", "m"]).ok();
    db.psql("insert into item select generate_series(1, 5)");
    deliver();
    assert_eq!(nats.count("SHOP"), 5);
    replay();
    assert!(deliver().contains("delivered 5 changes"));
    let held = nats.messages("SHOP");
    assert_eq!(held.len(), 10);
    for (first, again) in held[..5].iter().zip(&held[5..]) {
        assert_eq!(first.2, again.2, "the same event");
        assert_ne!(first.1, again.1, "another message");
    }
    // A replay that is killed goes on with the same messages, and what comes for the first time has the event's id.
    replay();
    db.psql("insert into item values (6)");
    let killed = emaj(&db)
        .args(["run", "emaj.yaml", "--until-empty"])
        .env("EMAJ_FAIL_AT", "chunk.delivered")
        .run();
    assert_eq!(killed.status, None, "{killed}");
    deliver();
    let held = nats.messages("SHOP");
    assert_eq!(held.len(), 16);
    let (_, headers, body) = held.iter().find(|(subject, ..)| subject == "shop.6").unwrap();
    let event: serde_json::Value = serde_json::from_str(body).unwrap();
    let id = format!("Nats-Msg-Id: {}\r\n", event["id"].as_str().unwrap());
    assert!(headers.contains(&id), "{headers}");
}

/// Databases made alike have tables with the same numbers and rows with the same keys.
#[test]
fn a_stream_takes_what_is_alike_from_several_installations() {
    let nats = Nats::start();
    nats.stream("SHOP", &["shop.>"], json!({}));
    let manifest = format!(
        "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ bus: {{ nats: {{ url: \"{}\", stream: SHOP, timeout: 5 }} }} }}\n\
         bindings: {{ items: {{ table: public.item, to: bus, message: {{ subject: \"shop.{{{{ row.id }}}}\" }} }} }}\n",
        nats.url()
    );
    let copy_of = |first: &Database| {
        let copy = database();
        let client = shared_cluster().conninfo("postgres");
        let mut client = postgres::Client::connect(&client, postgres::NoTls).unwrap();
        let sql = [
            format!("drop database {}", copy.name()),
            format!("create database {} template {}", copy.name(), first.name()),
        ];
        sql.iter().for_each(|sql| client.batch_execute(sql).unwrap());
        copy.file("emaj.yaml", &manifest);
        copy
    };
    let run = |db: &Database, args: &[&str]| emaj(db).args(args).run().ok();
    let template = database();
    template.psql("create table item (id int primary key); insert into item select generate_series(1, 5)");
    let (one, other) = (copy_of(&template), copy_of(&template));
    for (db, held) in [(&one, 5), (&other, 10)] {
        run(db, &["install", "emaj.yaml"]);
        run(db, &["init", "emaj.yaml"]);
        assert_eq!(nats.count("SHOP"), held);
    }
    // What one of them sends again is known.
    run(&one, &["init", "emaj.yaml"]);
    assert_eq!(nats.count("SHOP"), 10);
    // The copy of an installation is another one.
    let copied = copy_of(&one);
    run(&copied, &["verify", "--repair", "--yes"]);
    run(&copied, &["init", "emaj.yaml"]);
    assert_eq!(nats.count("SHOP"), 15);
}

/// `cargo test --release --test main nats_sink::how_fast -- --ignored --nocapture` says how many messages a second.
#[test]
#[ignore = "a measurement, not a test"]
fn how_fast() {
    let nats = Nats::start();
    nats.stream("SHOP", &["shop.>"], json!({}));
    let mut sink = bus(&nats, ", stream: SHOP").open().unwrap();
    let mut batch = events(0..200_000);
    for delivery in &mut batch {
        let Action::Message(message) = &mut delivery.action else {
            unreachable!()
        };
        message.body += &" ".repeat(200);
    }
    let begin = Instant::now();
    for part in batch.chunks(2000) {
        assert!(words(&sink.deliver(part)).iter().all(|word| *word == "written"));
    }
    println!("{:.0} messages/s", 200_000.0 / begin.elapsed().as_secs_f64());
}
