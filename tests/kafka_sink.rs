//! Kafka against librdkafka's broker, read back with `kcat`: where keys land, in which order, and what a refusal leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use emaj::sink::{Delivery, Opener};
use serde_json::Value;

use crate::support::kafka::Kafka;
use crate::support::sinks::{answering, certificate, event, plain, reason, sink, tls_server, with_header, words};
use crate::support::{database, emaj, wait_for};

fn log(kafka: &Kafka, more: &str) -> Box<dyn Opener> {
    sink(
        &format!(
            "{{ kafka: {{ brokers: [\"127.0.0.1:{}\"], timeout: 3{more} }} }}",
            kafka.port
        ),
        &[],
    )
}

fn events(range: std::ops::Range<usize>) -> Vec<Delivery> {
    range
        .map(|at| event(&format!("e{at}"), "shop", &format!("k{}", at % 7)))
        .collect()
}

/// Returns the ids of a topic's records, each partition in its order.
fn ids(kafka: &Kafka, topic: &str) -> Vec<String> {
    let id = |body: &str| {
        serde_json::from_str::<serde_json::Value>(body).unwrap()["id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    kafka.records(topic).iter().map(|(.., body)| id(body)).collect()
}

/// Text that does not get smaller.
fn noise(length: usize) -> String {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap())
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn keys_land_where_others_look_for_them_and_keep_their_order() {
    let kafka = Kafka::start();
    kafka.topic("shop");
    let opener = log(&kafka, "");
    assert_eq!(
        (opener.lanes(), opener.describe()),
        (1, format!("Kafka at 127.0.0.1:{}", kafka.port))
    );
    let mut sink = opener.open().unwrap();
    assert_eq!(words(&sink.deliver(&events(0..500))), ["written"; 500]);
    let own = with_header(plain("own", "shop", "own", "h\u{e9}llo"), "x-name", "a\r\nb: \u{e9}");
    assert_eq!(words(&sink.deliver(&[own])), ["written"]);
    let records = kafka.records("shop");
    assert_eq!(records.len(), 501);
    let mut of_key: BTreeMap<&str, Vec<(i32, usize)>> = BTreeMap::new();
    for (partition, _, key, headers, body) in &records {
        if key == "own" {
            assert_eq!(body, "h\u{e9}llo");
            assert_eq!(
                headers,
                "ce_id=own,content-type=text/plain; charset=utf-8,x-name=a\r\nb: \u{e9}"
            );
            continue;
        }
        let id = serde_json::from_str::<serde_json::Value>(body).unwrap()["id"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(
            *headers,
            format!("ce_id={id},content-type=application/cloudevents+json; charset=utf-8")
        );
        of_key
            .entry(key)
            .or_default()
            .push((*partition, id[1..].parse().unwrap()));
    }
    // Java's partitioner over four partitions, computed with kafka-python's `murmur2`.
    let java = BTreeMap::from(JAVA);
    for (key, places) in of_key {
        assert!(
            places.iter().all(|(partition, _)| *partition == java[key]),
            "{key}: {places:?}"
        );
        assert!(places.is_sorted_by_key(|(_, number)| *number), "{key}: {places:?}");
    }
}

#[test]
fn a_worker_puts_each_change_where_topic_and_key_say() {
    let (kafka, db) = (Kafka::start(), database());
    for topic in ["shop-1", "shop-2"] {
        kafka.topic(topic);
    }
    db.psql("create table orders (id int primary key, shop int, customer text, amount int)");
    db.file(
        "emaj.yaml",
        &format!(
            "version: 1\nroles: {{ admin: null, viewer: null }}\nsinks: {{ log: {{ kafka: {{ brokers: [\"127.0.0.1:{}\"], timeout: 600 }} }} }}\nbindings:\n  \
             orders:\n    table: public.orders\n    to: log\n    message: {{ topic: 'shop-{{{{ row.shop }}}}', key: 'of {{{{ row.customer }}}}', \
             type: 'order.{{{{ event }}}}' }}\n",
            kafka.port
        ),
    );
    emaj(&db).args(["install"]).run().ok();
    db.psql("insert into orders select n, 1 + n % 2, 'c' || n % 7, 0 from generate_series(1, 40) n");
    for amount in 1..4 {
        db.psql(&format!("update orders set amount = {amount} where id <= 20"));
    }
    let worker = emaj(&db).args(["run"]).start();
    db.psql("update orders set amount = 4 where id <= 20; insert into orders values (100, 2, 'last', 9)");
    wait_for("the last record", 120, || {
        kafka
            .records("shop-2")
            .iter()
            .any(|(_, _, key, ..)| key == "of last")
            .then_some(())
    });
    assert_eq!(worker.stop(), Some(0));
    emaj(&db).args(["run", "--until-empty"]).run().ok();

    let mut ids = BTreeSet::new();
    for shop in [1, 2] {
        let mut told: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        let mut places: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
        for (partition, _, key, headers, body) in kafka.records(&format!("shop-{shop}")) {
            let event: Value = serde_json::from_str(&body).unwrap();
            let (id, row) = (event["id"].as_str().unwrap(), &event["data"]["row"]);
            assert_eq!(row["shop"], shop, "{event}");
            assert_eq!(key, format!("of {}", row["customer"].as_str().unwrap()), "{event}");
            assert_eq!(
                event["type"],
                format!("order.{}", event["data"]["event"].as_str().unwrap())
            );
            assert!(headers.contains(&format!("ce_id={id},")), "{headers}: {event}");
            // (A broker that answers too late is asked again: the id tells.)
            if !ids.insert(id.to_owned()) {
                continue;
            }
            let number = |name: &str| row[name].as_i64().unwrap();
            told.entry(number("id")).or_default().push(number("amount"));
            places.entry(key).or_default().insert(partition);
        }
        assert!(places.values().all(|partitions| partitions.len() == 1), "{places:?}");
        let all = (1..=40).filter(|id| 1 + id % 2 == shop);
        let mut wanted: BTreeMap<i64, Vec<i64>> = all
            .map(|id| (id, if id <= 20 { vec![0, 1, 2, 3, 4] } else { vec![0] }))
            .collect();
        if shop == 2 {
            wanted.insert(100, vec![9]);
        }
        assert_eq!(told, wanted, "each change of a key, in order");
    }
}

#[test]
fn a_record_that_is_too_large_is_found_and_the_others_go_on() {
    let kafka = Kafka::start();
    kafka.topic("shop");
    kafka.rule(|rules| rules.largest = Some(20_000));
    let mut batch: Vec<Delivery> = (0..40)
        .map(|at| plain(&format!("e{at}"), "shop", "k", &noise(900)))
        .collect();
    batch[20] = plain("e20", "shop", "large", &noise(30_000));
    batch[21] = plain("e21", "shop", "large", "behind it");
    let outcomes = log(&kafka, "").open().unwrap().deliver(&batch);
    let mut expected = ["written"; 40];
    expected[20] = "never";
    expected[21] = "later";
    assert_eq!(words(&outcomes), expected);
    assert!(
        reason(&outcomes[..21]).contains("MessageTooLarge"),
        "{}",
        reason(&outcomes[..21])
    );
    let written: Vec<String> = kafka
        .records("shop")
        .into_iter()
        .map(|(_, _, _, headers, _)| headers)
        .collect();
    let expected: Vec<String> = (0..40)
        .filter(|at| ![20, 21].contains(at))
        .map(|at| format!("ce_id=e{at},content-type=text/plain; charset=utf-8"))
        .collect();
    assert_eq!(written, expected);
}

#[test]
fn requests_are_as_large_as_a_broker_takes_them() {
    let kafka = Kafka::start();
    kafka.topic("shop");
    kafka.rule(|rules| rules.largest = Some(1 << 20));
    let batch: Vec<Delivery> = (0..30)
        .map(|at| plain(&format!("e{at}"), "shop", "k", &noise(100_000)))
        .collect();
    assert_eq!(words(&log(&kafka, "").open().unwrap().deliver(&batch)), ["written"; 30]);
    assert!(
        kafka.produced() <= 5,
        "{}: none was refused for its size",
        kafka.produced()
    );
    assert_eq!(kafka.records("shop").len(), 30);
}

#[test]
fn a_topic_that_is_not_there_is_down_until_it_is_made() {
    let kafka = Kafka::start();
    kafka.topic("other");
    let opener = log(&kafka, "");
    let mut sink = opener.open().unwrap();
    let mut batch = events(0..4);
    batch.insert(0, event("o1", "other", "1"));
    let outcomes = sink.deliver(&batch);
    assert_eq!(words(&outcomes), ["written", "down"]);
    assert!(reason(&outcomes).contains("there is no topic"), "{}", reason(&outcomes));
    // What is known behind it is said too.
    kafka.topic("zz");
    kafka.rule(|rules| rules.refuse = Some((b"\"z1\"".to_vec(), 19)));
    let outcomes = opener
        .open()
        .unwrap()
        .deliver(&[event("z1", "zz", "1"), event("o2", "other", "2")]);
    assert_eq!(words(&outcomes), ["down", "written"]);
    kafka.rule(|rules| rules.refuse = None);
    kafka.topic("shop");
    assert_eq!(words(&opener.open().unwrap().deliver(&events(0..4))), ["written"; 4]);
    for topic in ["", "..", "a b", "a/b", "\u{e9}", &"x".repeat(250), "a\r\nb"] {
        assert_eq!(words(&sink.deliver(&[event("e", topic, "1")])), ["never"], "{topic:?}");
    }
}

#[test]
fn what_a_code_causes() {
    let kafka = Kafka::start();
    kafka.topic("shop");
    let opener = log(&kafka, "");
    // Invalid record, policy, not enough replicas, no right to the topic, storage.
    for (code, expected) in [
        (87, "never"),
        (44, "never"),
        (19, "down"),
        (29, "down"),
        (56, "down"),
        (2, "later"),
    ] {
        kafka.rule(|rules| rules.refuse = Some((b"\"e3\"".to_vec(), code)));
        let outcomes = opener
            .open()
            .unwrap()
            .deliver(&[event("e3", "shop", "3"), event("e4", "shop", "3")]);
        assert_eq!(words(&outcomes)[0], expected, "{code}");
        assert_eq!(
            words(&outcomes).get(1),
            if expected == "down" { None } else { Some(&"later") },
            "{code}"
        );
        assert!(!reason(&outcomes[..1]).contains("shop"), "{}", reason(&outcomes[..1]));
    }
    assert!(kafka.records("shop").is_empty());
}

#[test]
fn a_cluster_that_goes_is_down_and_all_arrives_when_it_is_back() {
    let kafka = Kafka::start();
    kafka.topic("shop");
    let opener = log(&kafka, "");
    let mut sink = opener.open().unwrap();
    assert_eq!(words(&sink.deliver(&events(0..10))), ["written"; 10]);
    kafka.away(true);
    let begin = Instant::now();
    let outcomes = sink.deliver(&events(10..20));
    assert_eq!(words(&outcomes), ["down"]);
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    assert!(opener.open().is_err());
    kafka.away(false);
    assert_eq!(words(&opener.open().unwrap().deliver(&events(10..20))), ["written"; 10]);
    // No answer at all.
    kafka.rule(|rules| rules.silent = true);
    let begin = Instant::now();
    let outcomes = opener.open().unwrap().deliver(&events(20..21));
    assert!(
        reason(&outcomes).ends_with("no answer within 3 s"),
        "{}",
        reason(&outcomes)
    );
    assert!(begin.elapsed() < Duration::from_secs(6));
    let mut ids = ids(&kafka, "shop");
    ids.sort_by_key(|id| id[1..].parse::<usize>().unwrap());
    assert_eq!(ids, (0..20).map(|at| format!("e{at}")).collect::<Vec<_>>());
}

#[test]
fn a_lost_answer_means_twice_and_never_another_order() {
    let kafka = Kafka::start();
    kafka.topic("shop");
    let mut sink = log(&kafka, "").open().unwrap();
    let batch: Vec<Delivery> = (0..10).map(|at| event(&format!("e{at}"), "shop", "k")).collect();
    kafka.rule(|rules| rules.cut_after = Some(1));
    assert_eq!(words(&sink.deliver(&batch[..5])), ["written"; 5]);
    assert_eq!(words(&sink.deliver(&batch[5..])), ["written"; 5]);
    // The second request was written, its answer lost, and the request sent again.
    let expected: Vec<String> = (0..10).chain(5..10).map(|at| format!("e{at}")).collect();
    assert_eq!(ids(&kafka, "shop"), expected);
}

#[test]
fn the_login_over_tls_and_its_refusal() {
    let certificate = certificate();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("ca.pem"), &certificate.0).unwrap();
    std::fs::write(path("other.pem"), self::certificate().0).unwrap();
    let kafka = Kafka::start_tls(tls_server(&certificate));
    kafka.topic("shop");
    kafka.rule(|rules| rules.login = Some(b"\0emaj\0canary-password".to_vec()));
    let open = |file: &str, password: &str| {
        let settings = format!(
            "{{ kafka: {{ brokers: [\"127.0.0.1:{}\"], timeout: 30, tls: true, ca_file: \"{}\", user: emaj, password: \"${{env:PW}}\" }} }}",
            kafka.port,
            path(file)
        );
        sink(&settings, &[("PW", password)]).open()
    };
    let mut good = open("ca.pem", "canary-password").unwrap();
    assert_eq!(words(&good.deliver(&events(0..3))), ["written"; 3]);
    let findings = good.probe().unwrap();
    assert_eq!(
        (findings[0].what.as_str(), findings[1].what.as_str()),
        ("log in as emaj", "list topics: 2 found")
    );
    let fault = open("ca.pem", "canary-wrong").err().unwrap();
    assert!(
        fault.reason.contains("look at `user` and `password`") && !fault.reason.contains("canary"),
        "{fault}"
    );
    let fault = open("other.pem", "canary-password").err().unwrap();
    let hint = "other.pem` (`ca_file`) does not hold the authority that signed the server's certificate)";
    assert!(
        fault.reason.ends_with(hint) && !fault.reason.contains("canary"),
        "{fault}"
    );
    let said = |port: u16, more: &str| {
        let settings = format!("{{ kafka: {{ brokers: [\"127.0.0.1:{port}\"], timeout: 6{more} }} }}");
        sink(&settings, &[]).open().err().unwrap().reason
    };
    let without = said(kafka.port, ", tls: true");
    let hint = "(hint: name the file of the authority that signed the server's certificate as `ca_file`)";
    assert!(without.ends_with(hint), "{without}");
    let clear = said(kafka.port, "");
    assert!(
        clear.contains("(hint: is this a port for TLS, or one that wants a login? `tls: true` then"),
        "{clear}"
    );
    let wrong = said(answering(""), ", tls: true");
    assert!(wrong.contains("(hint: does this port speak TLS?"), "{wrong}");
}

#[test]
fn a_preview_shows_the_record_and_sends_nothing() {
    let kafka = Kafka::start();
    let mut sink = log(&kafka, "").open().unwrap();
    let line = sink
        .preview(&[with_header(event("e1", "shop", "7"), "x-n", "v")])
        .unwrap()
        .remove(0);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["address"], &line["key"], &line["body"]["id"]),
        (&"shop".into(), &"7".into(), &"e1".into())
    );
    assert_eq!(
        (&line["headers"]["ce_id"], &line["headers"]["x-n"]),
        (&"e1".into(), &"v".into())
    );
    assert_eq!(kafka.produced(), 0, "the preview sends nothing");
}

/// What Java's default partitioner makes of the keys, in a topic of four partitions.
const JAVA: [(&str, i32); 7] = [
    ("k0", 1),
    ("k1", 1),
    ("k2", 1),
    ("k3", 0),
    ("k4", 0),
    ("k5", 0),
    ("k6", 1),
];
