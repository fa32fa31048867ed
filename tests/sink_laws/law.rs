//! The laws: the other database is the source, and the file tells of each row what became of it, in order and without a gap.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::life::{Machine, Wrong};
use crate::programs::differences;

/// What was told of the rows of a table, by `rid`, which is theirs whatever key they have.
type Told = BTreeMap<(String, i64), Value>;

/// What is known of the file.
#[derive(Default)]
pub(super) struct Lines {
    /// Something may be missing in it, and not be seen: it is looked at anew from the next settlement on.
    pub(super) has_gap: bool,
    /// Something may stand in it twice.
    pub(super) may_repeat: bool,
    /// A binding was of another kind for a while: what it told then is of another kind too.
    pub(super) kinds_changed: bool,
    /// Counts the times that it was looked at anew.
    pub(super) epoch: usize,
    /// The step from which on it is looked at.
    pub(super) since: usize,
    /// How many lines there were then, and what they had told.
    from: usize,
    told: Told,
    ids: BTreeSet<String>,
}

impl Machine {
    fn lines_of(&mut self, here: bool, query: &str) -> Vec<String> {
        let sql = format!("select to_jsonb(x)::text from ({query}) x order by 1");
        let client = if here { &mut self.client } else { &mut self.other };
        client.query(&sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
    }

    /// Compares the other database with the source, but for what these bindings made of it.
    pub(super) fn compare(&mut self, without: &BTreeSet<&str>) -> Result<(), Wrong> {
        let v = if self.manifest.capitals { "upper(v)" } else { "v" };
        let item = if self.manifest.too { "item_too" } else { "item" };
        for (binding, wanted, found) in [
            (
                "items",
                format!("select id, code, n, {v} as v, rid from item"),
                format!("select * from {item}"),
            ),
            (
                "nums",
                "select distinct code::int as n from item where code is not null".to_owned(),
                "select * from nums".to_owned(),
            ),
            (
                "parts",
                "select * from part".to_owned(),
                "select * from part".to_owned(),
            ),
            (
                "parents",
                "select * from parent".to_owned(),
                "select * from parent".to_owned(),
            ),
            (
                "children",
                "select * from child".to_owned(),
                "select * from child".to_owned(),
            ),
        ] {
            if without.contains(binding) {
                continue;
            }
            let (wanted, found) = (self.lines_of(true, &wanted), self.lines_of(false, &found));
            if wanted != found {
                return Err(format!(
                    "what `{binding}` makes there: {}",
                    differences(&found, &wanted)
                ));
            }
        }
        if without.contains("codes") || without.contains("codes_arch") {
            return Ok(());
        }
        // Of rows that share a key, one has it.
        let few = if self.manifest.few { "and n < 3" } else { "" };
        let gives = self.lines_of(
            true,
            &format!("select code, n from item where code is not null and n is not null {few} union select code, n from arch where code is not null"),
        );
        let found = self.lines_of(false, "select code, n from codes");
        let codes = |lines: &[String]| -> BTreeSet<String> {
            lines
                .iter()
                .map(|line| serde_json::from_str::<Value>(line).expect("a row")["code"].to_string())
                .collect()
        };
        if codes(&gives) != codes(&found) || found.iter().any(|line| !gives.contains(line)) {
            return Err(format!(
                "what `codes` and `codes_arch` make there: {}",
                differences(&found, &gives)
            ));
        }
        Ok(())
    }

    /// Follows each row through the file: what it was is what was told of it last, and in the end that is the source.
    pub(super) fn compare_lines(&mut self) -> Result<(), Wrong> {
        let text = std::fs::read_to_string(self.here.dir().join("out.ndjson")).expect("the file");
        let mut now = Told::new();
        for table in ["item", "arch"] {
            for line in self.lines_of(true, &format!("select * from {table}")) {
                let row: Value = serde_json::from_str(&line).expect("a row");
                now.insert((table.to_owned(), rid(&row)), row);
            }
        }
        let count = text.lines().count();
        self.done.lines += count.saturating_sub(self.lines.from);
        let followed = if self.lines.has_gap {
            Ok(())
        } else {
            self.lines.follow(&text, &now)
        };
        let lines = &mut self.lines;
        if lines.has_gap || lines.kinds_changed && !self.manifest.as_row {
            *lines = Lines {
                epoch: lines.epoch + 1,
                may_repeat: true,
                from: count,
                told: now,
                ids: std::mem::take(&mut lines.ids),
                ..Lines::default()
            };
            let ids = text
                .lines()
                .map(|line| id(&serde_json::from_str(line).expect("a line of JSON")));
            self.lines.ids.extend(ids);
            self.lines.since = self.steps();
        }
        followed
    }
}

impl Lines {
    fn follow(&self, text: &str, now: &Told) -> Result<(), Wrong> {
        let (mut told, mut ids) = (self.told.clone(), self.ids.clone());
        // What a transaction did is told key by key: of a row that changed its key there are two lines then, in any order.
        let (mut lines_of, mut mixed) = (BTreeMap::new(), BTreeSet::new());
        for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let sides = ["old", "row"].into_iter().filter_map(|side| line[side]["rid"].as_i64());
            let rids: BTreeSet<i64> = sides.collect();
            let transaction = transaction(&line);
            let several = rids.len() > 1
                || rids.iter().any(|rid| {
                    let first = lines_of.entry((transaction.clone(), *rid)).or_insert_with(|| id(&line));
                    *first != id(&line)
                });
            if several {
                mixed.insert(transaction);
            }
        }
        // The last transaction that told something of a key.
        let mut keys: BTreeMap<String, u64> = BTreeMap::new();
        for (at, line) in text.lines().enumerate().skip(self.from) {
            let value: Value = serde_json::from_str(line).map_err(|error| format!("line {at}: {error}\n{line}"))?;
            let wrong = |what: &str| Err(format!("line {} of the file: {what}\n{line}", at + 1));
            if !ids.insert(id(&value)) {
                if self.may_repeat {
                    continue;
                }
                return wrong("it is there already");
            }
            let table = if id(&value).starts_with("told") { "item" } else { "arch" };
            let key = |side: &str| (!value[side].is_null()).then(|| (table.to_owned(), rid(&value[side])));
            let (old, new) = (key("old"), key("row"));
            if value["event"] == "init" {
                told.extend(new.map(|new| (new, value["row"].clone())));
                continue;
            }
            if value["table"].is_string() {
                // A line of a `row` says what is to go and what is to be there, and that has its key then.
                told.retain(|(of, _), row| of != table || row["id"] != value["row"]["id"]);
                old.map(|old| told.remove(&old));
                told.extend(new.map(|new| (new, value["row"].clone())));
                continue;
            }
            // (Of a deletion the row is what it was.)
            let (old, new) = if value["event"] == "delete" {
                (old.or(new), None)
            } else {
                (old, new)
            };
            if let Some(old) = old {
                let was = if value["old"].is_null() {
                    &value["row"]
                } else {
                    &value["old"]
                };
                match told.get(&old) {
                    Some(last) if last == was => drop(told.remove(&old)),
                    _ if mixed.contains(&transaction(&value)) => {}
                    last => return wrong(&format!("what was told of this row before it is {last:?}")),
                }
            }
            if let Some(new) = new {
                if told.contains_key(&new) && !mixed.contains(&transaction(&value)) {
                    return wrong("this row is there already");
                }
                told.insert(new, value["row"].clone());
            }
            let transaction = id(&value)
                .split('-')
                .nth(1)
                .and_then(|hex| u64::from_str_radix(hex, 16).ok());
            if let Some(transaction) = transaction.filter(|_| !self.kinds_changed) {
                let last = keys.entry(value["row"]["code"].to_string()).or_default();
                if transaction < *last {
                    return wrong(&format!("of this key transaction {last:x} was told before"));
                }
                *last = transaction;
            }
        }
        if told == *now {
            return Ok(());
        }
        let all =
            |told: &Told| -> Vec<String> { told.iter().map(|((table, _), row)| format!("{table} {row}")).collect() };
        Err(format!(
            "what the file has told in the end: {}",
            differences(&all(&told), &all(now))
        ))
    }
}

fn rid(row: &Value) -> i64 {
    row["rid"].as_i64().expect("every row has a number")
}

fn id(line: &Value) -> String {
    line["id"].as_str().unwrap_or_default().to_owned()
}

/// The binding and the transaction, from which the id is made.
fn transaction(line: &Value) -> String {
    let id = id(line);
    id.rsplitn(3, '-').last().unwrap_or_default().to_owned()
}
