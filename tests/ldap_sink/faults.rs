//! What a directory refuses, and what follows; a directory that goes away and comes back.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use emaj::sink::{Outcome, Verdict};

use super::hand::{at, connect, delete, entry, fault, insert, letters, opener, person, plain, update, value};
use crate::support::slapd::{Slapd, slapd};

#[test]
fn what_an_answer_causes() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    letters(&mut *sink, &[insert(&person("bob", &[]))]);
    let mut nameless = person("bob", &[]);
    nameless.attributes[1].values.clear();
    let cases = [
        (
            insert(&person("x", &[("noSuchAttribute", &["1"])])),
            Verdict::Never,
            "undefinedAttributeType (17)",
        ),
        (
            insert(&person("x", &[("mail", &["é"])])),
            Verdict::Never,
            "invalidAttributeSyntax (21)",
        ),
        (
            insert(&person("x", &[("title", &[""])])),
            Verdict::Never,
            "invalidAttributeSyntax (21)",
        ),
        (
            insert(&person("x", &[("memberUid", &["1"])])),
            Verdict::Never,
            "objectClassViolation (65)",
        ),
        (
            insert(&person("x", &[("employeeNumber", &["1", "2"])])),
            Verdict::Clash,
            "constraintViolation (19)",
        ),
        (
            insert(&entry("ou=a,ou=b,dc=example,dc=org", &["organizationalUnit"], &[])),
            Verdict::Later,
            "noSuchObject (32)",
        ),
        (
            insert(&entry("nonsense", &["person"], &[])),
            Verdict::Never,
            "it is no distinguished name",
        ),
        (
            insert(&entry("", &["person"], &[])),
            Verdict::Never,
            "the name of the entry is empty",
        ),
        (
            delete(&entry("ou=people,dc=example,dc=org", &[], &[])),
            Verdict::Later,
            "notAllowedOnNonLeaf (66)",
        ),
        (
            update(&person("bob", &[]), &nameless),
            Verdict::Never,
            "objectClassViolation (65)",
        ),
    ];
    for (delivery, verdict, reason) in cases {
        match sink.deliver(&[delivery]).as_slice() {
            [Outcome::Failed(fault)] => {
                assert_eq!(fault.verdict, verdict, "{fault}");
                assert!(fault.reason.contains(reason), "{fault}");
            }
            other => panic!("expected {reason}, found {other:?}"),
        }
    }
    // One that fails holds nobody up.
    let batch = [
        insert(&person("c", &[])),
        insert(&person("d", &[("mail", &["é"])])),
        insert(&person("e", &[])),
    ];
    assert_eq!(letters(&mut *sink, &batch), "wnw");
}

#[test]
fn rights_that_are_missing_may_be_given_later() {
    let slapd = Slapd::with("restrict add\n", true);
    let mut sink = connect(&slapd);
    let fault = fault(&mut *sink, insert(&person("bob", &[])));
    assert_eq!(fault.verdict, Verdict::Later, "{fault}");
}

#[test]
fn what_belongs_to_another_server_holds_up_nothing_else() {
    let slapd = slapd();
    slapd.modify(
        "dn: ou=remote,dc=example,dc=org\nchangetype: add\nobjectClass: referral\nobjectClass: extensibleObject\nou: remote\n\
         ref: ldap://other.example.org/ou=remote,dc=example,dc=org\n",
    );
    let mut sink = connect(&slapd);
    let dn = "uid=x,ou=remote,dc=example,dc=org";
    let remote = || entry(dn, &["inetOrgPerson"], &[("cn", &["x"]), ("sn", &["x"])]);
    let batch = [
        insert(&person("a", &[])),
        insert(&remote()),
        update(&remote(), &person("b", &[])),
        delete(&remote()),
        value("mail", Some((at(dn), "a@x")), None),
        value("mail", Some((at("uid=a,ou=people,dc=example,dc=org"), "a@x")), None),
    ];
    assert_eq!(letters(&mut *sink, &batch), "wllllw");
    let fault = fault(&mut *sink, insert(&remote()));
    assert!(
        fault.reason.contains("referral (10): ldap://other.example.org/uid=x"),
        "{fault}"
    );

    // A server that takes no writes at all has no such entry to name.
    let replica = Slapd::with("updatedn cn=nobody\nupdateref ldap://provider.example.org\n", true);
    let mut sink = connect(&replica);
    assert_eq!(
        letters(&mut *sink, &[insert(&person("a", &[])), insert(&person("b", &[]))]),
        "d"
    );
}

#[test]
fn what_two_entries_may_not_both_have_follows_the_order() {
    let slapd = Slapd::with("overlay unique\nunique_uri ldap:///?mail?sub\n", true);
    let mut sink = connect(&slapd);
    let person = |uid: &str, mail: &str| person(uid, &[("mail", &[mail])]);
    letters(&mut *sink, &[insert(&person("a", "1@x")), insert(&person("b", "2@x"))]);
    for round in 0..20 {
        let (one, two, three) = (format!("{round}-1@x"), format!("{round}-2@x"), format!("{round}-3@x"));
        let prepare = [
            update(&person("a", ""), &person("a", &one)),
            update(&person("b", ""), &person("b", &two)),
        ];
        assert_eq!(letters(&mut *sink, &prepare), "ww");
        // The address goes from the one to the other.
        let pass = [
            update(&person("a", &one), &person("a", &three)),
            update(&person("b", &two), &person("b", &one)),
        ];
        assert_eq!(letters(&mut *sink, &pass), "ww");
    }
}

#[test]
fn the_directory_goes_away_and_comes_back() {
    let mut slapd = slapd();
    let mut sink = connect(&slapd);
    let people: Vec<_> = (0..200).map(|i| insert(&person(&format!("p{i:03}"), &[]))).collect();
    assert_eq!(letters(&mut *sink, &people[..50]), "w".repeat(50));
    slapd.stop();
    let outcomes = letters(&mut *sink, &people[50..]);
    assert_eq!(outcomes, "d", "the rest was not tried");
    let again = opener(&plain(&slapd)).open();
    assert!(matches!(again, Err(fault) if fault.verdict == Verdict::Down));
    slapd.start();
    // The old connection stays lost; a new one goes on, also with what came through without an answer.
    assert_eq!(letters(&mut *sink, &people[50..60]), "d");
    let mut sink = connect(&slapd);
    let outcomes = letters(&mut *sink, &people[40..]);
    assert_eq!(outcomes, format!("{}{}", "u".repeat(10), "w".repeat(150)));
    assert_eq!(slapd.names("ou=people,dc=example,dc=org").len(), 201);
}

#[test]
fn the_directory_goes_away_in_the_middle() {
    let mut slapd = slapd();
    let people: Vec<_> = (0..4000).map(|i| insert(&person(&format!("p{i:04}"), &[]))).collect();
    let mut sink = connect(&slapd);
    let batch = people.clone();
    let worker = std::thread::spawn(move || sink.deliver(&batch));
    let started = Instant::now();
    while slapd.log().matches(" ADD ").count() < 100 {
        assert!(started.elapsed() < Duration::from_secs(20), "nothing arrives");
        std::thread::sleep(Duration::from_millis(1));
    }
    slapd.stop();
    let outcomes = worker.join().unwrap();
    let last = outcomes.last().unwrap();
    assert!(
        matches!(last, Outcome::Failed(fault) if fault.verdict == Verdict::Down),
        "{last:?}"
    );
    assert!(outcomes.len() < people.len(), "it was stopped in the middle");
    assert!(
        outcomes[..outcomes.len() - 1]
            .iter()
            .all(|outcome| *outcome == Outcome::Written)
    );
    slapd.start();
    let arrived = outcomes.len() - 1;
    let names = slapd.names("ou=people,dc=example,dc=org");
    for delivery in &people[..arrived] {
        let emaj::sink::Action::Entry(change) = &delivery.action else {
            unreachable!()
        };
        let dn = &change.new.as_ref().unwrap().dn;
        assert!(names.contains(dn), "{dn} was acknowledged");
    }
    let mut sink = connect(&slapd);
    let rest = sink.deliver(&people[arrived..]);
    assert_eq!(rest.len(), people.len() - arrived);
    assert!(rest.iter().all(|outcome| !matches!(outcome, Outcome::Failed(_))));
    assert_eq!(slapd.names("ou=people,dc=example,dc=org").len(), 4001);
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ldap://{}", silent.local_addr().unwrap());
    let started = Instant::now();
    let login = "bind_dn: \"cn=a\", password: \"${env:LDAP_PASSWORD}\"";
    let fault = opener(&format!("url: \"{url}\", {login}, timeout: 1"))
        .open()
        .err()
        .unwrap();
    assert_eq!(fault.verdict, Verdict::Down);
    assert!(fault.reason.contains("no answer within 1 s"), "{fault}");
    assert!(started.elapsed() < Duration::from_secs(5));
    // Without a login the silence comes later.
    let mut sink = opener(&format!("url: \"{url}\", timeout: 1")).open().unwrap();
    let outcomes = sink.deliver(&[insert(&person("bob", &[])), insert(&person("ann", &[]))]);
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    assert!(matches!(&outcomes[0], Outcome::Failed(fault) if fault.reason.contains("did not answer within 1 s")));
}

/// OpenLDAP closes the connection when a request is larger than it may be.
#[test]
fn what_the_server_will_not_hear_holds_up_nothing_else() {
    let slapd = Slapd::with("sockbuf_max_incoming_auth 1048576", true);
    let mut sink = connect(&slapd);
    let long = "x".repeat(2 << 20);
    let large = insert(&person("large", &[("description", &[&long])]));
    let small = |uid: &str| insert(&person(uid, &[]));
    let batch = [small("a"), large.clone(), small("b"), small("c")];
    // (What had arrived before the connection was lost is there already.)
    let outcomes = sink.deliver(&batch);
    assert!(outcomes.len() == 4, "{outcomes:?}");
    assert_eq!(letters(&mut *sink, &batch), "uluu");
    let fault = fault(&mut *sink, large);
    assert_eq!(fault.verdict, Verdict::Later);
    assert!(
        fault.reason.starts_with("uid=large,ou=people,dc=example,dc=org: "),
        "{}",
        fault.reason
    );
    assert!(
        fault.reason.contains(" 2 MB ") && !fault.reason.contains("xxx"),
        "{}",
        fault.reason
    );
    for uid in ["a", "b", "c"] {
        assert!(slapd.entry(&super::hand::person_dn(uid)).is_some(), "{uid}");
    }
    assert_eq!(letters(&mut *sink, &[small("d")]), "w");
}
