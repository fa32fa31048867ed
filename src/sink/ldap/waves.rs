//! Which deliveries of a batch may be under way at the same time: pure.
//!
//! A wave is a run of neighbours that have nothing to do with each other: no entry of one is the other's, or above or below it. The next
//! wave begins when the last one is through. So the order holds for every entry, while one connection is kept busy.

use std::collections::HashSet;
use std::ops::Range;

use super::super::{Action, Delivery, EntryTarget};
use super::dn::Dn;

/// How many may be under way at a server, over all connections. More would only wait there, and servers limit it: OpenLDAP has 16 threads,
/// and closes a connection with 100 waiting when it is anonymous.
const MOST: usize = 32;

/// Returns how many may be under way on one of a number of connections.
pub(super) fn depth(connections: usize) -> usize {
    (MOST / connections.max(1)).max(4)
}

/// Cuts a batch into waves.
pub(super) fn waves(batch: &[Delivery]) -> Vec<Range<usize>> {
    let mut waves = Vec::new();
    let (mut from, mut wave) = (0, Wave::default());
    for (at, delivery) in batch.iter().enumerate() {
        let reach = Reach::of(delivery);
        if at > from && !wave.takes(&reach) {
            waves.push(from..at);
            (from, wave) = (at, Wave::default());
        }
        wave.add(reach);
    }
    if from < batch.len() {
        waves.push(from..batch.len());
    }
    waves
}

/// What a delivery touches.
enum Reach {
    /// Entries by their names: each with what is above it, up to the top.
    Names(Vec<Vec<String>>),
    /// One entry that a search finds, and a value there.
    Search {
        target: String,
        filter: String,
        attribute: String,
        value: String,
    },
    /// Anything.
    All,
}

impl Reach {
    fn of(delivery: &Delivery) -> Reach {
        match &delivery.action {
            Action::Entry(change) => {
                let entries = change.old.iter().chain(&change.new);
                Reach::Names(entries.map(|entry| line(&entry.dn)).collect())
            }
            Action::Attributes(all) => {
                let ends: Vec<_> = all.iter().map(|(entry, _)| (entry, "")).collect();
                let name = all.first().map_or("", |(_, attribute)| attribute.name.as_str());
                Reach::targets(&ends, name)
            }
            Action::Value(change) => {
                let ends = change.add.iter().chain(&change.remove).chain(&change.renamed);
                let ends: Vec<_> = ends.map(|(target, value)| (target, value.as_str())).collect();
                Reach::targets(&ends, &change.attribute)
            }
            Action::Message(_) | Action::Row(_) => Reach::Names(Vec::new()),
        }
    }

    fn targets(ends: &[(&EntryTarget, &str)], attribute: &str) -> Reach {
        let name = |target: &EntryTarget| match target {
            EntryTarget::Dn(dn) => Some(line(dn)),
            EntryTarget::OfRow { dn, .. } => dn.as_deref().map(line),
            EntryTarget::Search { .. } => None,
        };
        let ends: Vec<_> = ends
            .iter()
            .filter(|(target, _)| target.may_be_there())
            .copied()
            .collect();
        match ends.as_slice() {
            [(EntryTarget::Search { base, filter, scope }, value)] => Reach::Search {
                target: format!("{base}\n{scope:?}\n{filter}"),
                filter: filter.to_lowercase(),
                attribute: attribute.to_lowercase(),
                value: (*value).to_owned(),
            },
            _ => match ends.iter().map(|(target, _)| name(target)).collect() {
                Some(names) => Reach::Names(names),
                None => Reach::All,
            },
        }
    }
}

fn line(dn: &str) -> Vec<String> {
    // What is no name is refused when its turn comes.
    Dn::parse(dn)
        .map(|dn| dn.normal_line())
        .unwrap_or_else(|_| vec![dn.to_owned()])
}

/// What the deliveries of a wave touch together.
#[derive(Default)]
struct Wave {
    is_closed: bool,
    here: HashSet<String>,
    above: HashSet<String>,
    targets: HashSet<String>,
    filters: Vec<String>,
    attributes: HashSet<String>,
    values: HashSet<(String, String)>,
}

impl Wave {
    fn takes(&self, reach: &Reach) -> bool {
        match reach {
            _ if self.is_closed => false,
            Reach::All => false,
            Reach::Names(lines) => {
                let is_free = |line: &Vec<String>| {
                    line.first().is_none_or(|own| !self.above.contains(own))
                        && !line.iter().any(|name| self.here.contains(name))
                };
                self.targets.is_empty() && lines.iter().all(is_free)
            }
            // Two filters may find one entry. That matters only for one value, or when the one changes what the other looks for.
            Reach::Search {
                target,
                filter,
                attribute,
                value,
            } => {
                self.here.is_empty()
                    && !self.targets.contains(target)
                    && !self.values.contains(&(attribute.clone(), value.clone()))
                    && !self.attributes.iter().any(|known| filter.contains(known.as_str()))
                    && (self.attributes.contains(attribute)
                        || !self.filters.iter().any(|known| known.contains(attribute.as_str())))
            }
        }
    }

    fn add(&mut self, reach: Reach) {
        match reach {
            Reach::All => self.is_closed = true,
            Reach::Names(lines) => {
                for line in lines {
                    let mut names = line.into_iter();
                    self.here.extend(names.next());
                    self.above.extend(names);
                }
            }
            Reach::Search {
                target,
                filter,
                attribute,
                value,
            } => {
                // A filter with the attribute in it: what is written may change what is found.
                self.is_closed |= filter.contains(&attribute);
                self.targets.insert(target);
                self.filters.push(filter);
                self.values.insert((attribute.clone(), value));
                self.attributes.insert(attribute);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Attribute, Entry, EntryChange, Offset, ValueChange};
    use super::*;
    use crate::manifest::{Mode, Scope};

    fn delivery(action: Action) -> Delivery {
        Delivery {
            id: String::new(),
            binding: "b".into(),
            offset: Offset(String::new()),
            time: String::new(),
            replay: None,
            retried: false,
            event: None,
            action,
        }
    }

    fn entry(old: &str, new: &str) -> Delivery {
        let entry = |dn: &str| {
            (!dn.is_empty()).then(|| Entry {
                dn: dn.to_owned(),
                object_classes: Vec::new(),
                attributes: Vec::new(),
                row: None,
            })
        };
        delivery(Action::Entry(EntryChange {
            old: entry(old),
            new: entry(new),
            heir: None,
            others: Vec::new(),
        }))
    }

    fn search(filter: &str, attribute: &str, value: &str) -> Delivery {
        let target = EntryTarget::Search {
            base: "dc=x".to_owned(),
            filter: filter.to_owned(),
            scope: Scope::Sub,
        };
        delivery(Action::Value(ValueChange {
            attribute: attribute.to_owned(),
            add: Some((target, value.to_owned())),
            remove: None,
            instead: None,
            renamed: None,
        }))
    }

    fn query(dn: &str) -> Delivery {
        let attribute = Attribute {
            name: "mail".to_owned(),
            mode: Mode::Force,
            values: Vec::new(),
        };
        delivery(Action::Attributes(vec![(EntryTarget::Dn(dn.to_owned()), attribute)]))
    }

    #[track_caller]
    fn lengths(batch: &[Delivery], expected: &[usize]) {
        assert_eq!(waves(batch).iter().map(Range::len).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn neighbours_go_together() {
        lengths(&[], &[]);
        lengths(
            &[
                entry("", "uid=a,dc=x"),
                entry("", "uid=b,dc=x"),
                entry("uid=c,dc=x", ""),
            ],
            &[3],
        );
        lengths(
            &[
                entry("", "uid=a,dc=x"),
                entry("UID=A,dc=x", "uid=c,dc=x"),
                query("uid=b,dc=x"),
            ],
            &[1, 2],
        );
        lengths(
            &[entry("uid=a,dc=x", "uid=b,dc=x"), entry("uid=b,dc=x", "uid=a,dc=x")],
            &[1, 1],
        );
    }

    #[test]
    fn what_is_above_comes_first_and_goes_last() {
        lengths(
            &[
                entry("", "ou=o,dc=x"),
                entry("", "uid=a,ou=o,dc=x"),
                entry("", "uid=b,ou=o,dc=x"),
            ],
            &[1, 2],
        );
        lengths(&[entry("uid=a,ou=o,dc=x", ""), entry("ou=o,dc=x", "")], &[1, 1]);
    }

    #[test]
    fn searches_stand_apart() {
        lengths(
            &[
                entry("", "uid=a,dc=x"),
                search("(uid=a)", "mail", "1"),
                search("(uid=b)", "mail", "2"),
            ],
            &[1, 2],
        );
        lengths(
            &[search("(uid=a)", "mail", "1"), search("(uid=a)", "mail", "2")],
            &[1, 1],
        );
        lengths(
            &[search("(uid=a)", "mail", "1"), search("(uid=b)", "mail", "1")],
            &[1, 1],
        );
        lengths(
            &[search("(mail=a)", "mail", "1"), search("(mail=b)", "mail", "2")],
            &[1, 1],
        );
        lengths(
            &[search("(uid=a)", "mail", "1"), search("(mail=1)", "sn", "2")],
            &[1, 1],
        );
        lengths(&[search("(uid=a)", "mail", "1"), search("(sn=1)", "uid", "2")], &[1, 1]);
    }
}
