//! How far a place has come when a batch is over: for the sinks that keep the position with the data.

use super::{Delivery, Offset, Outcome};

/// Returns how far the batch goes without a failure, when that is further than before. What failed earlier and is tried again counts as
/// arrived: whoever hands in a batch has the failures of the one before on record.
pub(super) fn arrived<'a>(batch: &'a [Delivery], outcomes: &[Outcome], before: Option<&Offset>) -> Option<&'a Offset> {
    let is_new = |offset: &Offset| before.is_none_or(|before| offset > before);
    let first_failed = batch
        .iter()
        .zip(outcomes)
        .filter(|(delivery, outcome)| is_new(&delivery.offset) && matches!(outcome, Outcome::Failed(_)))
        .map(|(delivery, _)| &delivery.offset)
        .min();
    batch
        .iter()
        .map(|delivery| &delivery.offset)
        .filter(|offset| is_new(offset) && first_failed.is_none_or(|failed| *offset < failed))
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
            event: None,
            action: Action::Row(RowChange {
                table: crate::names::QualifiedName::new("public", "t"),
                key: Vec::new(),
                delete: None,
                upsert: None,
            }),
        }
    }

    #[test]
    fn the_position_stops_before_what_failed_for_the_first_time() {
        let failed = || Outcome::Failed(Fault::later("x"));
        let written = || Outcome::Written;
        for (batch, outcomes, before, expected) in [
            (
                vec!["1", "2", "3"],
                vec![written(), written(), written()],
                None,
                Some("3"),
            ),
            (
                vec!["1", "2", "3"],
                vec![written(), failed(), written()],
                None,
                Some("1"),
            ),
            (vec!["1", "2"], vec![failed(), written()], None, None),
            // An old one tried again, and again in vain.
            (
                vec!["1", "5", "6"],
                vec![failed(), written(), written()],
                Some("4"),
                Some("6"),
            ),
            (vec!["1", "2"], vec![written(), written()], Some("4"), None),
        ] {
            let batch: Vec<Delivery> = batch.into_iter().map(delivery).collect();
            let before = before.map(|text: &str| Offset(text.into()));
            let offset = arrived(&batch, &outcomes, before.as_ref());
            assert_eq!(
                offset.map(|offset| offset.0.as_str()),
                expected,
                "{batch:?} {outcomes:?}"
            );
        }
    }
}
