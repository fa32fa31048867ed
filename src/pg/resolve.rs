//! Decides every connection setting: the flags, then `EMAJ_*`, then the manifest, then libpq's own places.
//!
//! Opens no connection, and reads no file but the ones that are named: service files and password files. A service is
//! read where it is named: below the settings beside it, above everything further down.

use crate::errors::{Error, Kind, Result};

use super::environment::Environment;
use super::given::Given;
use super::keywords::{KEYWORDS, Origin, Support, Words};
use super::service;
use super::settings::Settings;

/// Decides the settings of a connection from all places there are.
///
/// Fails with [`Kind::Manifest`] when the manifest's block is wrong and with [`Kind::Usage`] when anything else is; the
/// error says which place said what. A password that nobody gave is no error here.
pub fn resolve(flags: &Given, manifest: Option<&Given>, env: &Environment) -> Result<Settings> {
    let mut words = given_words(flags, &Origin::CommandLine)?;
    read_service(&mut words, None, env)?;
    for lower in [
        variables_of_emaj(env)?,
        manifest.map_or(Ok(Words::default()), |given| given_words(given, &Origin::Manifest))?,
    ] {
        add_layer(&mut words, lower, env)?;
    }
    add_libpqs_own(&mut words, env)?;
    refuse_what_cannot_be_given(&words)?;
    Settings::new(words, env)
}

fn given_words(given: &Given, origin: &Origin) -> Result<Words> {
    given.words(origin).map_err(|bad| wrong(origin, bad))
}

/// Adds a layer below the ones that are there, and the service it may name.
fn add_layer(words: &mut Words, mut lower: Words, env: &Environment) -> Result<()> {
    let service_is_known = words.has("service");
    // The address belongs to the host it was written beside: another host must not be looked for there.
    let other_host = words.has("host") && !words.has("hostaddr");
    if !service_is_known {
        read_service(&mut lower, words.get("servicefile"), env)?;
    }
    if other_host {
        lower.remove("hostaddr");
    }
    words.fill(lower);
    Ok(())
}

/// Reads `EMAJ_DATABASE_URL` and `EMAJ_<KEYWORD>`; one that is empty counts as not set.
fn variables_of_emaj(env: &Environment) -> Result<Words> {
    let filled = |variable: &str| env.get(variable).filter(|value| !value.is_empty());
    let mut words = Words::default();
    for keyword in KEYWORDS {
        let variable = format!("EMAJ_{}", keyword.name.to_ascii_uppercase());
        let Some(value) = filled(&variable) else { continue };
        let origin = Origin::Variable(variable);
        if keyword.name == "dbname" && super::conninfo::is_connection_string(value) {
            let mut upper = super::conninfo::read(value, &origin).map_err(|bad| wrong(&origin, bad))?;
            upper.fill(words);
            words = upper;
        } else if !words.has(keyword.name) {
            words
                .set(keyword.name, value, &origin)
                .map_err(|bad| wrong(&origin, bad))?;
        }
    }
    if let Some(text) = filled("EMAJ_DATABASE_URL") {
        let origin = Origin::Variable("EMAJ_DATABASE_URL".to_owned());
        let mut upper = match super::conninfo::is_connection_string(text) {
            true => super::conninfo::read(text, &origin).map_err(|bad| wrong(&origin, bad))?,
            false => {
                let problem = "expected a URI (`postgresql://…`) or `keyword=value` pairs";
                return Err(wrong(&origin, anyhow::anyhow!("{problem}")));
            }
        };
        upper.fill(words);
        words = upper;
    }
    Ok(words)
}

/// Adds what libpq finds by itself: the service `PGSERVICE` names, then the `PG*` variables.
fn add_libpqs_own(words: &mut Words, env: &Environment) -> Result<()> {
    if let Some(name) = env.get("PGSERVICE").filter(|_| !words.has("service")) {
        let origin = Origin::Variable("PGSERVICE".to_owned());
        words.set("service", name, &origin).map_err(|bad| wrong(&origin, bad))?;
        read_service(words, None, env)?;
    }
    let mut lower = Words::default();
    let mut add = |keyword: &str, variable: &str, value: &str| {
        let origin = Origin::Variable(variable.to_owned());
        lower.set(keyword, value, &origin).map_err(|bad| wrong(&origin, bad))
    };
    for keyword in KEYWORDS {
        // An empty variable is a value too: `PGHOST=` asks for the default host.
        if let Some((variable, value)) = keyword
            .variable
            .and_then(|variable| Some((variable, env.get(variable)?)))
        {
            add(keyword.name, variable, value)?;
        }
    }
    // A relic that libpq still reads, when nothing newer speaks.
    if env.get("PGSSLMODE").is_none() && env.get("PGREQUIRESSL").is_some_and(|value| value.starts_with('1')) {
        add("sslmode", "PGREQUIRESSL", "require")?;
    }
    words.fill(lower);
    Ok(())
}

/// Reads the service that `words` names, below the settings that are in it; `file` is one that a higher place names.
fn read_service(words: &mut Words, file: Option<&str>, env: &Environment) -> Result<()> {
    let Some(name) = words.get("service") else {
        return Ok(());
    };
    let file = file
        .or_else(|| words.get("servicefile"))
        .or_else(|| env.get("PGSERVICEFILE"));
    let found = service::find(name, file, env).map_err(|bad| {
        let origin = words.origin("service").cloned().unwrap_or(Origin::CommandLine);
        Error::new(
            kind(&origin),
            anyhow::Error::new(bad).context(format!("failed to read the service that {origin} names")),
        )
        .hint("a service is a section `[name]` in `~/.pg_service.conf`, or in the file that `PGSERVICEFILE` names")
    })?;
    words.fill(found);
    Ok(())
}

fn refuse_what_cannot_be_given(words: &Words) -> Result<()> {
    for keyword in KEYWORDS {
        let Support::Only(accepted) = keyword.support else {
            continue;
        };
        let Some(value) = words.get(keyword.name).filter(|value| !accepted.contains(value)) else {
            continue;
        };
        let Some(origin) = words.origin(keyword.name) else {
            continue;
        };
        // `sslpassword` and the like are secrets: for those the value is not shown.
        let (found, hint) = match accepted {
            [""] => (String::new(), format!("remove `{}`", keyword.name)),
            accepted => (format!("={value}"), format!("accepted here: {}", accepted.join(", "))),
        };
        let problem = format!("`{}{found}` is not supported", keyword.name);
        return Err(wrong(origin, anyhow::anyhow!("{problem}")).hint(hint));
    }
    Ok(())
}

/// Makes the error for a setting that is wrong, and says where it was found.
pub(super) fn wrong(origin: &Origin, problem: impl Into<anyhow::Error>) -> Error {
    Error::new(kind(origin), problem).context(format!("wrong connection setting in {origin}"))
}

fn kind(origin: &Origin) -> Kind {
    match origin {
        Origin::Manifest => Kind::Manifest,
        _ => Kind::Usage,
    }
}

#[cfg(test)]
mod tests;
