//! What belongs to a binding, for pruning: listed in pages, and nothing of anybody else.

use std::path::Path;

use emaj::manifest::{self, Binding};
use emaj::sink::{Existing, Verdict};

use super::hand::{connect, entry, insert, letters, opener, person, person_dn, plain};
use crate::support::slapd::slapd;

fn binding(dn: &str, classes: &str) -> Binding {
    let yaml = format!(
        "version: 1\nsinks: {{ d: {{ ldap: {{ url: \"ldap://x\" }} }} }}\n\
         bindings: {{ b: {{ table: a.b, to: d, entry: {{ dn: '{dn}', object_classes: {classes}, attributes: {{ sn: x }} }} }} }}\n"
    );
    let loaded = manifest::parse(Path::new("/tmp/m.yaml"), &yaml).unwrap_or_else(|error| panic!("{error}"));
    loaded.manifest.bindings[0].clone()
}

#[test]
fn thousands_in_pages_and_nothing_foreign() {
    let slapd = slapd();
    let mut sink = opener(&format!("{}, page_size: 100", plain(&slapd))).open().unwrap();
    let people: Vec<_> = (0..1234).map(|i| insert(&person(&format!("P, {i}"), &[]))).collect();
    assert_eq!(letters(&mut *sink, &people), "w".repeat(1234));
    let parent = "ou=people,dc=example,dc=org";
    let foreign = [
        entry(&format!("cn=printer,{parent}"), &["device"], &[]),
        entry(&format!("uid=other,{parent}"), &["account"], &[]),
        entry(&format!("cn=by name,{parent}"), &["inetOrgPerson"], &[("sn", &["x"])]),
        entry(&format!("ou=below,{parent}"), &["organizationalUnit"], &[]),
        entry(
            &format!("uid=deep,ou=below,{parent}"),
            &["inetOrgPerson"],
            &[("cn", &["x"]), ("sn", &["x"])],
        ),
    ];
    assert_eq!(letters(&mut *sink, &foreign.each_ref().map(insert)), "wwwww");

    let binding = binding(&format!("uid={{{{ row.a }}}},{parent}"), "[inetOrgPerson]");
    let mut listed: Vec<Existing> = Vec::new();
    sink.existing(&binding, &mut |existing| listed.push(existing)).unwrap();
    let mut identities: Vec<_> = listed.iter().map(|one| one.identity.clone()).collect();
    let mut expected: Vec<_> = sink.identities(&people).unwrap().into_iter().flatten().collect();
    identities.sort();
    expected.sort();
    assert_eq!(identities, expected);
    assert!(slapd.count("SRCH") >= 13, "in pages");

    // What is listed can be taken away as it is.
    let mut removal = people[0].clone();
    removal.action = listed
        .iter()
        .find(|one| one.identity == expected[0])
        .unwrap()
        .remove
        .clone();
    assert_eq!(letters(&mut *sink, &[removal]), "w");
    assert_eq!(slapd.names(parent).len(), 1 + 1234 - 1 + 5);
}

#[test]
fn identities_do_not_depend_on_how_a_name_is_written() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    slapd.modify(
        "dn: userid=J\u{fc}rgen  O,ou=People,dc=example,dc=org\nchangetype: add\nobjectClass: inetOrgPerson\ncn: x\nsn: x\n"
    );
    let mut listed = Vec::new();
    let binding = binding("uid={{ row.a }},ou=people,dc=example,dc=org", "[inetOrgPerson]");
    sink.existing(&binding, &mut |existing| listed.push(existing.identity))
        .unwrap();
    let ours = insert(&person("ju\u{308}rgen o", &[]));
    assert_eq!(
        listed,
        [sink.identities(std::slice::from_ref(&ours)).unwrap().remove(0).unwrap()]
    );
    assert_eq!(
        letters(&mut *sink, &[ours]),
        "w",
        "it is the same entry to the server too"
    );
    assert_eq!(slapd.names("ou=people,dc=example,dc=org").len(), 2);
    assert!(slapd.entry(&person_dn("jürgen o")).is_some());
}

#[test]
fn where_nobody_can_know_where_to_look_nothing_is_listed() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    for (dn, why) in [
        ("uid={{ row.a }}", "no end that is the same for all rows"),
        ("uid={{ row.a }},{{ row.b }}", "no end that is the same for all rows"),
        ("{{ row.dn }}", "no end that is the same for all rows"),
        ("{{ row.a }}={{ row.b }},dc=example,dc=org", "from code"),
        (
            "uid={{ row.a }}{% if row.b %},ou=ext{% endif %},ou=people,dc=example,dc=org",
            "more than one form",
        ),
    ] {
        let fault = sink
            .existing(&binding(dn, "[person]"), &mut |_| panic!("nothing"))
            .unwrap_err();
        assert_eq!(fault.verdict, Verdict::Never);
        assert!(fault.reason.contains(why), "{fault}");
    }
    let mut listed = 0;
    sink.existing(
        &binding("uid={{ row.a }},ou=nowhere,dc=example,dc=org", "[person]"),
        &mut |_| listed += 1,
    )
    .unwrap();
    assert_eq!(listed, 0);
}
