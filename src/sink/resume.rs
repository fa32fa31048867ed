//! How far a place has come when a batch is over: for the sinks that keep the position with the data.

use super::{Delivery, Offset, Outcome};

/// Returns how far the batch goes without a failure. What is tried again says nothing about that: changes beside it may not have come yet.
pub(super) fn arrived<'a>(batch: &'a [Delivery], outcomes: &[Outcome]) -> Option<&'a Offset> {
    let in_order = |delivery: &&Delivery| !delivery.retried && !delivery.offset.0.is_empty();
    let first_failed = batch
        .iter()
        .zip(outcomes)
        .filter(|(delivery, _)| in_order(delivery))
        .filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_)))
        .map(|(delivery, _)| &delivery.offset)
        .min();
    batch
        .iter()
        .filter(in_order)
        .map(|delivery| &delivery.offset)
        .filter(|offset| first_failed.is_none_or(|failed| *offset < failed))
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::{Action, Fault, RowChange};

    fn delivery(offset: &str) -> Delivery {
        Delivery {
            id: String::new(),
            binding: "b".into(),
            offset: Offset(offset.into()),
            time: String::new(),
            replay: None,
            retried: false,
            event: None,
            action: Action::Row(RowChange {
                table: crate::names::QualifiedName::new("public", "t"),
                key: Vec::new(),
                delete: None,
                taken: false,
                heir: None,
                upsert: None,
            }),
        }
    }

    #[test]
    fn the_position_stops_before_what_failed() {
        let failed = || Outcome::Failed(Fault::later("x"));
        let written = || Outcome::Written;
        for (batch, outcomes, expected) in [
            (vec!["1", "2", "3"], vec![written(), written(), written()], Some("3")),
            (vec!["1", "2", "3"], vec![written(), failed(), written()], Some("1")),
            // Two bindings of one change.
            (vec!["1", "2", "2"], vec![written(), written(), failed()], Some("1")),
            (vec!["1", "2"], vec![failed(), written()], None),
            // What `emaj init --prune` takes away has no place in the stream.
            (vec![""], vec![written()], None),
        ] {
            let batch: Vec<Delivery> = batch.into_iter().map(delivery).collect();
            let offset = arrived(&batch, &outcomes);
            assert_eq!(
                offset.map(|offset| offset.0.as_str()),
                expected,
                "{batch:?} {outcomes:?}"
            );
        }
    }

    #[test]
    fn what_is_tried_again_moves_no_position() {
        let again = Delivery {
            retried: true,
            ..delivery("3")
        };
        assert_eq!(arrived(&[again], &[Outcome::Written]), None);
    }
}
