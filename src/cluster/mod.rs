//! A throw-away PostgreSQL cluster, as a child of this process.
//!
//! `emaj demo`, the tests and the benches run on one: a fresh `initdb` in a temporary directory, a server on a socket in
//! that directory and on a free port of 127.0.0.1 (never 5432), gone without a trace when its owner is gone, whatever
//! ended it (see `watchdog`). Nobody else gets in: the socket's directory belongs to the account that runs the server,
//! and the port asks for a password that only this process knows.
//!
//! It is no way to run a server that matters: unless `durable` is asked for, it does not wait for the disk.
//! It opens no connection; `pg` does that.

mod account;
mod binaries;
mod builder;
mod log;
mod port;
mod wait;
mod watchdog;

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use secrecy::{ExposeSecret as _, SecretString};

use self::account::Account;
use self::watchdog::Watchdog;
use crate::errors::{Error, Kind, Result};

pub use self::binaries::find_bindir;
pub use self::builder::Builder;

/// The role that owns everything in the cluster.
const SUPERUSER: &str = "postgres";
/// How long a server may take to start or to stop: crash recovery on a slow machine, with room.
const LIMIT: Duration = Duration::from_secs(120);

/// A throw-away cluster; dropping it stops the server and removes every file.
#[derive(Debug)]
pub struct Cluster {
    bindir: PathBuf,
    directory: PathBuf,
    account: Account,
    port: u16,
    password: SecretString,
    postmaster: Option<Child>,
    watchdog: Watchdog,
}

impl Cluster {
    /// Returns what makes a cluster: `Cluster::builder().start()?`.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns the directory of the server's socket, which stands as `host` in a connection string.
    pub fn socket_dir(&self) -> PathBuf {
        self.directory.join("socket")
    }

    /// Returns the port, which is part of the socket's name too. It stays the same through stops and starts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the name of the superuser; through the socket it needs no password.
    pub fn superuser(&self) -> &'static str {
        SUPERUSER
    }

    /// Returns the superuser's password, which a connection through 127.0.0.1 needs.
    pub fn password(&self) -> &SecretString {
        &self.password
    }

    /// Returns the data directory; its files belong to the account that runs the server.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Returns the path of the server's log.
    pub fn log_file(&self) -> PathBuf {
        self.directory.join("server.log")
    }

    /// Returns the directory of PostgreSQL's programs.
    pub fn bindir(&self) -> &Path {
        &self.bindir
    }

    /// Returns the process id of the postmaster, while it is running.
    pub fn postmaster_pid(&self) -> Option<u32> {
        self.postmaster.as_ref().map(Child::id)
    }

    /// Returns a libpq connection string to `dbname`, as superuser, through the socket.
    pub fn conninfo(&self, dbname: &str) -> String {
        let (host, port) = (conninfo_value(&self.socket_dir().to_string_lossy()), self.port);
        format!(
            "host={host} port={port} user={SUPERUSER} dbname={}",
            conninfo_value(dbname)
        )
    }

    /// Returns a libpq connection string to `dbname`, as superuser, through 127.0.0.1, with its password.
    pub fn tcp_conninfo(&self, dbname: &str) -> SecretString {
        let (password, dbname) = (self.password.expose_secret(), conninfo_value(dbname));
        format!(
            "host=127.0.0.1 port={} user={SUPERUSER} password={password} dbname={dbname}",
            self.port
        )
        .into()
    }

    /// Returns what libpq reads from the environment, so that programs find the superuser's `dbname` without arguments.
    pub fn env(&self, dbname: &str) -> [(&'static str, String); 4] {
        [
            ("PGHOST", self.socket_dir().to_string_lossy().into_owned()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", SUPERUSER.to_owned()),
            ("PGDATABASE", dbname.to_owned()),
        ]
    }

    /// Stops the server at once, as a crash would: nothing is written, the next start recovers.
    pub fn stop_immediate(&mut self) -> Result<()> {
        self.stop(Signal::QUIT)
    }

    /// Kills the postmaster with SIGKILL; its backends notice and end by themselves.
    pub fn kill9_postmaster(&mut self) -> Result<()> {
        self.stop(Signal::KILL)
    }

    /// Starts a stopped server again, on the same socket and port; when it crashed, it recovers.
    ///
    /// # Errors
    /// When it is running already, or does not start: the end of its log is part of the message.
    pub fn start_again(&mut self) -> Result<()> {
        if self.postmaster.is_some() {
            return Err(Error::message(
                Kind::Failed,
                "the throw-away cluster is running already",
            ));
        }
        let patience = Instant::now() + Duration::from_secs(10);
        loop {
            let before = log::length(&self.log_file());
            let Attempt::Ended(status) = self.try_start(self.port)? else {
                return Ok(());
            };
            // The backends of a killed postmaster may need a moment to notice, and the new one will not start before.
            let too_early = log::said_since(&self.log_file(), before, "is still in use");
            if !too_early || Instant::now() > patience {
                return Err(self.log_error(&format!("PostgreSQL did not start again ({status})")));
            }
            std::thread::sleep(wait::MOMENT);
        }
    }

    /// Stops the server cleanly (open sessions are ended) and starts it again.
    pub fn restart(&mut self) -> Result<()> {
        self.stop(Signal::INT)?;
        self.start_again()
    }

    /// Makes the server read its configuration files again.
    pub fn reload(&self) -> Result<()> {
        match &self.postmaster {
            Some(postmaster) => {
                Ok(kill_process(Pid::from_child(postmaster), Signal::HUP).map_err(std::io::Error::from)?)
            }
            None => Err(not_running()),
        }
    }

    fn stop(&mut self, signal: Signal) -> Result<()> {
        let mut postmaster = self.postmaster.take().ok_or_else(not_running)?;
        // It may have ended by itself; then there is nobody to signal, and nothing left to do.
        let _ = kill_process(Pid::from_child(&postmaster), signal);
        if wait::for_exit(&mut postmaster, LIMIT).is_none() {
            self.postmaster = Some(postmaster);
            return Err(self.log_error("PostgreSQL did not stop"));
        }
        Ok(())
    }

    /// Starts the postmaster and waits until it takes connections, or ends.
    fn try_start(&mut self, port: u16) -> Result<Attempt> {
        let data = self.data_dir();
        let log = OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let mut command = self.program("postgres");
        command
            .arg("-D")
            .arg(&data)
            .arg("-p")
            .arg(port.to_string())
            .arg("-k")
            .arg(self.socket_dir());
        command.stdout(log.try_clone()?).stderr(log);
        let mut postmaster = command
            .spawn()
            .map_err(|error| Error::from(error).context("failed to run PostgreSQL's `postgres`"))?;
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(status) = postmaster.try_wait()? {
                return Ok(Attempt::Ended(status));
            }
            if is_ready(&data, postmaster.id()) {
                self.port = port;
                self.postmaster = Some(postmaster);
                return Ok(Attempt::Ready);
            }
            if Instant::now() > end {
                self.postmaster = Some(postmaster);
                return Err(self.log_error("PostgreSQL did not get ready in time"));
            }
            std::thread::sleep(wait::MOMENT);
        }
    }

    /// Returns a command for another server that belongs to the cluster: it runs under the same account, without anything of this
    /// process's environment that could change its ways, and ends with the cluster, whatever ends that.
    pub fn companion(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).current_dir(&self.directory);
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("TZ", "UTC")
            .env("LC_ALL", "C.UTF-8");
        self.account.apply(&mut command);
        self.watchdog.guard(&mut command);
        command
    }

    /// Gives a file in the cluster's directory to the account that its servers run under.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn hand_over(&self, path: &Path) -> Result<()> {
        Ok(self.account.give(path)?)
    }

    /// Returns a command for one of PostgreSQL's programs.
    fn program(&self, name: &str) -> Command {
        self.companion(&self.bindir.join(name))
    }

    fn log_error(&self, message: &str) -> Error {
        Error::message(Kind::Failed, format!("{message}; {}", log::end(&self.log_file())))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The watchdog does all of it, so that there is one way to go. What follows is for when somebody killed it.
        if !self.watchdog.finish()
            && let Some(postmaster) = &self.postmaster
        {
            let _ = kill_process(Pid::from_child(postmaster), Signal::QUIT);
        }
        if let Some(mut postmaster) = self.postmaster.take() {
            let _ = wait::for_exit(&mut postmaster, Duration::from_secs(10));
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// How an attempt to start went, when it went at all.
enum Attempt {
    Ready,
    Ended(ExitStatus),
}

fn not_running() -> Error {
    Error::message(Kind::Failed, "the throw-away cluster is not running")
}

/// Says whether the postmaster takes connections: the eighth line of its file says so, as `pg_ctl` knows too. The first
/// line is looked at as well, because a crashed postmaster leaves its file, with "ready" in it.
fn is_ready(data: &Path, pid: u32) -> bool {
    let Ok(text) = fs::read_to_string(data.join("postmaster.pid")) else {
        return false;
    };
    let mut lines = text.lines();
    lines.next().is_some_and(|line| line.trim() == pid.to_string()) && lines.nth(6).is_some_and(|l| l.trim() == "ready")
}

/// Quotes a value of a libpq connection string, where needed.
fn conninfo_value(value: &str) -> String {
    let plain = !value.is_empty() && value.chars().all(|c| c.is_alphanumeric() || "/._-".contains(c));
    if plain {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
    }
}

/// Creates an empty file that only this user can read.
fn private_file(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conninfo_values_are_quoted_where_needed() {
        assert_eq!(conninfo_value("/tmp/emaj-a1/socket"), "/tmp/emaj-a1/socket");
        assert_eq!(conninfo_value(""), "''");
        assert_eq!(conninfo_value(r"it's a \ name"), r"'it\'s a \\ name'");
    }

    #[test]
    fn a_crashed_postmasters_file_is_not_ready() {
        let data = tempfile::tempdir().unwrap();
        fs::write(
            data.path().join("postmaster.pid"),
            "41\n/d\n0\n5433\n/s\n127.0.0.1\n 1 2\nready   \n",
        )
        .unwrap();
        assert!(is_ready(data.path(), 41));
        assert!(!is_ready(data.path(), 42));
    }
}
