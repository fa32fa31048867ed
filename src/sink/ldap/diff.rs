//! The difference between what is there and what is wanted: pure, so that every case is a line of a table.

use std::borrow::Cow;
use std::collections::HashSet;

use super::change::{Mod, Values, Verb};
use super::schema::Rule;
use crate::manifest::Mode;

/// What one attribute is to be.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// As the manifest writes it.
    pub(super) name: String,
    /// As the server answers it.
    pub(super) key: String,
    pub(super) rule: Rule,
    pub(super) mode: Mode,
    pub(super) values: Values,
    /// What was ours before: it goes in `merge` when it is wanted no more.
    pub(super) ours: Values,
    /// Must be there in any case: the values of the entry's own name.
    pub(super) naming: Values,
}

/// How cautious to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// Single values are added and taken away.
    Plain,
    /// The server had another mind about which values are equal: all values are replaced, and what might be equal to it counts once.
    Whole,
}

/// Returns what has to be done so that `present` becomes what is wanted; nothing when it is so.
pub(super) fn difference(wanted: &Wanted, present: &[Vec<u8>], care: Care) -> Vec<Mod> {
    let rule = match (care, wanted.rule) {
        (Care::Whole, Rule::Exact | Rule::None) => Rule::Folded,
        (_, rule) => rule,
    };
    let target = target(wanted, present, rule);
    let has = keys(present, |value| rule.stored(value));
    let wants = keys(&target, |value| rule.stored(value));
    let missing: Values = only(&target, |value| !has.contains(&rule.stored(value)));
    let surplus: Values = only(present, |value| !wants.contains(&rule.stored(value)));
    let name = wanted.name.as_str();
    // Where values of others may stand beside ours, replacing all could take away one that came since they were read.
    let is_shared = wanted.mode != Mode::Force;
    let is_small = missing.len() + surplus.len() < target.len();
    if missing.is_empty() && surplus.is_empty() {
        Vec::new()
    } else if present.is_empty() {
        // Perhaps it is only hidden from us: in a replacement no old value stays.
        let verb = if is_shared { Verb::Add } else { Verb::Replace };
        vec![Mod::new(verb, name, target)]
    } else if care == Care::Plain && wanted.rule != Rule::None && (is_shared || is_small) {
        // What goes first: it may be equal, to the server, to what comes.
        let parts = [(Verb::Delete, surplus), (Verb::Add, missing)];
        parts
            .into_iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|(verb, values)| Mod::new(verb, name, values))
            .collect()
    } else if target.is_empty() {
        vec![Mod::new(Verb::Delete, name, Vec::new())]
    } else {
        vec![Mod::new(Verb::Replace, name, target)]
    }
}

/// Returns what takes these changes of an attribute back, which was `present` before.
pub(super) fn reverse(mods: &[Mod], wanted: &Wanted, present: &[Vec<u8>]) -> Vec<Mod> {
    // (Where none was to be seen, it may be hidden from us: then it was what the row had made it.)
    let before = match present {
        [] => &wanted.ours,
        present => present,
    };
    let back = |one: &Mod| {
        let (verb, values) = match one.verb {
            Verb::Add if wanted.rule != Rule::None => (Verb::Delete, &*one.values),
            Verb::Delete if !one.values.is_empty() => (Verb::Add, &*one.values),
            _ if before.is_empty() => (Verb::Delete, before),
            _ => (Verb::Replace, before),
        };
        Mod::new(verb, &one.name, values.to_vec())
    };
    mods.iter().rev().map(back).collect()
}

/// Returns all values that the attribute is to have in the end.
fn target(wanted: &Wanted, present: &[Vec<u8>], rule: Rule) -> Values {
    match wanted.mode {
        Mode::Force => {
            // Where two values are one to the server, the one that is there already stays.
            let present = keys(present, Cow::Borrowed);
            let is_there = |value: &&Vec<u8>| present.contains(value.as_slice());
            let there: Values = wanted.values.iter().filter(is_there).cloned().collect();
            let rest: Values = wanted.values.iter().filter(|value| !is_there(value)).cloned().collect();
            union([&there, &rest, &wanted.naming], rule)
        }
        Mode::Keep if !present.is_empty() => union([present, &wanted.naming], rule),
        Mode::Keep => union([&wanted.values, &wanted.naming], rule),
        Mode::Merge => {
            let ours = keys(&wanted.ours, |value| rule.stored(value));
            let wants = keys(&wanted.values, |value| rule.stored(value));
            let naming = keys(&wanted.naming, |value| rule.stored(value));
            let stays = only(present, |value| {
                let key = rule.stored(value);
                !ours.contains(&key) || wants.contains(&key) || naming.contains(&key)
            });
            union([&stays, &wanted.values, &wanted.naming], rule)
        }
    }
}

/// Returns each value once; of equal ones the first.
pub(super) fn union<'a>(
    lists: impl IntoIterator<Item = &'a (impl AsRef<[Vec<u8>]> + ?Sized + 'a)>,
    rule: Rule,
) -> Values {
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for value in lists.into_iter().flat_map(AsRef::as_ref) {
        if seen.insert(rule.equal(value)) {
            all.push(value.clone());
        }
    }
    all
}

fn keys<'a>(values: &'a [Vec<u8>], key: impl Fn(&'a [u8]) -> Cow<'a, [u8]>) -> HashSet<Cow<'a, [u8]>> {
    values.iter().map(|value| key(value)).collect()
}

fn only(values: &[Vec<u8>], is_in: impl Fn(&[u8]) -> bool) -> Values {
    values.iter().filter(|value| is_in(value)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Values {
        text.split_terminator('|')
            .map(|value| value.as_bytes().to_vec())
            .collect()
    }

    fn shown(mods: &[Mod]) -> String {
        let one = |one: &Mod| {
            let values: Vec<_> = one.values.iter().map(|value| String::from_utf8_lossy(value)).collect();
            format!("{:?} {}", one.verb, values.join("|"))
                .to_lowercase()
                .trim()
                .to_owned()
        };
        mods.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    fn wanted(mode: Mode, rule: Rule, ours: &str, values: &str, naming: &str) -> Wanted {
        Wanted {
            name: "x".to_owned(),
            key: "x".to_owned(),
            rule,
            mode,
            values: list(values),
            ours: list(ours),
            naming: list(naming),
        }
    }

    #[track_caller]
    fn case(mode: Mode, rule: Rule, present: &str, ours: &str, values: &str, naming: &str, expected: &str) {
        let wanted = wanted(mode, rule, ours, values, naming);
        assert_eq!(shown(&difference(&wanted, &list(present), Care::Plain)), expected);
    }

    #[test]
    fn force_makes_it_so() {
        let force = |present, values, expected| case(Mode::Force, Rule::Folded, present, "", values, "", expected);
        force("a|b", "b|a", "");
        force("", "", "");
        force("", "a", "replace a");
        force("a|b", "", "delete");
        force("a", "b", "replace b");
        force("a|b|c|d", "a|b|c|e|f", "delete d, add e|f");
        force("a", "A", "replace a");
        force("a", "A|a", "");
        force("a|b|c|d", "A|b|c|d", "delete a, add a");
    }

    #[test]
    fn what_was_written_is_taken_back() {
        let back = |mode, rule, present, values, expected: &str| {
            let wanted = wanted(mode, rule, "a", values, "");
            let mods = difference(&wanted, &list(present), Care::Plain);
            assert_eq!(shown(&reverse(&mods, &wanted, &list(present))), expected);
        };
        back(Mode::Merge, Rule::Folded, "z|a", "b", "delete b, add a");
        back(Mode::Merge, Rule::Folded, "", "b", "delete b");
        back(Mode::Merge, Rule::Folded, "z|a", "a", "");
        back(Mode::Merge, Rule::None, "z|a", "b", "replace z|a");
        back(Mode::Keep, Rule::Folded, "", "b", "delete b");
        back(Mode::Force, Rule::Folded, "z", "b", "replace z");
        back(Mode::Force, Rule::Folded, "z", "", "replace z");
        back(Mode::Force, Rule::Folded, "z|y|w|v", "z|y|w|b|c", "delete b|c, add v");
        // It may be hidden.
        back(Mode::Force, Rule::Folded, "", "b", "replace a");
    }

    #[test]
    fn keep_writes_only_when_there_is_none() {
        case(Mode::Keep, Rule::Folded, "z", "", "a", "", "");
        case(Mode::Keep, Rule::Folded, "", "", "a", "", "add a");
        case(Mode::Keep, Rule::Folded, "z", "", "", "", "");
        case(Mode::Keep, Rule::Folded, "z|y", "", "a", "n", "add n");
    }

    #[test]
    fn merge_touches_what_is_ours() {
        let merge =
            |present, ours, values, expected| case(Mode::Merge, Rule::Folded, present, ours, values, "", expected);
        merge("z", "", "a", "add a");
        merge("z|a", "a", "b", "delete a, add b");
        merge("z|y|w|a", "a", "b", "delete a, add b");
        merge("z|a", "a", "", "delete a");
        merge("z|y|a", "a", "", "delete a");
        merge("A", "", "a", "");
        merge("z|y|x|Foo", "Foo", "foo", "delete foo, add foo");
        merge("a", "a", "", "delete a");
    }

    #[test]
    fn the_own_name_stays() {
        case(Mode::Force, Rule::Folded, "bob", "", "", "bob", "");
        case(
            Mode::Force,
            Rule::Folded,
            "bob|x",
            "",
            "Bob Smith",
            "bob",
            "replace bob smith|bob",
        );
        case(Mode::Merge, Rule::Folded, "bob|x", "bob", "", "bob", "");
        case(Mode::Merge, Rule::Folded, "Bob", "", "", "bob", "");
        case(
            Mode::Merge,
            Rule::Folded,
            "Bob",
            "Bob",
            "",
            "bob",
            "delete bob, add bob",
        );
        case(Mode::Force, Rule::Folded, "Bob", "", "Bob", "bob", "");
    }

    #[test]
    fn names_of_entries_are_compared_as_such() {
        case(Mode::Force, Rule::Dn, "uid=a,dc=x", "", "UID=a, dc=x", "", "");
        case(
            Mode::Force,
            Rule::Exact,
            "uid=a,dc=x",
            "",
            "UID=a, dc=x",
            "",
            "replace uid=a, dc=x",
        );
    }

    #[test]
    fn values_that_cannot_be_compared_are_replaced_whole() {
        case(Mode::Force, Rule::None, "a|b|c", "", "a|b|c|d", "", "replace a|b|c|d");
        case(Mode::Merge, Rule::None, "a|b|c", "c", "d", "", "replace a|b|d");
    }

    #[test]
    fn with_care_what_may_be_equal_counts_once() {
        let mut wanted = Wanted {
            name: "x".to_owned(),
            key: "x".to_owned(),
            rule: Rule::Exact,
            mode: Mode::Merge,
            values: list("a|b"),
            ours: Values::new(),
            naming: Values::new(),
        };
        assert_eq!(
            shown(&difference(&wanted, &list("A|y|z"), Care::Whole)),
            "replace a|y|z|b"
        );
        wanted.values = list("a");
        assert_eq!(shown(&difference(&wanted, &list("A|y|z"), Care::Whole)), "");
    }
}
