//! What goes before the rest: an uninstall that the server has no room for in one transaction is divided.
//!
//! Logs go first, some in each transaction, until what is left fits; after each of them that is planned anew, and comes to the same. In between a group is
//! as one that never had these tables. Pure; called by `removal`.

use std::borrow::Cow;
use std::collections::BTreeSet;

use minijinja::context;

use super::plan::{Action, Lock, Phase, Plan, Step};
use super::removal::captured_by;
use super::room::{self, Partitions};
use crate::catalog::Catalog;
use crate::journal::{Group, Journal, KeptLog, Relation};
use crate::render::{RenderError, Renderer};
use crate::words::count;

/// What takes relations out of a group, in an installation.
const FUNCTION: &str = "_remove_relations";

/// Logs of one group that go together, and what goes with them.
#[derive(Debug, Default)]
struct Portion {
    relations: BTreeSet<i64>,
    logs: usize,
    locks: i64,
}

/// Plans what goes before the rest of these groups. Returns what is there then; `own` are the locks that the rest takes for other things than groups.
pub(super) fn plan<'j>(
    plan: &mut Plan,
    groups: &[(&String, &Group)],
    own: i64,
    (catalog, journal): (&Catalog, &'j Journal),
    renderer: &Renderer,
) -> Result<Cow<'j, Journal>, RenderError> {
    let (capacity, partitions) = (room::capacity(&catalog.server), room::partitions(catalog));
    let of_group = |(name, _): &(&String, &Group)| room::to_drop(room::logs_of(journal, name), &partitions);
    let all = own + groups.iter().map(of_group).sum::<i64>();
    if all <= capacity / 2 {
        return Ok(Cow::Borrowed(journal));
    }
    let takes =
        format!("it takes about {all} locks, and the server has room for {capacity} (`max_locks_per_transaction`)");
    if !journal.functions.contains_key(FUNCTION) {
        plan.notes.push(format!(
            "{takes}; version {} of emaj is installed, which does it in one transaction only: run `emaj install` first",
            journal.version
        ));
        return Ok(Cow::Borrowed(journal));
    }
    let mut left = all;
    let mut steps = Vec::new();
    let mut gone = BTreeSet::new();
    for (name, group) in groups {
        for portion in divide(name, &mut left, capacity, &partitions, journal) {
            steps.push(step(name, &group.manifest, &portion, (catalog, journal), renderer)?);
            gone.extend(portion.relations);
        }
    }
    // (`capacity` is the least that there is: the server has room for its own processes too.)
    if left > capacity + capacity / 3 {
        plan.notes.push(format!(
            "{takes}; {left} of them are for what goes together in the end, what bindings read among it: \
             set `max_locks_per_transaction` to {} and restart the server first",
            room::enough(&catalog.server, left)
        ));
        return Ok(Cow::Borrowed(journal));
    }
    if steps.is_empty() {
        return Ok(Cow::Borrowed(journal));
    }
    plan.notes.push(format!(
        "{takes}: {} before the last; where one fails, those before it are done, and the same command goes on from there",
        count(steps.len(), "transaction")
    ));
    plan.steps.extend(steps);
    Ok(Cow::Owned(journal.without(&gone)))
}

/// Divides the logs of a group as long as what is `left` takes more than half of the room. A portion takes a quarter, or is one log.
fn divide(group: &str, left: &mut i64, capacity: i64, partitions: &Partitions, journal: &Journal) -> Vec<Portion> {
    // A worker would miss the logs that it reads: they go last.
    let read = journal.bindings.values().filter(|binding| binding.sink.is_some());
    let bound: BTreeSet<u32> = read.map(|binding| binding.oid).collect();
    let mut portions = Vec::new();
    let mut portion = Portion::default();
    for log in room::logs_of(journal, group).filter(|log| !bound.contains(&log.oid)) {
        if *left <= capacity / 2 {
            break;
        }
        let locks = room::to_drop([log], partitions);
        if portion.logs > 0 && portion.locks + locks > capacity / 4 {
            portions.push(std::mem::take(&mut portion));
        }
        portion.add(log, locks);
        *left -= locks;
    }
    portions.extend((portion.logs > 0).then_some(portion));
    // Sequences go no later than the first tables: a rollback of what is left would set them back behind rows that stay.
    if let Some(first) = portions.first_mut() {
        let relations = journal.relations.iter().filter(|relation| relation.group == group);
        let sequences = relations.filter(|relation| relation.kind == 'S');
        first.relations.extend(sequences.map(|relation| relation.id));
    }
    portions
}

impl Portion {
    fn add(&mut self, log: &KeptLog, locks: i64) {
        self.relations.insert(log.relation);
        self.logs += 1;
        self.locks += locks;
    }
}

/// Makes the step that takes a portion out of its group.
fn step(
    group: &str,
    manifest: &str,
    portion: &Portion,
    (catalog, journal): (&Catalog, &Journal),
    renderer: &Renderer,
) -> Result<Step, RenderError> {
    let logs = count(portion.logs, "log");
    let object = format!("{logs} of group {group}");
    let because = format!("uninstall of manifest `{manifest}`");
    let values = context! { group, relations => &portion.relations, logs };
    let sql = renderer.render("group/remove_portion", values)?;
    let relations = journal.relations.iter();
    let relations: Vec<&Relation> = relations
        .filter(|relation| portion.relations.contains(&relation.id))
        .collect();
    let mut step = Step::new(Phase::Removal, Action::Remove, object, because, sql)
        .holding(group)
        .effect("they and all marks of the group are lost; the tables stay")
        .destroying()
        .taking(portion.locks)
        .alone();
    step.tables = captured_by(&relations, catalog, journal, renderer);
    step.lock = (!step.tables.is_empty()).then_some(Lock::AccessExclusive);
    Ok(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Partition, Server, Table};
    use crate::journal::{Function, InstalledBinding};
    use crate::manifest::Manifest;
    use crate::names::QualifiedName;

    /// A server with room for 1000 locks.
    fn catalog() -> Catalog {
        let server = Server {
            max_locks_per_transaction: 100,
            max_connections: 10,
            ..Server::default()
        };
        Catalog {
            server,
            ..Catalog::default()
        }
    }

    /// A group of so many logs, of so many parts each.
    fn journal(logs: u32, parts: usize, ended: bool) -> Journal {
        let log = |oid: u32| KeptLog {
            relation: i64::from(oid),
            group: "g".to_owned(),
            oid,
            ended,
            parts: vec![format!("log_{oid}"); parts],
        };
        let group = Group {
            manifest: "m".to_owned(),
            ..Group::default()
        };
        Journal {
            groups: [("g".to_owned(), group)].into(),
            functions: [(FUNCTION.to_owned(), Function::default())].into(),
            kept: (1..=logs).map(log).collect(),
            ..Journal::default()
        }
    }

    /// Has a sink read the first of its tables.
    fn bound(tables: u32, mut journal: Journal) -> Journal {
        for oid in 1..=tables {
            let binding = InstalledBinding {
                oid,
                sink: Some("s".to_owned()),
                ..InstalledBinding::default()
            };
            journal.bindings.insert(format!("b{oid}"), binding);
        }
        journal
    }

    /// Returns what goes before the rest, and what is said.
    fn divided(catalog: &Catalog, journal: &Journal) -> (Vec<String>, String) {
        let mut planned = Plan::new(&Manifest::of_schema("emaj"), None, Vec::new());
        let groups: Vec<(&String, &Group)> = journal.groups.iter().collect();
        let renderer = Renderer::new("emaj");
        let after = plan(&mut planned, &groups, 0, (catalog, journal), &renderer).unwrap();
        let gone: usize = planned
            .steps
            .iter()
            .map(|step| step.object[..2].trim().parse::<usize>().unwrap())
            .sum();
        assert_eq!(after.kept.len(), journal.kept.len() - gone);
        let objects = planned.steps.into_iter().map(|step| step.object);
        (objects.collect(), planned.notes.join("\n"))
    }

    #[test]
    fn logs_go_before_until_what_is_left_fits() {
        let (objects, note) = divided(&catalog(), &journal(26, 1, false));
        assert_eq!((objects.len(), note.as_str()), (0, ""));
        let (objects, note) = divided(&catalog(), &journal(45, 1, false));
        assert_eq!(objects, ["13 logs of group g", "6 logs of group g"]);
        assert!(
            note.starts_with("it takes about 855 locks, and the server has room for 1000"),
            "{note}"
        );
        assert!(note.contains("2 transactions before the last"), "{note}");
    }

    /// They are dropped with the group as the others are, and each of their parts is a table.
    #[test]
    fn logs_of_what_has_left_the_group_are_counted_and_divided() {
        let (objects, _) = divided(&catalog(), &journal(15, 8, true));
        assert_eq!(objects, ["4 logs of group g", "3 logs of group g"]);
    }

    /// One of many partitions may take more than a portion is to take: it has one of its own.
    #[test]
    fn a_portion_takes_no_more_than_a_quarter_unless_one_log_does() {
        let mut catalog = catalog();
        let large = Table {
            oid: 3,
            partitions: vec![Partition::default(); 100],
            ..Table::default()
        };
        catalog.tables.insert(QualifiedName::default(), large);
        let (objects, _) = divided(&catalog, &journal(30, 1, false));
        assert_eq!(objects, ["2 logs of group g", "1 log of group g", "1 log of group g"]);
    }

    #[test]
    fn sequences_go_with_the_first_tables() {
        let mut journal = journal(45, 1, false);
        let sequence = Relation {
            id: 99,
            group: "g".to_owned(),
            kind: 'S',
            ..Relation::default()
        };
        journal.relations = [sequence].into_iter().collect();
        let mut left = 855;
        let portions = divide("g", &mut left, 1000, &Partitions::new(), &journal);
        let has: Vec<bool> = portions.iter().map(|portion| portion.relations.contains(&99)).collect();
        assert_eq!(has, [true, false]);
    }

    #[test]
    fn nothing_goes_before_where_the_end_would_not_fit_anyway() {
        let mut journal = bound(75, journal(80, 1, false));
        let (objects, note) = divided(&catalog(), &journal);
        assert!(objects.is_empty(), "{objects:?}");
        assert!(note.contains("1425 of them are for what goes together"), "{note}");
        assert!(
            note.contains("set `max_locks_per_transaction` to 286 and restart"),
            "{note}"
        );
        journal.bindings.retain(|_, binding| binding.oid <= 40);
        let (objects, _) = divided(&catalog(), &journal);
        assert_eq!(objects.len(), 4, "{objects:?}");
        // What all of it is bound to is not divided, and not said to be.
        let (objects, note) = divided(&catalog(), &bound(30, self::journal(30, 1, false)));
        assert_eq!((objects.len(), note.as_str()), (0, ""));
    }

    #[test]
    fn an_older_installation_is_to_be_brought_up_to_date_first() {
        let mut journal = journal(45, 1, false);
        journal.functions.clear();
        "0.0.9".clone_into(&mut journal.version);
        let (objects, note) = divided(&catalog(), &journal);
        assert!(objects.is_empty(), "{objects:?}");
        assert!(note.contains("version 0.0.9 of emaj is installed"), "{note}");
        assert!(note.contains("run `emaj install` first"), "{note}");
    }
}
