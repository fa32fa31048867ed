//! Going back to a mark: what would happen ([`preview`]), and doing it, in one session ([`run`]) or several ([`run_parallel`], after
//! whose crash [`recover`] cleans up).
//!
//! The work itself is done by SQL functions in the database (`templates/rollback/`), so that a batch job with nothing but a
//! connection does the same. Here are the questions asked before and the report read after. Called by `commands/rollback`.

mod consolidate;
mod estimate;
mod lanes;
mod left;
mod parallel;
mod preview;
mod recover;
mod run;
mod work;

pub use consolidate::{Consolidable, consolidable, consolidate};
pub use estimate::{Estimate, TableEstimate, estimate};
pub use lanes::Lanes;
pub use left::Left;
pub use parallel::{Parallel, run_parallel};
pub use preview::{LostMark, Preview, preview};
pub use recover::{Recovered, mend, recover};
pub use run::{Report, TableReport, run};

use crate::words::quoted;

/// Which rollback is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The groups that go back as one act, sorted, each once.
    pub groups: Vec<String>,
    pub mark: String,
    /// Whether the rollback is itself logged, so that it can be undone.
    pub logged: bool,
    /// Whether the groups are stopped afterwards, in the same transaction.
    pub stop: bool,
    /// Whether what was not captured from the mark on is left as it is, instead of a refusal.
    pub partial: bool,
    /// How many sessions may share the work.
    pub jobs: usize,
    /// What it is for, kept with it.
    pub comment: Option<String>,
}

impl Wanted {
    /// Returns what is wanted, as it follows "failed to" and "this would".
    pub fn doing(&self) -> String {
        format!("roll {} back to mark `{}`", quoted("group", &self.groups), self.mark)
    }
}
