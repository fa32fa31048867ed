//! Which texts are one key: `1.0` and `1.00` of a `numeric`, `Bob` and `bob` of a `citext`, `007` and `7` where an `integer` is written.
//!
//! Only the other database can say that, by its column's type and collation; it is asked where the text of a value does not say by itself which value
//! it is ([`Spelling`]), and where it matters: `write` asks about a batch that writes several rows of a table, `listing` about rows that are looked
//! for there.

use std::collections::HashMap;
use std::sync::Arc;

use postgres::{Client, Statement};

use super::fold::{Item, Row};
use crate::names::QualifiedName;
use crate::sink::fault::of_postgres_values;
use crate::sink::{Fault, Verdict};

/// How the values of a column are written, as far as two texts of one value are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    Boolean,
    Integer,
    /// Equal to the last byte, or not equal.
    Text,
    Date,
    Uuid,
    /// One value may have several texts.
    Free,
}

impl Spelling {
    /// Returns that of a type, by its number; of text, by whether its collation knows texts that differ and are equal.
    pub(super) fn of(oid: u32, is_deterministic: bool) -> Spelling {
        match oid {
            16 => Spelling::Boolean,
            20 | 21 | 23 | 26 => Spelling::Integer,
            25 | 1043 if is_deterministic => Spelling::Text,
            1082 => Spelling::Date,
            2950 => Spelling::Uuid,
            _ => Spelling::Free,
        }
    }

    /// Tells whether a value, as JSON, is written in the one way in which its type prints it.
    fn is_told_by(self, json: &str) -> bool {
        let inside = json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        let text = inside.filter(|text| !text.contains('\\')).map(str::as_bytes);
        let like = |form: &[u8]| {
            text.is_some_and(|text| {
                text.len() == form.len()
                    && text.iter().zip(form).all(|(byte, form)| match form {
                        b'0' => byte.is_ascii_digit(),
                        b'f' => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
                        form => byte == form,
                    })
            })
        };
        match self {
            Spelling::Boolean => matches!(json, "true" | "false"),
            // (JSON has no leading zeros.)
            Spelling::Integer => json != "-0" && json.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'),
            // A `varchar` cuts off blanks at the end that are too many.
            Spelling::Text => text.is_some_and(|text| !text.ends_with(b" ")),
            Spelling::Date => like(b"0000-00-00"),
            Spelling::Uuid => like(b"ffffffff-ffff-ffff-ffff-ffffffffffff"),
            Spelling::Free => false,
        }
    }
}

/// Tells whether the key of a row says which row it is.
fn is_told(row: &Row<'_>, key: &[String], spellings: &[Spelling]) -> bool {
    key.iter().zip(spellings).all(|(column, spelling)| {
        let value = row.members.iter().find(|(name, _)| name == column);
        value.is_some_and(|(_, value)| spelling.is_told_by(value.get()))
    })
}

/// Asks, in a savepoint of the open transaction, which of the keys of rows are one.
///
/// # Errors
/// One of them cannot be read there; what concerns the whole place (the transaction is broken then).
fn which_are_one(
    client: &mut Client,
    same: &Statement,
    rows: &[&Row<'_>],
    key: &[String],
) -> Result<Vec<postgres::Row>, Fault> {
    client.batch_execute("savepoint emaj_keys")?;
    match client.query(same, &[&keys(rows.iter().copied().enumerate(), key)]) {
        Ok(found) => {
            client.batch_execute("release savepoint emaj_keys")?;
            Ok(found)
        }
        Err(error) => {
            let fault = of_postgres_values(error);
            if fault.verdict != Verdict::Down {
                client.batch_execute("rollback to savepoint emaj_keys; release savepoint emaj_keys")?;
            }
            Err(fault)
        }
    }
}

/// Tells whether the key of a row can be one there.
///
/// # Errors
/// Only what concerns the whole place; the transaction is broken then.
pub(super) fn can_be_a_key(
    client: &mut Client,
    same: &Statement,
    row: &Row<'_>,
    key: &[String],
) -> Result<bool, Fault> {
    match which_are_one(client, same, &[row], key) {
        Ok(_) => Ok(true),
        Err(fault) if fault.verdict == Verdict::Down => Err(fault),
        Err(fault) => Ok(fault.verdict != Verdict::Never),
    }
}

/// Gives rows of `table` that are one in the other database one key, inside the open transaction, where the batch writes some: the last one is what is to
/// be there.
/// What the other database cannot read keeps its text: it is refused when it is written.
///
/// # Errors
/// Only what concerns the whole place; the transaction is broken then.
pub(super) fn settle(
    client: &mut Client,
    items: &mut [Item<'_>],
    table: &QualifiedName,
    key: &[String],
    spellings: &[Spelling],
    same: &Statement,
) -> Result<(), Fault> {
    let is_of_it = |item: &Item<'_>| item.change.table == *table && item.change.key == key;
    let (mut writes, mut is_sure) = (false, true);
    for item in items.iter().filter(|item| is_of_it(item)) {
        writes |= item.upsert.is_some() || item.heir.is_some();
        is_sure = is_sure && item.rows().all(|row| is_told(row, key, spellings));
    }
    if !writes || is_sure {
        return Ok(());
    }
    let mut firsts: HashMap<Arc<str>, Arc<str>> = HashMap::new();
    {
        let mut rows: Vec<&Row<'_>> = Vec::new();
        for row in items.iter().filter(|item| is_of_it(item)).flat_map(Item::rows) {
            if firsts.insert(row.key.clone(), row.key.clone()).is_none() {
                rows.push(row);
            }
        }
        if rows.len() < 2 {
            return Ok(());
        }
        let mut ask = |rows: &[&Row<'_>]| which_are_one(client, same, rows, key);
        let mut known: Option<Vec<postgres::Row>> = None;
        let mut readable: Vec<&Row<'_>> = Vec::with_capacity(rows.len());
        in_halves(&rows, &mut ask, &mut |rows, found| {
            readable.extend(rows);
            known = Some(found);
        })?;
        // Keys are compared with each other: those that can be read are asked about together.
        let found = match known {
            Some(found) if readable.len() == rows.len() && found.len() == rows.len() => found,
            _ => ask(&readable)?,
        };
        for found in found {
            let place = |at: usize| {
                usize::try_from(found.get::<_, i32>(at))
                    .ok()
                    .and_then(|at| readable.get(at))
            };
            if let (Some(row), Some(first)) = (place(0), place(1)) {
                firsts.insert(row.key.clone(), first.key.clone());
            }
        }
    }
    for item in items.iter_mut().filter(|item| is_of_it(item)) {
        for row in [&mut item.delete, &mut item.heir, &mut item.upsert]
            .into_iter()
            .flatten()
        {
            if let Some(first) = firsts.get(&row.key) {
                row.key = first.clone();
            }
        }
    }
    Ok(())
}

/// Asks about all of them, or, when one of them is refused, about halves, until that one is alone and left out.
///
/// # Errors
/// Whatever is not said of a value for good: a time-out, a lock, a lost connection.
pub(super) fn in_halves<T, A>(
    all: &[T],
    ask: &mut dyn FnMut(&[T]) -> Result<A, Fault>,
    take: &mut dyn FnMut(&[T], A),
) -> Result<(), Fault> {
    if all.is_empty() {
        return Ok(());
    }
    match ask(all) {
        Ok(answer) => take(all, answer),
        Err(fault) if fault.verdict != Verdict::Never => return Err(fault),
        Err(_) if all.len() == 1 => {}
        Err(_) => {
            let (first, second) = all.split_at(all.len() / 2);
            in_halves(first, ask, take)?;
            in_halves(second, ask, take)?;
        }
    }
    Ok(())
}

/// Returns numbered rows as one JSON array of objects: the number as `n`, the values of the key as `k1` and so on.
pub(super) fn keys<'r, 'a: 'r>(rows: impl Iterator<Item = (usize, &'r Row<'a>)>, key: &[String]) -> String {
    let mut json = String::with_capacity(rows.size_hint().0 * 32 + 2);
    json.push('[');
    for (place, (at, row)) in rows.enumerate() {
        json.push_str(if place == 0 { "" } else { "," });
        json.push_str(&format!("{{\"n\":{at}"));
        for (place, column) in key.iter().enumerate() {
            if let Some((_, value)) = row.members.iter().find(|(name, _)| name == column) {
                json.push_str(&format!(",\"k{}\":{value}", place + 1));
            }
        }
        json.push('}');
    }
    json.push(']');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_says_which_value_it_is_or_not() {
        let uuid = r#""a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11""#;
        for (spelling, told, not_told) in [
            (Spelling::Boolean, vec!["true"], vec![r#""t""#]),
            (Spelling::Integer, vec!["7", "-7"], vec![r#""007""#, "-0", "7.0", "7e1"]),
            (
                Spelling::Text,
                vec![r#""a b""#, r#""""#],
                vec!["7", r#""a ""#, r#""\u0061""#],
            ),
            (
                Spelling::Date,
                vec![r#""2024-02-29""#],
                vec![r#""2024-02-29T00:00:00""#, r#""29.02.2024""#],
            ),
            (
                Spelling::Uuid,
                vec![uuid],
                vec![r#""A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11""#],
            ),
            (Spelling::Free, vec![], vec!["1.0", r#""x""#]),
        ] {
            assert!(told.iter().all(|json| spelling.is_told_by(json)), "{spelling:?}");
            assert!(!not_told.iter().any(|json| spelling.is_told_by(json)), "{spelling:?}");
        }
    }

    #[test]
    fn what_is_refused_is_left_out_alone() {
        let mut asked = 0;
        let mut taken = Vec::new();
        let numbers: Vec<u32> = (0..16).collect();
        let mut ask = |part: &[u32]| {
            asked += 1;
            match part.contains(&11) {
                true => Err(Fault::never("11")),
                false => Ok(part.len()),
            }
        };
        in_halves(&numbers, &mut ask, &mut |part, _| taken.extend_from_slice(part)).unwrap();
        assert_eq!(taken, (0..16).filter(|number| *number != 11).collect::<Vec<u32>>());
        assert_eq!(asked, 9);
        // A look that came too late says nothing of them.
        let mut ask = |_: &[u32]| Err::<(), _>(Fault::later("a lock"));
        let fault = in_halves(&numbers, &mut ask, &mut |_, ()| {}).unwrap_err();
        assert_eq!(fault.verdict, Verdict::Later);
    }
}
