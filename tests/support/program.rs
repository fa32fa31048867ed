//! Running `emaj` as a person would: arguments, files, standard input; then looking at what it said and how it ended.

use std::ffi::OsStr;
use std::io::{Read, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Database, redact, scale, until};

/// No single run of a test takes so long; a program that waits for ever fails its test instead of stopping all.
/// (Tests that are made longer take longer.)
const LIMIT: Duration = Duration::from_secs(600);

/// Prepares a run of `emaj` in the directory of `db`; the environment leads to `db` as superuser.
pub fn emaj(db: &Database) -> Emaj {
    emaj_alone(db.dir()).envs(db.env())
}

/// Prepares a run of `emaj` in `directory`, with no database in the environment.
pub fn emaj_alone(directory: &Path) -> Emaj {
    let mut command = Command::new(env!("CARGO_BIN_EXE_emaj"));
    command.current_dir(directory);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let ours = text.starts_with("PG") || text.starts_with("EMAJ_") || text.starts_with("CARGO");
        if ours
            || [
                "NO_COLOR",
                "CLICOLOR",
                "CLICOLOR_FORCE",
                "COLUMNS",
                "RUST_LOG",
                "RUST_BACKTRACE",
            ]
            .contains(&&*text)
        {
            command.env_remove(&name);
        }
    }
    // Nothing of the person who runs the tests may lead a run elsewhere.
    command.env("HOME", directory).env("TZ", "UTC").env("LC_ALL", "C.UTF-8");
    command
        .env("PGSERVICEFILE", "/dev/null")
        // (One that is there and no plain file would be warned about, as libpq does.)
        .env("PGPASSFILE", directory.join("no-passwords"))
        .env("PGSYSCONFDIR", directory);
    Emaj {
        command,
        input: Vec::new(),
    }
}

/// A run of `emaj` that is being prepared.
#[derive(Debug)]
pub struct Emaj {
    command: Command,
    input: Vec<u8>,
}

impl Emaj {
    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets several variables of the environment.
    pub fn envs(mut self, variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>) -> Self {
        self.command.envs(variables);
        self
    }

    /// Connects as `role` instead of the superuser.
    pub fn user(self, role: &str) -> Self {
        self.env("PGUSER", role)
    }

    /// Gives `text` on standard input, which is empty otherwise (and never a terminal).
    pub fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.input = text.into();
        self
    }

    /// Returns the variables that are set for the run (those that are removed are not among them).
    pub fn variables(&self) -> Vec<(String, String)> {
        let set = self.command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        set.map(|(name, value)| {
            (
                name.to_string_lossy().into_owned(),
                value.to_string_lossy().into_owned(),
            )
        })
        .collect()
    }

    /// Has it started with SIGHUP ignored, as `nohup` does.
    pub fn under_nohup(self) -> Self {
        self.by("env", "--ignore-signal=HUP")
    }

    /// Has it started with SIGHUP as it is by default, also where the tests run under `nohup`.
    pub fn in_a_terminal(self) -> Self {
        self.by("env", "--default-signal=HUP")
    }

    /// Has it started so that no file may grow beyond `bytes`.
    pub fn with_files_up_to(self, bytes: u64) -> Self {
        self.by("prlimit", &format!("--fsize={bytes}"))
    }

    /// Has it started by `script`, with a terminal of its own: standard output is then all that the terminal shows.
    pub fn seen_on_a_terminal(self) -> Self {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let quoted: Vec<_> = words
            .map(|word| format!("'{}'", word.to_string_lossy().replace('\'', r"'\''")))
            .collect();
        let mut command = Command::new("script");
        command.args(["-q", "-e", "-c", &quoted.join(" "), "/dev/null"]);
        self.by_command(command)
    }

    /// Has it started by another program with an option.
    fn by(self, program: &str, option: &str) -> Self {
        let mut command = Command::new(program);
        command.arg(option).arg(self.command.get_program());
        command.args(self.command.get_args());
        self.by_command(command)
    }

    /// Has another command started in its place, with its folder and its environment.
    fn by_command(mut self, mut command: Command) -> Self {
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(directory) = self.command.get_current_dir() {
            command.current_dir(directory);
        }
        self.command = command;
        self
    }

    /// Returns the command, for those who start it themselves.
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Runs it to its end.
    pub fn run(self) -> Run {
        self.run_while(|_| ())
    }

    /// Runs it to its end; at a named point it is held, by a file in `folder`, until `meanwhile` is done, which gets its process id.
    pub fn run_held(self, point: &str, folder: &Path, meanwhile: impl FnOnce(u32)) -> Run {
        let hold = folder.join("hold");
        self.env("EMAJ_FAIL_AT", point)
            .env("EMAJ_FAIL_HOLD", &hold)
            .run_while(|pid| {
                until(point, || hold.exists());
                meanwhile(pid);
                std::fs::remove_file(&hold).unwrap();
            })
    }

    /// Runs it to its end; meanwhile `watch` is called once with its process id. Where that panics, what the program said is shown too.
    pub fn run_while(mut self, watch: impl FnOnce(u32)) -> Run {
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("emaj runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        let input = self.input;
        // A program that does not read its input closes the pipe; that is its right.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let stdout = read_all(child.stdout.take().expect("a pipe"));
        let stderr = read_all(child.stderr.take().expect("a pipe"));
        let watched = catch_unwind(AssertUnwindSafe(|| watch(child.id())));
        let limit = if watched.is_ok() {
            LIMIT * scale(1) as u32
        } else {
            Duration::ZERO
        };
        let end = Instant::now() + limit;
        let status = loop {
            match child.try_wait().expect("emaj can be waited for") {
                Some(status) => break Some(status),
                None if Instant::now() > end => break None,
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        if status.is_none() {
            child.kill().expect("emaj can be killed");
            child.wait().expect("emaj can be waited for");
        }
        writer.join().expect("the writer ends");
        let text =
            |thread: JoinHandle<Vec<u8>>| String::from_utf8(thread.join().expect("the reader ends")).expect("UTF-8");
        let words: Vec<_> = self
            .command
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned())
            .collect();
        let run = Run {
            command: words.iter().fold("emaj".to_owned(), |line, word| line + " " + word),
            stdout: text(stdout),
            stderr: text(stderr),
            status: status.and_then(|status| status.code()),
        };
        if let Err(panic) = watched {
            eprintln!("meanwhile, to the end or until it was killed:\n{run}");
            resume_unwind(panic);
        }
        assert!(status.is_some(), "not done after {LIMIT:?}:\n{run}");
        run
    }
}

fn read_all(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("emaj's output can be read");
        bytes
    })
}

/// What a run said, and how it ended.
#[derive(Debug)]
pub struct Run {
    pub command: String,
    pub stdout: String,
    pub stderr: String,
    /// The exit code; none when a signal ended it.
    pub status: Option<i32>,
}

impl Run {
    /// Asserts that it is done well.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// Asserts its exit code.
    #[track_caller]
    pub fn code(self, expected: i32) -> Self {
        assert!(self.status == Some(expected), "expected exit code {expected}:\n{self}");
        self
    }

    /// Returns standard output as JSON.
    #[track_caller]
    pub fn stdout_json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON ({error}):\n{self}"))
    }

    /// Returns the whole run for a snapshot, without what differs from run to run.
    pub fn snapshot(&self) -> String {
        redact(&self.to_string())
    }
}

/// Asserts that a run said something, on standard output or standard error.
#[track_caller]
pub fn said(run: &Run, words: &str) {
    let text = run.to_string();
    assert!(text.contains(words), "`{words}` was not said:\n{text}");
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "$ {}", self.command)?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                writeln!(f, "--- {name}\n{}", text.trim_end_matches('\n'))?;
            }
        }
        match self.status {
            Some(code) => write!(f, "--- exit code {code}"),
            None => write!(f, "--- ended by a signal"),
        }
    }
}
