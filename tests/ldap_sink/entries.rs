//! Entries come, change, get another name, go; done twice, nothing is written the second time.

use super::hand::{connect, delete, entry, fault, insert, letters, person, person_dn, update};
use crate::support::slapd::slapd;
use emaj::sink::Verdict;

#[test]
fn an_entry_comes_changes_and_goes() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    let first = person("bob", &[("mail", &["bob@a"]), ("title", &[])]);
    assert_eq!(letters(&mut *sink, &[insert(&first)]), "w");
    let dn = person_dn("bob");
    assert_eq!(
        slapd.values(&dn, "uid"),
        ["bob"],
        "the name's value is there, though no attribute says so"
    );
    assert_eq!(slapd.values(&dn, "mail"), ["bob@a"]);
    assert_eq!(slapd.values(&dn, "title"), Vec::<String>::new());

    let second = person("bob", &[("mail", &["bob@a", "bob@b"]), ("title", &["Dr."])]);
    assert_eq!(letters(&mut *sink, &[update(&first, &second)]), "w");
    assert_eq!(slapd.values(&dn, "mail"), ["bob@a", "bob@b"]);
    assert_eq!(slapd.values(&dn, "title"), ["Dr."]);
    let third = person("bob", &[("mail", &[]), ("title", &["Dr."])]);
    assert_eq!(letters(&mut *sink, &[update(&second, &third)]), "w");
    assert_eq!(slapd.values(&dn, "mail"), Vec::<String>::new());

    assert_eq!(letters(&mut *sink, &[delete(&third)]), "w");
    assert!(slapd.entry(&dn).is_none());
    assert_eq!(letters(&mut *sink, &[delete(&third)]), "u", "gone is gone");
}

#[test]
fn a_second_time_writes_nothing() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    let people: Vec<_> = (0..50)
        .map(|i| insert(&person(&format!("p{i}"), &[("mail", &["a@x", "b@x"])])))
        .collect();
    assert_eq!(letters(&mut *sink, &people), "w".repeat(50));
    let (before, modifies) = (slapd.dump(), slapd.count("MOD"));
    for _ in 0..2 {
        assert_eq!(letters(&mut *sink, &people), "u".repeat(50));
    }
    assert_eq!(slapd.dump(), before);
    assert_eq!(slapd.count("MOD"), modifies, "not even tried");
    let updates: Vec<_> = (0..50)
        .map(|i| {
            let old = person(&format!("p{i}"), &[("mail", &["c@x"])]);
            update(&old, &person(&format!("p{i}"), &[("mail", &["b@x", "a@x"])]))
        })
        .collect();
    assert_eq!(letters(&mut *sink, &updates), "u".repeat(50));
    assert_eq!(slapd.dump(), before);
}

#[test]
fn only_the_difference_is_written() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    let old = person("bob", &[("mail", &["a@x"])]);
    letters(&mut *sink, &[insert(&old)]);
    letters(&mut *sink, &[update(&old, &person("bob", &[("mail", &["b@x"])]))]);
    let log = slapd.log();
    let modified: Vec<_> = log.lines().filter(|line| line.contains("MOD attr=")).collect();
    assert_eq!(modified.len(), 1);
    assert!(modified[0].ends_with("MOD attr=mail"), "{modified:?}");
}

#[test]
fn what_is_there_already_is_brought_into_line_and_foreign_things_stay() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    let dn = person_dn("bob");
    slapd.modify(&format!(
        "dn: {dn}\nchangetype: add\nobjectClass: inetOrgPerson\nobjectClass: simpleSecurityObject\nuid: bob\nuid: bobby\n\
         cn: Robert\nsn: Other\nuserPassword: x\ntelephoneNumber: 123\nmail: old@x\n"
    ));
    let wanted = person("bob", &[("mail", &["bob@x"])]);
    assert_eq!(letters(&mut *sink, &[insert(&wanted)]), "w");
    assert_eq!(slapd.values(&dn, "cn"), ["bob"]);
    assert_eq!(slapd.values(&dn, "mail"), ["bob@x"]);
    assert_eq!(
        slapd.values(&dn, "uid"),
        ["bob", "bobby"],
        "not named in the manifest but for the name"
    );
    assert_eq!(slapd.values(&dn, "telephoneNumber"), ["123"]);
    assert_eq!(
        slapd.values(&dn, "objectClass"),
        ["inetOrgPerson", "simpleSecurityObject"]
    );
    assert_eq!(letters(&mut *sink, &[insert(&wanted)]), "u");

    // One that is missing is made anew by a change.
    slapd.modify(&format!("dn: {dn}\nchangetype: delete\n"));
    assert_eq!(letters(&mut *sink, &[update(&wanted, &wanted)]), "w");
    assert_eq!(slapd.values(&dn, "mail"), ["bob@x"]);
}

#[test]
fn keep_and_merge() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    let dn = person_dn("bob");
    let first = person("bob", &[("title?", &["Dr."]), ("mail+", &["a@x", "b@x"])]);
    assert_eq!(letters(&mut *sink, &[insert(&first)]), "w");
    slapd.modify(&format!(
        "dn: {dn}\nchangetype: modify\nreplace: title\ntitle: Prof.\n-\nadd: mail\nmail: foreign@x\n"
    ));
    let second = person("bob", &[("title?", &["Mr."]), ("mail+", &["b@x", "c@x"])]);
    assert_eq!(letters(&mut *sink, &[update(&first, &second)]), "w");
    assert_eq!(slapd.values(&dn, "title"), ["Prof."]);
    assert_eq!(slapd.values(&dn, "mail"), ["b@x", "c@x", "foreign@x"]);
    assert_eq!(letters(&mut *sink, &[update(&first, &second)]), "u");
    let none = person("bob", &[("title?", &[]), ("mail+", &[])]);
    assert_eq!(letters(&mut *sink, &[update(&second, &none)]), "w");
    assert_eq!(slapd.values(&dn, "title"), ["Prof."]);
    assert_eq!(slapd.values(&dn, "mail"), ["foreign@x"]);
}

#[test]
fn a_new_name_moves_the_entry() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    let bob = person("bob", &[]);
    letters(&mut *sink, &[insert(&bob)]);
    slapd.modify(&format!(
        "dn: {}\nchangetype: modify\nadd: telephoneNumber\ntelephoneNumber: 1\n",
        person_dn("bob")
    ));

    let robert = person("robert", &[]);
    assert_eq!(letters(&mut *sink, &[update(&bob, &robert)]), "w");
    assert!(slapd.entry(&person_dn("bob")).is_none());
    assert_eq!(slapd.values(&person_dn("robert"), "uid"), ["robert"]);
    assert_eq!(slapd.values(&person_dn("robert"), "cn"), ["robert"]);
    assert_eq!(
        slapd.values(&person_dn("robert"), "telephoneNumber"),
        ["1"],
        "it is the same entry"
    );
    assert_eq!(letters(&mut *sink, &[update(&bob, &robert)]), "u");
    assert_eq!(slapd.count("MODRDN"), 2);

    // To another place, by another attribute, which is required by the class and named in the manifest.
    let mut moved = entry(
        "cn=Bob B,ou=groups,dc=example,dc=org",
        &["inetOrgPerson"],
        &[("sn", &["Smith"])],
    );
    assert_eq!(letters(&mut *sink, &[update(&robert, &moved)]), "w");
    assert!(slapd.entry(&person_dn("robert")).is_none());
    assert_eq!(slapd.values(&moved.dn, "cn"), ["Bob B"]);
    let back = person("robert", &[]);
    assert_eq!(letters(&mut *sink, &[update(&moved, &back)]), "w");
    assert_eq!(slapd.values(&back.dn, "cn"), ["robert"]);
    assert_eq!(slapd.values(&back.dn, "telephoneNumber"), ["1"]);

    // Below an entry that is not there yet.
    moved.dn = "cn=Bob,ou=new,dc=example,dc=org".to_owned();
    let fault = fault(&mut *sink, update(&back, &moved));
    assert_eq!(fault.verdict, Verdict::Later, "{fault}");
    assert!(slapd.entry(&back.dn).is_some());
}

#[test]
fn the_way_a_name_is_written_changes() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    let (old, new) = (person("Bob", &[]), person("bob", &[]));
    letters(&mut *sink, &[insert(&old)]);
    assert_eq!(letters(&mut *sink, &[update(&old, &new)]), "w");
    assert_eq!(slapd.names("ou=people,dc=example,dc=org")[1], person_dn("bob"));
    assert_eq!(slapd.values(&person_dn("bob"), "uid"), ["bob"]);
    assert_eq!(slapd.values(&person_dn("bob"), "cn"), ["bob"]);
    assert_eq!(letters(&mut *sink, &[update(&old, &new)]), "u");
}
