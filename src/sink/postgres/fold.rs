//! Makes of a batch in its order what can be written in sets: of each row only its last state, table by table.
//!
//! What one transaction did is taken together: the rows that leave their keys do so before others take them, so that rows may exchange
//! their keys. A row that got another key is followed to it, over several changes: it is to be moved there, with what else the
//! other database has of it.
//!
//! Pure. A row is told by its key, a text; that two texts are one key (`1.0`, `1.00`) `spelling` has found out before.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::text::{Member, members};
use crate::names::QualifiedName;
use crate::sink::{Action, Delivery, Fault, RowChange};

/// A delivery of a batch, read as far as its keys.
#[derive(Debug, Clone)]
pub(super) struct Item<'a> {
    /// Its place in the batch.
    pub(super) at: usize,
    transaction: Option<&'a str>,
    pub(super) change: &'a RowChange,
    pub(super) delete: Option<Row<'a>>,
    /// What stands at the key of `delete` instead.
    pub(super) heir: Option<Row<'a>>,
    pub(super) upsert: Option<Row<'a>>,
    /// As far as this database knows nobody had this row before: it was inserted, or is sent by `init`. (There it may be all the same.)
    pub(super) is_new: bool,
}

/// One row: its members, and its key.
#[derive(Debug, Clone)]
pub(super) struct Row<'a> {
    /// The key's values as a JSON array: its own, or those of another row of the batch that is the same in the other database.
    pub(super) key: Arc<str>,
    pub(super) members: Vec<Member<'a>>,
    /// It was set aside before: what is wrong with it is told of it alone.
    pub(super) is_retried: bool,
}

impl<'a> Item<'a> {
    pub(super) fn read(at: usize, delivery: &'a Delivery) -> Result<Item<'a>, Fault> {
        let Action::Row(change) = &delivery.action else {
            return Err(Fault::never(
                "a database takes rows only; this delivery is of another kind",
            ));
        };
        let row = |json: &'a Option<Arc<str>>| {
            let row = json
                .as_deref()
                .map(|json| Row::read(json, &change.key, delivery.retried));
            row.transpose()
        };
        Ok(Item {
            at,
            transaction: delivery.offset.transaction(),
            change,
            delete: row(&change.delete)?,
            heir: row(&change.heir)?,
            upsert: row(&change.upsert)?,
            is_new: delivery
                .event
                .is_none_or(|event| event == crate::manifest::Event::Insert),
        })
    }

    /// Returns what it does for the row that has the key of `delete` by now, and no more.
    pub(super) fn only_heir(&self) -> Option<Item<'a>> {
        self.heir.is_some().then(|| Item {
            delete: None,
            upsert: None,
            ..self.clone()
        })
    }

    /// Returns what it does beside what it does at the key that its row had.
    pub(super) fn without_old(&self) -> Item<'a> {
        Item {
            delete: None,
            heir: None,
            ..self.clone()
        }
    }

    /// Tells whether its row gets another key.
    pub(super) fn is_rekeyed(&self) -> bool {
        self.delete.is_some() && self.upsert.is_some()
    }

    /// Returns the rows it speaks of.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row<'a>> {
        [&self.delete, &self.heir, &self.upsert].into_iter().flatten()
    }

    /// Returns the keys it touches.
    pub(super) fn keys(&self) -> impl Iterator<Item = (QualifiedName, Arc<str>)> + '_ {
        self.rows().map(|row| (self.change.table.clone(), row.key.clone()))
    }
}

impl<'a> Row<'a> {
    fn read(json: &'a str, key: &[String], is_retried: bool) -> Result<Row<'a>, Fault> {
        let members = members(json).map_err(|_| Fault::never("the row is no JSON object"))?;
        let key = key_text(&members, key)?;
        Ok(Row {
            key,
            members,
            is_retried,
        })
    }

    /// Returns what follows from what is wrong with it: of a row that was set aside before it is said of that row alone.
    pub(super) fn softened(&self, fault: Fault) -> Fault {
        match self.is_retried {
            true => Fault::never(fault),
            false => fault,
        }
    }
}

/// Returns the values of the key's columns as a JSON array.
pub(super) fn key_text(members: &[Member<'_>], key: &[String]) -> Result<Arc<str>, Fault> {
    let mut text = String::with_capacity(24);
    for (at, column) in key.iter().enumerate() {
        let value = members
            .iter()
            .find(|(name, _)| name == column)
            .map(|(_, value)| value.get());
        match value {
            Some(value) if value != "null" => {
                text.push(if at == 0 { '[' } else { ',' });
                text.push_str(value);
            }
            Some(_) => return Err(Fault::never(format!("the key's column `{column}` is null"))),
            None => {
                return Err(Fault::never(format!(
                    "the row has no value for the key's column `{column}`"
                )));
            }
        }
    }
    text.push(']');
    Ok(text.into())
}

/// What is to be done to one table whose rows are known by one key: each row once, with whatever columns it has.
#[derive(Debug)]
pub(super) struct Group<'i, 'a> {
    pub(super) table: &'a QualifiedName,
    pub(super) key: &'a [String],
    /// Rows that go to another key if nobody is there, in rounds: those of a round make room for the next one.
    pub(super) moves: Vec<Vec<Move<'i, 'a>>>,
    /// The deleted row, and its delivery's place.
    pub(super) deletes: Vec<(usize, &'i Row<'a>)>,
    pub(super) upserts: Vec<(usize, &'i Row<'a>)>,
    /// All of them are new, and none is deleted.
    pub(super) all_new: bool,
}

/// A row that is at one key and is to be at another one. It is among the upserts too, and its old key among the deletes: for the case that it cannot
/// be moved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Move<'i, 'a> {
    pub(super) at: usize,
    pub(super) from: &'i Row<'a>,
    pub(super) to: &'i Row<'a>,
}

/// What is at a key in the end.
enum Last<'i, 'a> {
    Gone(&'i Row<'a>),
    There {
        row: &'i Row<'a>,
        /// The row as it was told at the key that it had before the batch, which is its own where it was not seen to move; `None`: it had none,
        /// the row that was there has gone.
        from: Option<&'i Row<'a>>,
    },
}

struct Table<'i, 'a> {
    change: &'a RowChange,
    /// By key, in the order in which they come first.
    order: Vec<(usize, Last<'i, 'a>)>,
    by_key: HashMap<&'i str, usize>,
    /// Keys that rows gave up and that are other rows' now, and keys to which a row came in this batch: what is at one of the first and not of the second
    /// is that other row already, for all that is known here.
    taken: HashSet<&'i str>,
    came: HashSet<&'i str>,
    all_new: bool,
}

impl<'i, 'a> Table<'i, 'a> {
    /// Takes the row away from its key; returns where it was before the batch, if it was anywhere.
    fn take(&mut self, at: usize, row: &'i Row<'a>) -> Option<&'i Row<'a>> {
        let gone = Last::Gone(row);
        let Some(place) = self.by_key.get(&*row.key) else {
            self.note(at, row, gone);
            return Some(row);
        };
        self.all_new = false;
        match std::mem::replace(&mut self.order[*place], (at, gone)).1 {
            Last::Gone(_) => None,
            Last::There { from, .. } => from,
        }
    }

    /// Puts a row to its key: the one that was taken away from another, or the one that is there already.
    fn put(&mut self, at: usize, row: &'i Row<'a>, moved: Option<Option<&'i Row<'a>>>) {
        let from = moved.unwrap_or_else(|| match self.by_key.get(&*row.key) {
            None => Some(row),
            Some(place) => match self.order[*place].1 {
                Last::Gone(_) => None,
                Last::There { from, .. } => from,
            },
        });
        self.note(at, row, Last::There { row, from });
    }

    fn note(&mut self, at: usize, row: &'i Row<'a>, last: Last<'i, 'a>) {
        match self.by_key.get(&*row.key) {
            Some(place) => {
                self.all_new = false;
                self.order[*place] = (at, last);
            }
            None => {
                self.by_key.insert(&row.key, self.order.len());
                self.order.push((at, last));
            }
        }
    }

    fn group(self) -> Group<'i, 'a> {
        let (mut deletes, mut upserts, mut moves) = (Vec::new(), Vec::new(), Vec::new());
        let is_anothers = |key: &str| self.taken.contains(key) && !self.came.contains(key);
        for (at, last) in self.order {
            match last {
                Last::Gone(row) => deletes.push((at, row)),
                Last::There { row, from } => {
                    upserts.push((at, row));
                    let from = from.filter(|from| from.key != row.key && !is_anothers(&from.key));
                    moves.extend(from.map(|from| Move { at, from, to: row }));
                }
            }
        }
        Group {
            table: &self.change.table,
            key: &self.change.key,
            moves: rounds(moves),
            deletes,
            upserts,
            all_new: self.all_new,
        }
    }
}

/// Puts moves in an order in which nobody goes where somebody else still is. Rows that go round in a circle stay where they are: they are
/// written over. (No two of them go to one key, and no two were at one.)
fn rounds<'i, 'a>(moves: Vec<Move<'i, 'a>>) -> Vec<Vec<Move<'i, 'a>>> {
    let left: HashSet<&str> = moves.iter().map(|row| &*row.from.key).collect();
    let waiting: HashMap<&str, usize> = (moves.iter().enumerate()).map(|(at, row)| (&*row.to.key, at)).collect();
    // From each that nobody is in the way of to the one that waits for its place, and so on.
    let mut round_of = vec![None; moves.len()];
    let mut number = 0;
    for (at, _) in moves.iter().enumerate().filter(|(_, row)| !left.contains(&*row.to.key)) {
        let (mut next, mut round) = (Some(at), 0);
        while let Some(at) = next {
            round_of[at] = Some(round);
            next = waiting.get(&*moves[at].from.key).copied();
            round += 1;
        }
        number = number.max(round);
    }
    let mut rounds = vec![Vec::new(); number];
    for (row, round) in moves.into_iter().zip(round_of) {
        round.into_iter().for_each(|round| rounds[round].push(row));
    }
    rounds
}

/// Puts the deliveries of one transaction together, where the last of them stands: what another transaction did to the same rows it did before the first or
/// after the last of them.
pub(super) fn transactions<'i, 'a>(items: &[&'i Item<'a>]) -> Vec<Vec<&'i Item<'a>>> {
    let mut all: Vec<Vec<&'i Item<'a>>> = Vec::with_capacity(items.len());
    let mut known: HashMap<&str, usize> = HashMap::new();
    for item in items {
        let earlier = item
            .transaction
            .and_then(|transaction| known.insert(transaction, all.len()));
        let mut together = earlier.map_or_else(Vec::new, |earlier| std::mem::take(&mut all[earlier]));
        together.push(*item);
        all.push(together);
    }
    all
}

/// Puts the deliveries together of which one has a value of another one's key, directly or by way of others: they may refer to each other.
pub(super) fn references<'i, 'a>(items: &[&'i Item<'a>]) -> Vec<Vec<&'i Item<'a>>> {
    let mut first: Vec<usize> = (0..items.len()).collect();
    let mut holders: HashMap<&str, usize> = HashMap::new();
    for is_key in [true, false] {
        for (at, item) in items.iter().enumerate() {
            let is_wanted = |name: &str| item.change.key.iter().any(|key| key == name) == is_key;
            let members = item.rows().flat_map(|row| &row.members);
            for (_, value) in members.filter(|(name, _)| is_wanted(name)) {
                let holder = match is_key {
                    true => Some(*holders.entry(value.get()).or_insert(at)),
                    false => holders.get(value.get()).copied(),
                };
                if let Some(holder) = holder {
                    let (one, other) = (first_of(&mut first, holder), first_of(&mut first, at));
                    first[one.max(other)] = one.min(other);
                }
            }
        }
    }
    let mut groups: BTreeMap<usize, Vec<&'i Item<'a>>> = BTreeMap::new();
    for (at, item) in items.iter().enumerate() {
        groups.entry(first_of(&mut first, at)).or_default().push(item);
    }
    groups.into_values().collect()
}

/// The first of those that are together with the one at `at`: each knows an earlier one, the first knows itself.
fn first_of(first: &mut [usize], mut at: usize) -> usize {
    while first[at] != at {
        first[at] = first[first[at]];
        at = first[at];
    }
    at
}

/// Splits deliveries into sets that are written one after the other. A set ends before a transaction in which a row gives up a key to another one, if
/// somebody wrote a row with that key earlier in the set: that may be the other one's, and stays. And before one in which a row gets the key of a row that
/// was deleted earlier in the set: it is moved there when that one has gone.
pub(super) fn sets<'i, 'a>(items: &[&'i Item<'a>]) -> Vec<Vec<&'i Item<'a>>> {
    let place = |item: &'i Item<'a>, row: &'i Row<'a>| (&item.change.table, &item.change.key, &*row.key);
    let mut sets: Vec<Vec<&'i Item<'a>>> = vec![Vec::with_capacity(items.len())];
    let (mut written, mut gone) = (HashSet::new(), HashSet::new());
    for transaction in transactions(items) {
        let mut taken = transaction.iter().filter(|item| item.change.taken);
        let mut rekeyed = transaction.iter().filter(|item| item.is_rekeyed());
        if taken.any(|item| item.delete.iter().any(|row| written.contains(&place(item, row))))
            || rekeyed.any(|item| item.upsert.iter().any(|row| gone.contains(&place(item, row))))
        {
            sets.push(Vec::new());
            written.clear();
            gone.clear();
        }
        let deleted = transaction.iter().filter(|item| !item.is_rekeyed());
        gone.extend(deleted.flat_map(|item| item.delete.iter().map(|row| place(item, row))));
        written.extend(transaction.iter().flat_map(|item| {
            let rows = [&item.heir, &item.upsert].into_iter().flatten();
            rows.map(|row| place(item, row))
        }));
        sets.last_mut().into_iter().for_each(|set| set.extend(&transaction));
    }
    sets.iter_mut().for_each(|set| set.sort_by_key(|item| item.at));
    sets
}

/// Makes one group of each table and key, in the order in which they come first.
pub(super) fn groups<'i, 'a>(items: &[&'i Item<'a>]) -> Vec<Group<'i, 'a>> {
    let mut tables: Vec<Table<'i, 'a>> = Vec::new();
    let place_of = |tables: &mut Vec<Table<'i, 'a>>, item: &'i Item<'a>| {
        let same =
            |table: &Table<'_, '_>| table.change.table == item.change.table && table.change.key == item.change.key;
        tables.iter().position(same).unwrap_or_else(|| {
            tables.push(Table {
                change: item.change,
                order: Vec::with_capacity(items.len()),
                by_key: HashMap::with_capacity(items.len()),
                taken: HashSet::new(),
                came: HashSet::new(),
                all_new: true,
            });
            tables.len() - 1
        })
    };
    // In the order of the deliveries.
    for item in items {
        let at = place_of(&mut tables, item);
        tables[at].all_new &= item.is_new && item.delete.is_none();
    }
    for transaction in transactions(items) {
        let mut put = Vec::with_capacity(transaction.len());
        for item in transaction {
            let at = place_of(&mut tables, item);
            if let Some(row) = item.delete.as_ref().filter(|_| item.change.taken) {
                tables[at].taken.insert(&row.key);
            }
            if let Some(row) = item.upsert.as_ref().filter(|_| item.is_new || item.delete.is_some()) {
                tables[at].came.insert(&row.key);
            }
            let taken = item.delete.as_ref().map(|row| tables[at].take(item.at, row));
            put.extend(item.heir.as_ref().map(|row| (at, item.at, row, None)));
            put.extend(item.upsert.as_ref().map(|row| (at, item.at, row, taken)));
        }
        for (table, at, row, taken) in put {
            tables[table].put(at, row, taken);
        }
    }
    tables.into_iter().map(Table::group).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sink::Offset;

    /// `7:a>b` changes the key a to b in transaction 7, `7:a>` deletes, `7:>b` writes; with `a!` another row has that key by now and becomes that, with `a^`
    /// one of another binding;
    /// `7:=>b` writes one that was there.
    fn delivery(at: usize, text: &str) -> Delivery {
        let (transaction, keys) = text.split_once(':').unwrap();
        let (old, new) = keys.split_once('>').unwrap();
        let (old, is_update) = (old.trim_start_matches('='), old.starts_with('='));
        let (old, taken, is_left) = (old.trim_end_matches(['!', '^']), old.ends_with('!'), old.ends_with('^'));
        let row = |key: &str| (!key.is_empty()).then(|| Arc::from(format!(r#"{{"id":"{key}","v":{at}}}"#)));
        Delivery {
            id: String::new(),
            binding: "b".into(),
            offset: Offset(format!("1/{at:02}/3/{transaction}/[1]/0/b")),
            time: String::new(),
            replay: None,
            retried: false,
            event: is_update.then_some(crate::manifest::Event::Update),
            action: Action::Row(RowChange {
                table: QualifiedName::new("public", "t"),
                key: vec!["id".into()],
                delete: row(old),
                taken,
                heir: row(old).filter(|_| taken || is_left),
                upsert: row(new),
            }),
        }
    }

    /// What is done, set by set.
    fn folded(text: &str) -> String {
        let deliveries: Vec<Delivery> = text.split(' ').enumerate().map(|(at, one)| delivery(at, one)).collect();
        let items: Vec<Item<'_>> = deliveries
            .iter()
            .enumerate()
            .map(|(at, delivery)| Item::read(at, delivery).unwrap())
            .collect();
        let sets = sets(&items.iter().collect::<Vec<_>>());
        sets.iter().map(|set| shown(set)).collect::<Vec<_>>().join(" | ")
    }

    fn shown(set: &[&Item<'_>]) -> String {
        let groups = groups(set);
        let [group] = groups.as_slice() else {
            panic!("one table")
        };
        let key = |row: &Row<'_>| row.key.chars().filter(char::is_ascii_alphabetic).collect::<String>();
        let rounds: Vec<String> = group
            .moves
            .iter()
            .map(|round| {
                round
                    .iter()
                    .map(|one| format!("{}>{}", key(one.from), key(one.to)))
                    .collect::<Vec<_>>()
                    .join(",")
            })
            .collect();
        let list = |rows: &[(usize, &Row<'_>)]| {
            let mut all: Vec<String> = rows.iter().map(|(at, row)| format!("{}{at}", key(row))).collect();
            all.sort();
            all.join(",")
        };
        format!(
            "{} -{} +{}",
            rounds.join(";"),
            list(&group.deletes),
            list(&group.upserts)
        )
    }

    /// As [`rounds`] says it: in each round go all that nobody is in the way of.
    fn rounds_one_by_one<'i, 'a>(mut moves: Vec<Move<'i, 'a>>) -> Vec<Vec<Move<'i, 'a>>> {
        let mut rounds = Vec::new();
        while !moves.is_empty() {
            let left: HashSet<&str> = moves.iter().map(|row| &*row.from.key).collect();
            let (free, waiting): (Vec<_>, Vec<_>) = moves.iter().partition(|row| !left.contains(&*row.to.key));
            if free.is_empty() {
                break;
            }
            rounds.push(free);
            moves = waiting;
        }
        rounds
    }

    fn rows_with_keys(keys: usize) -> Vec<Row<'static>> {
        let row = |key: usize| Row {
            key: key.to_string().into(),
            members: Vec::new(),
            is_retried: false,
        };
        (0..keys).map(row).collect()
    }

    /// Moves from the keys of the first list to those of the second, in this order.
    fn moves<'i>(rows: &'i [Row<'static>], from: &[usize], to: &[usize]) -> Vec<Move<'i, 'static>> {
        let pairs = from.iter().zip(to).filter(|(from, to)| from != to);
        pairs
            .enumerate()
            .map(|(at, (from, to))| Move {
                at,
                from: &rows[*from],
                to: &rows[*to],
            })
            .collect()
    }

    fn places(rounds: &[Vec<Move<'_, '_>>]) -> Vec<Vec<usize>> {
        let place = |round: &Vec<Move<'_, '_>>| round.iter().map(|row| row.at).collect();
        rounds.iter().map(place).collect()
    }

    proptest! {
        #[test]
        fn moves_go_as_soon_as_they_can(
            from in Just((0..12).collect::<Vec<usize>>()).prop_shuffle(),
            to in Just((0..16).collect::<Vec<usize>>()).prop_shuffle(),
            number in 0..=12_usize,
        ) {
            let rows = rows_with_keys(16);
            let moves = moves(&rows, &from[..number], &to[..number]);
            prop_assert_eq!(places(&rounds(moves.clone())), places(&rounds_one_by_one(moves)));
        }
    }

    #[test]
    fn each_row_of_a_long_chain_is_looked_at_once() {
        const ROWS: usize = 200_000;
        let rows = rows_with_keys(ROWS + 1);
        let (from, to): (Vec<usize>, Vec<usize>) = (0..ROWS).map(|key| (key, key + 1)).unzip();
        let rounds = places(&rounds(moves(&rows, &from, &to)));
        assert!(rounds.iter().flatten().eq(&(0..ROWS).rev().collect::<Vec<usize>>()));
    }

    #[test]
    fn what_may_refer_to_each_other_is_put_together() {
        let row = |at: usize, json: &str| Delivery {
            action: Action::Row(RowChange {
                heir: None,
                table: QualifiedName::new("public", "t"),
                key: vec!["id".into()],
                delete: None,
                taken: false,
                upsert: Some(Arc::from(json)),
            }),
            ..delivery(at, "1:>a")
        };
        let rows = [
            r#"{"id":1,"mate":3}"#,
            r#"{"id":2,"mate":9}"#,
            r#"{"id":3,"mate":1}"#,
            r#"{"id":4,"mate":null}"#,
            r#"{"id":5,"mate":2}"#,
            r#"{"id":4,"mate":8}"#,
        ];
        let deliveries: Vec<Delivery> = rows.iter().enumerate().map(|(at, json)| row(at, json)).collect();
        let items: Vec<Item<'_>> = deliveries
            .iter()
            .enumerate()
            .map(|(at, delivery)| Item::read(at, delivery).unwrap())
            .collect();
        let groups = references(&items.iter().collect::<Vec<_>>());
        let places: Vec<Vec<usize>> = groups
            .iter()
            .map(|group| group.iter().map(|item| item.at).collect())
            .collect();
        assert_eq!(places, [vec![0, 2], vec![1, 4], vec![3, 5]]);
    }

    #[test]
    fn rows_are_followed_to_their_keys() {
        for (deliveries, expected) in [
            ("1:a>b", "a>b -a0 +b0"),
            ("1:a>b 2:b>c", "a>c -a0,b1 +c1"),
            ("1:a>b 2:>b", "a>b -a0 +b1"),
            ("1:a>b 2:b>a", " -b1 +a1"),
            ("1:a>b 2:b>", " -a0,b1 +"),
            // New ones are nowhere yet; one that was written may be somewhere.
            ("1:a> 2:>a 3:a>b", " -a2 +b2"),
            ("1:>a 2:a>b", "a>b -a1 +b1"),
            // In one transaction those that leave make room, whatever stands first.
            ("1:a>b 1:b>", "a>b -a0 +b0"),
            ("1:b> 1:a>b", "a>b -a1 +b1"),
            // Who comes later gets the key when the row that had it has gone.
            ("1:b> 2:a>b", " -b0 + | a>b -a1 +b1"),
            ("1:b> 2:>b 3:b>c", " -b2 +c2"),
            ("1:a>b 1:b>a", " - +a1,b0"),
            ("1:a>b 2:>x 1:b>a", " - +a2,b0,x1"),
            ("1:a>b 1:b>c", "b>c;a>b -a0 +b0,c1"),
            ("1:b>c 2:a>b", "b>c;a>b -a1 +b1,c0"),
            // What another row has by now is left to it, and becomes that one, also when that does not come in this batch.
            ("1:a!>b", " - +a0,b0"),
            ("1:a!>", " - +a0"),
            ("1:a!>b 1:c>a", "a>b;c>a -c1 +a1,b0"),
            ("1:a!>b 2:=>a", " - +a1,b0"),
            ("1:c!>a 1:a!>b", "a>b - +a1,b1,c0"),
            // What a row of another binding has stays, and becomes that one's.
            ("1:a^>", " - +a0"),
            ("1:a^>b", "a>b - +a0,b0"),
            ("1:>a 1:a^>", " - +a1"),
            ("1:a^> 1:=>a", " - +a1"),
            ("1:>a 2:a^> 3:a>", " -a2 +"),
            // Also when that came earlier in this batch.
            ("1:>a 2:a!>", " - +a0 |  - +a1"),
            ("1:>a 2:a!>x", " - +a0 |  - +a1,x1"),
            ("1:>a 2:>y 1:>b 2:a!>x", " - +a0,b2 |  - +a3,x3,y1"),
            // Until the other row goes too.
            ("1:a!> 2:a>", " -a1 +"),
            // What it got by a row of another binding is not that one's for good.
            ("1:a^> 2:a!>x", " - +a0 |  - +a1,x1"),
        ] {
            assert_eq!(folded(deliveries), expected, "{deliveries}");
        }
    }
}
