//! Which session rolls back which tables: a pure function from the tables, what ties them and what the server has room for.
//!
//! Tables tied by foreign keys or inheritance, directly or through tables that nobody captures, stay together: one lane never
//! waits for rows or constraints of another. The most work goes first, onto the lane that has the least. Called by `preview` and,
//! once the locks are held, by `parallel`, to see whether what was planned still fits.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::names::QualifiedName;

/// What is to be shared out.
#[derive(Debug, Clone, Default)]
pub(super) struct Work {
    /// The tables of the groups, in the one order in which everybody locks them.
    pub tables: Vec<TableWork>,
    /// Tables that belong together, of the whole database, by their oids.
    pub ties: Vec<(u32, u32)>,
    /// The server's `max_prepared_transactions`, and how many are free.
    pub prepared: i64,
    pub prepared_free: i64,
}

/// One table of a group.
#[derive(Debug, Clone)]
pub(super) struct TableWork {
    pub rel: i64,
    pub oid: u32,
    pub name: QualifiedName,
    /// Changes to undo.
    pub changes: i64,
    /// Whether triggers of the application fire while it goes back: they may write anywhere.
    pub keeps_triggers: bool,
}

/// Sessions and their tables; or one session, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lanes {
    pub lanes: Vec<Lane>,
    /// Why it is one session although more were wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

/// What one session does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Lane {
    pub tables: Vec<String>,
    /// Changes to undo.
    pub changes: i64,
    #[serde(skip)]
    pub(super) rels: Vec<i64>,
}

impl Lanes {
    /// Returns whether more than one session is worth while.
    pub fn several(&self) -> bool {
        self.lanes.len() > 1
    }

    /// Returns the number, from 1 on, of the lane that has the table.
    pub fn lane_of(&self, table: &str) -> Option<usize> {
        let has = |lane: &Lane| lane.tables.iter().any(|name| name == table);
        self.lanes.iter().position(has).map(|at| at + 1)
    }

    /// Returns whether every table of `work` is in a lane, and all that is tied to it in the same one.
    pub(super) fn fit(&self, work: &Work) -> bool {
        let lane = |rel: i64| self.lanes.iter().position(|lane| lane.rels.contains(&rel));
        bundles(work).iter().all(|bundle| {
            let lanes: Vec<_> = bundle.iter().map(|table| lane(table.rel)).collect();
            lanes.iter().all(|one| one.is_some() && *one == lanes[0])
        }) && !work.tables.iter().any(|table| table.keeps_triggers)
    }
}

/// Shares the tables out over at most `jobs` sessions.
pub(super) fn plan(work: &Work, jobs: usize) -> Lanes {
    match sessions(work, jobs) {
        Ok(number) => share(work, number),
        Err(because) => Lanes {
            because: Some(because),
            ..share(work, 1)
        },
    }
}

/// Returns how many sessions it can be, or why only one.
fn sessions(work: &Work, jobs: usize) -> Result<usize, String> {
    if jobs <= 1 {
        return Ok(1);
    }
    if work.prepared == 0 {
        return Err("the server's max_prepared_transactions is 0".to_owned());
    }
    if work.prepared_free < 2 {
        return Err(format!(
            "of the server's {} prepared transactions {} are free",
            work.prepared,
            work.prepared_free.max(0)
        ));
    }
    if let Some(table) = work.tables.iter().find(|table| table.keeps_triggers) {
        return Err(format!("triggers that are kept on {} may write anywhere", table.name));
    }
    let changed = work.tables.iter().filter(|table| table.changes > 0).count();
    let bundles = bundles(work);
    let busy = bundles
        .iter()
        .filter(|bundle| bundle.iter().any(|table| table.changes > 0))
        .count();
    match (changed, busy) {
        (0, _) => Err("there is nothing to undo".to_owned()),
        (1, _) => Err("only one table has changes to undo".to_owned()),
        (_, 1) => Err("all tables with changes to undo are tied by foreign keys or inheritance".to_owned()),
        _ => Ok(jobs
            .min(busy)
            .min(usize::try_from(work.prepared_free).unwrap_or(usize::MAX))),
    }
}

fn share(work: &Work, number: usize) -> Lanes {
    let mut bundles = bundles(work);
    let changes = |bundle: &[&TableWork]| bundle.iter().map(|table| table.changes).sum::<i64>();
    // Stable: equal ones keep the groups' order.
    bundles.sort_by_key(|bundle| std::cmp::Reverse(changes(bundle)));
    let mut lanes = vec![Lane::default(); number];
    for bundle in bundles {
        if let Some(lane) = lanes.iter_mut().min_by_key(|lane| lane.changes) {
            lane.changes += changes(&bundle);
            lane.tables.extend(bundle.iter().map(|table| table.name.to_string()));
            lane.rels.extend(bundle.iter().map(|table| table.rel));
        }
    }
    Lanes { lanes, because: None }
}

/// Returns the tables by what ties them, in the groups' order.
fn bundles(work: &Work) -> Vec<Vec<&TableWork>> {
    let mut above: BTreeMap<u32, u32> = BTreeMap::new();
    for (one, other) in &work.ties {
        let (one, other) = (top(&above, *one), top(&above, *other));
        if one != other {
            above.insert(one.max(other), one.min(other));
        }
    }
    let mut found: Vec<(u32, Vec<&TableWork>)> = Vec::new();
    for table in &work.tables {
        let top = top(&above, table.oid);
        match found.iter_mut().find(|(of, _)| *of == top) {
            Some((_, bundle)) => bundle.push(table),
            None => found.push((top, vec![table])),
        }
    }
    found.into_iter().map(|(_, bundle)| bundle).collect()
}

fn top(above: &BTreeMap<u32, u32>, mut oid: u32) -> u32 {
    while let Some(next) = above.get(&oid) {
        oid = *next;
    }
    oid
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables 1, 2, … with so many changes.
    fn work(changes: &[i64], ties: &[(u32, u32)]) -> Work {
        let table = |(at, changes): (usize, &i64)| TableWork {
            rel: at as i64 + 1,
            oid: at as u32 + 1,
            name: QualifiedName::new("s", format!("t{}", at + 1)),
            changes: *changes,
            keeps_triggers: false,
        };
        Work {
            tables: changes.iter().enumerate().map(table).collect(),
            ties: ties.to_vec(),
            prepared: 8,
            prepared_free: 8,
        }
    }

    fn rels(lanes: &Lanes) -> Vec<Vec<i64>> {
        lanes.lanes.iter().map(|lane| lane.rels.clone()).collect()
    }

    /// Changes of the tables, ties, how many jobs; the tables of each lane.
    type Case<'a> = (&'a [i64], &'a [(u32, u32)], usize, &'a [&'a [i64]]);

    #[test]
    fn the_most_work_goes_first_onto_the_lightest_lane() {
        let cases: &[Case<'_>] = &[
            (&[5, 5, 5, 5], &[], 2, &[&[1, 3], &[2, 4]]),
            (&[1, 9, 4, 5], &[], 2, &[&[2, 1], &[4, 3]]),
            (&[1, 9, 4, 5], &[], 1, &[&[2, 4, 3, 1]]),
            // Never more lanes than bundles that have work; what has none is locked in some lane all the same.
            (&[3, 2, 0, 0], &[], 9, &[&[1], &[2, 3, 4]]),
            // Tied directly, in a chain, and through a table (7) that is not in the group.
            (&[5, 5, 5, 5], &[(1, 3)], 4, &[&[1, 3], &[2], &[4]]),
            (&[5, 5, 5, 5], &[(1, 2), (2, 3)], 4, &[&[1, 2, 3], &[4]]),
            (&[5, 5, 5, 5], &[(4, 7), (7, 1)], 4, &[&[1, 4], &[2], &[3]]),
            // A table that refers to itself, and a cycle.
            (&[5, 5, 5], &[(1, 1), (2, 3), (3, 2)], 4, &[&[2, 3], &[1]]),
        ];
        for (changes, ties, jobs, expected) in cases {
            let work = work(changes, ties);
            let lanes = plan(&work, *jobs);
            assert_eq!(rels(&lanes), *expected, "{changes:?} {ties:?} {jobs}");
            assert_eq!(lanes.because, None);
            assert!(lanes.fit(&work));
        }
    }

    #[test]
    fn one_session_has_its_reason() {
        let mut kept = work(&[5, 5], &[]);
        kept.tables[1].keeps_triggers = true;
        let without = Work {
            prepared: 0,
            prepared_free: 0,
            ..work(&[5, 5], &[])
        };
        let full = Work {
            prepared_free: 1,
            ..work(&[5, 5], &[])
        };
        for (work, because) in [
            (without, "the server's max_prepared_transactions is 0"),
            (full, "of the server's 8 prepared transactions 1 are free"),
            (kept, "triggers that are kept on s.t2 may write anywhere"),
            (work(&[0, 0], &[]), "there is nothing to undo"),
            (work(&[0, 4], &[]), "only one table has changes to undo"),
            (
                work(&[3, 4, 0], &[(1, 2)]),
                "all tables with changes to undo are tied by foreign keys or inheritance",
            ),
        ] {
            let lanes = plan(&work, 4);
            assert_eq!((lanes.lanes.len(), lanes.because.as_deref()), (1, Some(because)));
            assert_eq!(lanes.lanes[0].rels.len(), work.tables.len());
        }
    }

    #[test]
    fn there_are_no_more_lanes_than_prepared_transactions() {
        let work = Work {
            prepared_free: 2,
            ..work(&[5, 5, 5, 5], &[])
        };
        assert_eq!(plan(&work, 4).lanes.len(), 2);
    }

    #[test]
    fn a_new_tie_or_a_new_table_no_longer_fits() {
        let planned = plan(&work(&[5, 5], &[]), 2);
        assert!(planned.fit(&work(&[5, 5], &[])));
        assert!(!planned.fit(&work(&[5, 5], &[(1, 2)])));
        assert!(!planned.fit(&work(&[5, 5, 0], &[])));
        assert!(planned.fit(&work(&[5], &[])));
    }
}
