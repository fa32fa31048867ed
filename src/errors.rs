//! What can go wrong, as data: a kind (which decides the exit code), a source and hints.
//!
//! Modules below keep precise error enums of their own and turn them into an [`Error`] where a person can act on them.
//! Everything that has no kind of its own is [`Kind::Failed`]. `ui::print_error` is the only place that prints one.

use std::fmt;

/// The result of everything a command does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What errors say of a transaction that was taken back.
pub const UNCHANGED: &str = "nothing was changed";

/// What sort of failure it is; each sort has one documented exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something failed that has no sort of its own.
    Failed,
    /// Some of the work is done, some is not.
    PartlyDone,
    /// A guard refused: nothing was changed.
    Refused,
    /// A verification found a difference.
    Different,
    /// The database holds nothing of emaj.
    NotInstalled,
    /// A lock could not be had in time.
    Locked,
    /// The server refused the login, or the role lacks a privilege.
    Denied,
    /// No server could be reached.
    Unreachable,
    /// The command line is wrong.
    Usage,
    /// The manifest is wrong.
    Manifest,
    /// Ctrl-C stopped the work (SIGINT).
    Interrupted,
    /// The system or somebody else stopped the work (SIGTERM, SIGHUP).
    Terminated,
}

impl Kind {
    /// Returns whether a signal stopped the work.
    pub fn is_signal(self) -> bool {
        matches!(self, Kind::Interrupted | Kind::Terminated)
    }

    /// Returns the exit code that `docs/exit-codes.md` documents for this sort.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::PartlyDone => 3,
            Kind::Refused => 4,
            Kind::Different => 6,
            Kind::NotInstalled => 10,
            Kind::Locked => 11,
            Kind::Denied => 12,
            Kind::Unreachable => 13,
            Kind::Usage => 64,
            Kind::Manifest => 65,
            Kind::Interrupted => 130,
            Kind::Terminated => 143,
        }
    }
}

/// An error that a person can act on: what failed, of which kind, and what to do next.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    source: anyhow::Error,
    hints: Vec<String>,
}

impl Error {
    /// Makes an error of `kind`; `source` is a message or another error.
    pub fn new(kind: Kind, source: impl Into<anyhow::Error>) -> Self {
        Error {
            kind,
            source: source.into(),
            hints: Vec::new(),
        }
    }

    /// Makes an error of `kind` from a sentence fragment.
    pub fn message(kind: Kind, message: impl fmt::Display) -> Self {
        Error::new(kind, anyhow::anyhow!("{message}"))
    }

    /// Adds what to do next; shown as a `hint:` line.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Says what to do next in place of what was said so far.
    pub fn hint_instead(mut self, hint: impl Into<String>) -> Self {
        self.hints = vec![hint.into()];
        self
    }

    /// Puts each hint as `say` says it.
    pub fn with_hints(mut self, say: impl Fn(&str) -> String) -> Self {
        self.hints = self.hints.iter().map(|hint| say(hint)).collect();
        self
    }

    /// Puts what was being attempted in front ("failed to …").
    pub fn context(mut self, context: impl fmt::Display + Send + Sync + 'static) -> Self {
        self.source = self.source.context(context);
        self
    }

    /// Makes it one of another kind.
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn exit_code(&self) -> u8 {
        self.kind.exit_code()
    }

    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// Returns the cause that is a `T`, if there is one.
    pub fn cause<T: std::error::Error + 'static>(&self) -> Option<&T> {
        self.source.chain().find_map(|cause| cause.downcast_ref())
    }

    /// Returns the chain of causes, the outermost first.
    pub fn chain(&self) -> impl Iterator<Item = String> + '_ {
        self.source.chain().map(ToString::to_string)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.source)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.source()
    }
}

impl From<anyhow::Error> for Error {
    fn from(source: anyhow::Error) -> Self {
        match source.downcast::<Error>() {
            Ok(error) => error,
            Err(source) => Error::new(Kind::Failed, source),
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(source: std::io::Error) -> Self {
        Error::new(Kind::Failed, source)
    }
}
