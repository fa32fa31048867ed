//! What a worker knows, as OpenMetrics text. Names of sinks and numbers only: no row, no secret, no reason of a fault.

use std::sync::LazyLock;
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::deliver::{SinkCondition, SinkStatus, Status};
use crate::journal::SinkLag;

/// When this program began.
static BEGAN: LazyLock<Timestamp> = LazyLock::new(Timestamp::now);

/// The type that goes with [`text`].
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Sink {
    sink: String,
    kind: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct State {
    sink: String,
    kind: String,
    state: String,
}

type Number = Gauge<f64, AtomicU64>;

/// Notes when the program began.
pub(super) fn begin() {
    LazyLock::force(&BEGAN);
}

/// Returns all metrics of this moment.
pub(super) fn text(status: &Status, backlog: Option<&[SinkLag]>) -> String {
    let mut registry = Registry::default();
    of_process(&mut registry);
    let worker = registry.sub_registry_with_prefix("emaj");
    let version = vec![("version", env!("CARGO_PKG_VERSION"))];
    worker.register("build", "The emaj that delivers", Info::new(version));
    let ready = Gauge::<i64>::default();
    ready.set(i64::from(status.is_ready()));
    worker.register("ready", "1 when every sink is up and nothing is set aside", ready);
    let all = status.all();
    of_sinks(worker.sub_registry_with_prefix("sink"), &all);
    if let Some(backlog) = backlog {
        let known = backlog.iter().filter(|lag| all.contains_key(&lag.sink));
        of_backlog(worker.sub_registry_with_prefix("sink"), known);
    }
    let mut text = String::new();
    // (Writing into a text does not fail.)
    let _ = encode(&mut text, &registry);
    text
}

fn of_process(registry: &mut Registry) {
    let process = registry.sub_registry_with_prefix("process");
    let began = Number::default();
    began.set(seconds(*BEGAN));
    process.register_with_unit("start_time", "When the worker began", Unit::Seconds, began);
    if let Some(bytes) = resident() {
        let memory = Number::default();
        memory.set(bytes);
        process.register_with_unit("resident_memory", "Memory that the worker takes", Unit::Bytes, memory);
    }
}

fn of_sinks(registry: &mut Registry, all: &std::collections::BTreeMap<String, SinkStatus>) {
    let mut count = |name: &str, help: &str, number: fn(&SinkStatus) -> u64| {
        let family = Family::<Sink, Counter>::default();
        for (sink, status) in all {
            family.get_or_create(&labels(sink, &status.kind)).inc_by(number(status));
        }
        registry.register(name, help, family);
    };
    count("written", "Deliveries that changed something there", |sink| {
        sink.written
    });
    count("unchanged", "Deliveries that found everything there", |sink| {
        sink.unchanged
    });
    count("refused", "Deliveries that the sink refused", |sink| sink.refused);
    count("sent", "Rows that were there before and were sent", |sink| sink.sent);
    let mut measure = |name: &str, help: &str, unit: Option<Unit>, number: fn(&SinkStatus) -> Option<f64>| {
        let family = Family::<Sink, Number>::default();
        for (sink, status) in all {
            if let Some(number) = number(status) {
                family.get_or_create(&labels(sink, &status.kind)).set(number);
            }
        }
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, family),
            None => registry.register(name, help, family),
        }
    };
    measure(
        "up",
        "1 when deliveries arrive, or another worker delivers",
        None,
        |sink| Some(if sink.condition.is_ready() { 1.0 } else { 0.0 }),
    );
    measure(
        "set_aside",
        "Changes that the sink did not take and that wait",
        None,
        |sink| Some(sink.set_aside as f64),
    );
    let delay = "How long after its change the last delivery arrived";
    measure("delay", delay, Some(Unit::Seconds), |sink| Some(sink.delay));
    let caught_up = "When the log was last found to be delivered to its end";
    measure("caught_up_timestamp", caught_up, Some(Unit::Seconds), |sink| {
        sink.caught_up.map(seconds)
    });
    let states = Family::<State, Number>::default();
    for (sink, status) in all {
        let state = State {
            sink: sink.clone(),
            kind: status.kind.clone(),
            state: word(&status.condition).to_owned(),
        };
        states.get_or_create(&state).set(1.0);
    }
    registry.register("state", "1 for the state that the sink is in", states);
}

fn of_backlog<'a>(registry: &mut Registry, backlog: impl Iterator<Item = &'a SinkLag>) {
    let (changes, age) = (Family::<Sink, Number>::default(), Family::<Sink, Number>::default());
    let now = Timestamp::now();
    for lag in backlog {
        let labels = labels(&lag.sink, &lag.kind);
        changes.get_or_create(&labels).set(lag.changes as f64);
        let oldest = lag
            .oldest
            .map_or(0.0, |oldest| (seconds(now) - seconds(oldest)).max(0.0));
        age.get_or_create(&labels).set(oldest);
    }
    registry.register("lag_changes", "Changes in the log that are not delivered yet", changes);
    let help = "How old the oldest change is that is not delivered yet";
    registry.register_with_unit("lag", help, Unit::Seconds, age);
}

fn labels(sink: &str, kind: &str) -> Sink {
    Sink {
        sink: sink.to_owned(),
        kind: kind.to_owned(),
    }
}

fn seconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1000.0
}

fn word(condition: &SinkCondition) -> &'static str {
    match condition {
        SinkCondition::Starting => "starting",
        SinkCondition::Standby => "standby",
        SinkCondition::Up => "up",
        SinkCondition::Down(_) => "down",
        SinkCondition::Paused(_) => "paused",
        SinkCondition::Stopped(_) => "stopped",
        SinkCondition::Broken(_) => "broken",
    }
}

/// The memory of this process in bytes, where the system says it.
fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024.0)
}
