//! Values that are up to something: stored as they are, read back equal, and nothing else happens.

use emaj::manifest::Mode;
use emaj::sink::ldap::{dn_value, filter_value};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::hand::{at, attribute, connect, entry, fault, found, insert, letters, person, person_dn, update, value};
use crate::support::scale;
use crate::support::slapd::slapd;

const HOSTILE: [&str; 16] = [
    "a*)(uid=*",
    "x,ou=admins",
    "O'Brien'); DROP TABLE people; --",
    "two\nlines\r\n",
    "\ttab",
    "  led and trailed  ",
    "#first",
    "# first",
    "back\\slash\\",
    "\\2c",
    "\"quoted\"+plus;semicolon<less>greater=equal",
    "éàü ß 漢字 😀",
    "e\u{301}",
    "a  b",
    "%00",
    "{{ row.x }}",
];

#[test]
fn values_that_look_like_syntax_stay_values() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    for text in HOSTILE {
        let before = slapd.names("dc=example,dc=org").len();
        let one = person(text, &[("description", &[text])]);
        assert_eq!(letters(&mut *sink, &[insert(&one)]), "w", "{text:?}");
        assert_eq!(letters(&mut *sink, &[insert(&one)]), "u", "{text:?}");
        let stored = slapd.names("dc=example,dc=org");
        assert_eq!(stored.len(), before + 1, "{text:?}");
        for name in ["uid", "cn", "description"] {
            assert_eq!(slapd.values(&person_dn(text), name), [text], "{name}");
        }
        // Found by its value, and by no other.
        let target = found(&format!(
            "(&(uid={})(description={}))",
            filter_value(text),
            filter_value(text)
        ));
        assert_eq!(
            letters(&mut *sink, &[value("title", Some((target, text)), None)]),
            "w",
            "{text:?}"
        );
        assert_eq!(slapd.values(&person_dn(text), "title"), [text]);
        let next = person("next", &[("description", &[text]), ("title", &[])]);
        assert_eq!(letters(&mut *sink, &[update(&one, &next)]), "w", "{text:?}");
        assert_eq!(letters(&mut *sink, &[update(&next, &one)]), "w", "{text:?}");
        assert_eq!(slapd.values(&person_dn(text), "uid"), [text]);
    }
}

#[test]
fn long_values_arrive_whole_and_long_names_may_be_refused() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    for length in [1_000, 10_000, 1_000_000] {
        let text = "x,y=é\n".repeat(length / 7) + "end";
        let name = format!("{}{length}", "x,y=é*".repeat(10));
        let one = person(&name, &[("description", &[&text])]);
        assert_eq!(letters(&mut *sink, &[insert(&one), insert(&one)]), "wu", "{length}");
        assert!(slapd.values(&person_dn(&name), "description") == [text], "{length}");
    }
    // A directory may take no names of any length; then it says so.
    let fault = fault(&mut *sink, insert(&person(&"x,y=z ".repeat(1700), &[])));
    println!(
        "a name of ten thousand bytes: {:?}: {}",
        fault.verdict,
        &fault.reason[fault.reason.len() - 100..]
    );
    assert!(fault.reason.contains("the directory answers"));
    assert_eq!(slapd.names("ou=people,dc=example,dc=org").len(), 4);
}

#[test]
fn nul_is_kept_or_refused_but_never_cuts() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    let one = person("a", &[("description", &["b\0c"])]);
    if letters(&mut *sink, &[insert(&one)]) == "w" {
        assert_eq!(slapd.values(&person_dn("a"), "description"), ["b\0c"]);
    }
    let one = person("d\0e", &[]);
    if letters(&mut *sink, &[insert(&one)]) == "w" {
        assert_eq!(slapd.values(&person_dn("d\0e"), "uid"), ["d\0e"]);
    }
    assert!(slapd.entry(&person_dn("d")).is_none());
}

#[test]
fn any_names_and_values() {
    let slapd = slapd();
    let sink = std::cell::RefCell::new(connect(&slapd));
    // What OpenLDAP's texts may hold: something that is no space.
    let text = prop_oneof![
        "[ -~é漢ß\u{301}😀]{0,20}[a-z*()\\\\,+=#\"<>;/'éÉ-][ -~\\n\\téÀ]{0,20}",
        "[\\\\*(), #=+a]{0,6}[*(),#=+a]",
        any::<String>().prop_filter("no text for a directory", |text| {
            !text.contains('\0') && text.chars().any(|c| c.is_alphanumeric())
        }),
    ];
    let config = Config {
        cases: u32::try_from(scale(300)).unwrap(),
        failure_persistence: None,
        ..Config::default()
    };
    let parent = "ou=people,dc=example,dc=org";
    let mut runner = TestRunner::new(config);
    let result = runner.run(&(text.clone(), text), |(name, other)| {
        let dn = format!("cn={},{parent}", dn_value(&name));
        let mut one = entry(&dn, &["device"], &[("description", &[&other])]);
        let mut sink = sink.borrow_mut();
        let outcome = letters(&mut **sink, &[insert(&one)]);
        prop_assert_eq!(&outcome, "w");
        prop_assert_eq!(slapd.values(&dn, "cn"), vec![name.clone()]);
        prop_assert_eq!(slapd.values(&dn, "description"), vec![other.clone()]);
        let batch = [insert(&one), attribute(at(&dn), "description", Mode::Force, &[&other])];
        prop_assert_eq!(letters(&mut **sink, &batch), "uu");
        let filter = format!("(&(objectClass=device)(cn={}))", filter_value(&name));
        prop_assert_eq!(
            letters(&mut **sink, &[value("l", Some((found(&filter), &*other)), None)]),
            "w"
        );
        let old = one.clone();
        one.dn = format!("cn={},{parent}", dn_value("moved"));
        prop_assert_eq!(letters(&mut **sink, &[update(&old, &one)]), "w");
        prop_assert_eq!(slapd.values(&one.dn, "l"), vec![other.clone()]);
        prop_assert_eq!(letters(&mut **sink, &[super::hand::delete(&one)]), "w");
        prop_assert_eq!(slapd.names(parent).len(), 1);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    println!("{} names and values", scale(300));
}
