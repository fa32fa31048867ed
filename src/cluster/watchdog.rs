//! The watchdog: a small shell process that stops a cluster and removes its directory when the owner is gone.
//!
//! A destructor is not enough: statics are never dropped, and nothing runs after `kill -9`. The watchdog reads from a pipe
//! whose other end only the owner holds (Rust opens pipes close-on-exec, so no child inherits it); however the owner
//! ends, the pipe closes. It leads the process group that the cluster's processes join, so it needs no process id to
//! stop them: there is no moment in which one could be missed, and no id that could have been given to another process.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use super::account::Account;
use super::wait;

const SCRIPT: &str = include_str!("watchdog.sh");

/// A running watchdog; dropping it (or dying) makes it do its work.
#[derive(Debug)]
pub(super) struct Watchdog {
    process: Child,
    lifeline: Option<ChildStdin>,
}

impl Watchdog {
    /// Starts the watchdog of `directory` as `account`.
    pub(super) fn start(directory: &Path, account: Account) -> io::Result<Watchdog> {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(SCRIPT).arg("emaj-watchdog").arg(directory);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        // A group of its own also keeps it out of reach of the terminal's Ctrl-C.
        account.apply(&mut command).process_group(0);
        let mut process = command.spawn()?;
        let lifeline = process.stdin.take();
        Ok(Watchdog { process, lifeline })
    }

    /// Makes `command` a member of the group that the watchdog stops.
    pub(super) fn guard<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.process_group(self.process.id().cast_signed())
    }

    /// Lets the watchdog do its work and waits for the end of it; returns false when it did not end well.
    pub(super) fn finish(&mut self) -> bool {
        drop(self.lifeline.take());
        wait::for_exit(&mut self.process, Duration::from_secs(30)).is_some_and(|status| status.success())
    }
}
