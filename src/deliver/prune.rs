//! Takes away what is at a place and has no row any more: `emaj init --prune`.
//!
//! What has a row is known by its identity at the place. Where that cannot be said of a single row, nothing of the binding is taken away: what
//! is there may be that row's. What the place refuses to take away is told, and the rest goes.

use std::collections::HashSet;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::all_rows::AllRows;
use super::ground::{Ground, Target};
use super::initial::Done;
use super::left_out::LeftOut;
use super::stop::Stop;
use super::take_over::take_over;
use crate::errors::{Error, Kind, Result};
use crate::fail_at::passing;
use crate::journal;
use crate::manifest::{Binding, BindingKind};
use crate::sink::{Delivery, Offset, Outcome, Sink, Verdict};

/// The identities that have a row: hashes of them, because there may be millions.
type Identities = HashSet<[u8; 16]>;

/// What is there and has no row.
struct Surplus {
    /// Their identities, and what takes each away.
    names: Vec<String>,
    removals: Vec<Delivery>,
    /// How many identities have a row.
    rows: u64,
}

/// Shows what [`prune`] would take away, and returns how much it is.
///
/// # Errors
/// The place cannot be asked, or cannot list; whatever the server answers.
pub(super) fn preview(
    ground: &mut Ground<'_>,
    binding: &Binding,
    left_out: &mut LeftOut,
    show: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<u64> {
    let Some(target) = target(ground, binding)? else {
        return Ok(0);
    };
    let mut place = target.open()?;
    let Some(surplus) = surplus(ground, &target, &mut *place, binding, left_out)? else {
        return Ok(0);
    };
    let texts = place.preview(&surplus.removals).map_err(|fault| target.down(fault))?;
    texts.iter().try_for_each(|text| show(text))?;
    Ok(surplus.removals.len() as u64)
}

/// Takes away what has no row any more, while nobody else delivers to the place; `done` counts it, and what is left.
///
/// # Errors
/// [`Kind::Refused`] when it is more than the binding's `max_deletes`: nothing is taken away then. [`Kind::Locked`] when the sink cannot be
/// taken over; the place cannot be asked, or cannot list, or is out of reach in the middle of it; whatever the server answers.
pub(super) fn prune(
    ground: &mut Ground<'_>,
    binding: &Binding,
    wait: Duration,
    stop: &Stop,
    done: &mut Done,
) -> Result<()> {
    let Some(target) = target(ground, binding)? else {
        return Ok(());
    };
    let (schema, name) = (&ground.manifest.schema, &target.sink.name.value);
    let mut keeper = ground.session.sibling()?;
    keeper.only_builtins()?;
    let record = journal::sink_named(&mut *keeper, schema, name)?
        .ok_or_else(|| Error::message(Kind::NotInstalled, format!("sink `{name}` is not installed")))?;
    if !take_over(&mut keeper, schema, &record, wait, stop)? {
        return Ok(());
    }
    let mut place = target.open()?;
    let Some(surplus) = surplus(ground, &target, &mut *place, binding, &mut done.left_out)? else {
        return Ok(());
    };
    check_limit(binding, &surplus)?;
    let mut names = surplus.names.iter();
    for batch in surplus.removals.chunks(target.opener.batch()) {
        if stop.is_set() {
            break;
        }
        for (outcome, name) in place.deliver(batch).into_iter().zip(&mut names) {
            match outcome {
                Outcome::Failed(fault) if fault.verdict == Verdict::Down => return Err(target.down(fault)),
                Outcome::Failed(fault) => done.left_out.thing(binding, name, &fault),
                Outcome::Written | Outcome::Unchanged => done.pruned += 1,
            }
        }
        passing("prune.taken");
    }
    Ok(())
}

/// Where a binding leads to that makes things which can be listed.
fn target<'a>(ground: &mut Ground<'a>, binding: &Binding) -> Result<Option<Target<'a>>> {
    match binding.kind {
        BindingKind::Entry { .. } | BindingKind::Row { .. } => ground.target(binding),
        _ => Ok(None),
    }
}

/// Looks what is there and has no row; `None`: that cannot be said.
fn surplus(
    ground: &Ground<'_>,
    target: &Target<'_>,
    place: &mut dyn Sink,
    binding: &Binding,
    left_out: &mut LeftOut,
) -> Result<Option<Surplus>> {
    let mut identities = Identities::new();
    let (mut unknown, mut first) = (0, None);
    AllRows::open(ground, binding)?.each(&target.source, &mut |rows| {
        for row in rows {
            match row.made {
                Ok(delivery) => identities.extend(place.identity(&delivery).as_deref().map(hash)),
                Err(fault) => {
                    unknown += 1;
                    first.get_or_insert((row.key, fault));
                }
            }
        }
        Ok(())
    })?;
    if let Some((key, fault)) = first {
        left_out.binding(binding, unknown, &key, &fault);
        return Ok(None);
    }
    let mut surplus = Surplus {
        names: Vec::new(),
        removals: Vec::new(),
        rows: identities.len() as u64,
    };
    let listed = place.existing(binding, &mut |existing| {
        if identities.contains(&hash(&existing.identity)) {
            return;
        }
        surplus.removals.push(Delivery {
            id: format!("{}-prune-{}", binding.name.value, surplus.removals.len()),
            binding: binding.name.value.as_str().into(),
            offset: Offset(String::new()),
            time: jiff::Timestamp::now().to_string(),
            event: Some(crate::manifest::Event::Delete),
            action: existing.remove,
        });
        surplus.names.push(existing.identity);
    });
    listed.map_err(|fault| match fault.verdict {
        Verdict::Never => Error::message(Kind::Refused, fault.reason),
        _ => target.down(fault),
    })?;
    Ok(Some(surplus))
}

fn hash(identity: &str) -> [u8; 16] {
    let digest = Sha256::digest(identity);
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

/// Refuses to take away more than the binding's `max_deletes`.
///
/// # Errors
/// [`Kind::Refused`]; nothing was taken away.
fn check_limit(binding: &Binding, surplus: &Surplus) -> Result<()> {
    let removals = surplus.removals.len() as u64;
    let Some(limit) = binding.max_deletes else {
        return Ok(());
    };
    let most = limit.of(surplus.rows + removals);
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
