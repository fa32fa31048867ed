//! Makes a delivery of a change: what a binding says is to be done, under an id that is the same however often it is delivered.

use std::sync::Arc;

use super::binding::{Ask, Bound, Envelope, Made, OneKey};
use super::digest::digest;
use super::lanes::Keyed;
use super::stream::Placed;
use super::worker::Source;
use crate::sink::{Delivery, Fault};

/// Renders what `bound` makes of a change of the installation `source`; `None`: nothing. `beside` are all bindings of the sink, and `one` is known of keys
/// that are written in two ways.
///
/// # Errors
/// Whatever the binding fails with on this row.
pub(super) fn render(
    bound: &Bound,
    placed: &Placed,
    source: &Source,
    ask: &mut dyn Ask,
    beside: &[Bound],
    one: &OneKey,
) -> Result<Option<Keyed>, Fault> {
    let (id, time) = (id_of(&bound.name, placed, source), time_of(placed));
    let envelope = Envelope {
        id: &id,
        time: &time,
        source: &source.uri,
    };
    let made = bound.make(&placed.change, &envelope, ask, beside, one)?;
    Ok(made.map(|made| keyed(bound, placed, source, made)))
}

/// Makes the delivery of what was made of a change.
pub(super) fn keyed(bound: &Bound, placed: &Placed, source: &Source, made: Made) -> Keyed {
    Keyed {
        delivery: Delivery {
            id: id_of(&bound.name, placed, source),
            binding: Arc::clone(&bound.name),
            offset: placed.offset.clone(),
            time: time_of(placed),
            replay: placed.replay,
            retried: false,
            event: made.event,
            action: made.action,
        },
        keys: made.keys,
        entries: made.entries,
    }
}

/// Returns what a change must not be overtaken by: whatever has one of these keys. Also of a change that cannot be rendered.
pub(super) fn keys_of(bound: &Bound, placed: &Placed, source: &Source, one: &OneKey) -> Vec<String> {
    let (id, time) = (id_of(&bound.name, placed, source), time_of(placed));
    let envelope = Envelope {
        id: &id,
        time: &time,
        source: &source.uri,
    };
    bound.order_keys(&placed.change, &envelope, one)
}

fn time_of(placed: &Placed) -> String {
    format!("{:.6}", placed.change.time)
}

/// Names an event. Bindings, transactions and tables of two installations may be called the same, and both may deliver to one place: what is hashed
/// tells them apart.
pub(super) fn id_of(binding: &str, placed: &Placed, source: &Source) -> String {
    let short = digest(&format!("{}\n{}", source.name, placed.change.key));
    if placed.change.is_init {
        format!("{binding}-init-{:x}-{short}", placed.relation)
    } else {
        format!("{binding}-{:x}-{:x}-{short}", placed.change.txid, placed.relation)
    }
}
