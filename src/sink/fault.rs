//! What went wrong at a sink, and what follows from it: later, never, or down.
//!
//! One table a protocol says which answer causes what; each is here, so that they can be read side by side.

use std::{fmt, io};

use crate::pg::ServerError;

/// What an error causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// This delivery is tried again, with growing pauses; others of its key wait behind it.
    Later,
    /// This delivery will never be taken: its key is set aside, for a person to look at.
    Never,
    /// The place as a whole is out of reach, or refuses the login: everything for it waits.
    Down,
}

/// What went wrong, in words for a person, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub verdict: Verdict,
    pub reason: String,
}

impl Fault {
    pub fn later(reason: impl fmt::Display) -> Self {
        Fault {
            verdict: Verdict::Later,
            reason: reason.to_string(),
        }
    }

    pub fn never(reason: impl fmt::Display) -> Self {
        Fault {
            verdict: Verdict::Never,
            reason: reason.to_string(),
        }
    }

    pub fn down(reason: impl fmt::Display) -> Self {
        Fault {
            verdict: Verdict::Down,
            reason: reason.to_string(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Fault {}

/// PostgreSQL: the class or the whole SQLSTATE, the first line that fits.
const SQLSTATES: &[(&str, Verdict)] = &[
    // Locks, deadlocks, serialisation, a statement that took too long: the next try may go better.
    ("55P03", Verdict::Later),
    ("57014", Verdict::Later),
    ("40", Verdict::Later),
    // A row refers to one that is not there yet, or stands in the way of one that is still to go.
    ("23503", Verdict::Later),
    ("23505", Verdict::Later),
    ("23P01", Verdict::Later),
    // The value does not fit, whenever it comes.
    ("22", Verdict::Never),
    ("23", Verdict::Never),
    ("44", Verdict::Never),
    ("54", Verdict::Never),
    // A trigger there refuses.
    ("P0", Verdict::Never),
    // Connection, login, privileges, the wrong database, a standby, no memory or disk, shutting down.
    ("08", Verdict::Down),
    ("0A", Verdict::Down),
    ("25", Verdict::Down),
    ("28", Verdict::Down),
    ("3D", Verdict::Down),
    ("3F", Verdict::Down),
    ("53", Verdict::Down),
    ("55", Verdict::Down),
    ("57", Verdict::Down),
    ("58", Verdict::Down),
    ("XX", Verdict::Down),
    // Tables and columns are not what they were, or may not be written: all rows of the binding are concerned.
    ("42", Verdict::Down),
];

/// Returns what an error of PostgreSQL causes.
pub(super) fn of_postgres(error: &postgres::Error) -> Fault {
    let Some(server) = ServerError::of(error) else {
        return Fault::down(chain(error));
    };
    let verdict = match SQLSTATES.iter().find(|(state, _)| server.code.starts_with(state)) {
        // Inside a function (a trigger, say) it is about this row.
        Some((_, Verdict::Down)) if server.code.starts_with("42") && server.inner_statement.is_some() => Verdict::Never,
        Some((_, verdict)) => *verdict,
        None => Verdict::Never,
    };
    Fault {
        verdict,
        reason: format!("{server} (SQLSTATE {})", server.code),
    }
}

/// Returns what an error of a file causes: whatever it is, it is not about one delivery.
pub(super) fn of_file(doing: impl fmt::Display, error: &io::Error) -> Fault {
    let next = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room there",
        io::ErrorKind::PermissionDenied => "; let the account that runs emaj write there",
        io::ErrorKind::NotFound => "; make the folder",
        io::ErrorKind::ReadOnlyFilesystem => "; mount it for writing",
        io::ErrorKind::BrokenPipe => "; who read it has gone",
        _ => "",
    };
    Fault::down(format!("failed to {doing}: {error}{next}"))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
