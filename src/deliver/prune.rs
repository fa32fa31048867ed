//! Takes away what is at a place and has no row any more: `emaj init --prune`.
//!
//! What has a row is known by its identity at the place: a row of the binding, or of another one that makes the same sort of thing there
//! (`others`). What a row had before a change that has not arrived has one too: the change gives it another name there, with all that others have written
//! to it. Where that cannot be said of a single row, nothing of the binding is taken away: what is there may be that row's. What the
//! place refuses to take away is told, and the rest goes.

use std::collections::HashSet;
use std::time::Duration;

use super::all_rows::{AllRows, Rendered};
use super::digest::digest_bytes;
use super::ground::{Ground, Target};
use super::initial::Done;
use super::left_out::LeftOut;
use super::others;
use super::stop::Stop;
use super::take_over::take_over;
use crate::errors::{Error, Kind, Result};
use crate::fail_at::passing;
use crate::journal;
use crate::manifest::{Binding, BindingKind};
use crate::sink::{Action, Delivery, Existing, Fault, Offset, Outcome, Sink, Verdict};

/// The identities that have a row: hashes of them, because there may be millions.
#[derive(Default)]
pub(super) struct Identities {
    rows: HashSet<[u8; 16]>,
    /// Those of rows as they were before changes that have not arrived.
    before: HashSet<[u8; 16]>,
}

/// Rows of which it is not known what belongs to them.
pub(super) struct Unknown {
    pub rows: u64,
    /// The key of the first, and why.
    pub key: String,
    pub fault: Fault,
}

impl Identities {
    /// Collects what the rows of a binding leave at the place. `like` is a thing that another binding's rows are compared with: each of them must
    /// have a name then, by the key that this one has.
    ///
    /// # Errors
    /// The place cannot be asked; whatever the server answers.
    pub(super) fn of_rows(
        ground: &Ground<'_>,
        target: &Target<'_>,
        binding: &Binding,
        place: &mut dyn Sink,
        like: Option<&Existing>,
    ) -> Result<Result<Identities, Unknown>> {
        let mut unknown: Option<Unknown> = None;
        let mut collect = |rows: Vec<Rendered>, identities: &mut HashSet<[u8; 16]>| -> Result<()> {
            let mut note = |key: String, fault: Fault| match &mut unknown {
                Some(unknown) => unknown.rows += 1,
                none => *none = Some(Unknown { rows: 1, key, fault }),
            };
            let (mut keys, mut made) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
            for row in rows {
                match row.made {
                    Ok(delivery) => {
                        keys.push(row.key);
                        made.push(with_key_of(delivery, like));
                    }
                    Err(_) if row.is_without_name => {}
                    Err(fault) => note(row.key, fault),
                }
            }
            let names = place.identities(&made).map_err(|fault| target.down(fault))?;
            for (name, key) in names.into_iter().zip(keys) {
                match name {
                    Some(name) => _ = identities.insert(digest_bytes(&name)),
                    None if like.is_some() => {
                        let why = "it gives no key by which the two could be compared";
                        note(key, Fault::never(why));
                    }
                    None => {}
                }
            }
            Ok(())
        };
        let mut identities = Identities::default();
        let mut all = AllRows::open(ground, binding)?;
        all.each(&target.source, &mut |rows| collect(rows, &mut identities.rows))?;
        all.each_before(&target.source, &mut |rows| collect(rows, &mut identities.before))?;
        Ok(unknown.map_or(Ok(identities), Err))
    }

    /// Tells whether a row has this identity, or had it before a change that has not arrived.
    pub(super) fn has(&self, identity: &str) -> bool {
        let identity = digest_bytes(identity);
        self.rows.contains(&identity) || self.before.contains(&identity)
    }

    /// Tells whether a row had this identity before a change that has not arrived, and none has it now.
    fn had(&self, identity: &str) -> bool {
        let identity = digest_bytes(identity);
        self.before.contains(&identity) && !self.rows.contains(&identity)
    }
}

/// The other binding may know the rows of the table by another key.
fn with_key_of(mut delivery: Delivery, like: Option<&Existing>) -> Delivery {
    if let (Action::Row(change), Some(Action::Row(ours))) = (&mut delivery.action, like.map(|like| &like.remove)) {
        change.key.clone_from(&ours.key);
    }
    delivery
}

/// What is there and has no row.
struct Surplus {
    things: Vec<Existing>,
    /// How many identities have a row.
    rows: u64,
}

impl Surplus {
    /// Returns what takes each of them away.
    fn removals(&self, binding: &Binding) -> Vec<Delivery> {
        let time = jiff::Timestamp::now().to_string();
        let removal = |(at, thing): (usize, &Existing)| Delivery {
            id: format!("{}-prune-{at}", binding.name.value),
            binding: binding.name.value.as_str().into(),
            offset: Offset(String::new()),
            time: time.clone(),
            replay: None,
            retried: false,
            event: Some(crate::manifest::Event::Delete),
            action: thing.remove.clone(),
        };
        self.things.iter().enumerate().map(removal).collect()
    }
}

/// Shows what [`prune`] would take away, and returns how much it is.
///
/// # Errors
/// [`Kind::Refused`] when it is not known what another binding makes there; the place cannot be asked, or cannot list; whatever the server
/// answers.
pub(super) fn preview(
    ground: &mut Ground<'_>,
    binding: &Binding,
    left_out: &mut LeftOut,
    show: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<u64> {
    let Some(target) = target(ground, binding, left_out)? else {
        return Ok(0);
    };
    let mut place = target.open()?;
    let Some(surplus) = surplus(ground, &target, &mut *place, binding, left_out)? else {
        return Ok(0);
    };
    let removals = surplus.removals(binding);
    let texts = place.preview(&removals).map_err(|fault| target.down(fault))?;
    texts.iter().try_for_each(|text| show(text))?;
    Ok(removals.len() as u64)
}

/// Takes away what has no row any more, while nobody else delivers to the place; `done` counts it, and what is left.
///
/// # Errors
/// [`Kind::Refused`] when it is more than the binding's `max_deletes`, or not known what another binding makes there: nothing is taken away
/// then. [`Kind::Locked`] when the sink cannot be taken over; the place cannot be asked, or cannot list, or is out of reach in the middle of it; whatever the server answers.
pub(super) fn prune(
    ground: &mut Ground<'_>,
    binding: &Binding,
    wait: Duration,
    stop: &Stop,
    done: &mut Done,
) -> Result<()> {
    let Some(target) = target(ground, binding, &mut done.left_out)? else {
        return Ok(());
    };
    let (schema, name) = (&ground.manifest.schema, &target.sink.name.value);
    let mut keeper = ground.session.sibling()?;
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
    let mut names = surplus.things.iter().map(|thing| &thing.identity);
    for batch in surplus.removals(binding).chunks(target.opener.batch()) {
        if stop.is_set() {
            break;
        }
        // (What it has locked, a worker may have by now: who stood still takes nothing away.)
        keeper.batch_execute("")?;
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

/// Where a binding leads to that makes things which can be listed, and takes them away when their rows go. What keeps a state otherwise is told.
fn target<'a>(ground: &mut Ground<'a>, binding: &Binding, left_out: &mut LeftOut) -> Result<Option<Target<'a>>> {
    if !matches!(binding.kind, BindingKind::Entry { .. } | BindingKind::Row { .. }) {
        return Ok(None);
    }
    let target = ground.target(binding)?;
    Ok(target.filter(|target| {
        let is_listed = journal::is_listed(binding.kind.word(), target.sink.kind.word());
        if !is_listed {
            left_out.unlisted(binding, target.sink);
        } else if !binding.takes_away() {
            left_out.keeps(binding);
        }
        is_listed && binding.takes_away()
    }))
}

/// Looks what is there and has no row; `None`: that cannot be said.
fn surplus(
    ground: &mut Ground<'_>,
    target: &Target<'_>,
    place: &mut dyn Sink,
    binding: &Binding,
    left_out: &mut LeftOut,
) -> Result<Option<Surplus>> {
    let identities = match Identities::of_rows(ground, target, binding, place, None)? {
        Ok(identities) => identities,
        Err(unknown) => {
            left_out.binding(binding, &unknown);
            return Ok(None);
        }
    };
    let (mut things, mut waiting) = (Vec::new(), Vec::new());
    let listed = place.existing(binding, &mut |existing| {
        if identities.had(&existing.identity) {
            waiting.push(existing.identity);
        } else if !identities.has(&existing.identity) {
            things.push(existing);
        }
    });
    listed.map_err(|fault| match fault.verdict {
        Verdict::Never => Error::message(Kind::Refused, fault.reason),
        _ => target.down(fault),
    })?;
    left_out.waiting(binding, &waiting);
    let rows = identities.rows.len() as u64;
    let is_known = others::spare(ground, target, place, binding, &mut things, left_out)?;
    Ok(is_known.then_some(Surplus { things, rows }))
}

/// Refuses to take away more than the binding's `max_deletes`.
///
/// # Errors
/// [`Kind::Refused`]; nothing was taken away.
fn check_limit(binding: &Binding, surplus: &Surplus) -> Result<()> {
    let removals = surplus.things.len() as u64;
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
