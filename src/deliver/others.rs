//! What other bindings make at the place that a binding is pruned at: two bindings may make entries of the same form, or rows of one table.
//!
//! Called by `prune` with what has no row of its own binding. What a row of another binding gives is left where it is: of the same manifest,
//! or of one that was named beside it. So is what may be of another binding that takes nothing away when rows go. What bindings of a manifest that was not named make is not known, so nothing is taken away then.

use super::ground::{Ground, Target};
use super::left_out::LeftOut;
use super::prune::Identities;
use crate::errors::{Error, Kind, Result};
use crate::journal;
use crate::manifest::{Binding, Manifest};
use crate::sink::{self, Existing, Sink};

/// Takes out of `things` what another binding makes. Returns `false` when that cannot be said: `left_out` has why.
///
/// # Errors
/// [`Kind::Refused`] for a manifest that nobody has named, or that is not installed; whatever the server answers.
pub(super) fn spare(
    ground: &mut Ground<'_>,
    target: &Target<'_>,
    place: &mut dyn Sink,
    binding: &Binding,
    things: &mut Vec<Existing>,
    left_out: &mut LeftOut,
) -> Result<bool> {
    if things.is_empty() {
        return Ok(true);
    }
    check_known(ground, target, binding)?;
    for (manifest, other) in others(ground, target, binding)? {
        if !things.iter().any(|thing| place.may_make(other, thing)) {
            continue;
        }
        if !other.takes_away() {
            let before = things.len();
            things.retain(|thing| !place.may_make(other, thing));
            left_out.kept_by(binding, other, before - things.len());
            continue;
        }
        let other_ground = Ground {
            manifest,
            beside: ground.beside,
            session: &mut *ground.session,
            environment: ground.environment,
        };
        let Some(like) = things.first() else { break };
        match Identities::of_rows(&other_ground, target, other, place, Some(like))? {
            Ok(made) => things.retain(|thing| !made.has(&thing.identity)),
            Err(unknown) => {
                left_out.other(binding, other, &unknown);
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Refuses when manifests that were not named have bindings that make the same sort of thing.
fn check_known(ground: &mut Ground<'_>, target: &Target<'_>, binding: &Binding) -> Result<()> {
    let schema = &ground.manifest.schema;
    let named = |name: &str| {
        [ground.manifest]
            .into_iter()
            .chain(ground.beside)
            .any(|one| one.name == name)
    };
    let (kind, sink_kind) = (binding.kind.word(), target.sink.kind.word());
    let unknown: Vec<String> = journal::bindings_like(&mut **ground.session, schema, kind, sink_kind)?
        .into_iter()
        .filter(|(_, manifest)| !named(manifest))
        .map(|(other, manifest)| format!("binding `{other}` of the manifest `{manifest}`"))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Error::message(
        Kind::Refused,
        format!(
            "binding `{}` takes nothing away: what is made by {} is not known, and may be among it",
            binding.name.value,
            unknown.join(", ")
        ),
    )
    .hint("name each such manifest too, with `--beside`: what its rows give stays"))
}

/// Returns the other bindings of the same kind that lead to the same place, of all manifests that are known.
fn others<'a>(ground: &Ground<'a>, target: &Target<'_>, binding: &Binding) -> Result<Vec<(&'a Manifest, &'a Binding)>> {
    let mut all = Vec::new();
    for manifest in [ground.manifest].into_iter().chain(ground.beside) {
        for other in &manifest.bindings {
            let is_same = manifest.name == ground.manifest.name && other.name.value == binding.name.value;
            if is_same || other.kind.word() != binding.kind.word() {
                continue;
            }
            let Some(sink) = other.to.as_ref().and_then(|to| manifest.sink(&to.value)) else {
                continue;
            };
            let is_here = sink.kind.word() == target.sink.kind.word()
                && (sink.name.value == target.sink.name.value
                    || sink::opener(manifest, sink, ground.environment, &target.source.uri)?.place()
                        == target.opener.place());
            if is_here {
                all.push((manifest, other));
            }
        }
    }
    Ok(all)
}
