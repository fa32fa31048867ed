//! The sums of `emaj top`: what each look adds, and the block that is shown of it. Pure: looks in, blocks out.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::journal::{Look, Seen, Stand};
use crate::names::QualifiedName;
use crate::ui::{Column, Tabular};
use crate::words::duration;

/// All that was counted since the start.
#[derive(Debug, Default)]
pub(super) struct Tally {
    relations: BTreeMap<i64, Counted>,
}

#[derive(Debug)]
struct Counted {
    seen: Seen,
    changes: i64,
    total: i64,
}

/// What changed in one interval, and since the start: the groups, then what has changed in them, those in front that changed most in the interval.
#[derive(Debug, Serialize)]
pub(super) struct Block {
    pub time: Timestamp,
    /// How long the interval was.
    pub seconds: f64,
    /// How long ago the start was.
    pub since_start: f64,
    groups: Vec<Line>,
    tables: Vec<Line>,
    sequences: Vec<Line>,
    /// How many lines people are shown.
    #[serde(skip)]
    pub lines: usize,
}

#[derive(Debug, Serialize)]
struct Line {
    group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// In the interval.
    changes: i64,
    /// Since the start.
    total: i64,
}

impl Tally {
    /// Adds what a look found.
    pub fn add(&mut self, look: &Look) {
        for known in self.relations.values_mut() {
            known.changes = 0;
        }
        for seen in &look.relations {
            let before = self.relations.get(&seen.id);
            let drawn = |now: Stand| {
                let before = before.and_then(|known| known.seen.sequence);
                before.map_or(0, |before| now.drawn_since(before))
            };
            let changes = seen.sequence.map_or(seen.changes, drawn);
            let total = before.map_or(0, |known| known.total).saturating_add(changes);
            let counted = Counted {
                seen: seen.clone(),
                changes,
                total,
            };
            self.relations.insert(seen.id, counted);
        }
    }

    /// Returns the block of the last look.
    pub fn block(&self, time: Timestamp, interval: Duration, since_start: Duration) -> Block {
        let mut groups: BTreeMap<&str, Line> = BTreeMap::new();
        let (mut tables, mut sequences) = (Vec::new(), Vec::new());
        for counted in self.relations.values() {
            let seen = &counted.seen;
            let group = groups.entry(&seen.group).or_insert_with(|| Line {
                group: seen.group.clone(),
                schema: None,
                name: None,
                changes: 0,
                total: 0,
            });
            let line = Line {
                group: seen.group.clone(),
                schema: Some(seen.schema.clone()),
                name: Some(seen.name.clone()),
                changes: counted.changes,
                total: counted.total,
            };
            let moved = line.total != 0 || line.changes != 0;
            if seen.sequence.is_some() {
                sequences.extend(moved.then_some(line));
            } else {
                group.changes += line.changes;
                group.total += line.total;
                tables.extend(moved.then_some(line));
            }
        }
        let mut groups: Vec<Line> = groups.into_values().collect();
        for lines in [&mut groups, &mut tables, &mut sequences] {
            lines.sort_by(|a, b| {
                let most = |line: &Line| (line.changes.unsigned_abs(), line.total.unsigned_abs());
                let name = |line: &Line| (line.group.clone(), line.schema.clone(), line.name.clone());
                most(b).cmp(&most(a)).then_with(|| name(a).cmp(&name(b)))
            });
        }
        Block {
            time,
            seconds: rounded(interval),
            since_start: rounded(since_start),
            groups,
            tables,
            sequences,
            lines: usize::MAX,
        }
    }
}

fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}

impl Block {
    /// Returns the line above the table.
    pub fn heading(&self) -> String {
        let said = |seconds: f64| duration(Duration::from_secs_f64(seconds.max(0.0)));
        format!(
            "{}, the last {}, and {} since the start",
            crate::words::moment(self.time),
            said(self.seconds),
            said(self.since_start)
        )
    }
}

impl Tabular for Block {
    fn columns(&self) -> Vec<Column> {
        vec![
            Column::left("what"),
            Column::left("group"),
            Column::left("name"),
            Column::right("changes"),
            Column::right("a second"),
            Column::right("since start"),
        ]
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let of = |what: &'static str, lines: &'_ [Line]| -> Vec<Vec<String>> {
            let row = |line: &Line| {
                let name = line.schema.as_deref().zip(line.name.as_deref());
                vec![
                    what.to_owned(),
                    line.group.clone(),
                    name.map(|(schema, name)| QualifiedName::new(schema, name).to_string())
                        .unwrap_or_default(),
                    line.changes.to_string(),
                    format!("{:.1}", line.changes as f64 / self.seconds.max(0.001)),
                    line.total.to_string(),
                ]
            };
            lines.iter().map(row).collect()
        };
        let mut rows = of("group", &self.groups);
        rows.extend(of("table", &self.tables));
        rows.extend(of("sequence", &self.sequences));
        rows.truncate(self.lines);
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(id: i64, group: &str, name: &str, changes: i64) -> Seen {
        Seen {
            id,
            group: group.to_owned(),
            schema: "s".to_owned(),
            name: name.to_owned(),
            changes,
            sequence: None,
        }
    }

    fn sequence(id: i64, last: i128, step: i128) -> Seen {
        Seen {
            sequence: Some(Stand { last, step }),
            ..table(id, "g", "seq", 0)
        }
    }

    fn shown(tally: &mut Tally, relations: Vec<Seen>) -> Vec<String> {
        tally.add(&Look {
            snapshot: "1:1:".to_owned(),
            relations,
        });
        let block = tally.block(Timestamp::UNIX_EPOCH, Duration::from_secs(2), Duration::from_secs(4));
        block.rows().iter().map(|row| row.join(" ")).collect()
    }

    #[test]
    fn what_changed_most_comes_first_and_nothing_is_forgotten() {
        let mut tally = Tally::default();
        let nothing = vec![
            table(1, "g", "a", 0),
            table(2, "g", "b", 0),
            table(3, "h", "c", 0),
            sequence(4, 0, 5),
        ];
        assert_eq!(shown(&mut tally, nothing), ["group g  0 0.0 0", "group h  0 0.0 0"]);
        let some = vec![
            table(1, "g", "a", 1),
            table(2, "g", "b", 5),
            table(3, "h", "c", 7),
            sequence(4, 15, 5),
        ];
        assert_eq!(
            shown(&mut tally, some),
            [
                "group h  7 3.5 7",
                "group g  6 3.0 6",
                "table h s.c 7 3.5 7",
                "table g s.b 5 2.5 5",
                "table g s.a 1 0.5 1",
                "sequence g s.seq 3 1.5 3"
            ]
        );
        // `h.c` has left its group, the sequence was set back.
        let then = vec![table(1, "g", "a", 2), table(2, "g", "b", 0), sequence(4, 5, 5)];
        assert_eq!(
            shown(&mut tally, then),
            [
                "group g  2 1.0 8",
                "group h  0 0.0 7",
                "table g s.a 2 1.0 3",
                "table h s.c 0 0.0 7",
                "table g s.b 0 0.0 5",
                "sequence g s.seq -2 -1.0 1"
            ]
        );
    }

    #[test]
    fn the_longest_way_of_a_sequence_is_no_overflow() {
        let (low, high) = (i128::from(i64::MIN), i128::from(i64::MAX));
        let stand = |last| Stand { last, step: 1 };
        assert_eq!(stand(high).drawn_since(stand(low)), i64::MAX);
        assert_eq!(stand(low).drawn_since(stand(high)), i64::MIN);
    }
}
