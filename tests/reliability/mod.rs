//! What has to hold whatever goes wrong: nothing lost, nothing invented, nothing out of order, nobody's secret told.
//!
//! Every test runs in a short form with all others; `EMAJ_LONG=n` makes it longer, and each prints the figure it reached.
//! `docs/reliability.md` has the targets and what was reached.

mod acts_killed;
mod definer;
mod honest;
mod init_killed;
pub mod named_points;
mod no_lost_event;
mod order;
mod poison;
mod replayed;
mod secrets;
mod server_killed;
mod sink_faults;
mod truth;

use std::path::Path;

use serde_json::Value;

use crate::support::{Database, Emaj, Run, database, emaj, wait_for};

pub const HEAD: &str = "version: 1\nroles: { admin: null, viewer: null }\n";

/// Makes a database with a table for things.
pub fn items() -> Database {
    let db = database();
    db.psql("create table item (id int primary key, name text)");
    db
}

/// Writes the manifest and installs it.
#[track_caller]
pub fn install(db: &Database, manifest: &str) -> Run {
    db.file("emaj.yaml", &format!("{HEAD}{manifest}"));
    emaj(db).args(["install", "emaj.yaml"]).run().ok()
}

/// Prepares `emaj run`.
pub fn worker(db: &Database) -> Emaj {
    emaj(db).args(["run", "emaj.yaml"])
}

/// Prepares `emaj run --until-empty`.
pub fn drain(db: &Database) -> Emaj {
    worker(db).args(["--until-empty"])
}

/// Returns the whole lines of a file as JSON.
pub fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    text[..whole]
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// Returns what the database says of a sink.
#[track_caller]
pub fn sink_list(db: &Database, sink: &str) -> Value {
    let all = emaj(db).args(["sink", "list", "-o", "json"]).run().ok().stdout_json();
    let found = all.as_array().unwrap().iter().find(|record| record["sink"] == sink);
    found.unwrap_or_else(|| panic!("no sink {sink}: {all}")).clone()
}

/// Waits until a file has so many lines.
#[track_caller]
pub fn wait_for_lines(path: &Path, wanted: usize, seconds: u64) {
    let what = format!("{wanted} lines in {}", path.display());
    wait_for(&what, seconds, || {
        let bytes = std::fs::read(path).unwrap_or_default();
        (bytes.iter().filter(|byte| **byte == b'\n').count() >= wanted).then_some(())
    });
}

/// Says whether this is a long run.
pub fn is_long() -> bool {
    crate::support::scale(1) > 1
}
