//! How far a place has come when a batch is over: for the sinks that keep the position with the data.

use super::{Delivery, Offset, Outcome};

/// Returns how far the batch goes without a failure. It may be less far than before, when an earlier failure was tried again: the position stays
/// where it is then.
pub(super) fn arrived<'a>(batch: &'a [Delivery], outcomes: &[Outcome]) -> Option<&'a Offset> {
    let first_failed = batch
        .iter()
        .zip(outcomes)
        .filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_)))
        .map(|(delivery, _)| &delivery.offset)
        .min();
    batch
        .iter()
        .map(|delivery| &delivery.offset)
        .filter(|offset| !offset.0.is_empty() && first_failed.is_none_or(|failed| *offset < failed))
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
}
