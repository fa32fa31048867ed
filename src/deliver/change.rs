//! What one transaction did to one key of one table: the net of the images that the log holds.
//!
//! The log of a transaction is not always in the order of what happened (a statement inside another one stands first), and what a
//! transaction wrote and changed again nobody else ever saw. The images of a key form a chain: as multisets, old minus new
//! is the state before the transaction, new minus old the state after it. No order is needed for that. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::row::Row;

/// One image of a row in the log.
#[derive(Debug, Clone)]
pub struct Image {
    /// Which of the tables, as a number of the caller.
    pub table: usize,
    pub txid: i64,
    /// Where the last image of this key and transaction stands in the WAL: changes are delivered in this order.
    pub position: u64,
    /// Where this image stands, and which row of its statement it is: both images of an updated row have the same.
    pub lsn: u64,
    pub ordinal: Option<i32>,
    pub time: Timestamp,
    pub is_new: bool,
    /// The primary key as a JSON array; for a table without one, what is in the image.
    pub key: Arc<str>,
    /// The key as the server sorts it, where that is not the order of texts here.
    pub sorted: Option<Arc<str>>,
    pub row: Row,
}

/// What one transaction did to one row.
#[derive(Debug, Clone)]
pub struct Change {
    pub table: usize,
    pub txid: i64,
    pub position: u64,
    /// Where its first image stands in the WAL.
    pub lsn: u64,
    pub time: Timestamp,
    /// The key after the change, or before it when the row is gone.
    pub key: Arc<str>,
    pub old: Option<Row>,
    pub new: Option<Row>,
    /// The row was there before, and is read from the table: `emaj init`.
    pub is_init: bool,
}

/// Returns the changes that the images of one group add up to: all images of one transaction and table with the same key, or,
/// where a key was changed, all of that transaction and table. They are in the order of their keys, as what one statement did to rows
/// that keep theirs is: who asks what was delivered before a change goes by that.
pub fn net(images: &[Image]) -> Vec<Change> {
    let mut changes = netted(images);
    if changes.len() > 1 {
        let sorted = |image: &'_ Image| image.sorted.clone().unwrap_or_else(|| Arc::clone(&image.key));
        let order: HashMap<&str, Arc<str>> = images.iter().map(|image| (&*image.key, sorted(image))).collect();
        changes.sort_by(|one, other| order.get(&*one.key).cmp(&order.get(&*other.key)));
    }
    changes
}

fn netted(images: &[Image]) -> Vec<Change> {
    // The usual ones need no arithmetic.
    if let [only] = images {
        return vec![change(
            images,
            only.key.clone(),
            (!only.is_new).then_some(only),
            only.is_new.then_some(only),
        )];
    }
    if let [old, new] = images
        && !old.is_new
        && new.is_new
        && old.key == new.key
    {
        let differs = old.row != new.row;
        return differs
            .then(|| change(images, new.key.clone(), Some(old), Some(new)))
            .into_iter()
            .collect();
    }
    let mut count: HashMap<(&str, &str), i64> = HashMap::new();
    for image in images {
        *count.entry((&image.key, &image.row.json)).or_default() += if image.is_new { -1 } else { 1 };
    }
    let (mut before, mut after): (Vec<&Image>, Vec<&Image>) = (Vec::new(), Vec::new());
    for image in images {
        let left = count.entry((&image.key, &image.row.json)).or_default();
        match (*left, image.is_new) {
            (1.., false) => {
                *left -= 1;
                before.push(image);
            }
            (..=-1, true) => {
                *left += 1;
                after.push(image);
            }
            _ => {}
        }
    }
    let mut changes = Vec::new();
    let mut gone = Vec::new();
    let mut by_key: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, new) in after.iter().enumerate().rev() {
        by_key.entry(&new.key).or_default().push(at);
    }
    let mut came: Vec<Option<&Image>> = after.into_iter().map(Some).collect();
    let mut stayed: HashMap<(&str, &str), &Image> = HashMap::new();
    for old in before {
        let at = by_key.get_mut(&*old.key).and_then(Vec::pop);
        match at.and_then(|at| came[at].take()) {
            Some(new) => {
                changes.push(change(images, new.key.clone(), Some(old), Some(new)));
                stayed.insert((&new.key, &new.row.json), old);
            }
            None => gone.push(old),
        }
    }
    let mut came: Vec<&Image> = came.into_iter().flatten().collect();
    if !gone.is_empty() && !came.is_empty() {
        let Steps { mut steps, all_known } = steps(images);
        let mut ends: HashMap<(&str, &str), &Image> =
            came.iter().map(|new| ((&*new.key, &*new.row.json), *new)).collect();
        gone.retain(|old| {
            let mut at = (&*old.key, &*old.row.json);
            loop {
                while let Some(next) = steps.get_mut(&at).and_then(Vec::pop) {
                    at = (&next.key, &next.row.json);
                }
                // A row that came to a key that another one left: it goes on as that one.
                let Some(left) = stayed.remove(&at) else { break };
                at = (&left.key, &left.row.json);
            }
            let end = ends.remove(&at);
            changes.extend(end.map(|new| change(images, new.key.clone(), Some(old), Some(new))));
            end.is_none()
        });
        came.retain(|new| ends.contains_key(&(&*new.key, &*new.row.json)));
        // One key that went and one that came, where it is not known what each update made of its row: the same row.
        if let (false, [old], [new]) = (all_known, gone.as_slice(), came.as_slice()) {
            changes.push(change(images, new.key.clone(), Some(old), Some(new)));
            return changes;
        }
    }
    changes.extend(gone.iter().map(|old| change(images, old.key.clone(), Some(old), None)));
    changes.extend(came.iter().map(|new| change(images, new.key.clone(), None, Some(new))));
    changes
}

/// What updates made of each image, the first last.
struct Steps<'a> {
    steps: HashMap<(&'a str, &'a str), Vec<&'a Image>>,
    /// There is no update of which it is not known.
    all_known: bool,
}

/// Finds the two images of each updated row: they stand at one point of one statement.
fn steps(images: &[Image]) -> Steps<'_> {
    let mut pairs: HashMap<(u64, Option<i32>), [Vec<&Image>; 2]> = HashMap::new();
    for image in images {
        pairs.entry((image.lsn, image.ordinal)).or_default()[usize::from(image.is_new)].push(image);
    }
    let mut steps: HashMap<(&str, &str), Vec<&Image>> = HashMap::new();
    for old in images.iter().rev().filter(|image| !image.is_new) {
        if let Some([olds, news]) = pairs.get(&(old.lsn, old.ordinal))
            && let ([_], [new]) = (olds.as_slice(), news.as_slice())
        {
            steps.entry((&old.key, &*old.row.json)).or_default().push(new);
        }
    }
    let known =
        |[olds, news]: &[Vec<&Image>; 2]| olds.is_empty() || news.is_empty() || (olds.len(), news.len()) == (1, 1);
    let all_known = pairs.values().all(known);
    Steps { steps, all_known }
}

fn change(images: &[Image], key: Arc<str>, old: Option<&Image>, new: Option<&Image>) -> Change {
    let last = new.or(old).unwrap_or(&images[0]);
    Change {
        table: last.table,
        txid: last.txid,
        position: last.position,
        lsn: images.iter().map(|image| image.lsn).min().unwrap_or(last.lsn),
        time: last.time,
        key,
        old: old.map(|image| image.row.clone()),
        new: new.map(|image| image.row.clone()),
        is_init: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(is_new: bool, key: &str, row: &str) -> Image {
        Image {
            table: 0,
            txid: 7,
            position: 9,
            lsn: 9,
            ordinal: row.get(2..).and_then(|ordinal| ordinal.parse().ok()),
            time: Timestamp::UNIX_EPOCH,
            is_new,
            key: key.into(),
            sorted: None,
            row: Row::new(&row[..2]),
        }
    }

    /// `-1a` is an old image of key 1 with the value a; `+` a new one; `-1a5` that of the fifth row of an update.
    fn shown(images: &str) -> Vec<String> {
        let images: Vec<Image> = images
            .split_whitespace()
            .map(|text| image(text.starts_with('+'), &text[1..2], &text[1..]))
            .collect();
        let text = |row: &Option<Row>| row.as_ref().map_or("-".to_owned(), |row| row.json.to_string());
        net(&images)
            .iter()
            .map(|change| format!("{}>{}", text(&change.old), text(&change.new)))
            .collect()
    }

    #[test]
    fn the_net_of_a_key() {
        assert_eq!(shown("+1a"), ["->1a"]);
        assert_eq!(shown("-1a"), ["1a>-"]);
        assert_eq!(shown("-1a +1b"), ["1a>1b"]);
        assert_eq!(shown("+1a -1a"), [] as [&str; 0]);
        assert_eq!(shown("+1a -1a +1b"), ["->1b"]);
        assert_eq!(shown("-1a +1b -1b +1c"), ["1a>1c"]);
        // A statement inside another one stands first: the order does not matter.
        assert_eq!(shown("-1b +1c -1a +1b"), ["1a>1c"]);
        assert_eq!(shown("-1a +1b -1b +1a"), [] as [&str; 0]);
        assert_eq!(shown("-1a +1a"), [] as [&str; 0]);
    }

    #[test]
    fn changed_keys() {
        assert_eq!(shown("-1a +2a"), ["1a>2a"]);
        assert_eq!(shown("-1a +2a -2a +3b"), ["1a>3b"]);
        assert_eq!(shown("-1a +2a -2b +1b"), ["1a>1b", "2b>2a"]);
        assert_eq!(shown("-1a +2a -3a +4a"), ["1a>-", "->2a", "3a>-", "->4a"]);
        assert_eq!(shown("-1a1 +2a1 -3a2 +4a2"), ["1a>2a", "3a>4a"]);
        assert_eq!(shown("-1a1 +2a1 -2a2 +3b2 -5a3 +6a3 -7a"), ["1a>3b", "5a>6a", "7a>-"]);
        // All keys move by one: the rows between have the key of their neighbour now.
        assert_eq!(shown("-1a1 +2b1 -2a2 +3b2"), ["2a>2b", "1a>3b"]);
        assert_eq!(shown("-1a1 +2b1 -2a7"), ["1a>-", "2a>2b"]);
        // Whatever order the rows are stored in, what is told of them is in the order of the keys.
        assert_eq!(shown("-3c1 +4c1 -2b2 +3b2 -1a3 +2a3"), ["2b>2a", "3c>3b", "1a>4c"]);
        // What was deleted and what was inserted beside an update of a key are two rows.
        assert_eq!(shown("-1a7 +9b8 -3a1 +4a1"), ["1a>-", "3a>4a", "->9b"]);
        assert_eq!(shown("+8a7 -8a1 +9a1 -4a8"), ["4a>-", "->9a"]);
        // There and back again, and away.
        assert_eq!(shown("-1a1 +2a1 -2a2 +1a2 -1a3 +3a3 -4a4 +5a4"), ["1a>3a", "4a>5a"]);
    }
}
