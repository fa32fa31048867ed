//! The LDAP sink against `ldapmodify` with the same changes: additions, then modifications of one attribute, on one slapd.
//!
//! The server waits for the disk, as a directory does. The sink reads each entry before it modifies it, which `ldapmodify` does not.

#[path = "../tests/support/slapd.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
pub mod slapd;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use emaj::manifest::{self, Event, Mode};
use emaj::pg::Environment;
use emaj::sink::{Action, Attribute, Delivery, Entry, EntryChange, Offset, Opener, Outcome as Delivered};

use self::slapd::{ACCOUNT, PASSWORD, Slapd};
use crate::support::{Bench, Outcome, median, show};

const ENTRIES: u64 = 4_000;
const PARENT: &str = "ou=people,dc=example,dc=org";

pub fn run(bench: &mut Bench) -> Outcome {
    let entries = ENTRIES.min(bench.rows);
    for (server, settings) in [("", ""), (", disk not waited for", "dbnosync\n")] {
        let mut times: Vec<Vec<Duration>> = vec![Vec::new(); 6];
        for round in 0..bench.rounds.max(1) {
            let slapd = Slapd::with(settings, false);
            // Who begins has no entries beside his own: the turns change.
            for turn in 0..3 {
                let who = (turn + round) % 3;
                let [add, modify] = [&people(who, entries, None), &people(who, entries, Some("new"))];
                let changes = |old: Option<&[Entry]>, new: &[Entry]| match who {
                    0 => ldapmodify(&slapd, &ldif(old.is_some(), new)),
                    1 => sink(&slapd, 1, &deliveries(old, new)),
                    _ => sink(&slapd, 4, &deliveries(old, new)),
                };
                times[who * 2].push(changes(None, add)?);
                times[who * 2 + 1].push(changes(Some(add), modify)?);
            }
        }
        let times: Vec<Duration> = times.into_iter().map(median).collect();
        for (at, verb) in ["add", "modify"].into_iter().enumerate() {
            line(
                &format!("ldap {verb}, one connection{server}"),
                times[at],
                times[2 + at],
                0.8,
            );
            line(
                &format!("ldap {verb}, four connections{server}"),
                times[at],
                times[4 + at],
                1.0,
            );
        }
    }
    Ok(())
}

/// Prints rates: more is better here, other than in the sections that compare times.
fn line(what: &str, baseline: Duration, measured: Duration, target: f64) {
    let ratio = baseline.as_secs_f64() / measured.as_secs_f64();
    println!(
        "{what:<48} {:>10} {:>10} {ratio:>8.2} {:>8}",
        show(baseline),
        show(measured),
        format!("≥ {target:.2}")
    );
}

/// Returns the people of one participant; `title`: what changes.
fn people(who: usize, number: u64, title: Option<&str>) -> Vec<Entry> {
    let attribute = |name: &str, value: String| Attribute {
        name: name.to_owned(),
        mode: Mode::Force,
        values: vec![value],
    };
    let person = |i: u64| Entry {
        dn: format!("uid=p{who}-{i},{PARENT}"),
        object_classes: vec!["inetOrgPerson".to_owned()],
        attributes: vec![
            attribute("uid", format!("p{who}-{i}")),
            attribute("cn", format!("Person {i}")),
            attribute("sn", format!("Number {i}")),
            attribute("mail", format!("p{who}-{i}@example.org")),
            attribute("title", title.unwrap_or("old").to_owned()),
        ],
        row: None,
    };
    (0..number).map(person).collect()
}

fn ldif(is_change: bool, people: &[Entry]) -> String {
    let mut out = String::new();
    for person in people {
        _ = writeln!(out, "dn: {}", person.dn);
        if is_change {
            _ = write!(
                out,
                "changetype: modify\nreplace: title\ntitle: {}\n\n",
                person.attributes[4].values[0]
            );
            continue;
        }
        out.push_str("changetype: add\nobjectClass: inetOrgPerson\n");
        for attribute in &person.attributes {
            _ = writeln!(out, "{}: {}", attribute.name, attribute.values[0]);
        }
        out.push('\n');
    }
    out
}

fn ldapmodify(slapd: &Slapd, ldif: &str) -> Outcome<Duration> {
    let started = Instant::now();
    let mut child = slapd
        .client("ldapmodify")
        .stdout(Stdio::null())
        .stdin(Stdio::piped())
        .spawn()?;
    child.stdin.take().ok_or("no input")?.write_all(ldif.as_bytes())?;
    match child.wait()?.success() {
        true => Ok(started.elapsed()),
        false => Err("ldapmodify failed".into()),
    }
}

fn deliveries(old: Option<&[Entry]>, new: &[Entry]) -> Vec<Delivery> {
    let delivery = |(at, new): (usize, &Entry)| Delivery {
        id: at.to_string(),
        binding: "people".into(),
        offset: Offset(String::new()),
        time: String::new(),
        replay: None,
        retried: false,
        event: Some(Event::Update),
        action: Action::Entry(EntryChange {
            old: old.map(|old| old[at].clone()),
            new: Some(new.clone()),
            heir: None,
            others: Vec::new(),
        }),
    };
    new.iter().enumerate().map(delivery).collect()
}

/// Delivers over a number of connections, as `deliver` does: one lane each, in batches. Connecting counts.
fn sink(slapd: &Slapd, connections: usize, changes: &[Delivery]) -> Outcome<Duration> {
    let opener: Arc<dyn Opener> = Arc::from(opener(slapd)?);
    let started = Instant::now();
    let lanes: Vec<_> = changes.chunks(changes.len().div_ceil(connections)).collect();
    std::thread::scope(|scope| -> Outcome {
        let work = |lane: &[Delivery]| -> Result<(), String> {
            let mut sink = opener.open().map_err(|fault| fault.reason)?;
            for batch in lane.chunks(opener.batch()) {
                let outcomes = sink.deliver(batch);
                if outcomes.len() != batch.len() || outcomes.iter().any(|outcome| *outcome != Delivered::Written) {
                    return Err(format!("not all was written: {:?}", outcomes.last()));
                }
            }
            Ok(())
        };
        let workers: Vec<_> = lanes.iter().map(|lane| scope.spawn(move || work(lane))).collect();
        for worker in workers {
            worker.join().map_err(|_| "a lane panicked")??;
        }
        Ok(())
    })?;
    Ok(started.elapsed())
}

fn opener(slapd: &Slapd) -> Outcome<Box<dyn Opener>> {
    let yaml = format!(
        "version: 1\nsinks: {{ d: {{ ldap: {{ url: \"{}\", bind_dn: \"{ACCOUNT}\", password: \"${{env:LDAP_PASSWORD}}\" }} }} }}\n\
         bindings: {{ b: {{ table: a.b, to: d, entry: {{ dn: \"uid={{{{ row.a }}}},{PARENT}\", object_classes: [person], attributes: {{ sn: x }} }} }} }}\n",
        slapd.url()
    );
    let loaded = manifest::parse(Path::new("bench.yaml"), &yaml).map_err(|error| error.to_string())?;
    let mut environment = Environment::default();
    environment
        .variables
        .insert("LDAP_PASSWORD".to_owned(), PASSWORD.to_owned());
    Ok(emaj::sink::opener(
        &loaded.manifest,
        &loaded.manifest.sinks[0],
        &environment,
        "bench",
    )?)
}
