//! Runs a courier for each sink of a manifest, each in a thread of its own: one bad sink never stops another.
//!
//! When the manifest may have been edited under the worker (somebody says so, or a courier finds another one installed) it is read
//! anew, and the couriers are replaced: what is under way is finished first, and the cursors are in the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::courier::{self, Ended, Orders};
use super::status::Status;
use super::stop::Stop;
use crate::errors::{Error, Result};
use crate::manifest::{Diagnostics, Manifest};
use crate::pg::{Environment, Session};
use crate::render::Renderer;
use crate::sink;

/// How long what is under way may take when the worker is told to end.
const GRACE: Duration = Duration::from_secs(8);
/// How often the worker looks whether it is to end or to read its manifest anew.
const LOOK: Duration = Duration::from_millis(100);

/// How a worker is to go about it.
#[derive(Debug, Clone, Default)]
pub struct Task {
    /// Only these sinks; empty: all of the manifest.
    pub sinks: Vec<String>,
    /// End when everything is delivered or set aside.
    pub until_empty: bool,
    /// With `until_empty`: how long a place may be out of reach.
    pub patience: Duration,
    /// The bindings whose rows are to be sent first.
    pub init: Vec<String>,
}

/// Where a worker gets its manifest anew.
pub struct Reload<'a> {
    /// Reads it as it is now.
    pub load: &'a dyn Fn() -> Result<Manifest>,
    /// Set when it is to be read anew, whether it has changed or not (SIGHUP).
    pub asked: Arc<AtomicBool>,
}

/// How a round of couriers came to its end.
enum Round {
    Over(Result<()>),
    /// They have ended because another manifest takes over.
    Replaced(Box<Manifest>),
}

/// Delivers until `stop` is set, or until all is delivered. Told to stop, it waits for what is under way, but no longer than some
/// seconds: what was not confirmed then comes again from the worker after it.
///
/// # Errors
/// References that lead nowhere, where no sink is without; with `until_empty` or `init` what stands in the way of a sink, the gravest if
/// there are several.
pub fn work(
    manifest: &Manifest,
    session: &mut Session,
    environment: &Environment,
    task: &Task,
    status: &Status,
    stop: &Stop,
    reload: Option<&Reload<'_>>,
) -> Result<()> {
    let mut held = manifest.clone();
    let source = source(session, &held.schema)?;
    let mut all = orders(&held, session, environment, task, status, &source)?;
    loop {
        match round(&all, &held, task, status, stop, reload) {
            Round::Over(ended) => return ended,
            Round::Replaced(new) => match orders(&new, session, environment, task, status, &source) {
                Ok(made) => (all, held) = (made, *new),
                Err(error) => {
                    tracing::error!("the manifest that was read anew cannot be used: {error}");
                    renew(&mut all);
                }
            },
        }
    }
}

/// Lets the orders of couriers that have ended be carried out by others.
fn renew(all: &mut [Orders]) {
    let outdated = Arc::new(AtomicBool::new(false));
    let stop = Stop::default();
    for orders in all {
        orders.outdated = Arc::clone(&outdated);
        orders.stop = stop.clone();
    }
}

/// Runs one courier for each of `all` until they have ended, or another manifest is to take over.
fn round(
    all: &[Orders],
    held: &Manifest,
    task: &Task,
    status: &Status,
    stop: &Stop,
    reload: Option<&Reload<'_>>,
) -> Round {
    let sinks: Vec<_> = all
        .iter()
        .map(|orders| (orders.sink.name.value.clone(), orders.sink.kind.word()))
        .collect();
    status.expect(&sinks);
    let (over, endings) = channel();
    for orders in all {
        let (orders, over) = (orders.clone(), over.clone());
        let name = orders.sink.name.value.clone();
        std::thread::spawn(move || {
            let ended = courier::run(&orders);
            // Nobody listens any more when the worker did not wait for it.
            let _ = over.send((name, ended));
        });
    }
    drop(over);
    let mut errors = Vec::new();
    let mut note = |(_, ended): (String, Result<Ended>)| errors.extend(ended.err());
    let mut left = all.len();
    let mut said = String::new();
    while left > 0 {
        match endings.recv_timeout(LOOK) {
            Ok(ended) => {
                left -= 1;
                note(ended);
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if stop.is_set() {
            end(all, left, &endings, &mut note);
            break;
        }
        if let Some(new) = reload.and_then(|reload| anew(reload, all, held, task, &mut said)) {
            end(all, left, &endings, &mut note);
            return Round::Replaced(Box::new(new));
        }
    }
    Round::Over(gravest(errors).map_or(Ok(()), Err))
}

/// Returns the first of the gravest errors; of the manifest all together.
fn gravest(errors: Vec<Error>) -> Option<Error> {
    let most = errors.iter().map(Error::exit_code).max()?;
    let mut gravest: Vec<Error> = errors.into_iter().filter(|error| error.exit_code() == most).collect();
    let diagnostics: Option<Vec<&Diagnostics>> = gravest.iter().map(Error::cause).collect();
    match diagnostics {
        Some(all) => {
            let all = all.into_iter().flat_map(|Diagnostics(some)| some.clone()).collect();
            Some(Diagnostics(all).sorted().into())
        }
        None => Some(gravest.swap_remove(0)),
    }
}

/// Tells couriers to end, and waits for those that are `left`.
fn end(
    all: &[Orders],
    left: usize,
    endings: &Receiver<(String, Result<Ended>)>,
    note: &mut dyn FnMut((String, Result<Ended>)),
) {
    all.iter().for_each(|orders| orders.stop.set());
    let until = Instant::now() + GRACE;
    for _ in 0..left {
        match endings.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(ended) => note(ended),
            Err(_) => {
                tracing::warn!("a sink has not answered in time: what was under way comes again");
                return;
            }
        }
    }
}

/// Reads the manifest anew when that is wanted; returns it when it is to take over.
fn anew(reload: &Reload<'_>, all: &[Orders], held: &Manifest, task: &Task, said: &mut String) -> Option<Manifest> {
    let asked = reload.asked.swap(false, Ordering::Relaxed);
    let outdated = all.iter().any(|orders| orders.outdated.swap(false, Ordering::Relaxed));
    if !asked && !outdated {
        return None;
    }
    let refused = match (reload.load)() {
        Ok(new) if new.schema != held.schema => "its `schema` is another one: start the worker anew".to_owned(),
        Ok(new) if chosen(&new, task).next().is_none() => "it has no sink to deliver to".to_owned(),
        Ok(new) if asked || bindings_of(&new) != bindings_of(held) => {
            tracing::info!("the manifest was read anew");
            return Some(new);
        }
        // As it was: what is installed is another one, and the courier has said so.
        Ok(_) => return None,
        Err(error) => format!("{error}"),
    };
    if *said != refused || asked {
        tracing::error!("the manifest was read anew and cannot be used: {refused}");
        *said = refused;
    }
    None
}

/// A binding, and the sink that it goes to.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    binding: String,
    to: Option<String>,
    kind: Option<&'static str>,
    fingerprint: String,
}

/// What the couriers hold against what is installed.
fn bindings_of(manifest: &Manifest) -> Vec<Held> {
    let of = |binding: &crate::manifest::Binding| {
        let to = binding.to.as_ref().map(|to| to.value.clone());
        Held {
            binding: binding.name.value.clone(),
            kind: to.as_ref().and_then(|to| Some(manifest.sink(to)?.kind.word())),
            to,
            fingerprint: binding.fingerprint(),
        }
    };
    let mut all: Vec<_> = manifest.bindings.iter().map(of).collect();
    all.sort();
    all
}

/// The sinks that are delivered to: those that were asked for, of those that a binding goes to.
fn chosen<'a>(manifest: &'a Manifest, task: &'a Task) -> impl Iterator<Item = &'a crate::manifest::Sink> {
    manifest.sinks.iter().filter(|sink| {
        let name = &sink.name.value;
        manifest.bindings_to(name).next().is_some() && (task.sinks.is_empty() || task.sinks.contains(name))
    })
}

fn orders(
    manifest: &Manifest,
    session: &Session,
    environment: &Environment,
    task: &Task,
    status: &Status,
    source: &Source,
) -> Result<Vec<Orders>> {
    let renderer = Arc::new(Renderer::new(&manifest.schema));
    let (stop, outdated) = (Stop::default(), Arc::new(AtomicBool::new(false)));
    let beside = manifest.bindings.iter().filter_map(|binding| binding.to.as_ref());
    let beside = Arc::new(beside.map(|to| to.value.clone()).collect());
    let (manifest, environment) = (Arc::new(manifest.clone()), Arc::new(environment.clone()));
    let mut all: Vec<Orders> = Vec::new();
    for sink in chosen(&manifest, task) {
        let name = &sink.name.value;
        let bindings: Vec<_> = manifest.bindings_to(name).cloned().collect();
        let init = task
            .init
            .iter()
            .filter(|init| bindings.iter().any(|binding| binding.name.value == **init))
            .cloned()
            .collect();
        all.push(Orders {
            schema: manifest.schema.clone(),
            settings: session.wanted().clone(),
            renderer: Arc::clone(&renderer),
            sink: sink.clone(),
            bindings,
            beside: Arc::clone(&beside),
            look_up: {
                let (manifest, environment) = (Arc::clone(&manifest), Arc::clone(&environment));
                let (sink, uri) = (sink.clone(), source.uri.clone());
                Arc::new(move || sink::opener(&manifest, &sink, &environment, &uri))
            },
            source: source.clone(),
            until_empty: task.until_empty,
            patience: task.patience,
            init,
            status: status.clone(),
            stop: stop.clone(),
            outdated: Arc::clone(&outdated),
        });
    }
    // One that leads nowhere yet stops no other; where all do, somebody forgot something.
    let errors: Vec<Error> = all.iter().filter_map(|orders| (orders.look_up)().err()).collect();
    if errors.len() < all.len() {
        return Ok(all);
    }
    gravest(errors).map_or(Ok(all), Err)
}

/// What a part of a path is written without.
const OUTSIDE_A_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What an installation is called outside.
#[derive(Debug, Clone)]
pub struct Source {
    /// The same as long as it is installed, and no other's.
    pub name: String,
    /// The CloudEvents source: the name behind those of the database and the schema.
    pub uri: String,
}

/// Refuses a schema that holds no installation.
///
/// # Errors
/// [`Kind::NotInstalled`]; whatever the server answers.
pub(super) fn check_installed(session: &mut Session, schema: &str) -> Result<()> {
    let s = postgres_protocol::escape::escape_identifier(schema);
    let installed: bool = session
        .query_one(
            "select to_regclass(format('%s.emaj_install', $1::text)) is not null",
            &[&s],
        )?
        .get(0);
    if installed {
        return Ok(());
    }
    Err(crate::journal::not_installed(schema, session.wanted().dbname()))
}

/// Returns what the installation in `schema` is called outside.
///
/// # Errors
/// [`Kind::NotInstalled`]; [`Kind::Refused`] in a copy of the database that it was installed in; or whatever the server answers.
pub fn source(session: &mut Session, schema: &str) -> Result<Source> {
    let s = postgres_protocol::escape::escape_identifier(schema);
    check_installed(session, schema)?;
    crate::journal::check_origin(&mut **session, schema)?;
    let row = session.query_one(
        &format!("select pg_catalog.current_database()::text, install_name from {s}.emaj_install"),
        &[],
    )?;
    let (database, name): (String, String) = (row.get(0), row.get(1));
    // (A path of a URI: CloudEvents takes nothing else.)
    let [d, i, n] = [&database, schema, &name].map(|part| utf8_percent_encode(part, OUTSIDE_A_PATH));
    Ok(Source {
        uri: format!("/emaj/{d}/{i}/{n}"),
        name,
    })
}
