//! What went wrong at a sink, and what follows from it: later, never, or down.
//!
//! One table a protocol says which answer causes what; each is here, so that they can be read side by side.

use std::fmt;

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
