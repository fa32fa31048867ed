//! Changes that wait: how they are written down, and how they are read back.
//!
//! A table goes on changing while they wait. With a row stands which number each of its columns had, and which of them were the key: so it is read
//! back under the names of today, and it is seen when the key is another one.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::change::Change;
use super::row::Row;
use super::sources::SourceTable;
use super::stream::Placed;
use crate::journal::{ChangeKept, FailureState, SetAside};
use crate::sink::{Fault, Offset, Verdict};

/// The first pause before a change is tried again, and the longest, in seconds.
const FIRST_PAUSE: f64 = 1.0;
const LONGEST_PAUSE: f64 = 300.0;

/// Returns the pause before the next try, in seconds.
pub(super) fn pause(attempts: i32) -> f64 {
    (FIRST_PAUSE * 2_f64.powi(attempts.clamp(0, 20))).min(LONGEST_PAUSE)
}

/// What a fault makes of a change that was tried before so often, and when it is tried again.
pub(super) fn state_after(fault: &Fault, attempts: i32) -> (FailureState, Option<f64>) {
    match fault.verdict {
        Verdict::Never => (FailureState::Never, None),
        Verdict::Clash if attempts > 0 => (FailureState::Never, None),
        Verdict::Clash | Verdict::Later | Verdict::Silent | Verdict::Down => {
            (FailureState::Later, Some(pause(attempts)))
        }
    }
}

/// Writes a change down that has `keys` and waits in `queue`.
pub(super) fn record(
    placed: &Placed,
    source: &SourceTable,
    binding: &str,
    queue: String,
    keys: Vec<String>,
    fault: Option<&Fault>,
) -> SetAside {
    let (state, retry_in) = fault.map_or((FailureState::Behind, None), |fault| state_after(fault, 0));
    SetAside {
        binding: binding.to_owned(),
        table: source.oid,
        key: placed.change.key.to_string(),
        queue,
        keys,
        state,
        reason: fault.map(|fault| fault.reason.clone()),
        change: written(placed, source),
        retry_in,
    }
}

fn written(placed: &Placed, source: &SourceTable) -> ChangeKept {
    let change = &placed.change;
    let columns: Map<String, Value> = source
        .columns
        .iter()
        .map(|(number, name)| (name.clone(), json!(number)))
        .collect();
    let row = |row: &Option<Row>| row.as_ref().map(|row| row.json.to_string());
    let what = json!({
        "offset": placed.offset.0,
        "relation": placed.relation,
        "replay": placed.replay,
        "txid": change.txid,
        "position": change.position,
        "lsn": change.lsn,
        "time": change.time.to_string(),
        "key": &*change.key,
        "unreadable": [is_unreadable(&change.old), is_unreadable(&change.new)],
        "init": change.is_init,
        "columns": columns,
        "key_columns": source.key_numbers(),
    });
    ChangeKept {
        what,
        old: row(&change.old),
        new: row(&change.new),
    }
}

fn is_unreadable(row: &Option<Row>) -> bool {
    row.as_ref().is_some_and(Row::is_unreadable)
}

/// Reads a change back; `None` when it is not of this program's making.
pub(super) fn read(change: &ChangeKept, table: usize, source: &SourceTable) -> Option<Placed> {
    let written = &change.what;
    let none = Map::new();
    let columns = written["columns"].as_object().unwrap_or(&none);
    let is_as_it_was = columns.keys().all(|name| today(name, columns, source) == Some(name));
    let row = |text: &Option<String>, at: usize| {
        let row = Row::new(text.as_deref()?);
        let row = match is_as_it_was {
            true => row,
            false => row.renamed(|name| today(name, columns, source)),
        };
        Some(match written["unreadable"][at].as_bool() {
            Some(true) => row.unreadable(),
            _ => row,
        })
    };
    Some(Placed {
        offset: Offset(written["offset"].as_str()?.to_owned()),
        relation: written["relation"].as_i64()?,
        replay: written["replay"].as_i64(),
        change: Change {
            table,
            txid: written["txid"].as_i64()?,
            position: written["position"].as_u64()?,
            lsn: written["lsn"].as_u64()?,
            time: written["time"].as_str()?.parse().ok()?,
            key: written["key"].as_str()?.into(),
            old: row(&change.old, 0),
            new: row(&change.new, 1),
            is_init: written["init"].as_bool()?,
        },
    })
}

/// Returns the name of today of a column that had this one; `None`: the table has it no more.
fn today<'n>(name: &'n str, columns: &Map<String, Value>, source: &'n SourceTable) -> Option<&'n str> {
    match columns.get(name).and_then(Value::as_i64) {
        Some(number) => {
            let mut known = source.columns.iter();
            let (_, today) = known.find(|(known, _)| i64::from(*known) == number)?;
            Some(today)
        }
        None => Some(name),
    }
}

/// Makes one change of several of each row, in order: the state before the first, and after the last. Usually that is one row; there are
/// several when a key was changed, and another row had the old one afterwards.
/// Each comes with the numbers of those that it was made of.
pub(super) fn merged(changes: &[Placed], key_of: impl Fn(&Row) -> String) -> Vec<(Placed, Vec<usize>)> {
    let mut rows: Vec<(Placed, Vec<usize>)> = Vec::new();
    // The places of rows, by the key that they have in the end.
    let mut known: HashMap<Box<str>, Vec<usize>> = HashMap::new();
    for (at, placed) in changes.iter().enumerate() {
        let change = &placed.change;
        let before = match &change.old {
            Some(old) if change.new.is_some() => key_of(old),
            _ => change.key.to_string(),
        };
        // What was changed was there: another row had this key, and went, when it was not.
        let is_next = |place: &&usize| change.old.is_none() || rows[**place].0.change.new.is_some();
        let places = known.entry(before.into()).or_default();
        match places.iter().filter(is_next).max().copied() {
            Some(place) => {
                places.retain(|known| *known != place);
                let (row, parts) = &mut rows[place];
                let (old, is_init) = (row.change.old.take(), row.change.is_init && change.is_init);
                *row = placed.clone();
                (row.change.old, row.change.is_init) = (old, is_init);
                parts.push(at);
                known.entry(change.key.to_string().into()).or_default().push(place);
            }
            None => {
                known.entry(change.key.to_string().into()).or_default().push(rows.len());
                rows.push((placed.clone(), vec![at]));
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::deliver::binding::Table;
    use crate::deliver::raw::Texts;
    use crate::names::QualifiedName;

    #[test]
    fn a_change_is_read_back_as_it_was() {
        let placed = Placed {
            offset: Offset("00/1".to_owned()),
            relation: 3,
            replay: Some(7),
            change: Change {
                table: 5,
                txid: 12,
                position: u64::MAX,
                lsn: 7,
                time: Timestamp::UNIX_EPOCH,
                key: "[1]".into(),
                old: None,
                new: Some(Row::new(r#"{"n":1.10,"m":12345678901234567890.123456789}"#)),
                is_init: false,
            },
        };
        let written = record(&placed, &table(&["n", "m"]), "b", "b [1]".to_owned(), Vec::new(), None).change;
        assert!(
            !written.what.to_string().contains("1.10"),
            "the rows are kept beside: they may be long"
        );
        let back = read(&written, 5, &table(&["n", "m"])).unwrap();
        assert_eq!(format!("{back:?}"), format!("{placed:?}"));
        let back = read(&written, 5, &table(&["m", "o"])).unwrap().change.new.unwrap();
        assert_eq!(
            &*back.json, r#"{"m":1.10,"o":12345678901234567890.123456789}"#,
            "under today's names"
        );
        let back = read(&written, 5, &table(&["m"])).unwrap().change.new.unwrap();
        assert_eq!(&*back.json, r#"{"m":1.10}"#, "without what is gone");
    }

    fn table(columns: &[&str]) -> SourceTable {
        SourceTable {
            oid: 1,
            is_replaced: false,
            names: Table {
                name: QualifiedName::new("public", "t"),
                key: vec![columns[0].to_owned()],
            },
            columns: (1..).zip(columns.iter().map(|name| (*name).to_owned())).collect(),
            texts: Texts::default(),
            has_loose_key: false,
        }
    }

    fn change(key: &str, old: Option<&str>, new: Option<&str>) -> Placed {
        Placed {
            offset: Offset(String::new()),
            relation: 1,
            replay: None,
            change: Change {
                table: 0,
                txid: 1,
                position: 1,
                lsn: 1,
                time: Timestamp::UNIX_EPOCH,
                key: key.into(),
                old: old.map(Row::new),
                new: new.map(Row::new),
                is_init: false,
            },
        }
    }

    #[test]
    fn what_waits_of_a_row_becomes_one_change() {
        let shown = |changes: &[Placed]| {
            let text = |row: &Option<Row>| row.as_ref().map_or("-".to_owned(), |row| row.json.to_string());
            let one = |placed: &Placed| format!("{}>{}", text(&placed.change.old), text(&placed.change.new));
            let rows = merged(changes, |row| row.json[..1].to_owned());
            rows.iter().map(|(row, _)| one(row)).collect::<Vec<_>>().join(" ")
        };
        let (insert, update) = (change("1", None, Some("1a")), change("1", Some("1a"), Some("1b")));
        assert_eq!(shown(&[insert.clone(), update.clone()]), "->1b");
        assert_eq!(shown(&[update.clone(), change("1", Some("1b"), None)]), "1a>-");
        assert_eq!(
            shown(&[change("1", Some("1a"), None), change("1", None, Some("1c"))]),
            "1a>1c"
        );
        // The key is changed, and another row takes the old one.
        let moved = change("2", Some("1b"), Some("2b"));
        assert_eq!(
            shown(&[insert, update, moved.clone(), change("1", None, Some("1c"))]),
            "->2b ->1c"
        );
        assert_eq!(shown(&[moved.clone(), change("2", Some("2b"), None)]), "1b>-");
        // A row takes the key of one that went.
        let gone = change("2", Some("2a"), None);
        let later = change("2", Some("2b"), Some("2c"));
        assert_eq!(shown(&[gone.clone(), moved, later.clone()]), "2a>- 1b>2c");
        assert_eq!(shown(&[gone, later]), "2a>- 2b>2c", "that row came another way");
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        assert_eq!([pause(0), pause(1), pause(3), pause(40)], [1.0, 2.0, 8.0, 300.0]);
    }
}
