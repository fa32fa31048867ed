//! What the story is played on: a cluster, a session of the application, and this program as a child process.

mod follow;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::checksum::{self, Checksums};
use super::columns::{indented, table};
use super::directory::{Directory, Programs};
use super::ldif::Facts;
use super::story;
use crate::cluster::Cluster;
use crate::errors::{Error, Kind, Result};
use crate::pg::{self, Environment, Given, Prompt, Session, classify, classify_in};
use crate::words::count;

pub(super) use self::follow::Follow;

const DATABASE: &str = "shop";
/// Owns the database; no superuser, but it may make the roles that the manifest names.
const OWNER: &str = "shopkeeper";

/// One thing that is done.
pub(super) enum Act {
    /// Runs a script of the application, shown by its name alone.
    Load(&'static str, &'static str),
    /// Lays a manifest out under a name, and shows it without its comments.
    Show(&'static str, &'static str),
    /// Runs this program with these arguments; it must succeed.
    Emaj(&'static [&'static str]),
    /// Runs this program with these arguments; it must end with this code.
    Fails(u8, &'static [&'static str]),
    /// Runs one statement of the application. In its text, and in the arguments of `Emaj`, a pattern in braces stands for the
    /// name of the last mark that is like it.
    Sql(&'static str),
    /// Keeps the checksums of this moment under a name.
    Remember(&'static str),
    /// Checks that every relation is as it was at that moment.
    Same(&'static str),
    /// Checks that some are not: what was to be changed was.
    Differs(&'static str),
    /// Keeps what `pg_dump --schema-only` says.
    Dump,
    /// Checks that it says the same.
    SameDump,
    /// Does something with the directory.
    Directory(Follow),
}

/// How the story ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The checks that were made.
    pub checks: usize,
    /// Those among them that did not hold.
    pub failed: usize,
}

type Tell<'a> = &'a mut dyn FnMut(&str) -> Result<()>;

pub(super) struct Stage {
    session: Session,
    remembered: BTreeMap<&'static str, Checksums>,
    dump: Option<String>,
    outcome: Outcome,
    folder: PathBuf,
    program: PathBuf,
    entry: Option<Facts>,
    directory: Option<Directory>,
    /// Last, so that the session is closed, and the directory stopped, before the server stops.
    cluster: Cluster,
}

impl Stage {
    /// Starts the cluster, makes the database and its owner, and lays out the directory, when there are programs for one.
    pub(super) fn set(programs: Option<Programs>) -> Result<Stage> {
        let program = std::env::current_exe()
            .map_err(|error| Error::from(error).context("failed to find the program's own file"))?;
        let cluster = Cluster::builder().start()?;
        // Below the cluster's directory: what removes that removes this, too.
        let folder = cluster.socket_dir().with_file_name("demo");
        fs::create_dir(&folder)?;
        // The watchdog is no root: it must be able to empty the folder.
        cluster.hand_over(&folder)?;
        let directory = programs
            .map(|programs| Directory::lay_out(&cluster, programs, story::ENTRIES))
            .transpose()?;
        connect(&cluster, "postgres", cluster.superuser())?
            .batch_execute(&format!(
                "create role {OWNER} login createrole; alter role {OWNER} set timezone = 'UTC'"
            ))
            .map_err(|error| classify(error, "make the owner of the demonstration"))?;
        connect(&cluster, "postgres", cluster.superuser())?
            .batch_execute(&format!("create database {DATABASE} owner {OWNER}"))
            .map_err(|error| classify(error, "make the database of the demonstration"))?;
        Ok(Stage {
            session: connect(&cluster, DATABASE, OWNER)?,
            remembered: BTreeMap::new(),
            dump: None,
            outcome: Outcome { checks: 0, failed: 0 },
            folder,
            program,
            entry: None,
            directory,
            cluster,
        })
    }

    pub(super) fn act(&mut self, act: &Act, tell: Tell<'_>) -> Result<()> {
        match act {
            Act::Load(name, sql) => {
                tell(&format!("\n  {DATABASE}=> \\i {name}\n"))?;
                self.session
                    .batch_execute(sql)
                    .map_err(|error| classify_in(error, "load the shop", sql))
            }
            Act::Show(name, text) => {
                fs::write(self.folder.join(name), text)?;
                let said = |line: &&str| !line.trim_start().starts_with('#') && !line.is_empty();
                let lines: Vec<&str> = text.lines().filter(said).collect();
                tell(&format!("\n  $ grep -v '^#' {name}\n{}", indented(&lines.join("\n"))))
            }
            Act::Emaj(args) => self.emaj(0, args, tell),
            Act::Fails(code, args) => self.emaj(*code, args, tell),
            Act::Sql(sql) => self.sql(sql, tell),
            Act::Remember(name) => {
                let sums = checksum::read(&mut self.session)?;
                tell(&format!(
                    "\n  noted: the checksums of {} at `{name}`\n",
                    count(sums.len(), "relation")
                ))?;
                self.remembered.insert(name, sums);
                Ok(())
            }
            Act::Same(name) => {
                let (total, differing) = self.compare(name)?;
                self.check(
                    differing.is_empty(),
                    &match differing.as_slice() {
                        [] => format!(
                            "{} (rows in order of their key, sequences) are as they were at `{name}`",
                            count(total, "relation")
                        ),
                        names => format!("not as they were at `{name}`: {}", names.join(", ")),
                    },
                    tell,
                )
            }
            Act::Differs(name) => {
                let (_, differing) = self.compare(name)?;
                self.check(
                    !differing.is_empty(),
                    &match differing.as_slice() {
                        [] => format!("nothing differs from `{name}`: there is nothing to bring back"),
                        names => format!("since `{name}` changed: {}", names.join(", ")),
                    },
                    tell,
                )
            }
            Act::Dump => {
                tell("\n  $ pg_dump --schema-only > before.sql\n")?;
                self.dump = Some(self.pg_dump()?);
                Ok(())
            }
            Act::SameDump => {
                tell("\n  $ pg_dump --schema-only | cmp - before.sql\n")?;
                let now = self.pg_dump()?;
                let same = self.dump.as_ref() == Some(&now);
                let text = if same {
                    format!("the schema is the same, all {} bytes of it", now.len())
                } else {
                    "the schema is not what it was".to_owned()
                };
                self.check(same, &text, tell)
            }
            Act::Directory(act) => self.follow(act, tell),
        }
    }

    /// Ends the play: the server stops, everything it wrote goes.
    pub(super) fn close(self) -> Outcome {
        self.outcome
    }

    fn emaj(&mut self, code: u8, args: &[&str], tell: Tell<'_>) -> Result<()> {
        let args = args
            .iter()
            .map(|arg| self.with_marks(arg))
            .collect::<Result<Vec<_>>>()?;
        tell(&format!("\n  $ emaj {}\n", args.join(" ")))?;
        let output = self.run(&self.program, &args)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        tell(&indented(&text(&output.stdout)))?;
        tell(&indented(&text(&output.stderr)))?;
        if output.status.code() != Some(code.into()) {
            return Err(Error::message(
                Kind::Failed,
                format!(
                    "`emaj {}` ended with {}, not with {code}",
                    args.join(" "),
                    output.status
                ),
            ));
        }
        match code {
            0 => Ok(()),
            _ => tell(&format!("  exit code {code}\n")),
        }
    }

    fn sql(&mut self, sql: &str, tell: Tell<'_>) -> Result<()> {
        let sql = self.with_marks(sql)?;
        tell(&format!("\n  {DATABASE}=> {};\n", sql.replace('\n', "\n         ")))?;
        let answers = self
            .session
            .simple_query(&sql)
            .map_err(|error| classify_in(error, "run the story's statement", &sql))?;
        tell(&indented(&table(&answers)))
    }

    /// Puts the names of marks where their patterns stand.
    fn with_marks(&mut self, text: &str) -> Result<String> {
        let Some((before, (pattern, after))) = text
            .split_once('{')
            .and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
        else {
            return Ok(text.to_owned());
        };
        let row = self
            .session
            .query_one(
                "select mark_name from emaj.emaj_mark where mark_name like $1 order by mark_id desc limit 1",
                &[&pattern],
            )
            .map_err(|error| classify(error, "find the mark"))?;
        Ok(format!("{before}{}{after}", row.get::<_, String>(0)))
    }

    fn compare(&mut self, name: &str) -> Result<(usize, Vec<String>)> {
        let now = checksum::read(&mut self.session)?;
        let then = self.remembered.get(name).ok_or_else(|| {
            Error::message(
                Kind::Failed,
                format!("bug: the story compares with `{name}`, which was not noted"),
            )
        })?;
        let differing = checksum::differing(&now, then);
        Ok((now.len(), differing.into_iter().map(str::to_owned).collect()))
    }

    fn check(&mut self, holds: bool, text: &str, tell: Tell<'_>) -> Result<()> {
        self.outcome.checks += 1;
        self.outcome.failed += usize::from(!holds);
        tell(&format!("\n  {}: {text}\n", if holds { "ok" } else { "NOT OK" }))
    }

    fn pg_dump(&self) -> Result<String> {
        let beside = self.cluster.bindir().join("pg_dump");
        let program = if beside.is_file() {
            beside
        } else {
            PathBuf::from("pg_dump")
        };
        let output = self.run(&program, &["--schema-only"]).map_err(|error| {
            error.hint("the client programs of PostgreSQL are needed: `apt-get install postgresql-client`")
        })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Error::message(
                Kind::Failed,
                format!("`pg_dump` ended with {}: {said}", output.status),
            ));
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // Newer ones put a random key into each dump.
        let is_key = |line: &&str| line.starts_with("\\restrict ") || line.starts_with("\\unrestrict ");
        Ok(text.split_inclusive('\n').filter(|line| !is_key(line)).collect())
    }

    /// Runs a program in the demonstration's directory; nothing of the person's own settings leads it elsewhere.
    fn run(&self, program: &Path, args: &[impl AsRef<OsStr>]) -> Result<Output> {
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.folder);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if ["PG", "EMAJ_", "LDAP"].iter().any(|ours| text.starts_with(ours)) {
                command.env_remove(&name);
            }
        }
        if let Some(directory) = &self.directory {
            command.envs(directory.environment(&self.cluster));
        }
        command
            // The results are the story; the worker's log, with the times of its lines, is not.
            .env("EMAJ_LOG", "error")
            .env("HOME", &self.folder)
            .env("PGSYSCONFDIR", &self.folder)
            .envs(self.cluster.env(DATABASE))
            .env("PGUSER", OWNER)
            .stdin(std::process::Stdio::null())
            .output()
            .map_err(|error| Error::from(error).context(format!("failed to run `{}`", program.display())))
    }
}

fn connect(cluster: &Cluster, dbname: &str, role: &str) -> Result<Session> {
    let as_role = Given {
        // The last of two settings wins.
        uri: Some(format!("{} user={role}", cluster.conninfo(dbname)).into()),
        ..Given::default()
    };
    let mut session = pg::resolve(&as_role, None, &Environment::default())?.connect(Prompt::Never)?;
    session.by_path_of_role()?;
    Ok(session)
}
