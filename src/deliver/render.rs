//! Makes a delivery of a change: what a binding says is to be done, under an id that is the same however often it is delivered.

use std::sync::Arc;

use super::binding::{Ask, Asking, Bound, Envelope, Made, OneKey};
use super::digest::digest;
use super::lanes::Keyed;
use super::stream::Placed;
use super::worker::Source;
use crate::sink::{Action, Delivery, Fault};

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
    let named = Named::of(bound, placed, source);
    let envelope = named.envelope();
    let mut asking = Asking {
        envelope: &envelope,
        ask,
        beside,
    };
    let made = bound.make(&placed.change, &mut asking, one)?;
    Ok(made.map(|made| named.keyed(bound, placed, made)))
}

/// Makes the delivery of what was made of a change.
pub(super) fn keyed(bound: &Bound, placed: &Placed, source: &Source, made: Made) -> Keyed {
    Named::of(bound, placed, source).keyed(bound, placed, made)
}

/// Makes what keeps the order of a row that got another key, of which nothing is made.
pub(super) fn tie(bound: &Bound, placed: &Placed, source: &Source, one: &OneKey) -> Keyed {
    let made = Made {
        keys: keys_of(bound, placed, source, one),
        entries: Vec::new(),
        behind: Vec::new(),
        event: None,
        action: Action::Attributes(Vec::new()),
    };
    Keyed {
        is_tie: true,
        ..keyed(bound, placed, source, made)
    }
}

/// Returns what a change must not be overtaken by: whatever has one of these keys. Also of a change that cannot be rendered.
pub(super) fn keys_of(bound: &Bound, placed: &Placed, source: &Source, one: &OneKey) -> Vec<String> {
    let named = Named::of(bound, placed, source);
    bound.order_keys(&placed.change, &named.envelope(), one)
}

/// What a delivery is called, and when its change was made: the same in what it says of itself and in what the sink is told beside it.
struct Named<'a> {
    id: String,
    time: String,
    source: &'a str,
}

impl<'a> Named<'a> {
    fn of(bound: &Bound, placed: &Placed, source: &'a Source) -> Self {
        Named {
            id: id_of(bound, placed, source),
            time: format!("{:.6}", placed.change.time),
            source: &source.uri,
        }
    }

    fn envelope(&self) -> Envelope<'_> {
        Envelope {
            id: &self.id,
            time: &self.time,
            source: self.source,
        }
    }

    fn keyed(self, bound: &Bound, placed: &Placed, made: Made) -> Keyed {
        Keyed {
            delivery: Delivery {
                id: self.id,
                binding: Arc::clone(&bound.name),
                offset: placed.offset.clone(),
                time: self.time,
                replay: placed.replay,
                retried: false,
                event: made.event,
                action: made.action,
            },
            keys: made.keys,
            entries: made.entries,
            behind: made.behind,
            is_tie: false,
        }
    }
}

/// Names an event. Bindings, transactions and tables of two installations may be called the same, and both may deliver to one place: what is hashed
/// tells them apart. A row that was there before is the same event as long as it is the same row, told in the same way: who drops what he has got already
/// gets what has changed.
pub(super) fn id_of(bound: &Bound, placed: &Placed, source: &Source) -> String {
    let (binding, change) = (&bound.name, &placed.change);
    if change.is_init {
        let row = change.new.as_ref().map_or("", |row| &row.json);
        let short = digest(&format!("{}\n{}\n{row}\n{}", source.name, change.key, bound.told));
        format!("{binding}-init-{:x}-{short}", placed.relation)
    } else {
        let short = digest(&format!("{}\n{}", source.name, change.key));
        format!("{binding}-{:x}-{:x}-{short}", change.txid, placed.relation)
    }
}
