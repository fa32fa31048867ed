//! Writes a batch: as a set when it can be, in halves when something in it is refused, until what is refused stands alone.
//!
//! Each part is a savepoint, so that what arrived stays. New rows go straight into the table by `copy`; where one was there, and for
//! changes, rows wait in a temporary table, those that are there already are taken out, and the rest is one `insert … on conflict`.

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::sync::Arc;

use postgres::Client;
use postgres::error::SqlState;

use super::fold::{Group, Item, Move, Row, groups, references, sets, transactions};
use super::lines::{lines, moved_json};
use super::plan::Plans;
use super::shape::Shape;
use super::spelling::{Spelling, can_be_a_key, keys, settle};
use crate::names::QualifiedName;
use crate::render::Renderer;
use crate::sink::fault::of_postgres_values;
use crate::sink::{Fault, Outcome, Verdict};

/// Whether new rows are copied straight into a table: not for a while after one of them was there.
#[derive(Debug, Default)]
struct Straight {
    pause: u32,
    next_pause: u32,
}

/// What is known about the tables that rows go to.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// Those that bindings of the sink make rows of.
    targets: Arc<[QualifiedName]>,
    shapes: HashMap<QualifiedName, Shape>,
    plans: Plans,
    straight: HashMap<QualifiedName, Straight>,
    lines: Vec<u8>,
}

/// When a set takes rows away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deletes {
    /// When what is written refers to them no more: what goes with them there (`on delete cascade`) is theirs.
    Last,
    /// Before others get what they have, unique values say.
    First,
}

/// A step of a set, for one table; it counts what was there, or had gone, already.
type Step = for<'i, 'a> fn(&mut Tables, &mut Client, &Group<'i, 'a>, &mut HashMap<usize, usize>) -> Result<(), Fault>;

/// Puts together what may need each other.
type GroupUp = for<'i, 'a> fn(&[&'i Item<'a>]) -> Vec<Vec<&'i Item<'a>>>;

/// The ways in which what was refused apart is tried once more.
const TOGETHER: [GroupUp; 3] = [|items| vec![items.to_vec()], transactions, references];

/// A row that was refused, so that later changes of it wait.
type Refused = HashSet<(QualifiedName, Arc<str>)>;

impl Tables {
    pub(super) fn new(targets: Arc<[QualifiedName]>) -> Tables {
        Tables {
            targets,
            ..Tables::default()
        }
    }

    /// Returns the table's columns and keys as they are now.
    pub(super) fn read(&self, client: &mut Client, table: &QualifiedName) -> Result<Shape, Fault> {
        Shape::read(client, table, &self.targets)
    }

    /// Returns the table's columns and keys.
    pub(super) fn shape(&mut self, client: &mut Client, table: &QualifiedName) -> Result<&Shape, Fault> {
        if !self.shapes.contains_key(table) {
            let shape = self.read(client, table)?;
            self.shapes.insert(table.clone(), shape);
        }
        Ok(&self.shapes[table])
    }

    /// Tells whether this table was altered since it was looked at.
    pub(super) fn is_altered(&self, client: &mut Client, table: &QualifiedName) -> Result<bool, Fault> {
        Shape::is_altered(client, self.shapes.get_key_value(table).into_iter(), &self.targets)
    }

    /// Tells whether a table that is known was altered since it was looked at.
    pub(super) fn are_altered(&self, client: &mut Client, items: &[Item<'_>]) -> Result<bool, Fault> {
        let touched: HashSet<&QualifiedName> = items.iter().map(|item| &item.change.table).collect();
        let shapes = self.shapes.iter().filter(|(table, _)| touched.contains(table));
        Shape::is_altered(client, shapes, &self.targets)
    }

    /// Forgets all tables; outside a transaction.
    pub(super) fn forget(&mut self, client: &mut Client) -> Result<(), Fault> {
        *self = Tables::new(Arc::clone(&self.targets));
        client.batch_execute("discard temp").map_err(Fault::from)
    }

    /// Prepares what the items need; outside the transaction, so that it stays.
    pub(super) fn prepare(
        &mut self,
        client: &mut Client,
        renderer: &Renderer,
        items: &[Item<'_>],
    ) -> Result<(), Fault> {
        for item in items {
            if !self.plans.are_there_for(item) {
                let table = &item.change.table;
                self.shape(client, table)?;
                self.plans.prepare(client, renderer, &self.shapes[table], item)?;
            }
        }
        Ok(())
    }

    /// Carries out `items` inside the open transaction.
    ///
    /// # Errors
    /// Only what concerns the whole place; the transaction is broken then.
    pub(super) fn write(
        &mut self,
        client: &mut Client,
        items: &mut [Item<'_>],
        outcomes: &mut [Option<Outcome>],
    ) -> Result<(), Fault> {
        for plan in &mut self.plans.upserts {
            plan.used = false;
        }
        for keys in &self.plans.keys {
            if let Some(same) = &keys.same {
                settle(client, items, &keys.table, &keys.key, &keys.spellings, same)?;
            }
        }
        let all: Vec<&Item<'_>> = items.iter().collect();
        self.part(client, &all, outcomes, &mut Refused::new())?;
        self.together(client, &all, outcomes)
    }

    /// Tries together what was refused apart and may be taken another time: rows that need each other (each refers to the other one, or gets the unique value
    /// that the other one has) are refused as long as one of them comes alone. First all of them, then those of one transaction, then those that
    /// name each other's keys: so what is refused for its own sake keeps none of the others away.
    fn together(
        &mut self,
        client: &mut Client,
        items: &[&Item<'_>],
        outcomes: &mut [Option<Outcome>],
    ) -> Result<(), Fault> {
        for group_up in TOGETHER {
            let fails = |item: &&Item<'_>, verdict| matches!(&outcomes[item.at], Some(Outcome::Failed(fault)) if fault.verdict == verdict);
            let left: Vec<&Item<'_>> = items
                .iter()
                .copied()
                .filter(|item| fails(item, Verdict::Later))
                .collect();
            let mut refused: Refused = items
                .iter()
                .filter(|item| fails(item, Verdict::Never))
                .flat_map(|item| item.keys())
                .collect();
            if left.len() < 2 {
                return Ok(());
            }
            let mut has_arrived = false;
            for group in group_up(&left) {
                let before: Vec<Option<Outcome>> = group.iter().map(|item| outcomes[item.at].clone()).collect();
                // What stands alone was tried alone; it may have waited for something that has arrived now.
                let is_worth_it = group.len() > 1 || has_arrived;
                let tried = unblocked(&group, outcomes, &mut refused);
                let is_taken =
                    is_worth_it && !tried.is_empty() && self.last_attempt(client, &tried, outcomes)?.is_none();
                has_arrived |= is_taken;
                if !is_taken {
                    refused.extend(tried.iter().flat_map(|item| item.keys()));
                    group
                        .iter()
                        .zip(before)
                        .for_each(|(item, before)| outcomes[item.at] = before);
                }
            }
        }
        Ok(())
    }

    fn part(
        &mut self,
        client: &mut Client,
        items: &[&Item<'_>],
        outcomes: &mut [Option<Outcome>],
        refused: &mut Refused,
    ) -> Result<(), Fault> {
        let tried = unblocked(items, outcomes, refused);
        if tried.is_empty() {
            return Ok(());
        }
        if let [item] = tried.as_slice() {
            let Some(mut fault) = self.last_attempt(client, &tried, outcomes)? else {
                return Ok(());
            };
            if fault.verdict == Verdict::Never && self.was_never_there(client, item)? {
                match self.last_attempt(client, &[&item.without_old()], outcomes)? {
                    None => return Ok(()),
                    Some(other) => fault = other,
                }
            }
            let fault = self.of_heir(client, item, outcomes)?.unwrap_or(fault);
            outcomes[item.at] = Some(Outcome::Failed(fault));
            refused.extend(item.keys());
            return Ok(());
        }
        if self.attempt(client, &tried, Deletes::Last, outcomes)?.is_none() {
            return Ok(());
        }
        let (first, second) = tried.split_at(tried.len() / 2);
        self.part(client, first, outcomes, refused)?;
        self.part(client, second, outcomes, refused)
    }

    /// Tells whether the row cannot have been there: what was its key is none there (a text that is no number, say). Of other types that is not said: a label of an
    /// enum, or a name, may have been known there once.
    fn was_never_there(&self, client: &mut Client, item: &Item<'_>) -> Result<bool, Fault> {
        let (table, key) = (&item.change.table, &item.change.key);
        let keys = self.plans.keys_of(table, key);
        let keys = keys.filter(|keys| keys.spellings.iter().all(|spelling| *spelling != Spelling::Free));
        match (&item.delete, keys.and_then(|keys| keys.same.as_ref())) {
            (Some(row), Some(same)) => Ok(!can_be_a_key(client, same, row, key)?),
            _ => Ok(false),
        }
    }

    /// Returns why a delivery that is refused waits: what is refused is what is made of another row that has its key by now. That may pass for this row: the other
    /// one is corrected, or goes, or gives the key up too. Writes nothing.
    fn of_heir(
        &mut self,
        client: &mut Client,
        item: &Item<'_>,
        outcomes: &mut [Option<Outcome>],
    ) -> Result<Option<Fault>, Fault> {
        let Some(heir) = item.only_heir() else {
            return Ok(None);
        };
        client.batch_execute("savepoint emaj_heir")?;
        let fault = self.attempt(client, &[&heir], Deletes::Last, outcomes)?;
        client.batch_execute("rollback to savepoint emaj_heir; release savepoint emaj_heir")?;
        let fault = fault.filter(|fault| fault.verdict == Verdict::Never);
        Ok(fault.map(|fault| {
            Fault::later(format!(
                "another row has this key by now, and what is made of that one is refused: {}",
                fault.reason
            ))
        }))
    }

    /// Attempts what is not split any further. A row that could not be moved to its key may stand in its own way: it has the unique values that
    /// the row with the new key is to get. (Only then: what goes first takes along what refers to it, and what only this database has of it.)
    fn last_attempt(
        &mut self,
        client: &mut Client,
        items: &[&Item<'_>],
        outcomes: &mut [Option<Outcome>],
    ) -> Result<Option<Fault>, Fault> {
        let fault = self.attempt(client, items, Deletes::Last, outcomes)?;
        let may_stand_in_its_way = |fault: &Fault| fault.is_ambiguous && items.iter().any(|item| item.is_rekeyed());
        if fault.as_ref().is_some_and(may_stand_in_its_way)
            && self.attempt(client, items, Deletes::First, outcomes)?.is_none()
        {
            return Ok(None);
        }
        Ok(fault)
    }

    /// Writes all of these or none: why not is what it returns.
    fn attempt(
        &mut self,
        client: &mut Client,
        items: &[&Item<'_>],
        deletes: Deletes,
        outcomes: &mut [Option<Outcome>],
    ) -> Result<Option<Fault>, Fault> {
        client.batch_execute("savepoint emaj_part")?;
        let mut sets = sets(items).into_iter();
        let fault = match sets.try_for_each(|set| self.set(client, &set, deletes, outcomes)) {
            // Deferred constraints have their say before the next part. What they say is about the set: with others it may be taken.
            Ok(()) => match client.batch_execute(
                "set constraints all immediate; set constraints all deferred; release savepoint emaj_part",
            ) {
                Ok(()) => return Ok(None),
                Err(error) => match Fault::from(error) {
                    fault if fault.verdict == Verdict::Never => Fault::later(fault),
                    fault => fault,
                },
            },
            Err(fault) => fault,
        };
        if fault.verdict == Verdict::Down {
            return Err(fault);
        }
        client.batch_execute("rollback to savepoint emaj_part; release savepoint emaj_part")?;
        Ok(Some(fault))
    }

    /// Writes a set.
    fn set(
        &mut self,
        client: &mut Client,
        items: &[&Item<'_>],
        deletes: Deletes,
        outcomes: &mut [Option<Outcome>],
    ) -> Result<(), Fault> {
        let mut idle: HashMap<usize, usize> = HashMap::new();
        let mut moved: HashSet<usize> = HashSet::new();
        let groups = groups(items);
        for group in &groups {
            for round in &group.moves {
                self.move_rows(client, group, round, &mut moved)?;
            }
        }
        let steps: [Step; 2] = match deletes {
            Deletes::Last => [Self::upsert, Self::delete],
            Deletes::First => [Self::delete, Self::upsert],
        };
        for step in steps {
            for group in &groups {
                step(self, client, group, &mut idle)?;
            }
        }
        for item in items {
            let parts = item.delete.iter().chain(&item.upsert).count();
            let nothing = idle.get(&item.at).copied().unwrap_or(0) == parts && !moved.contains(&item.at);
            outcomes[item.at] = Some(if nothing { Outcome::Unchanged } else { Outcome::Written });
        }
        Ok(())
    }

    /// Gives rows their new keys where nobody has them yet. What cannot be moved is deleted and written like any other row, and
    /// of what was moved nothing is left to be done.
    fn move_rows(
        &mut self,
        client: &mut Client,
        group: &Group<'_, '_>,
        round: &[Move<'_, '_>],
        moved: &mut HashSet<usize>,
    ) -> Result<(), Fault> {
        for rows in round.chunk_by(|a, b| same_columns(a.to, b.to)) {
            let plan = &self.plans.upserts[self.plans.upsert(group.table, group.key, rows[0].to)?];
            let Some(moves) = &plan.moves else { continue };
            let mut json = String::with_capacity(rows.len() * 128);
            for row in rows {
                json.push(if json.is_empty() { '[' } else { ',' });
                json.push_str(&moved_json(plan, row, group.key)?);
            }
            json.push(']');
            let done = client.query(moves, &[&json]).map_err(of_postgres_values)?;
            moved.extend(done.iter().filter_map(|row| usize::try_from(row.get::<_, i32>(0)).ok()));
        }
        Ok(())
    }

    fn delete(
        &mut self,
        client: &mut Client,
        group: &Group<'_, '_>,
        idle: &mut HashMap<usize, usize>,
    ) -> Result<(), Fault> {
        if group.deletes.is_empty() {
            return Ok(());
        }
        let delete = self.plans.delete(group.table, group.key)?;
        let json = keys(group.deletes.iter().map(|(at, row)| (*at, *row)), group.key);
        let rows = client.query(delete, &[&json]).map_err(of_postgres_values)?;
        let gone: HashSet<i32> = rows.iter().map(|row| row.get(0)).collect();
        for (at, _) in &group.deletes {
            if !i32::try_from(*at).is_ok_and(|at| gone.contains(&at)) {
                *idle.entry(*at).or_default() += 1;
            }
        }
        Ok(())
    }

    fn upsert(
        &mut self,
        client: &mut Client,
        group: &Group<'_, '_>,
        idle: &mut HashMap<usize, usize>,
    ) -> Result<(), Fault> {
        let takes_copy = self.shapes.get(group.table).is_some_and(|shape| !shape.is_secured);
        for rows in group.upserts.chunk_by(|a, b| same_columns(a.1, b.1)) {
            let plan = self.plans.upsert(group.table, group.key, rows[0].1)?;
            if group.all_new && takes_copy && self.copy_straight(client, plan, rows)? {
                continue;
            }
            for at in self.through_stage(client, plan, rows)? {
                *idle.entry(at).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Copies new rows into the table; `false`: one was there, and nothing is done.
    fn copy_straight(&mut self, client: &mut Client, plan: usize, rows: &[(usize, &Row<'_>)]) -> Result<bool, Fault> {
        let plan = &self.plans.upserts[plan];
        let straight = self.straight.entry(plan.table.clone()).or_default();
        if straight.pause > 0 {
            straight.pause -= 1;
            return Ok(false);
        }
        lines(&mut self.lines, plan, rows, false)?;
        client.batch_execute("savepoint emaj_straight")?;
        let Err(error) = copy(client, &plan.copy, &self.lines) else {
            client.batch_execute("release savepoint emaj_straight")?;
            straight.next_pause = 0;
            return Ok(true);
        };
        // A row was there.
        if error.code() != Some(&SqlState::UNIQUE_VIOLATION) {
            return Err(error.into());
        }
        client.batch_execute("rollback to savepoint emaj_straight; release savepoint emaj_straight")?;
        straight.next_pause = (straight.next_pause * 2).clamp(1, 1024);
        straight.pause = straight.next_pause;
        Ok(false)
    }

    /// Inserts or updates rows; returns the places of those that were there already.
    fn through_stage(
        &mut self,
        client: &mut Client,
        plan: usize,
        rows: &[(usize, &Row<'_>)],
    ) -> Result<Vec<usize>, Fault> {
        let plan = &mut self.plans.upserts[plan];
        lines(&mut self.lines, plan, rows, true)?;
        if std::mem::replace(&mut plan.used, true) {
            client.batch_execute(&plan.empty)?;
        }
        copy(client, &plan.copy_staged, &self.lines)?;
        let there = client.query(&plan.unchanged, &[])?;
        if there.len() < rows.len() {
            if let Some(fixed) = &plan.fixed
                && client.query_one(&fixed.is_other, &[])?.get(0)
            {
                return Err(fixed.fault(&plan.table));
            }
            if let Some(respell) = &plan.respell
                && client.query_one(&respell.is_needed, &[])?.get(0)
            {
                client.batch_execute(&respell.sql)?;
            }
            client.execute(&plan.write, &[])?;
        }
        Ok(there
            .iter()
            .filter_map(|row| usize::try_from(row.get::<_, i32>(0)).ok())
            .collect())
    }
}

/// Leaves out what waits behind a refused change of its row, and says so of it.
fn unblocked<'i, 'a>(
    items: &[&'i Item<'a>],
    outcomes: &mut [Option<Outcome>],
    refused: &mut Refused,
) -> Vec<&'i Item<'a>> {
    let mut left = Vec::with_capacity(items.len());
    for item in items {
        if !refused.is_empty() && item.keys().any(|key| refused.contains(&key)) {
            let fault = Fault::later("an earlier change of this row was refused");
            outcomes[item.at] = Some(Outcome::Failed(fault));
            refused.extend(item.keys());
        } else {
            left.push(*item);
        }
    }
    left
}

fn same_columns(a: &Row<'_>, b: &Row<'_>) -> bool {
    a.members.len() == b.members.len() && a.members.iter().zip(&b.members).all(|(a, b)| a.0 == b.0)
}

fn copy(client: &mut Client, sql: &str, lines: &[u8]) -> Result<(), postgres::Error> {
    let mut writer = client.copy_in(sql)?;
    // A failure to write comes again, with its cause, from `finish`.
    _ = writer.write_all(lines);
    writer.finish().map(|_| ())
}
