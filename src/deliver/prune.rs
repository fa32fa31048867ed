//! What is at a sink and has no row any more.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use crate::errors::{Error, Kind, Result};
use crate::manifest::{Binding, Limit};
use crate::sink::{Delivery, Fault, Offset, Sink};

/// The identities that have a row: hashes of them, because there may be millions.
#[derive(Debug, Default)]
pub(super) struct Wanted(HashSet<[u8; 16]>);

impl Wanted {
    pub(super) fn extend(&mut self, identities: impl Iterator<Item = String>) {
        self.0.extend(identities.map(|identity| hash(&identity)));
    }

    /// Returns how many there are.
    pub(super) fn seen(&self) -> u64 {
        self.0.len() as u64
    }
}

fn hash(identity: &str) -> [u8; 16] {
    let digest = Sha256::digest(identity);
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

/// Returns what takes away everything of `binding` that is there and not wanted.
///
/// # Errors
/// The place cannot be asked, or cannot list.
pub(super) fn removals(place: &mut dyn Sink, binding: &Binding, wanted: &Wanted) -> Result<Vec<Delivery>, Fault> {
    let mut removals = Vec::new();
    place.existing(binding, &mut |existing| {
        if wanted.0.contains(&hash(&existing.identity)) {
            return;
        }
        removals.push(Delivery {
            id: format!("{}-prune-{}", binding.name.value, removals.len()),
            binding: binding.name.value.as_str().into(),
            offset: Offset(String::new()),
            time: jiff::Timestamp::now().to_string(),
            event: Some(crate::manifest::Event::Delete),
            action: existing.remove,
        });
    })?;
    Ok(removals)
}

/// Refuses to take away more than the binding's `max_deletes`.
///
/// # Errors
/// [`Kind::Refused`]; nothing was taken away.
pub(super) fn check_limit(binding: &Binding, removals: u64, rows: u64) -> Result<()> {
    let most = match binding.max_deletes {
        None => return Ok(()),
        Some(Limit::Rows(most)) => most,
        Some(Limit::Percent(share)) => (rows + removals) * u64::from(share) / 100,
    };
    if removals <= most {
        return Ok(());
    }
    Err(Error::message(
        Kind::Refused,
        format!(
            "binding `{}` would take away {removals}, and its `max_deletes` allows {most}",
            binding.name.value
        ),
    )
    .hint("look at `emaj init --prune --dry-run`; raise `max_deletes` in the manifest when it is meant"))
}
