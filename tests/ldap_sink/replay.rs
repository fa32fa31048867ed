//! The same stream again and again, in pieces of any size: the directory ends the same, and where nothing changed nothing is written.

use emaj::manifest::Mode;
use emaj::sink::{Delivery, Entry, Outcome};

use super::hand::{at, attribute, connect, delete, entry, insert, letters, person, person_dn, update, value};
use crate::support::slapd::{Slapd, slapd};
use crate::support::{Chance, scale, seed};

/// Leaves out what two runs may differ in: when it was written, and numbers that the server gives.
fn lasting(slapd: &Slapd) -> String {
    let passing = ["createtimestamp:", "modifytimestamp:", "entrycsn:", "entryuuid:"];
    let dump = slapd.dump();
    let is_lasting = |line: &&str| !passing.iter().any(|name| line.trim_start().starts_with(name));
    dump.lines().filter(is_lasting).collect::<Vec<_>>().join("\n")
}

/// A life of some rows: each with at most one entry, every name in one hand at a time.
fn stream(chance: &mut Chance, length: usize) -> Vec<Delivery> {
    let group = "cn=staff,ou=groups,dc=example,dc=org";
    let mut stream = vec![insert(&entry(group, &["posixGroup"], &[("gidNumber", &["1"])]))];
    let mut rows: Vec<Option<Entry>> = vec![None; 12];
    for step in 0..length {
        let row = (chance.next() % rows.len() as u64) as usize;
        let free = |rows: &[Option<Entry>], chance: &mut Chance| {
            let uid = format!("u{}", chance.next() % 30);
            let dn = person_dn(&uid);
            rows.iter().flatten().all(|row| row.dn != dn).then_some(uid)
        };
        let mail = format!("m{}@x", chance.next() % 5);
        let made = |uid: &str| person(uid, &[("mail", &[&mail]), ("title", &[&format!("t{}", step % 7)])]);
        let old = rows[row].clone();
        let new = match (chance.next() % 10, &old) {
            (0..=1, Some(_)) => None,
            (2..=4, Some(_)) | (_, None) => match free(&rows, chance) {
                Some(uid) => Some(made(&uid)),
                None => continue,
            },
            (_, Some(old)) => {
                let mut new = old.clone();
                new.attributes[2..].clone_from_slice(&made("x").attributes[2..]);
                Some(new)
            }
        };
        match (&old, &new) {
            (None, Some(new)) => stream.push(insert(new)),
            (Some(old), Some(new)) => stream.push(update(old, new)),
            (Some(old), None) => stream.push(delete(old)),
            (None, None) => {}
        }
        let name = |entry: &Option<Entry>| entry.as_ref().map(|entry| entry.dn.clone());
        let (gone, come) = (name(&old), name(&new));
        if gone != come {
            let end = |dn: &Option<String>| dn.as_deref().map(|dn| (at(group), dn.to_owned()));
            let (come, gone) = (end(&come), end(&gone));
            stream.push(value(
                "memberUid",
                come.as_ref().map(|(target, value)| (target.clone(), value.as_str())),
                gone.as_ref().map(|(target, value)| (target.clone(), value.as_str())),
            ));
        }
        rows[row] = new;
    }
    stream
}

fn play(slapd: &Slapd, stream: &[Delivery], piece: usize) {
    let mut sink = connect(slapd);
    for batch in stream.chunks(piece) {
        for (outcome, delivery) in sink.deliver(batch).iter().zip(batch) {
            assert!(!matches!(outcome, Outcome::Failed(_)), "{outcome:?}: {delivery:?}");
        }
    }
}

#[test]
fn three_times_over_leaves_the_same() {
    let seed = seed();
    println!("EMAJ_SEED={seed}");
    let mut chance = Chance::new(seed);
    for _ in 0..scale(4) {
        let stream = stream(&mut chance, 120);
        let one_by_one = slapd();
        play(&one_by_one, &stream, 1);
        let expected = lasting(&one_by_one);
        let slapd = slapd();
        for piece in [stream.len(), 7, stream.len()] {
            play(&slapd, &stream, piece);
            let found = lasting(&slapd);
            let diff = similar::TextDiff::from_lines(&expected, &found);
            assert!(found == expected, "in pieces of {piece}:\n{}", diff.unified_diff());
        }
    }
}

#[test]
fn the_last_word_said_again_writes_nothing() {
    let slapd = slapd();
    let mut sink = connect(&slapd);
    let group = "cn=staff,ou=groups,dc=example,dc=org";
    let mut batch = vec![insert(&entry(group, &["posixGroup"], &[("gidNumber", &["1"])]))];
    for i in 0..100 {
        let person = person(&format!("p{i}"), &[("mail+", &["a@x"]), ("title?", &["Dr."])]);
        batch.push(insert(&person));
        batch.push(value("memberUid", Some((at(group), &*format!("p{i}"))), None));
        batch.push(attribute(at(&person.dn), "description", Mode::Force, &["x", "y"]));
    }
    let count = batch.len();
    assert_eq!(letters(&mut *sink, &batch), "w".repeat(count));
    let before = slapd.dump();
    for _ in 0..2 {
        assert_eq!(letters(&mut *sink, &batch), "u".repeat(count));
        assert_eq!(slapd.dump(), before);
    }
}
