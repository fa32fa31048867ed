//! The operating system account that runs the server: PostgreSQL refuses to run as root.
//!
//! Root switches to `postgres`, or to `nobody` where there is no such account; anybody else stays who they are.

use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::errors::{Error, Kind, Result};

/// The account to switch to; nobody to switch to for those who are not root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account(Option<(u32, u32)>);

impl Account {
    /// Finds the account that the server must run under.
    pub(super) fn choose() -> Result<Account> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Account(None));
        }
        let known = ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| Some((id("-u", name)?, id("-g", name)?)));
        match known {
            Some((uid, gid)) if uid != 0 => Ok(Account(Some((uid, gid)))),
            _ => Err(Error::message(Kind::Failed, "no account to run PostgreSQL under: neither `postgres` nor `nobody`")
                .hint("PostgreSQL refuses to run as root; run this as another user, or create one: `useradd --system postgres`")),
        }
    }

    /// Makes `command` run under this account. (As root, `uid` also gives up the supplementary groups.)
    pub(super) fn apply(self, command: &mut Command) -> &mut Command {
        match self.0 {
            Some((uid, gid)) => command.uid(uid).gid(gid),
            None => command,
        }
    }

    /// Gives `path` to this account.
    pub(super) fn give(self, path: &Path) -> io::Result<()> {
        match self.0 {
            Some((uid, gid)) => std::os::unix::fs::chown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    /// Says whether this account can reach what is in `directory`.
    pub(super) fn reaches(self, directory: &Path) -> bool {
        let Some((uid, _)) = self.0 else {
            return directory.is_dir();
        };
        let open = |mode: u32, owner: u32| mode & 0o001 != 0 || (owner == uid && mode & 0o100 != 0);
        directory
            .ancestors()
            .filter(|path| !path.as_os_str().is_empty())
            .all(|path| {
                path.metadata()
                    .is_ok_and(|found| found.is_dir() && open(found.permissions().mode(), found.uid()))
            })
    }
}

/// Asks `id`, which knows accounts from every source that the system knows.
fn id(option: &str, name: &str) -> Option<u32> {
    let output = Command::new("id").args([option, name]).output().ok()?;
    String::from_utf8(output.stdout)
        .ok()?
        .trim()
        .parse()
        .ok()
        .filter(|_| output.status.success())
}
