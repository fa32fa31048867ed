//! Values, flags and attributes from queries: they come, change, move to another entry, go.

use std::time::Instant;

use emaj::manifest::Mode;
use emaj::sink::Verdict;

use super::hand::{at, attribute, connect, entry, fault, found, insert, letters, person, person_dn, value};
use crate::support::slapd::{Slapd, slapd};

const STAFF: &str = "cn=staff,ou=groups,dc=example,dc=org";

fn with_group(members: &[&str]) -> Slapd {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    let group = entry(
        STAFF,
        &["posixGroup"],
        &[("gidNumber", &["1"]), ("memberUid+", members)],
    );
    assert_eq!(letters(&mut *sink, &[insert(&group)]), "w");
    slapd
}

#[test]
fn a_value_comes_changes_and_goes() {
    let slapd = with_group(&["foreign"]);
    let mut sink = connect(&slapd);
    let come = value("memberUid", Some((at(STAFF), "bob")), None);
    assert_eq!(letters(&mut *sink, &[come.clone(), come.clone()]), "wu");
    let searches = slapd.count("SRCH");
    let change = value("memberUid", Some((at(STAFF), "robert")), Some((at(STAFF), "bob")));
    assert_eq!(letters(&mut *sink, &[change.clone(), change.clone()]), "wu");
    assert_eq!(slapd.values(STAFF, "memberUid"), ["foreign", "robert"]);
    let go = value("memberUid", None, Some((at(STAFF), "robert")));
    assert_eq!(letters(&mut *sink, &[go.clone(), go]), "wu");
    assert_eq!(slapd.values(STAFF, "memberUid"), ["foreign"]);
    // Half done before: the old one is gone already, or the new one is there already.
    assert_eq!(letters(&mut *sink, std::slice::from_ref(&change)), "w");
    assert_eq!(letters(&mut *sink, &[come, change]), "ww");
    assert_eq!(slapd.values(STAFF, "memberUid"), ["foreign", "robert"]);
    assert_eq!(slapd.count("SRCH"), searches + 3, "only this test has looked");
}

#[test]
fn only_upper_and_lower_case_change() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    let bob = person_dn("bob");
    letters(&mut *sink, &[insert(&person("bob", &[]))]);
    let come = value("title", Some((at(&bob), "Dr.")), None);
    let change = value("title", Some((at(&bob), "dr.")), Some((at(&bob), "Dr.")));
    assert_eq!(letters(&mut *sink, &[come, change.clone()]), "ww");
    assert_eq!(slapd.values(&bob, "title"), ["dr."]);
    letters(&mut *sink, &[change]);
    assert_eq!(slapd.values(&bob, "title"), ["dr."]);
}

#[test]
fn a_value_moves_to_another_entry() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    letters(&mut *sink, &[insert(&person("ann", &[])), insert(&person("bob", &[]))]);
    let (ann, bob) = (|| at(&person_dn("ann")), || found("(uid=bob)"));
    assert_eq!(letters(&mut *sink, &[value("mail", Some((ann(), "m@x")), None)]), "w");
    let shift = value("mail", Some((bob(), "m@x")), Some((ann(), "m@x")));
    assert_eq!(letters(&mut *sink, &[shift.clone(), shift]), "wu");
    assert_eq!(slapd.values(&person_dn("bob"), "mail"), ["m@x"]);
    assert_eq!(slapd.values(&person_dn("ann"), "mail"), Vec::<String>::new());
    // Nobody owns it any more.
    assert_eq!(letters(&mut *sink, &[value("mail", None, Some((bob(), "m@x")))]), "w");
    assert_eq!(slapd.values(&person_dn("bob"), "mail"), Vec::<String>::new());
}

#[test]
fn a_flag_is_an_object_class() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    let bob = person_dn("bob");
    letters(&mut *sink, &[insert(&person("bob", &[]))]);
    let set = value("objectClass", Some((at(&bob), "ipHost")), None);
    let fault = fault(&mut *sink, set);
    assert_eq!(fault.verdict, Verdict::Never, "the class needs an attribute: {fault}");
    assert!(
        fault.reason.starts_with(&bob) && fault.reason.contains("objectClassViolation"),
        "{fault}"
    );
    let set = value("objectClass", Some((at(&bob), "dcObject")), None);
    assert_eq!(
        letters(
            &mut *sink,
            &[attribute(at(&bob), "description", Mode::Force, &["x"]), set]
        ),
        "wn"
    );
    assert_eq!(slapd.values(&bob, "objectClass"), ["inetOrgPerson"]);
    let set = value("objectClass", Some((at(&bob), "extensibleObject")), None);
    let unset = value("objectClass", None, Some((at(&bob), "extensibleObject")));
    assert_eq!(letters(&mut *sink, &[set.clone(), set, unset.clone(), unset]), "wuwu");
    assert_eq!(slapd.values(&bob, "objectClass"), ["inetOrgPerson"]);
}

#[test]
fn the_entry_is_not_there_or_not_the_only_one() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    for target in [|| at(&person_dn("bob")), || found("(uid=bob)")] {
        let fault = fault(&mut *sink, value("mail", Some((target(), "a@x")), None));
        assert_eq!(fault.verdict, Verdict::Later, "{fault}");
        assert_eq!(
            letters(&mut *sink, &[value("mail", None, Some((target(), "a@x")))]),
            "u"
        );
        assert_eq!(
            letters(&mut *sink, &[attribute(target(), "mail", Mode::Force, &["a@x"])]),
            "l"
        );
        assert_eq!(
            letters(&mut *sink, &[attribute(target(), "mail", Mode::Force, &[])]),
            "u"
        );
    }
    letters(&mut *sink, &[insert(&person("ann", &[])), insert(&person("bob", &[]))]);
    let fault = fault(&mut *sink, value("mail", Some((found("(sn=Smith)"), "a@x")), None));
    assert_eq!(fault.verdict, Verdict::Never);
    assert!(
        fault.reason.contains("finds 2 entries, expected exactly one"),
        "{fault}"
    );
}

#[test]
fn an_attribute_from_a_query() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    let bob = person_dn("bob");
    letters(&mut *sink, &[insert(&person("bob", &[]))]);
    let set = |mode, values: &[&str]| attribute(found("(uid=bob)"), "mail", mode, values);
    assert_eq!(
        letters(
            &mut *sink,
            &[set(Mode::Force, &["a@x", "b@x"]), set(Mode::Force, &["b@x", "a@x"])]
        ),
        "wu"
    );
    assert_eq!(
        letters(&mut *sink, &[set(Mode::Keep, &["z@x"]), set(Mode::Merge, &["c@x"])]),
        "uw"
    );
    assert_eq!(slapd.values(&bob, "mail"), ["a@x", "b@x", "c@x"]);
    assert_eq!(
        letters(&mut *sink, &[set(Mode::Force, &[]), set(Mode::Force, &[])]),
        "wu"
    );
    assert_eq!(slapd.values(&bob, "mail"), Vec::<String>::new());
    // Twice the same, to the server.
    assert_eq!(
        letters(
            &mut *sink,
            &[set(Mode::Force, &["A@x", "a@x"]), set(Mode::Force, &["A@x", "a@x"])]
        ),
        "wu"
    );
    assert_eq!(slapd.values(&bob, "mail"), ["A@x"]);
    // No server can compare pictures.
    let photo = |values: &[&str]| attribute(at(&bob), "jpegPhoto", Mode::Force, values);
    assert_eq!(
        letters(&mut *sink, &[photo(&["abc", "def"]), photo(&["abc"]), photo(&["abc"])]),
        "wwu"
    );
    let photos = [
        value("jpegPhoto", Some((at(&bob), "xyz")), None),
        value("jpegPhoto", Some((at(&bob), "xyz")), None),
        value("jpegPhoto", Some((at(&bob), "uvw")), Some((at(&bob), "abc"))),
        value("jpegPhoto", None, Some((at(&bob), "xyz"))),
    ];
    assert_eq!(letters(&mut *sink, &photos), "wuww");
    assert_eq!(slapd.values(&bob, "jpegPhoto"), ["uvw"]);
}

#[test]
fn names_of_entries_as_values_are_compared_as_names() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    let dn = "cn=admins,ou=groups,dc=example,dc=org";
    let group = |member: &str| insert(&entry(dn, &["groupOfNames"], &[("member", &[member])]));
    assert_eq!(
        letters(&mut *sink, &[group("UID=bob, ou=People,dc=example,dc=org")]),
        "w"
    );
    assert_eq!(
        letters(&mut *sink, &[group("UID=bob, ou=People,dc=example,dc=org")]),
        "u"
    );
    assert_eq!(
        letters(&mut *sink, &[group("uid=Bob,ou=people,dc=example,dc=org")]),
        "u"
    );
    assert_eq!(
        letters(&mut *sink, &[group("uid=ann,ou=people,dc=example,dc=org")]),
        "w"
    );
    // The last member is exchanged, not taken away first: the class wants one.
    let other = "uid=joe,ou=people,dc=example,dc=org";
    let change = value(
        "member",
        Some((at(dn), other)),
        Some((at(dn), "uid=ann,ou=people,dc=example,dc=org")),
    );
    assert_eq!(letters(&mut *sink, &[change]), "w");
    assert_eq!(slapd.values(dn, "member"), [other]);
}

#[test]
fn a_group_of_five_thousand() {
    let names: Vec<String> = (0..5000).map(|i| format!("member{i:05}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let slapd = with_group(&names);
    let mut sink = connect(&slapd);
    assert_eq!(
        letters(&mut *sink, &[attribute(at(STAFF), "memberUid", Mode::Force, &names)]),
        "u"
    );
    let searches = slapd.count("SRCH");
    let started = Instant::now();
    let batch: Vec<_> = (0..100)
        .map(|i| value("memberUid", Some((at(STAFF), &*format!("new{i}"))), None))
        .collect();
    assert_eq!(letters(&mut *sink, &batch), "w".repeat(100));
    println!("100 values into a group of 5,000: {:?}", started.elapsed());
    assert_eq!(slapd.count("SRCH"), searches, "the group is not read");
    // From a query: it has to be read, but only the difference is sent.
    let mut more = names.clone();
    more.retain(|name| *name != "member00007");
    more.push("last");
    assert_eq!(
        letters(&mut *sink, &[attribute(at(STAFF), "memberUid", Mode::Merge, &more)]),
        "w"
    );
    assert_eq!(
        letters(&mut *sink, &[attribute(at(STAFF), "memberUid", Mode::Force, &more)]),
        "w"
    );
    assert_eq!(slapd.values(STAFF, "memberUid").len(), 5000);
    assert_eq!(slapd.values(STAFF, "memberUid")[0], "last");
    assert_eq!(
        letters(&mut *sink, &[attribute(at(STAFF), "memberUid", Mode::Force, &more)]),
        "u"
    );
}
