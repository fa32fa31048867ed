//! A position as the registry keeps it: a snapshot, and the transaction that took it.
//!
//! What SQL asks with `_after`, Rust asks with [`Position::is_before`]. Pure.

use std::fmt;
use std::str::FromStr;

use minijinja::{Value, context};
use postgres::Row;
use postgres::types::PgLsn;

use crate::errors::{Error, Kind, Result};

/// A snapshot as `pg_current_snapshot()` prints it: `xmin:xmax:xip,…`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    pub xmin: i64,
    pub xmax: i64,
    /// The transactions that were running, in ascending order.
    pub running: Vec<i64>,
}

impl Snapshot {
    /// Tells whether the snapshot sees what transaction `txid` did, provided that it committed.
    pub fn sees(&self, txid: i64) -> bool {
        txid < self.xmin || txid < self.xmax && self.running.binary_search(&txid).is_err()
    }

    /// Tells whether it sees all that `other` sees.
    pub fn covers(&self, other: &Snapshot) -> bool {
        let mut unseen = self.running.iter().filter(|txid| **txid < other.xmax);
        self.xmax >= other.xmax && unseen.all(|txid| !other.sees(*txid))
    }
}

/// The text is no snapshot.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no snapshot")]
pub struct NoSnapshot(String);

impl FromStr for Snapshot {
    type Err = NoSnapshot;

    fn from_str(text: &str) -> std::result::Result<Self, NoSnapshot> {
        let wrong = || NoSnapshot(text.to_owned());
        let mut parts = text.splitn(3, ':');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).ok_or_else(wrong);
        let (xmin, xmax) = (number()?, number()?);
        let list = parts.next().unwrap_or_default();
        let running = list
            .split(',')
            .filter(|txid| !txid.is_empty())
            .map(|txid| txid.parse().map_err(|_| wrong()))
            .collect::<std::result::Result<_, _>>()?;
        Ok(Snapshot { xmin, xmax, running })
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running: Vec<String> = self.running.iter().map(ToString::to_string).collect();
        write!(f, "{}:{}:{}", self.xmin, self.xmax, running.join(","))
    }
}

/// A moment in the history of a database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Position {
    pub snapshot: Snapshot,
    /// The transaction that took the snapshot; 0 when it wrote nothing.
    pub txid: i64,
    /// Of that one transaction, what was written from here on is after.
    pub lsn: u64,
}

impl Position {
    /// Tells whether a change, written by `txid` at `lsn`, comes after this position.
    pub fn is_before(&self, txid: i64, lsn: u64) -> bool {
        if self.txid != 0 && txid == self.txid {
            return lsn >= self.lsn;
        }
        !self.snapshot.sees(txid)
    }

    /// Tells whether this position comes before `other`, or is it: as `_precedes` in SQL.
    pub fn precedes(&self, other: &Position) -> bool {
        if self.txid == other.txid {
            self.lsn <= other.lsn
        } else {
            other.snapshot.sees(self.txid)
        }
    }

    /// Returns it as `templates/position/conditions` takes it. The transaction that took it is not in its own snapshot, and may be below its
    /// end: it is named beside those that were running.
    pub fn border(&self) -> Value {
        let own = Some(self.txid).filter(|txid| *txid != 0);
        let running: Vec<i64> = self.snapshot.running.iter().copied().chain(own).collect();
        context! {
            xmax => self.snapshot.xmax, running => running, txid => self.txid, lsn => PgLsn::from(self.lsn).to_string(),
        }
    }
}

impl Position {
    /// Returns the columns, of the registry's column `name`, that [`Position::get`] reads.
    pub(super) fn columns(name: &str) -> String {
        format!("({name}).snapshot::text as {name}_snapshot, ({name}).txid as {name}_txid, ({name}).lsn as {name}_lsn")
    }

    /// Returns the position that the registry has in its column `name`.
    ///
    /// # Errors
    /// What is there is none.
    pub(super) fn get(row: &Row, name: &str) -> Result<Position> {
        let column = |part: &str| format!("{name}_{part}");
        let snapshot = row.get::<_, &str>(&*column("snapshot")).parse();
        Ok(Position {
            snapshot: snapshot.map_err(|error| Error::new(Kind::Failed, error))?,
            txid: row.get::<_, Option<i64>>(&*column("txid")).unwrap_or(0),
            lsn: row.get::<_, Option<PgLsn>>(&*column("lsn")).map_or(0, u64::from),
        })
    }
}

impl From<Snapshot> for Position {
    /// The position of a transaction that wrote nothing.
    fn from(snapshot: Snapshot) -> Self {
        Position {
            snapshot,
            txid: 0,
            lsn: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_sees_what_was_committed() {
        let snapshot: Snapshot = "10:20:10,15".parse().unwrap();
        let seen: Vec<i64> = (8..22).filter(|txid| snapshot.sees(*txid)).collect();
        assert_eq!(seen, [8, 9, 11, 12, 13, 14, 16, 17, 18, 19]);
        assert_eq!(snapshot.to_string(), "10:20:10,15");
        assert_eq!("7:7:".parse::<Snapshot>().unwrap().to_string(), "7:7:");
        assert!("7:x:".parse::<Snapshot>().is_err());
    }

    #[test]
    fn a_snapshot_covers_an_earlier_one() {
        let snapshot = |text: &str| text.parse::<Snapshot>().unwrap();
        let earlier = snapshot("10:20:10,15");
        let covers = |text: &str| snapshot(text).covers(&earlier);
        assert!(covers("10:20:10,15") && covers("15:20:15") && covers("15:30:15,22") && covers("30:30:"));
        assert!(!covers("10:19:10,15") && !covers("10:20:10,12,15") && !covers("12:30:12"));
    }

    #[test]
    fn the_transaction_of_a_position_is_cut_in_two() {
        let position = Position {
            snapshot: "10:20:15".parse().unwrap(),
            txid: 12,
            lsn: 100,
        };
        assert!(!position.is_before(12, 99));
        assert!(position.is_before(12, 100));
        assert!(position.is_before(15, 1));
        assert!(!position.is_before(14, 1000));
    }
}
