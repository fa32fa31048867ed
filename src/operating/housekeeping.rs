//! Rounds of retention beside the deliveries: what no mark, no retention and no sink needs goes out of the logs.

use std::time::Duration;

use crate::deliver::Stop;
use crate::errors::{Kind, Result};
use crate::pg::{Prompt, Settings};
use crate::retention;
use crate::words::count;

/// Begins to run a round every `pace`, in a thread of its own, until `stop` is set: for the logs of the groups of `manifest`, and of the
/// tables that its bindings are bound to. Several workers may do so: what one has in hand the other leaves alone.
pub fn keep_house(settings: &Settings, schema: &str, manifest: &str, pace: Duration, stop: &Stop) {
    let settings = settings.with_application_name("emaj retention");
    let (schema, manifest, stop) = (schema.to_owned(), manifest.to_owned(), stop.clone());
    std::thread::spawn(move || {
        let mut may = true;
        while !stop.wait(pace) {
            match round(&settings, &schema, &manifest, &stop) {
                Ok(()) => may = true,
                // The role that delivers need not be one that purges; saying so once is enough.
                Err(error) if error.kind() == Kind::Denied => {
                    if std::mem::take(&mut may) {
                        tracing::info!("no rounds of retention: {error}");
                    }
                }
                Err(error) => tracing::warn!("a round of retention failed: {error}"),
            }
        }
    });
}

fn round(settings: &Settings, schema: &str, manifest: &str, stop: &Stop) -> Result<()> {
    let mut session = settings.connect(Prompt::Never)?;
    let groups = retention::groups_of(&mut session, schema, manifest)?;
    if groups.is_empty() {
        return Ok(());
    }
    for purged in retention::quiet_round(&mut session, schema, &groups, &|| stop.is_set())? {
        if purged.marks > 0 {
            tracing::info!(group = %purged.group, "{} went by the group's retention", count(purged.marks, "mark"));
        }
        if let Some(problem) = &purged.problem {
            tracing::warn!(group = %purged.group, "{problem}");
        }
        if purged.rows > 0 {
            tracing::info!(group = %purged.group, "{} went out of the logs", count(purged.rows, "row"));
        }
    }
    Ok(())
}
