//! The same situations for `psql` and for us: the same server, user, encryption and outcome must come of both.
//!
//! A case is what was given (flags, `EMAJ_*`, manifest, environment, files in the home directory). `psql` is run in it as
//! a process; our own code is called in this process with the same environment as a value. Servers are thrown away.

#[path = "connection/cases.rs"]
mod cases;
#[path = "connection/certificates.rs"]
mod certificates;
#[path = "connection/pooler.rs"]
mod pooler;
#[path = "connection/servers.rs"]
mod servers;
#[path = "connection/sessions.rs"]
mod sessions;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use emaj::errors::Kind;
use emaj::pg::{Environment, Given, Prompt, resolve};
use postgres::SimpleQueryMessage;

use cases::Case;
use servers::Servers;

/// What came of a connection: the server's view of it, or the kind of failure.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Connected(String),
    Failed(Kind),
}

const QUESTION: &str = "
    select current_user, current_database(), current_setting('port'), inet_server_addr(), s.ssl, s.client_dn,
           current_setting('TimeZone'), current_setting('work_mem'),
           case when current_setting('application_name') not in ('psql', 'emaj') then current_setting('application_name') end
    from pg_stat_ssl s
    where s.pid = pg_backend_pid()";

#[test]
fn we_connect_as_psql_does() {
    let servers = Servers::shared();
    let (mut differences, mut connected) = (String::new(), 0);
    for case in cases::CASES {
        let home = tempfile::tempdir().unwrap();
        for (name, text, mode) in case.files {
            write(&home.path().join(name), &servers.fill(text), *mode);
        }
        let (theirs, said) = with_psql(case, &servers, home.path());
        let (ours, error) = with_us(case, &servers, home.path());
        connected += usize::from(matches!(theirs, Outcome::Connected(_)));
        if theirs != ours {
            writeln!(
                differences,
                "{}\n  psql: {theirs:?} {}\n  emaj: {ours:?} {error}",
                case.name,
                said.trim()
            )
            .unwrap();
        }
    }
    assert!(differences.is_empty(), "emaj and psql differ:\n{differences}");
    // A table in which all cases fail, or none does, would show nothing.
    let (all, failed) = (cases::CASES.len(), cases::CASES.len() - connected);
    assert!(
        all >= 100 && connected >= 50 && failed >= 30,
        "{all} cases: {connected} connected, {failed} failed"
    );
    println!("{all} cases: {connected} connected, {failed} failed, as with psql");
}

#[test]
fn every_case_has_its_own_name() {
    let mut names = BTreeMap::new();
    for case in cases::CASES {
        *names.entry(case.name).or_insert(0) += 1;
    }
    assert!(names.values().all(|count| *count == 1), "{names:?}");
}

fn write(file: &Path, text: &str, mode: u32) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
}

fn with_us(case: &Case, servers: &Servers, home: &Path) -> (Outcome, String) {
    let given = |pairs: &[(&str, &str)]| {
        let mut given = Given::default();
        for (name, value) in pairs {
            given.settings.insert((*name).to_owned(), fill(servers, home, value));
        }
        given
    };
    let variables = case.environment.iter().chain(case.emaj);
    let environment = Environment {
        variables: variables
            .map(|(name, value)| ((*name).to_owned(), fill(servers, home, value)))
            .collect(),
        home: Some(home.to_owned()),
        // The default socket directory and the user are facts of the machine, and psql's too.
        ..Environment::current().unwrap()
    };
    let manifest = given(case.manifest);
    let outcome = resolve(&given(case.flags), Some(&manifest), &environment).and_then(|settings| {
        let mut session = settings.connect(Prompt::Never)?;
        let answers = session.simple_query(QUESTION)?;
        let row = answers.iter().find_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let row = row.expect("one row");
        Ok((0..row.len())
            .map(|at| row.get(at).unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
            .join("|"))
    });
    match outcome {
        Ok(row) => (Outcome::Connected(row), String::new()),
        Err(error) => (Outcome::Failed(error.kind()), error.to_string()),
    }
}

fn fill(servers: &Servers, home: &Path, text: &str) -> String {
    servers.fill(text).replace("{HOME}", home.to_str().unwrap())
}

fn with_psql(case: &Case, servers: &Servers, home: &Path) -> (Outcome, String) {
    let mut psql = Command::new(bin_dir().join("psql"));
    psql.env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("LC_ALL", "C");
    psql.envs(
        case.environment
            .iter()
            .map(|(name, value)| (name, fill(servers, home, value))),
    );
    psql.args(["-X", "-w", "-A", "-t", "-c", QUESTION])
        .args(psql_flags(case, servers, home))
        .stdin(Stdio::null());
    let output = psql.output().expect("psql runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.success() {
        true => (
            Outcome::Connected(
                String::from_utf8_lossy(&output.stdout)
                    .trim_end_matches('\n')
                    .to_owned(),
            ),
            said,
        ),
        false => (Outcome::Failed(kind_of(&said)), said),
    }
}

/// psql knows neither `EMAJ_*` nor a manifest: it is given their settings as flags, the higher place first.
fn psql_flags(case: &Case, servers: &Servers, home: &Path) -> Vec<String> {
    let mut settings: Vec<(String, String)> = Vec::new();
    let emaj = case.emaj.iter().map(|(name, value)| match *name {
        "EMAJ_DATABASE_URL" => ("dbname".to_owned(), *value),
        name => (name.trim_start_matches("EMAJ_").to_lowercase(), *value),
    });
    let own = |pair: &(&str, &'static str)| (pair.0.to_owned(), pair.1);
    for (name, value) in case
        .flags
        .iter()
        .map(own)
        .chain(emaj)
        .chain(case.manifest.iter().map(own))
    {
        if !settings.iter().any(|(known, _)| *known == name) {
            settings.push((name, fill(servers, home, value)));
        }
    }
    // psql has no flag for most keywords: they go into a connection string.
    let is_flag = |name: &str| matches!(name, "host" | "port" | "user" | "dbname");
    if settings.iter().all(|(name, _)| is_flag(name)) {
        let flag = |name: &str| {
            if name == "user" {
                "username".to_owned()
            } else {
                name.to_owned()
            }
        };
        return settings
            .iter()
            .map(|(name, value)| format!("--{}={value}", flag(name)))
            .collect();
    }
    let quoted = |value: &str| value.replace('\\', "\\\\").replace('\'', "\\'");
    let words: Vec<_> = settings
        .iter()
        .map(|(name, value)| format!("{name}='{}'", quoted(value)))
        .collect();
    vec![format!("--dbname={}", words.join(" "))]
}

/// Sorts what psql says into our kinds of failure.
fn kind_of(said: &str) -> Kind {
    // The last server that was tried decides, as with us.
    let last = said.rsplit("connection to server").next().unwrap_or(said);
    let last_has = |words: &[&str]| words.iter().any(|word| last.contains(word));
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let denied = [
        "password authentication failed",
        "no password supplied",
        "pg_hba.conf",
        "permission denied for database",
    ];
    let denied_too = [
        "role \"",
        "certificate authentication failed",
        "valid client certificate",
        "channel binding",
        "not permitted to log in",
    ];
    let files = [
        "root certificate file",
        "private key file",
        "could not read root certificate",
        "host name must be specified",
    ];
    let services = [
        "definition of service",
        "syntax error in service file",
        "nested service",
        "service file \"",
    ];
    let values = [
        "invalid port number",
        "could not parse network address",
        "could not match",
        "invalid integer value",
    ];
    let words = [
        "invalid sslmode value",
        "invalid target_session_attrs value",
        "invalid channel_binding value",
        "invalid ssl_",
    ];
    let strings = [
        "invalid connection option",
        "missing \"=\"",
        "unterminated quoted string",
        "in URI",
        "URI query parameter",
    ];
    let strings_too = ["percent-encoded", "invalid URI"];
    let unreachable = [
        "Connection refused",
        "No such file or directory",
        "could not translate host name",
        "timeout expired",
    ];
    let unfit = [
        "session is",
        "hot standby",
        "does not support SSL",
        "SSL error",
        "server certificate",
        "\" does not exist",
    ];
    match () {
        () if last_has(&denied) || last_has(&denied_too) => Kind::Denied,
        () if has(&files) || has(&services) || has(&values) || has(&words) || has(&strings) || has(&strings_too) => {
            Kind::Usage
        }
        () if last_has(&unreachable) || last_has(&unfit) => Kind::Unreachable,
        () => panic!("psql says something this test does not know: {said}"),
    }
}

/// Returns PostgreSQL's directory of programs.
fn bin_dir() -> PathBuf {
    let given = std::env::var_os("EMAJ_PG_BINDIR").map(PathBuf::from);
    let installed = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"));
    let mut installed: Vec<_> = installed.collect();
    installed.sort();
    let config = Command::new("pg_config")
        .arg("--bindir")
        .output()
        .ok()
        .filter(|output| output.status.success());
    let config = config.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let mut candidates = given.into_iter().chain(installed.into_iter().rev()).chain(config);
    candidates
        .find(|dir| dir.join("initdb").exists())
        .expect("PostgreSQL's programs (apt-get install postgresql)")
}
