//! What a worker knows of its sinks at this moment: for `/health`, the metrics and the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;

/// How things stand with one sink.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "reason", rename_all = "lowercase")]
pub enum SinkCondition {
    /// Nothing is known yet.
    Starting,
    /// Another worker delivers to it.
    Standby,
    /// Deliveries arrive.
    Up,
    /// The place is out of reach.
    Down(String),
    /// A person paused it.
    Paused(String),
    /// A guard stopped it, or the log behind it is gone.
    Stopped(String),
    /// The database cannot be read, or holds something else than the manifest says.
    Broken(String),
}

impl SinkCondition {
    /// Tells whether all is as it should be.
    pub fn is_ready(&self) -> bool {
        matches!(self, SinkCondition::Up | SinkCondition::Standby)
    }
}

/// One sink, in numbers since the worker began.
#[derive(Debug, Clone, Serialize)]
pub struct SinkStatus {
    pub kind: String,
    #[serde(flatten)]
    pub condition: SinkCondition,
    /// Deliveries that arrived and changed something.
    pub written: u64,
    /// Deliveries that found everything there already.
    pub unchanged: u64,
    /// Rows that were there before and are sent (`emaj init`).
    pub sent: u64,
    /// Changes that are set aside now.
    pub set_aside: u64,
    /// Deliveries that were refused since the worker began.
    pub refused: u64,
    /// How far behind the last delivered change was when it arrived, in seconds.
    pub delay: f64,
    /// When the log was last found to be delivered to its end.
    pub caught_up: Option<Timestamp>,
    #[serde(skip)]
    pub since: Instant,
}

/// What all couriers of a worker write, and its listeners read.
#[derive(Debug, Clone, Default)]
pub struct Status(Arc<Mutex<BTreeMap<String, SinkStatus>>>);

impl Status {
    /// Changes what is known of one sink.
    pub(super) fn update(&self, sink: &str, change: impl FnOnce(&mut SinkStatus)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(sink.to_owned()).or_insert_with(|| SinkStatus {
            kind: String::new(),
            condition: SinkCondition::Starting,
            written: 0,
            unchanged: 0,
            sent: 0,
            set_aside: 0,
            refused: 0,
            delay: 0.0,
            caught_up: None,
            since: Instant::now(),
        }));
    }

    /// Returns what is known of all sinks.
    pub fn all(&self) -> BTreeMap<String, SinkStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells whether every sink is up and nothing is set aside.
    pub fn is_ready(&self) -> bool {
        self.all()
            .values()
            .all(|sink| sink.condition.is_ready() && sink.set_aside == 0)
    }
}
