//! How wide the rows of a log are: emaj's own columns stand before those of the table, so that a table near PostgreSQL's limits has a
//! log beyond them. Pure; `wanted` refuses what cannot be made, and warns of rows that could not be written.

use crate::catalog::{Column, Generated};

/// Columns that a table can have (`MaxHeapAttributeNumber`).
const MOST_COLUMNS: usize = 1600;
/// Bytes that a row can have in a page of 8 kB (`MaxHeapTupleSize`).
const MOST_BYTES: usize = 8160;
/// What emaj's own columns take, as `pg_type` has length and alignment: a place, a transaction, a time, a number, and three short texts, of
/// which the last is the longest name that a role can have.
const OWN: [(i16, u8); 7] = [
    (8, b'd'),
    (8, b'd'),
    (8, b'd'),
    (4, b'i'),
    (4, b'c'),
    (4, b'c'),
    (64, b'c'),
];

/// Returns how many columns the log of a table has, when those are too many.
pub(super) fn too_many(columns: &[Column], own: usize) -> Option<usize> {
    let all = own + captured(columns).count();
    (all > MOST_COLUMNS).then_some(all)
}

/// Returns how many bytes a log row takes at the least in which every column has a value, when that is more than fits. What may go to TOAST
/// counts as nearly nothing.
pub(super) fn too_wide(columns: &[Column], own: usize) -> Option<usize> {
    let all = own + captured(columns).count();
    let header = aligned(23 + all.div_ceil(8), b'd');
    let values = OWN
        .into_iter()
        .chain(captured(columns).map(|column| (column.length, column.align)));
    let data = values.fold(0, |at, (length, align)| match usize::try_from(length) {
        Ok(length) => aligned(at, align) + length,
        Err(_) => at + 1,
    });
    (header + data > MOST_BYTES).then_some(header + data)
}

/// Returns the columns that a log has, too: all but virtual ones.
pub(super) fn captured(columns: &[Column]) -> impl Iterator<Item = &Column> {
    columns.iter().filter(|column| column.generated != Generated::Virtual)
}

/// `align` as in `pg_type.typalign`.
fn aligned(at: usize, align: u8) -> usize {
    at.next_multiple_of(match align {
        b'd' => 8,
        b'i' => 4,
        b's' => 2,
        _ => 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(many: usize, length: i16, align: u8) -> Vec<Column> {
        let column = Column {
            length,
            align,
            ..Column::default()
        };
        vec![column; many]
    }

    #[test]
    fn a_log_has_columns_of_its_own() {
        assert_eq!(too_many(&columns(1593, 4, b'i'), 7), None);
        assert_eq!(too_many(&columns(1594, 4, b'i'), 7), Some(1601));
        assert_eq!(too_many(&columns(1593, 4, b'i'), 8), Some(1601));
    }

    #[test]
    fn rows_that_fit_their_table_may_not_fit_its_log() {
        assert_eq!(too_wide(&columns(900, 8, b'd'), 7), None);
        assert!(too_wide(&columns(1000, 8, b'd'), 7).is_some());
        assert_eq!(
            too_wide(&columns(1500, -1, b'i'), 7),
            None,
            "those are in TOAST, or short"
        );
        assert_eq!(too_wide(&columns(1500, 1, b'c'), 7), None);
        let half: Vec<Column> = (0..505)
            .flat_map(|_| [columns(1, 1, b'c'), columns(1, 8, b'd')].concat())
            .collect();
        assert!(too_wide(&half, 7).is_some(), "a byte before eight takes eight");
    }
}
