//! What a worker knows of its sinks at this moment: for `/health`, the metrics and the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
    /// When its courier gave the last sign of life.
    #[serde(skip)]
    seen: Instant,
    /// Whether its courier waits for the place, whose own time-outs end that.
    #[serde(skip)]
    is_delivering: bool,
}

/// A courier that asks the database answers within this time; one that waits for a place, within the other.
const SILENT: Duration = Duration::from_secs(25);
const SILENT_DELIVERING: Duration = Duration::from_secs(300);

impl SinkStatus {
    fn new() -> Self {
        SinkStatus {
            kind: String::new(),
            condition: SinkCondition::Starting,
            written: 0,
            unchanged: 0,
            sent: 0,
            set_aside: 0,
            refused: 0,
            delay: 0.0,
            caught_up: None,
            seen: Instant::now(),
            is_delivering: false,
        }
    }

    /// Returns how things stand; a courier that has been silent for too long knows nothing of its sink any more.
    fn effective(&self) -> SinkCondition {
        let silent = self.seen.elapsed();
        let limit = if self.is_delivering { SILENT_DELIVERING } else { SILENT };
        match &self.condition {
            known if silent <= limit => known.clone(),
            _ => SinkCondition::Broken(format!("nothing has been heard for {} s", silent.as_secs())),
        }
    }
}

/// What all couriers of a worker write, and its listeners read.
#[derive(Debug, Clone, Default)]
pub struct Status(Arc<Mutex<BTreeMap<String, SinkStatus>>>);

impl Status {
    /// Changes what is known of one sink.
    pub(super) fn update(&self, sink: &str, change: impl FnOnce(&mut SinkStatus)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let status = all.entry(sink.to_owned()).or_insert_with(SinkStatus::new);
        status.seen = Instant::now();
        change(status);
    }

    /// A sign of life of the courier of `sink`; `is_delivering`: what follows is up to the place.
    pub(super) fn beat(&self, sink: &str, is_delivering: bool) {
        self.update(sink, |status| status.is_delivering = is_delivering);
    }

    /// Forgets the sinks that are not among `sinks`, and begins to know those that are new.
    pub(super) fn expect(&self, sinks: &[(String, &'static str)]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known, _| sinks.iter().any(|(sink, _)| sink == known));
        for (sink, kind) in sinks {
            let status = all.entry(sink.clone()).or_insert_with(SinkStatus::new);
            status.kind = (*kind).to_owned();
            status.seen = Instant::now();
        }
    }

    /// Returns what is known of all sinks.
    pub fn all(&self) -> BTreeMap<String, SinkStatus> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for sink in all.values_mut() {
            sink.condition = sink.effective();
        }
        all
    }

    /// Tells whether every sink is up and nothing is set aside; nothing is ready before the sinks are known.
    pub fn is_ready(&self) -> bool {
        let all = self.all();
        !all.is_empty()
            && all
                .values()
                .all(|sink| sink.condition.is_ready() && sink.set_aside == 0)
    }

    /// Tells whether every courier gave a sign of life within `limit`.
    pub fn is_alive(&self, limit: Duration) -> bool {
        self.all().values().all(|sink| sink.seen.elapsed() <= limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(status: &Status, sink: &str) {
        status.update(sink, |status| status.condition = SinkCondition::Up);
    }

    #[test]
    fn ready_is_every_sink_up_and_nothing_set_aside() {
        let status = Status::default();
        assert!(!status.is_ready(), "nothing is known yet");
        status.expect(&[("a".to_owned(), "file"), ("b".to_owned(), "ldap")]);
        up(&status, "a");
        assert!(!status.is_ready(), "`b` is starting");
        status.update("b", |status| status.condition = SinkCondition::Standby);
        assert!(status.is_ready());
        status.update("b", |status| status.set_aside = 1);
        assert!(!status.is_ready());
        status.expect(&[("a".to_owned(), "file")]);
        assert!(status.is_ready(), "`b` is forgotten");
    }

    #[test]
    fn a_silent_courier_knows_nothing_any_more() {
        let status = Status::default();
        up(&status, "a");
        let silent_for = |time| status.0.lock().unwrap().get_mut("a").unwrap().seen = Instant::now() - time;
        silent_for(Duration::from_secs(26));
        assert!(!status.is_ready() && !status.is_alive(Duration::from_secs(20)));
        status.beat("a", true);
        silent_for(Duration::from_secs(200));
        assert!(status.is_ready(), "a place may take its time");
        silent_for(Duration::from_secs(301));
        assert!(!status.is_ready());
        status.beat("a", false);
        assert!(status.is_ready() && status.is_alive(Duration::from_secs(1)));
    }
}
