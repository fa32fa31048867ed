//! The whole of `emaj init`: which bindings, sending their rows, pruning, and the dry run of both.
//!
//! Whoever sends rows is the sink's courier for that while: a worker that delivers lets go, and takes over again afterwards.

use std::time::Duration;

use super::all_rows::AllRows;
use super::ground::{Ground, Target};
use super::init::no_order;
use super::left_out::LeftOut;
use super::prune;
use super::sources::not_installed;
use super::status::Status;
use super::stop::Stop;
use super::take_over::beside_nobody;
use super::worker::{self, Task};
use crate::errors::{Error, Kind, Result};
use crate::journal::{self, SinkRecord, SinkState};
use crate::manifest::{Binding, Manifest};
use crate::pg::Session;
use crate::sink::{Delivery, Sink, Verdict};
use crate::words::quoted;

/// How rows are to be sent.
#[derive(Debug, Clone, Default)]
pub struct Initial {
    pub prune: bool,
    pub restart: bool,
    /// How long a place may be out of reach, or a sink taken over by somebody else.
    pub patience: Duration,
}

/// What is about to be sent.
#[derive(Debug)]
pub struct Begun {
    /// How many rows there are about.
    pub total: Option<u64>,
    /// The bindings whose rows are sent: those whose rows an unfinished run has sent are left out.
    pub sends: Vec<Binding>,
    /// Bindings whose places may keep what was deleted while nothing was delivered to their sinks, which were given up.
    pub may_keep: Vec<String>,
    /// Bindings of such sinks whose tables have no primary key: what they missed is lost.
    pub missing: Vec<String>,
}

/// What was done, also by a run that failed.
#[derive(Debug, Default)]
pub struct Done {
    pub rows: u64,
    pub written: u64,
    pub refused: u64,
    pub pruned: u64,
    /// What pruning left where it is, though it should be gone.
    pub left_out: LeftOut,
}

/// Chooses the bindings whose rows are sent: those with `names`, or all that go to a sink.
///
/// # Errors
/// A name that the manifest does not have, a binding that is done inside the database, or no binding that goes to a sink.
pub fn choose(manifest: &Manifest, names: &[String]) -> Result<Vec<Binding>> {
    if names.is_empty() {
        let all: Vec<Binding> = manifest
            .bindings
            .iter()
            .filter(|binding| !binding.kind.is_in_database())
            .cloned()
            .collect();
        return match all.is_empty() {
            true => Err(Error::message(
                Kind::Refused,
                "the manifest has no binding that goes to a sink",
            )),
            false => Ok(all),
        };
    }
    names
        .iter()
        .map(|name| match manifest.binding(name) {
            Some(binding) if !binding.kind.is_in_database() => Ok(binding.clone()),
            Some(_) => Err(Error::message(
                Kind::Refused,
                format!("binding `{name}` is done inside the database: there is nothing to send"),
            )),
            None => {
                let known: Vec<String> = manifest
                    .bindings
                    .iter()
                    .map(|binding| format!("`{}`", binding.name.value))
                    .collect();
                Err(
                    Error::message(Kind::Refused, format!("the manifest has no binding `{name}`"))
                        .hint(format!("it has {}", known.join(", "))),
                )
            }
        })
        .collect()
}

/// Notes that the rows of bindings are wanted. A run that was not finished is gone on with, unless it is to begin anew.
///
/// # Errors
/// A binding that is not installed; [`Kind::Locked`] when one of the sinks is taken over by somebody else; whatever the server answers.
pub fn begin(ground: &mut Ground<'_>, initial: &Initial, chosen: &[Binding]) -> Result<Begun> {
    let (manifest, session) = (ground.manifest, &mut *ground.session);
    let schema = &manifest.schema;
    worker::source(session, schema)?;
    let is_fed = |sink: &SinkRecord| {
        let mut sinks = chosen.iter().filter_map(|binding| binding.to.as_ref());
        sinks.any(|to| to.value == sink.name)
    };
    let mut sinks = journal::sinks(&mut **session, schema)?;
    sinks.retain(is_fed);
    let names: Vec<&str> = manifest
        .bindings
        .iter()
        .map(|binding| binding.name.value.as_str())
        .collect();
    let keyless = journal::without_key(&mut **session, schema, &names)?;
    let (mut may_keep, mut missing) = (Vec::new(), Vec::new());
    for sink in sinks.iter().filter(|sink| sink.state == SinkState::Lost) {
        let (never, sent): (Vec<&Binding>, Vec<&Binding>) = manifest
            .bindings_to(&sink.name)
            .partition(|binding| keyless.contains_key(&binding.name.value));
        let left_out = sent.iter().filter(|binding| !is_among(binding, chosen)).map(name_of);
        let left_out: Vec<String> = left_out.collect();
        if !left_out.is_empty() {
            return Err(Error::message(
                Kind::Refused,
                format!(
                    "sink `{}` has lost its place in the log, and would never get what {} missed",
                    sink.name,
                    quoted("binding", &left_out)
                ),
            )
            .hint("send the rows of all its bindings: `emaj init` without `--binding`"));
        }
        let is_listed =
            |binding: &&&Binding| journal::is_listed(binding.kind.word(), &sink.kind) && binding.takes_away();
        may_keep.extend(sent.iter().filter(is_listed).map(name_of));
        missing.extend(never.iter().map(name_of));
    }
    let mut sends: Vec<Binding> = chosen.to_vec();
    sends.retain(|binding| !missing.contains(&binding.name.value));
    if let Some(table) = sends.iter().find_map(|binding| keyless.get(&binding.name.value)) {
        return Err(no_order(table));
    }
    let names: Vec<&str> = sends.iter().map(|binding| binding.name.value.as_str()).collect();
    let wanted = beside_nobody(session, schema, &sinks, initial.patience, &mut |transaction| {
        journal::lock_set_aside(transaction, schema)?;
        let wanted = journal::want_rows(transaction, schema, &names, initial.restart)?;
        if let Some(unknown) = names.iter().find(|name| wanted.iter().all(|one| one.binding != **name)) {
            return Err(not_installed("binding", unknown));
        }
        // (After all of them: what was sent before a sink lost its place is sent again.)
        for to in chosen.iter().filter_map(|binding| binding.to.as_ref()) {
            journal::begin_anew(transaction, schema, &to.value)?;
        }
        Ok(wanted)
    })?;
    let is_sent = |binding: &Binding| {
        wanted
            .iter()
            .any(|one| one.is_sent && one.binding == binding.name.value)
    };
    sends.retain(|binding| !is_sent(binding));
    let total = wanted.iter().map(|one| u64::try_from(one.rows).unwrap_or(0)).sum();
    Ok(Begun {
        total: (total > 0).then_some(total),
        sends,
        may_keep,
        missing,
    })
}

fn is_among(binding: &Binding, chosen: &[Binding]) -> bool {
    chosen.iter().any(|one| one.name.value == binding.name.value)
}

fn name_of(binding: &&Binding) -> String {
    binding.name.value.clone()
}

/// Sends the rows of the bindings that `begun` names, beside the changes that go on, then prunes the `chosen` ones. `sent` is called with numbers of rows, and `done` says
/// what was done.
///
/// # Errors
/// What stands in the way of a sink; what was done stays (`done` has it), and the next run goes on.
pub fn initialise(
    ground: &mut Ground<'_>,
    initial: &Initial,
    begun: &Begun,
    chosen: &[Binding],
    stop: &Stop,
    sent: &(dyn Fn(u64) + Sync),
    done: &mut Done,
) -> Result<()> {
    if !begun.sends.is_empty() {
        send(ground, initial, &begun.sends, stop, sent, done)?;
    }
    if initial.prune {
        for binding in chosen.iter().take_while(|_| !stop.is_set()) {
            prune::prune(ground, binding, initial.patience, stop, done)?;
        }
    }
    Ok(())
}

fn send(
    ground: &mut Ground<'_>,
    initial: &Initial,
    bindings: &[Binding],
    stop: &Stop,
    sent: &(dyn Fn(u64) + Sync),
    done: &mut Done,
) -> Result<()> {
    let task = Task {
        sinks: bindings
            .iter()
            .filter_map(|binding| binding.to.as_ref())
            .map(|to| to.value.clone())
            .collect(),
        until_empty: true,
        patience: initial.patience,
        init: bindings.iter().map(|binding| binding.name.value.clone()).collect(),
    };
    let (status, over) = (Status::default(), Stop::default());
    let worked = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut shown = 0;
            loop {
                let is_over = over.wait(Duration::from_millis(200));
                let rows: u64 = status.all().values().map(|sink| sink.sent).sum();
                sent(rows - shown);
                shown = rows;
                if is_over {
                    return;
                }
            }
        });
        let Ground {
            manifest,
            session,
            environment,
            ..
        } = ground;
        let worked = worker::work(manifest, session, environment, &task, &status, stop, None);
        over.set();
        worked
    });
    let all = status.all();
    done.rows = all.values().map(|sink| sink.sent).sum();
    done.written = all.values().map(|sink| sink.written).sum();
    done.refused = all.values().map(|sink| sink.refused).sum();
    worked
}

/// Shows what `init` would write, and prune; changes nothing. Returns the number of things shown, and what was left out.
///
/// # Errors
/// A place that cannot be asked; whatever the server answers.
pub fn preview(
    ground: &mut Ground<'_>,
    chosen: &[Binding],
    prune: bool,
    show: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<(u64, LeftOut)> {
    let (mut shown, mut left_out) = (0, LeftOut::default());
    for binding in chosen {
        let Some(target) = ground.target(binding)? else {
            continue;
        };
        let mut place = target.open()?;
        let mut rows = AllRows::open(ground, binding)?;
        rows.each(&target.source, &mut |rows| {
            let mut deliveries = Vec::with_capacity(rows.len());
            for row in rows {
                match row.made {
                    Ok(delivery) => deliveries.push((row.key, delivery)),
                    Err(fault) => left_out.row(binding, &row.key, &fault),
                }
            }
            shown += show_each(&target, &mut *place, binding, deliveries, &mut left_out, show)?;
            Ok(())
        })?;
        if prune {
            shown += prune::preview(ground, binding, &mut left_out, show)?;
        }
    }
    Ok((shown, left_out))
}

/// Shows what a place would make of deliveries; what it would refuse is left out.
fn show_each(
    target: &Target<'_>,
    place: &mut dyn Sink,
    binding: &Binding,
    deliveries: Vec<(String, Delivery)>,
    left_out: &mut LeftOut,
    show: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<u64> {
    let (keys, deliveries): (Vec<String>, Vec<Delivery>) = deliveries.into_iter().unzip();
    let mut texts = Vec::new();
    match place.preview(&deliveries) {
        Ok(all) => texts = all,
        Err(fault) if fault.verdict == Verdict::Down => return Err(target.down(fault)),
        // One of them: which one shows when each is asked for by itself.
        Err(_) => {
            for (key, delivery) in keys.iter().zip(&deliveries) {
                match place.preview(std::slice::from_ref(delivery)) {
                    Ok(one) => texts.extend(one),
                    Err(fault) if fault.verdict == Verdict::Down => return Err(target.down(fault)),
                    Err(fault) => left_out.row(binding, key, &fault),
                }
            }
        }
    }
    texts.iter().try_for_each(|text| show(text))?;
    Ok(texts.len() as u64)
}

/// Returns the one group that the tables of a sink are in.
///
/// # Errors
/// They are in several, or in none.
pub fn source_group(session: &mut Session, schema: &str, sink: &str) -> Result<String> {
    let groups = journal::groups_of(&mut **session, schema, sink)?;
    match groups.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Error::message(
            Kind::Refused,
            format!("no table is bound to sink `{sink}`"),
        )),
        several => {
            let names: Vec<String> = several.iter().map(|group| format!("`{group}`")).collect();
            Err(Error::message(
                Kind::Refused,
                format!(
                    "the tables of sink `{sink}` are in several groups: {}",
                    names.join(", ")
                ),
            )
            .hint("say with `--group` which one's mark is meant"))
        }
    }
}
