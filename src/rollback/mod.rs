//! Going back to a mark: what would happen ([`preview`]), and doing it ([`run`]).
//!
//! The work itself is done by SQL functions in the database (`templates/rollback/`), so that a batch job with nothing but a
//! connection does the same. Here are the questions asked before and the report read after. Called by `commands/rollback`.

mod preview;
mod run;

pub use preview::{Preview, Refusal, preview};
pub use run::{Report, TableReport, run};

/// Which rollback is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub group: String,
    pub mark: String,
    /// Whether the rollback is itself logged, so that it can be undone.
    pub logged: bool,
    /// Whether the group is stopped afterwards, in the same transaction.
    pub stop: bool,
}
