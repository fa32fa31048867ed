//! What the tests of the sink are written with: sinks from a manifest, deliveries in one line.

use std::path::Path;

use emaj::manifest::{self, Event, Mode, Scope};
use emaj::pg::Environment;
use emaj::sink::{
    Action, Attribute, Delivery, Entry, EntryChange, EntryTarget, Fault, Offset, Opener, Outcome, Sink, ValueChange,
};

use crate::support::slapd::{ACCOUNT, PASSWORD, Slapd};

/// Returns what opens connections, from the settings of a manifest (`ldap: { … }`, without the braces).
pub fn opener(settings: &str) -> Box<dyn Opener> {
    try_opener(settings).unwrap_or_else(|error| panic!("{error}"))
}

pub fn try_opener(settings: &str) -> emaj::errors::Result<Box<dyn Opener>> {
    let yaml = format!(
        "version: 1\nsinks: {{ directory: {{ ldap: {{ {settings} }} }} }}\n\
         bindings: {{ b: {{ table: a.b, to: directory, entry: {{ dn: \"uid={{{{ row.a }}}},dc=x\", object_classes: [person], attributes: {{ sn: x }} }} }} }}\n"
    );
    let loaded = manifest::parse(Path::new("/tmp/manifest.yaml"), &yaml).unwrap_or_else(|error| panic!("{error}"));
    let mut environment = Environment::default();
    environment
        .variables
        .insert("LDAP_PASSWORD".to_owned(), PASSWORD.to_owned());
    emaj::sink::opener(&loaded.manifest, &loaded.manifest.sinks[0], &environment, "test")
}

/// Returns the settings of a plain connection to `slapd`, logged in by password.
pub fn plain(slapd: &Slapd) -> String {
    format!(
        "url: \"{}\", bind_dn: \"{ACCOUNT}\", password: \"${{env:LDAP_PASSWORD}}\", timeout: 10",
        slapd.url()
    )
}

/// Returns a connection to `slapd`.
pub fn connect(slapd: &Slapd) -> Box<dyn Sink> {
    opener(&plain(slapd)).open().unwrap()
}

/// Returns an entry. In `attributes`, `name` is forced, `name?` kept, `name+` merged; no value: absent.
pub fn entry(dn: &str, classes: &[&str], attributes: &[(&str, &[&str])]) -> Entry {
    let attribute = |(name, values): &(&str, &[&str])| Attribute {
        name: name.trim_end_matches(['?', '+']).to_owned(),
        mode: match name.as_bytes().last() {
            Some(b'?') => Mode::Keep,
            Some(b'+') => Mode::Merge,
            _ => Mode::Force,
        },
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    Entry {
        dn: dn.to_owned(),
        object_classes: classes.iter().map(|class| (*class).to_owned()).collect(),
        attributes: attributes.iter().map(attribute).collect(),
        row: None,
    }
}

/// Returns the name of a person.
pub fn person_dn(uid: &str) -> String {
    format!("uid={},ou=people,dc=example,dc=org", emaj::sink::ldap::dn_value(uid))
}

/// Returns a person: `inetOrgPerson` with a name and what else is given.
pub fn person(uid: &str, more: &[(&str, &[&str])]) -> Entry {
    let mut person = entry(
        &person_dn(uid),
        &["inetOrgPerson"],
        &[("cn", &[uid]), ("sn", &["Smith"])],
    );
    person.attributes.extend(entry("", &[], more).attributes);
    person
}

fn delivery(event: Option<Event>, action: Action) -> Delivery {
    Delivery {
        id: "id".to_owned(),
        binding: "b".into(),
        offset: Offset("1".to_owned()),
        time: "2026-01-01T00:00:00.000000Z".to_owned(),
        replay: None,
        retried: false,
        event,
        action,
    }
}

pub fn insert(new: &Entry) -> Delivery {
    let change = EntryChange {
        old: None,
        new: Some(new.clone()),
        heir: None,
        others: Vec::new(),
    };
    delivery(Some(Event::Insert), Action::Entry(change))
}

pub fn update(old: &Entry, new: &Entry) -> Delivery {
    let change = EntryChange {
        old: Some(old.clone()),
        new: Some(new.clone()),
        heir: None,
        others: Vec::new(),
    };
    delivery(Some(Event::Update), Action::Entry(change))
}

pub fn delete(old: &Entry) -> Delivery {
    let change = EntryChange {
        old: Some(old.clone()),
        new: None,
        heir: None,
        others: Vec::new(),
    };
    delivery(Some(Event::Delete), Action::Entry(change))
}

pub type End<'a> = Option<(EntryTarget, &'a str)>;

pub fn value(attribute: &str, add: End<'_>, remove: End<'_>) -> Delivery {
    let own = |end: End<'_>| end.map(|(target, value)| (target, value.to_owned()));
    delivery(
        Some(Event::Update),
        Action::Value(ValueChange {
            renamed: None,
            attribute: attribute.to_owned(),
            add: own(add),
            remove: own(remove),
            instead: None,
        }),
    )
}

pub fn attribute(target: EntryTarget, name: &str, mode: Mode, values: &[&str]) -> Delivery {
    delivery(
        Some(Event::Update),
        Action::Attributes(vec![(
            target,
            Attribute {
                name: name.to_owned(),
                mode,
                values: values.iter().map(|value| (*value).to_owned()).collect(),
            },
        )]),
    )
}

pub fn at(dn: &str) -> EntryTarget {
    EntryTarget::Dn(dn.to_owned())
}

pub fn found(filter: &str) -> EntryTarget {
    EntryTarget::Search {
        base: "dc=example,dc=org".to_owned(),
        filter: filter.to_owned(),
        scope: Scope::Sub,
    }
}

/// Delivers a batch and returns a letter for each outcome: `w`ritten, `u`nchanged, `l`ater, `c`lash, `n`ever, `d`own.
pub fn letters(sink: &mut dyn Sink, batch: &[Delivery]) -> String {
    let letter = |outcome: &Outcome| match outcome {
        Outcome::Written => 'w',
        Outcome::Unchanged => 'u',
        Outcome::Failed(fault) => match fault.verdict {
            emaj::sink::Verdict::Later | emaj::sink::Verdict::Silent => 'l',
            emaj::sink::Verdict::Clash => 'c',
            emaj::sink::Verdict::Never => 'n',
            emaj::sink::Verdict::Down => 'd',
        },
    };
    sink.deliver(batch).iter().map(letter).collect()
}

/// Delivers one delivery that fails.
#[track_caller]
pub fn fault(sink: &mut dyn Sink, delivery: Delivery) -> Fault {
    match sink.deliver(&[delivery]).as_slice() {
        [Outcome::Failed(fault)] => fault.clone(),
        other => panic!("expected a failure, found {other:?}"),
    }
}
