//! Runs a courier for each sink of a manifest, each in a thread of its own: one bad sink never stops another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::courier::{self, Ended, Orders};
use super::status::Status;
use super::stop::Stop;
use crate::errors::{Error, Kind, Result};
use crate::manifest::Manifest;
use crate::pg::{Environment, Session};
use crate::render::Renderer;
use crate::sink;

/// How a worker is to go about it.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only these sinks; empty: all of the manifest.
    pub sinks: Vec<String>,
    /// End when everything is delivered or set aside.
    pub until_empty: bool,
    /// With `until_empty`: how long a place may be out of reach.
    pub patience: Duration,
    /// The bindings whose rows are to be sent first.
    pub init: Vec<String>,
}

/// Delivers until `stop` is set, or until all is delivered.
///
/// # Errors
/// Settings whose references lead nowhere; with `until_empty` or `init` what stands in the way of a sink, the gravest if there are
/// several.
pub fn work(
    manifest: &Manifest,
    session: &mut Session,
    environment: &Environment,
    wanted: &Wanted,
    status: &Status,
    stop: &Stop,
) -> Result<()> {
    let all = orders(manifest, session, environment, wanted, status, stop)?;
    let ended: Vec<(String, Result<Ended>)> = std::thread::scope(|scope| {
        let couriers: Vec<_> = all
            .iter()
            .map(|orders| (orders.sink.name.value.clone(), scope.spawn(|| courier::run(orders))))
            .collect();
        couriers
            .into_iter()
            .map(|(name, courier)| {
                let ended = courier.join().unwrap_or_else(|_| {
                    Err(Error::message(
                        Kind::Failed,
                        format!("the courier of sink `{name}` broke down"),
                    ))
                });
                (name, ended)
            })
            .collect()
    });
    let mut errors: BTreeMap<u8, Error> = BTreeMap::new();
    for (_, ended) in ended {
        if let Err(error) = ended {
            errors.entry(error.kind().exit_code()).or_insert(error);
        }
    }
    match errors.into_values().next_back() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn orders(
    manifest: &Manifest,
    session: &mut Session,
    environment: &Environment,
    wanted: &Wanted,
    status: &Status,
    stop: &Stop,
) -> Result<Vec<Orders>> {
    let renderer = Arc::new(Renderer::new(&manifest.schema)?);
    let source = source(session, &manifest.schema)?;
    let mut all = Vec::new();
    for sink in &manifest.sinks {
        let name = &sink.name.value;
        let bindings: Vec<_> = manifest
            .bindings
            .iter()
            .filter(|binding| binding.to.as_ref().is_some_and(|to| to.value == *name))
            .cloned()
            .collect();
        if bindings.is_empty() || !wanted.sinks.is_empty() && !wanted.sinks.contains(name) {
            continue;
        }
        let init = wanted
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
            opener: sink::opener(sink, environment, &source)?.into(),
            source: source.clone(),
            until_empty: wanted.until_empty,
            patience: wanted.patience,
            init,
            status: status.clone(),
            stop: stop.clone(),
        });
    }
    Ok(all)
}

/// Returns the name under which an installation is known outside: the same as long as it is installed, and no other's.
///
/// # Errors
/// [`Kind::NotInstalled`], or whatever the server answers.
pub fn source(session: &mut Session, schema: &str) -> Result<String> {
    let s = postgres_protocol::escape::escape_identifier(schema);
    let installed: bool = session
        .query_one(
            "select to_regclass(format('%s.emaj_install', $1::text)) is not null",
            &[&s],
        )?
        .get(0);
    if !installed {
        return Err(crate::journal::not_installed(schema));
    }
    let row = session.query_one(
        &format!(
            "select current_database()::text, to_hex(install_system), to_hex((extract(epoch from install_time) * 1000000)::bigint)
               from {s}.emaj_install"
        ),
        &[],
    )?;
    let (database, system, time): (String, String, String) = (row.get(0), row.get(1), row.get(2));
    Ok(format!("/emaj/{database}/{schema}/{system}-{time}"))
}
