//! Making a throw-away cluster: directory, watchdog, `initdb`, settings, first start.
//!
//! The watchdog comes before `initdb`, so that an interruption at any point leaves nothing behind.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::account::Account;
use super::watchdog::Watchdog;
use super::{Attempt, Cluster, SUPERUSER, find_bindir, log, port, private_file};
use crate::errors::{Error, Kind, Result};
use crate::names::hex;

/// What every cluster gets; what the caller sets comes later in the file, and wins.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_permissions", "0700"),
    ("max_connections", "100"),
    ("max_prepared_transactions", "64"),
    ("shared_buffers", "128MB"),
    // In files of the data directory, not in /dev/shm: what a killed server leaves goes with the directory, and the 64 MB
    // that a container has there are no limit.
    ("dynamic_shared_memory_type", "mmap"),
    ("logging_collector", "off"),
    ("log_line_prefix", "%m [%p] %q%u@%d "),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("lc_messages", "C"),
];

/// Without these a server survives its own crash, but not the machine's.
const FAST: &[(&str, &str)] = &[("fsync", "off"), ("full_page_writes", "off")];

/// The longest path that fits into a socket's address on Linux.
const SOCKET_PATH_LIMIT: usize = 107;
/// The ports of two servers started at the same moment may meet; so often a start looks for another port.
const PORT_ATTEMPTS: u16 = 10;

/// The options of a cluster that is to be.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    bindir: Option<PathBuf>,
    settings: Vec<(String, String)>,
    durable: bool,
}

impl Builder {
    /// Uses the programs of `directory` instead of those that [`find_bindir`] finds.
    pub fn bindir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.bindir = Some(directory.into());
        self
    }

    /// Adds settings, as in `postgresql.conf` (unquoted).
    pub fn settings<N: Into<String>, V: Into<String>>(mut self, settings: impl IntoIterator<Item = (N, V)>) -> Self {
        self.settings
            .extend(settings.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Makes the server wait for the disk, as a real one does.
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Makes the cluster and starts it; it takes connections when this returns.
    ///
    /// # Errors
    /// When PostgreSQL is not installed, or `initdb` or the server fails: with what they said.
    pub fn start(self) -> Result<Cluster> {
        let bindir = find_bindir(self.bindir.as_deref())?;
        let configuration = self.configuration()?;
        let account = Account::choose()?;
        let random = random_bytes()?;
        let (directory, watchdog) = make_directory(account)
            .map_err(|error| error.context("failed to make a directory for a throw-away cluster"))?;
        let password = hex(&random);
        let mut cluster = Cluster {
            bindir,
            directory,
            account,
            port: 0,
            password: SecretString::from(password),
            postmaster: None,
            watchdog,
        };
        init(&cluster).map_err(|error| error.context("failed to make a throw-away cluster"))?;
        append(&cluster.data_dir().join("postgresql.conf"), &configuration)?;
        first_start(&mut cluster, u16::from_be_bytes([random[0], random[1]]))?;
        Ok(cluster)
    }

    /// Returns the lines that go to the end of `postgresql.conf`.
    fn configuration(&self) -> Result<String> {
        let fast = if self.durable { &[] } else { FAST };
        let ours = SETTINGS.iter().chain(fast).map(|(name, value)| (*name, *value));
        let mut text = String::from("\n# throw-away cluster\n");
        for (name, value) in ours.chain(
            self.settings
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        ) {
            let valid = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
            if !valid || value.contains('\n') {
                return Err(Error::message(
                    Kind::Failed,
                    format!("`{name}` = `{value}` is no setting of PostgreSQL"),
                ));
            }
            text += &format!("{name} = '{}'\n", value.replace('\\', "\\\\").replace('\'', "''"));
        }
        Ok(text)
    }
}

/// Makes the directory, and its watchdog with it.
fn make_directory(account: Account) -> Result<(PathBuf, Watchdog)> {
    let base = base_directory(account);
    let made = tempfile::Builder::new()
        .prefix("emaj-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(base)?;
    fs::create_dir(made.path().join("socket"))?;
    for path in [made.path().join("socket"), made.path().to_path_buf()] {
        fs::set_permissions(&path, Permissions::from_mode(0o700))?;
        account.give(&path)?;
    }
    let watchdog = Watchdog::start(made.path(), account)?;
    Ok((made.keep(), watchdog))
}

/// Returns where temporary files go, unless a socket's path would get too long there, or the server cannot get there.
fn base_directory(account: Account) -> PathBuf {
    let usual = std::path::absolute(std::env::temp_dir()).unwrap_or_else(|_| PathBuf::from("/tmp"));
    let fits = usual.as_os_str().len() + "/emaj-123456/socket/.s.PGSQL.12345".len() <= SOCKET_PATH_LIMIT;
    if fits && account.reaches(&usual) {
        usual
    } else {
        PathBuf::from("/tmp")
    }
}

/// Runs `initdb`.
fn init(cluster: &Cluster) -> Result<()> {
    use secrecy::ExposeSecret as _;
    let secret = cluster.directory.join("password");
    private_file(&secret)?.write_all(cluster.password.expose_secret().as_bytes())?;
    cluster.account.give(&secret)?;
    let log_file = cluster.directory.join("initdb.log");
    let file = private_file(&log_file)?;
    let mut command = cluster.program("initdb");
    command
        .arg("--pgdata")
        .arg(cluster.data_dir())
        .arg("--pwfile")
        .arg(&secret)
        .args(["--username", SUPERUSER]);
    command.args([
        "--auth-local=trust",
        "--auth-host=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
    ]);
    command
        .args(["--no-sync", "--no-instructions"])
        .stdout(file.try_clone()?)
        .stderr(file);
    let status = command
        .status()
        .map_err(|error| Error::from(error).context("failed to run PostgreSQL's `initdb`"))?;
    fs::remove_file(&secret)?;
    if status.success() {
        return Ok(());
    }
    let end = log::end(&log_file);
    Err(Error::message(
        Kind::Failed,
        format!("`initdb` failed ({status}); {end}"),
    ))
}

/// Starts the server on a free port, and on another one where that was taken meanwhile.
fn first_start(cluster: &mut Cluster, seed: u16) -> Result<()> {
    for attempt in 0..PORT_ATTEMPTS {
        let port = port::find_free(seed.wrapping_add(attempt.wrapping_mul(7919)))
            .ok_or_else(|| Error::message(Kind::Failed, "no free port on 127.0.0.1"))?;
        let before = log::length(&cluster.log_file());
        match cluster.try_start(port)? {
            Attempt::Ready => return Ok(()),
            Attempt::Ended(_) if log::said_since(&cluster.log_file(), before, "Address already in use") => {}
            Attempt::Ended(status) => return Err(cluster.log_error(&format!("PostgreSQL did not start ({status})"))),
        }
    }
    Err(cluster.log_error(&format!(
        "PostgreSQL found {PORT_ATTEMPTS} ports in use, one after the other"
    )))
}

fn append(file: &Path, text: &str) -> Result<()> {
    Ok(fs::OpenOptions::new()
        .append(true)
        .open(file)?
        .write_all(text.as_bytes())?)
}

/// Returns bytes that nobody can guess.
fn random_bytes() -> Result<[u8; 24]> {
    let mut bytes = [0; 24];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_caller_sets_comes_last_and_is_quoted() {
        let text = Cluster::builder()
            .settings([("search_path", r#""it's", a\b"#)])
            .configuration()
            .unwrap();
        assert!(
            text.ends_with("fsync = 'off'\nfull_page_writes = 'off'\nsearch_path = '\"it''s\", a\\\\b'\n"),
            "{text}"
        );
    }

    #[test]
    fn durable_leaves_fsync_alone() {
        assert!(!Cluster::builder().durable().configuration().unwrap().contains("fsync"));
    }

    #[test]
    fn a_setting_cannot_bring_another_line() {
        for (name, value) in [("a b", "1"), ("", "1"), ("work_mem", "1\nfsync = off")] {
            assert!(
                Cluster::builder().settings([(name, value)]).configuration().is_err(),
                "{name:?}"
            );
        }
    }
}
