//! Names that change hands: rows exchange them, follow each other, take one that is in use.

use emaj::sink::Verdict;

use super::hand::{connect, insert, letters, person, person_dn, update};
use crate::support::slapd::{Slapd, slapd};

/// Starts with people of these names; the `sn` says which row it is.
fn with(rows: &[(&str, &str)]) -> Slapd {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    for (uid, row) in rows {
        assert_eq!(letters(&mut *sink, &[insert(&named(uid, row))]), "w");
    }
    slapd
}

fn named(uid: &str, row: &str) -> emaj::sink::Entry {
    let mut person = person(uid, &[]);
    person.attributes[1].values = vec![row.to_owned()];
    person
}

fn moves(row: &str, from: &str, to: &str) -> emaj::sink::Delivery {
    update(&named(from, row), &named(to, row))
}

/// Returns who has which name.
fn holders(slapd: &Slapd) -> Vec<String> {
    let names = slapd.names("ou=people,dc=example,dc=org");
    let people = names.iter().filter(|name| name.starts_with("uid="));
    people
        .map(|name| {
            format!(
                "{} {}",
                slapd.values(name, "uid").join("+"),
                slapd.values(name, "sn").join("+")
            )
        })
        .collect()
}

#[test]
fn two_rows_exchange_their_names() {
    let slapd = with(&[("a", "1"), ("b", "2")]);
    let mut sink = connect(&slapd);
    let batch = [moves("1", "a", "b"), moves("2", "b", "a")];
    assert_eq!(letters(&mut *sink, &batch), "ww");
    assert_eq!(holders(&slapd), ["a 2", "b 1"]);
    assert_eq!(letters(&mut *sink, &batch), "uu", "once more changes nothing");
    assert_eq!(holders(&slapd), ["a 2", "b 1"]);
}

#[test]
fn two_rows_exchange_their_names_in_batches_of_one_over_two_connections() {
    let slapd = with(&[("a", "1"), ("b", "2")]);
    let opener = super::hand::opener(&super::hand::plain(&slapd));
    let (mut one, mut other) = (opener.open().unwrap(), opener.open().unwrap());
    assert_eq!(letters(&mut *one, &[moves("1", "a", "b")]), "w");
    assert_eq!(letters(&mut *other, &[moves("2", "b", "a")]), "w");
    assert_eq!(holders(&slapd), ["a 2", "b 1"]);
    assert_eq!(letters(&mut *other, &[moves("1", "b", "c")]), "w");
    assert_eq!(letters(&mut *one, &[moves("2", "a", "b")]), "w");
    assert_eq!(holders(&slapd), ["b 2", "c 1"]);
}

#[test]
fn three_rows_in_a_ring() {
    let slapd = with(&[("a", "1"), ("b", "2"), ("c", "3")]);
    let mut sink = connect(&slapd);
    assert_eq!(
        letters(
            &mut *sink,
            &[moves("1", "a", "b"), moves("2", "b", "c"), moves("3", "c", "a")]
        ),
        "www"
    );
    assert_eq!(holders(&slapd), ["a 3", "b 1", "c 2"]);
}

#[test]
fn a_name_is_given_on() {
    let slapd = with(&[("a", "1"), ("b", "2")]);
    let mut sink = connect(&slapd);
    // In the order of the log it may well come before the name is free.
    let batch = [moves("1", "a", "b"), moves("2", "b", "c")];
    assert_eq!(letters(&mut *sink, &batch), "ww");
    assert_eq!(holders(&slapd), ["b 1", "c 2"]);
    letters(&mut *sink, &batch);
    assert_eq!(holders(&slapd), ["b 1", "c 2"]);
}

#[test]
fn a_name_that_somebody_else_has_is_taken_over() {
    let slapd = with(&[("a", "1"), ("b", "foreign")]);
    let mut sink = connect(&slapd);
    assert_eq!(letters(&mut *sink, &[moves("1", "a", "b")]), "w");
    assert_eq!(holders(&slapd), ["b 1"]);
    assert!(slapd.entry(&person_dn("a")).is_none());
    // Also when the row goes on at once.
    letters(&mut *sink, &[insert(&named("c", "foreign"))]);
    assert_eq!(letters(&mut *sink, &[moves("1", "b", "c"), moves("1", "c", "d")]), "ww");
    assert_eq!(holders(&slapd), ["d 1"]);
}

#[test]
fn no_other_name_is_taken_over_where_the_old_one_cannot_go() {
    let slapd = with(&[("a", "1"), ("b", "foreign")]);
    slapd.modify("dn: cn=x,uid=a,ou=people,dc=example,dc=org\nchangetype: add\nobjectClass: device\n");
    let mut sink = connect(&slapd);
    let fault = super::hand::fault(&mut *sink, moves("1", "a", "b"));
    assert_eq!(fault.verdict, Verdict::Later, "{fault:?}");
    assert_eq!(holders(&slapd), ["a 1", "b foreign"]);
    // The row goes on from where it is.
    assert_eq!(letters(&mut *sink, &[moves("1", "a", "c")]), "w");
    assert_eq!(holders(&slapd), ["b foreign", "c 1"]);
}

#[test]
fn a_move_that_is_refused_leaves_nothing_of_it() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    let anns = |uid: &str, mail: &str, title: &[&str]| {
        let mut ann = person(uid, &[("mail+", &[mail]), ("title", title)]);
        ann.attributes[0].values = vec!["Ann".to_owned()];
        ann
    };
    let first = anns("ann", "1@x", &["Dr."]);
    assert_eq!(letters(&mut *sink, &[insert(&first)]), "w");
    slapd.modify(&format!(
        "dn: {}\nchangetype: modify\nadd: mail\nmail: by@hand\n",
        person_dn("ann")
    ));
    let before = slapd.entry(&person_dn("ann"));
    let nowhere = |mut to: emaj::sink::Entry| {
        to.dn = "uid=amy,ou=nowhere,dc=example,dc=org".to_owned();
        to
    };
    for second in [anns("amy", "2@x", &["Prof."]), anns("amy", "2@x", &[])] {
        let fault = super::hand::fault(&mut *sink, update(&first, &nowhere(second)));
        assert_eq!(fault.verdict, Verdict::Later, "{fault:?}");
        assert_eq!(slapd.entry(&person_dn("ann")), before);
    }
    // The row goes on from where it was.
    assert_eq!(
        letters(&mut *sink, &[update(&first, &anns("ada", "3@x", &["Dr."]))]),
        "w"
    );
    assert_eq!(slapd.values(&person_dn("ada"), "mail"), ["3@x", "by@hand"]);
}
