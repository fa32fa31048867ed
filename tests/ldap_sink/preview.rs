//! What would be written, as LDIF: the directory is read and not touched, and `ldapmodify` takes it.

use emaj::manifest::Mode;

use super::hand::{at, attribute, connect, delete, entry, found, insert, letters, person, person_dn, update, value};
use crate::support::slapd::{Slapd, slapd};

#[test]
fn ldif_that_does_what_delivering_would_do() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    let bob = person("bob", &[("mail", &["bob@a"]), ("description", &[" é\n"])]);
    letters(&mut *sink, &[insert(&bob)]);
    let robert = person("robert", &[("mail", &["bob@b"]), ("description", &[" é\n"])]);
    let group = entry(
        "cn=staff,ou=groups,dc=example,dc=org",
        &["posixGroup"],
        &[("gidNumber", &["1"])],
    );
    let joe = person("joe", &[("description", &[&"long ".repeat(30)])]);
    let batch = [
        insert(&bob),
        insert(&joe),
        update(&joe, &person("joe", &[("description", &[])])),
        update(&bob, &robert),
        insert(&group),
        value("memberUid", Some((at(&group.dn), "robert")), None),
        value("memberUid", Some((at(&group.dn), "robert")), None),
        value(
            "memberUid",
            Some((at(&group.dn), "joe")),
            Some((at(&group.dn), "robert")),
        ),
        attribute(at(&person_dn("robert")), "title", Mode::Force, &["Dr."]),
        value("mail", Some((found("(uid=nobody)"), "x@x")), None),
        delete(&joe),
        insert(&person("bad", &[("mail", &["a@x", "A@x"])])),
    ];
    let before = slapd.dump();
    let texts = sink.preview(&batch).unwrap();
    assert_eq!(slapd.dump(), before, "nothing was touched");
    assert_eq!(slapd.count("MOD"), 0);
    insta::assert_snapshot!(texts.join("\n"));

    // Two ways to the same end.
    let (ldif, comments): (Vec<_>, Vec<_>) = texts.iter().partition(|text| !text.starts_with('#'));
    assert_eq!(comments.len(), 1);
    slapd.modify(&ldif.into_iter().map(String::as_str).collect::<Vec<_>>().join("\n"));
    let by_hand = slapd.dump();
    assert_eq!(
        letters(
            &mut *sink,
            &[batch[3].clone(), batch[4].clone(), batch[8].clone(), batch[10].clone()]
        ),
        "uuuu"
    );
    assert_eq!(slapd.dump(), by_hand);
    assert_eq!(slapd.values(&group.dn, "memberUid"), ["joe"]);
}

#[test]
fn an_operational_attribute_that_is_so_is_no_change() {
    let slapd = Slapd::with("overlay ppolicy\n", true);
    let mut sink = connect(&slapd);
    let locked = insert(&person("bob", &[("pwdAccountLockedTime", &["20260101000000Z"])]));
    assert_eq!(letters(&mut *sink, std::slice::from_ref(&locked)), "w");
    assert_eq!(sink.preview(std::slice::from_ref(&locked)).unwrap(), [""; 0]);
    assert_eq!(letters(&mut *sink, &[locked]), "u");
}
