//! The directory of the story: OpenLDAP's server, beside the cluster, on a socket that nobody else can reach.
//!
//! It runs under the cluster's account and in its watchdog's group, so it ends, and its files go, with the cluster. What is in it is read
//! with `ldapsearch`: what emaj wrote is not looked at with emaj's own eyes.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret as _;

use crate::cluster::Cluster;
use crate::errors::{Error, Kind, Result};

pub(super) const SUFFIX: &str = "dc=example,dc=org";
const LIMIT: Duration = Duration::from_secs(30);
const MOMENT: Duration = Duration::from_millis(10);

/// Where servers stand that are not on everybody's path, where their modules are, and their schemas.
const PLACES: &[&str] = &[
    "/usr/sbin",
    "/usr/libexec",
    "/usr/lib/openldap",
    "/usr/local/libexec",
    "/sbin",
];
const MODULES: &[&str] = &[
    "/usr/lib/ldap",
    "/usr/lib/openldap",
    "/usr/lib64/openldap",
    "/usr/libexec/openldap",
];
const SCHEMAS: &[&str] = &[
    "/etc/ldap/schema",
    "/etc/openldap/schema",
    "/usr/local/etc/openldap/schema",
];

/// What OpenLDAP has here.
#[derive(Debug)]
pub(super) struct Programs {
    slapd: PathBuf,
    search: PathBuf,
    schemas: PathBuf,
}

#[derive(Debug)]
pub(super) struct Directory {
    programs: Programs,
    socket: PathBuf,
    folder: PathBuf,
    process: Option<Child>,
}

/// Finds the programs: `EMAJ_SLAPD` names the server, else it is looked for where servers stand, and in `PATH`.
///
/// # Errors
/// When one is not there, with the line that installs it as hint.
pub(super) fn find() -> Result<Programs> {
    let named = std::env::var_os("EMAJ_SLAPD").filter(|value| !value.is_empty());
    let slapd = match named.map(PathBuf::from) {
        Some(named) if named.is_file() => Some(named),
        Some(named) => return Err(missing(&format!("no `slapd` at `{}` (EMAJ_SLAPD)", named.display()))),
        None => on_path("slapd", PLACES),
    };
    Ok(Programs {
        slapd: slapd.ok_or_else(|| missing("OpenLDAP's server `slapd` was not found"))?,
        search: on_path("ldapsearch", &[]).ok_or_else(|| missing("`ldapsearch` was not found"))?,
        schemas: SCHEMAS
            .iter()
            .map(PathBuf::from)
            .find(|place| place.join("inetorgperson.schema").is_file())
            .ok_or_else(|| missing("OpenLDAP's schemas were not found"))?,
    })
}

fn on_path(name: &str, first: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = first.iter().map(PathBuf::from).chain(std::env::split_paths(&path));
    places.map(|place| place.join(name)).find(|file| file.is_file())
}

fn missing(what: &str) -> Error {
    Error::message(
        Kind::Failed,
        format!("{what}: the second part of the demonstration needs it"),
    )
    .hint("install it: `sudo apt-get install slapd ldap-utils`")
    .hint("or see the first part only: `emaj demo --without-directory`")
}

impl Directory {
    /// Lays a directory out beside `cluster`, with `entries` in it. It does not run yet.
    ///
    /// # Errors
    /// When its files cannot be written, or the server refuses them.
    pub(super) fn lay_out(cluster: &Cluster, programs: Programs, entries: &str) -> Result<Directory> {
        let folder = cluster.socket_dir().with_file_name("directory");
        for path in [folder.clone(), folder.join("data")] {
            fs::create_dir(&path)?;
            cluster.hand_over(&path)?;
        }
        let directory = Directory {
            socket: cluster.socket_dir().join("ldapi"),
            process: None,
            programs,
            folder,
        };
        let settings = directory.configuration(cluster.password().expose_secret());
        for (name, text) in [("slapd.conf", settings.as_str()), ("entries.ldif", entries)] {
            let path = directory.folder.join(name);
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            file.write_all(text.as_bytes())?;
            cluster.hand_over(&path)?;
        }
        let output = directory
            .server(cluster, &["-Tadd"])
            .arg("-l")
            .arg(directory.folder.join("entries.ldif"))
            .output()
            .map_err(|error| Error::from(error).context("failed to run `slapd`"))?;
        match output.status.success() {
            true => Ok(directory),
            false => Err(refused(&String::from_utf8_lossy(&output.stderr))),
        }
    }

    /// Returns the lines of `slapd.conf`.
    fn configuration(&self, password: &str) -> String {
        let schemas = ["core", "cosine", "inetorgperson"];
        let schemas = schemas.map(|name| format!("include \"{}/{name}.schema\"\n", self.programs.schemas.display()));
        // Where there is no such module, it is part of the server.
        let module = MODULES
            .iter()
            .find(|place| {
                ["la", "so"]
                    .iter()
                    .any(|end| Path::new(place).join("back_mdb").with_extension(end).exists())
            })
            .map(|place| format!("modulepath {place}\nmoduleload back_mdb\n"));
        format!(
            "{}{}database mdb\nmaxsize 16777216\nsuffix \"{SUFFIX}\"\nrootdn \"cn=emaj,{SUFFIX}\"\nrootpw {password}\n\
             directory \"{}\"\ndbnosync\naccess to * by * read\n",
            schemas.concat(),
            module.unwrap_or_default(),
            self.folder.join("data").display()
        )
    }

    /// (Slapd wants to hear first of all which tool it is to be.)
    fn server(&self, cluster: &Cluster, args: &[&str]) -> Command {
        let mut command = cluster.companion(&self.programs.slapd);
        command.args(args).arg("-f").arg(self.folder.join("slapd.conf"));
        command
    }

    /// Returns where it listens, as `LDAPURI` says it.
    pub(super) fn url(&self) -> String {
        let path = self.socket.to_string_lossy();
        let escaped = path.bytes().map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        });
        format!("ldapi://{}", escaped.collect::<String>())
    }

    /// Starts it, for the first time or again; it answers when this returns.
    ///
    /// # Errors
    /// When it does not: with what it said.
    pub(super) fn start(&mut self, cluster: &Cluster) -> Result<()> {
        let path = self.folder.join("log");
        let log = File::create(&path)?;
        // (With -d it stays a child of ours.)
        let mut process = self
            .server(cluster, &["-d", "0", "-h", &self.url()])
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| Error::from(error).context("failed to run `slapd`"))?;
        let end = Instant::now() + LIMIT;
        while UnixStream::connect(&self.socket).is_err() {
            if process.try_wait()?.is_some() || Instant::now() > end {
                _ = process.kill();
                _ = process.wait();
                return Err(refused(&fs::read_to_string(&path).unwrap_or_default()));
            }
            std::thread::sleep(MOMENT);
        }
        self.process = Some(process);
        Ok(())
    }

    /// Stops it as an administrator does, and returns the process that it was.
    ///
    /// # Errors
    /// When it does not run, or does not stop.
    pub(super) fn stop(&mut self) -> Result<u32> {
        let Some(mut process) = self.process.take() else {
            return Err(Error::message(
                Kind::Failed,
                "bug: the story stops a directory that does not run",
            ));
        };
        // It may have ended by itself; then there is nobody to signal.
        let _ = kill_process(Pid::from_child(&process), Signal::TERM);
        let end = Instant::now() + LIMIT;
        while process.try_wait()?.is_none() {
            if Instant::now() > end {
                process.kill()?;
            }
            std::thread::sleep(MOMENT);
        }
        Ok(process.id())
    }

    /// Returns `ldapsearch`, which wants the environment of [`Directory::environment`].
    pub(super) fn search(&self) -> &Path {
        &self.programs.search
    }

    /// Returns what leads OpenLDAP's programs, and the manifest, here.
    pub(super) fn environment(&self, cluster: &Cluster) -> [(&'static str, String); 4] {
        [
            ("LDAPURI", self.url()),
            ("LDAPBASE", SUFFIX.to_owned()),
            ("LDAPCONF", "/dev/null".to_owned()),
            ("LDAP_PASSWORD", cluster.password().expose_secret().to_owned()),
        ]
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.process.is_some() {
            let _ = self.stop();
        }
    }
}

fn refused(said: &str) -> Error {
    Error::message(Kind::Failed, format!("slapd does not start: {}", said.trim()))
        .hint("where AppArmor or SELinux confines slapd, it may not use a temporary directory")
        .hint("`emaj demo --without-directory` does without it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_with_both_ways_out() {
        let hints = missing("`slapd` was not found").hints().join("\n");
        assert!(
            hints.contains("apt-get install slapd ldap-utils") && hints.contains("--without-directory"),
            "{hints}"
        );
    }
}
