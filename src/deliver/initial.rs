//! The whole of `emaj init`: which bindings, sending their rows, pruning, and the dry run of both.
//!
//! Whoever sends rows is the sink's courier for that while: a worker that delivers lets go, and takes over again afterwards.

use std::time::Duration;

use super::ask::{Asker, settle};
use super::init::{self, MOST_ROWS, Next};
use super::prune;
use super::render::render;
use super::sources::{Fed, load};
use super::status::Status;
use super::stop::Stop;
use super::stream::{Placed, Stream};
use super::take_over::{beside_nobody, take_over};
use super::worker::{self, Wanted};
use crate::errors::{Error, Kind, Result};
use crate::journal::{self, SinkRecord};
use crate::manifest::{Binding, BindingKind, Manifest};
use crate::pg::{Environment, Prompt, Session};
use crate::render::Renderer;
use crate::sink::{self, Delivery, Fault};

/// How rows are to be sent.
#[derive(Debug, Clone, Default)]
pub struct Initial {
    /// Only these bindings; empty: all that keep a state outside.
    pub bindings: Vec<String>,
    pub prune: bool,
    pub restart: bool,
    /// How long a place may be out of reach.
    pub patience: Duration,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    pub rows: u64,
    pub written: u64,
    pub pruned: u64,
}

/// Chooses the bindings whose rows are sent.
///
/// # Errors
/// A name that the manifest does not have, or a binding that is done inside the database.
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

/// Notes that the rows of bindings are wanted, and returns how many there are about. A run that was not finished is gone on with, unless
/// it is to begin anew.
///
/// # Errors
/// A binding that is not installed; [`Kind::Locked`] when one of the sinks is taken over by somebody else; whatever the server answers.
pub fn begin(manifest: &Manifest, session: &mut Session, initial: &Initial, chosen: &[Binding]) -> Result<Option<u64>> {
    let schema = &manifest.schema;
    worker::source(session, schema)?;
    let is_fed = |sink: &SinkRecord| {
        let mut sinks = chosen.iter().filter_map(|binding| binding.to.as_ref());
        sinks.any(|to| to.value == sink.name)
    };
    let mut sinks = journal::sinks(&mut **session, schema)?;
    sinks.retain(is_fed);
    let total = beside_nobody(session, schema, &sinks, initial.patience, &mut |transaction| {
        let mut total = 0;
        for binding in chosen {
            let rows = journal::want_rows(transaction, schema, &binding.name.value, initial.restart)?;
            let rows = rows.ok_or_else(|| not_installed(binding))?;
            total += u64::try_from(rows).unwrap_or(0);
            if let Some(to) = &binding.to {
                journal::begin_anew(transaction, schema, &to.value)?;
            }
        }
        Ok(total)
    })?;
    Ok((total > 0).then_some(total))
}

/// Sends the rows of the chosen bindings, beside the changes that go on, then prunes. `sent` is called with numbers of rows.
///
/// # Errors
/// What stands in the way of a sink; what was sent stays, and the next run goes on.
#[expect(clippy::too_many_arguments, reason = "one call, and each is its own thing")]
pub fn initialise(
    manifest: &Manifest,
    session: &mut Session,
    environment: &Environment,
    initial: &Initial,
    chosen: &[Binding],
    status: &Status,
    stop: &Stop,
    sent: &(dyn Fn(u64) + Sync),
) -> Result<Done> {
    let wanted = Wanted {
        sinks: chosen
            .iter()
            .filter_map(|binding| binding.to.as_ref())
            .map(|to| to.value.clone())
            .collect(),
        until_empty: true,
        patience: initial.patience,
        init: chosen.iter().map(|binding| binding.name.value.clone()).collect(),
    };
    let over = Stop::default();
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
        let worked = worker::work(manifest, session, environment, &wanted, status, stop, None);
        over.set();
        worked
    });
    worked?;
    let all = status.all();
    let mut done = Done {
        rows: all.values().map(|sink| sink.sent).sum(),
        written: all.values().map(|sink| sink.written).sum(),
        pruned: 0,
    };
    if initial.prune && !stop.is_set() {
        for binding in chosen {
            let taking = Some((initial.patience, stop));
            done.pruned += prune_one(manifest, session, environment, binding, taking, &mut |_| Ok(()))?;
        }
    }
    Ok(done)
}

/// Shows what `init` would write, and prune; changes nothing. Returns the number of things shown.
///
/// # Errors
/// A place that cannot be asked; whatever the server answers.
pub fn preview(
    manifest: &Manifest,
    session: &mut Session,
    environment: &Environment,
    chosen: &[Binding],
    prune: bool,
    show: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<u64> {
    let source = worker::source(session, &manifest.schema)?;
    let mut shown = 0;
    for binding in chosen {
        let Some(sink) = binding.to.as_ref().and_then(|to| manifest.sink(&to.value)) else {
            continue;
        };
        let opener = sink::opener(sink, environment, &source)?;
        let mut place = opener.open().map_err(|fault| down(&sink.name.value, fault))?;
        let mut reader = Reader::open(manifest, session, binding)?;
        reader.each(&source, &mut |deliveries| {
            for text in place
                .preview(&deliveries)
                .map_err(|fault| down(&sink.name.value, fault))?
            {
                shown += 1;
                show(&text)?;
            }
            Ok(())
        })?;
        if prune {
            shown += prune_one(manifest, session, environment, binding, None, show)?;
        }
    }
    Ok(shown)
}

/// Takes away what has no row any more, once the sink is taken over; without `taking` it only shows what that is.
fn prune_one(
    manifest: &Manifest,
    session: &mut Session,
    environment: &Environment,
    binding: &Binding,
    taking: Option<(Duration, &Stop)>,
    show: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<u64> {
    if !matches!(binding.kind, BindingKind::Entry { .. } | BindingKind::Row { .. }) {
        return Ok(0);
    }
    let Some(sink) = binding.to.as_ref().and_then(|to| manifest.sink(&to.value)) else {
        return Ok(0);
    };
    let name = &sink.name.value;
    let source = worker::source(session, &manifest.schema)?;
    let mut keeper = session.sibling()?;
    keeper.only_builtins()?;
    if let Some((wait, stop)) = taking {
        // Nobody else delivers meanwhile.
        let record = journal::sink_named(&mut *keeper, &manifest.schema, name)?
            .ok_or_else(|| Error::message(Kind::NotInstalled, format!("sink `{name}` is not installed")))?;
        if !take_over(&mut keeper, &manifest.schema, &record, wait, stop)? {
            return Ok(0);
        }
    }
    let opener = sink::opener(sink, environment, &source)?;
    let mut place = opener.open().map_err(|fault| down(name, fault))?;
    let mut wanted = prune::Wanted::default();
    let mut reader = Reader::open(manifest, session, binding)?;
    reader.each(&source, &mut |deliveries| {
        wanted.extend(deliveries.iter().filter_map(|delivery| place.identity(delivery)));
        Ok(())
    })?;
    let removals = prune::removals(&mut *place, binding, &wanted).map_err(|fault| match fault.verdict {
        sink::Verdict::Never => Error::message(Kind::Refused, fault.reason),
        _ => down(name, fault),
    })?;
    if taking.is_none() {
        for text in place.preview(&removals).map_err(|fault| down(name, fault))? {
            show(&text)?;
        }
        return Ok(removals.len() as u64);
    }
    prune::check_limit(binding, removals.len() as u64, wanted.seen())?;
    for batch in removals.chunks(opener.batch()) {
        let outcomes = place.deliver(batch);
        if let Some(fault) = outcomes.into_iter().find_map(|outcome| match outcome {
            sink::Outcome::Failed(fault) => Some(fault),
            _ => None,
        }) {
            return Err(down(name, fault));
        }
    }
    Ok(removals.len() as u64)
}

fn not_installed(binding: &Binding) -> Error {
    Error::message(
        Kind::Refused,
        format!("binding `{}` is not installed", binding.name.value),
    )
    .hint("`emaj install` with this manifest installs it")
}

fn down(sink: &str, fault: Fault) -> Error {
    Error::message(Kind::Unreachable, format!("sink `{sink}`: {}", fault.reason))
}

/// Reads all rows of one binding in one snapshot, rendered.
struct Reader {
    stream: Stream,
    asker: Session,
    renderer: std::sync::Arc<Renderer>,
    fed: Fed,
    at: usize,
}

impl Reader {
    fn open(manifest: &Manifest, session: &Session, binding: &Binding) -> Result<Self> {
        let renderer = std::sync::Arc::new(Renderer::new(&manifest.schema)?);
        let settings = session.wanted();
        let mut asker = settings.connect(Prompt::Never)?;
        settle(&mut asker)?;
        let sink = binding.to.as_ref().map(|to| to.value.clone()).unwrap_or_default();
        let bindings: Vec<Binding> = manifest.bindings_to(&sink).cloned().collect();
        asker.only_builtins()?;
        let fed = load(&mut asker, &manifest.schema, &sink, &bindings)?;
        let at = fed
            .bound
            .iter()
            .position(|bound| *bound.name == *binding.name.value)
            .ok_or_else(|| not_installed(binding))?;
        // What a manifest asks goes by the path of the role.
        asker.batch_execute("reset search_path")?;
        Ok(Reader {
            stream: Stream::new(
                settings.connect(Prompt::Never)?,
                &manifest.schema,
                std::sync::Arc::clone(&renderer),
            )?,
            asker,
            renderer,
            fed,
            at,
        })
    }

    fn each(&mut self, source: &str, take: &mut dyn FnMut(Vec<Delivery>) -> Result<()>) -> Result<()> {
        self.stream.hold()?;
        let bound = &self.fed.bound[self.at];
        let mut next = Next {
            most: MOST_ROWS,
            ..Next::default()
        };
        loop {
            let table = &self.fed.sources.tables[bound.table];
            let rows: Vec<Placed> = init::rows(self.stream.session(), &self.renderer, table, 0, &next, bound.table)?;
            let mut deliveries = Vec::with_capacity(rows.len());
            for placed in &rows {
                let mut asker = Asker {
                    session: &mut self.asker,
                    renderer: &self.renderer,
                    sources: &self.fed.sources,
                };
                let keyed = render(bound, placed, source, &mut asker).map_err(|fault| {
                    Error::message(Kind::Failed, format!("{} (key {})", fault.reason, placed.change.key))
                })?;
                deliveries.extend(keyed.map(|keyed| keyed.delivery));
            }
            take(deliveries)?;
            match rows.last() {
                Some(last) if rows.len() == next.most => next.key = Some(last.change.key.to_string()),
                _ => return self.stream.release(),
            }
        }
    }
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
