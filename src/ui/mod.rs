//! The only module that prints: data to stdout, talk to stderr.
//!
//! Commands get an [`Output`] and hand it values: rows that can show themselves in several formats ([`Tabular`], most often a [`List`]),
//! sentences, warnings, questions, progress. What is decided here: formats, colours (never the only carrier of a
//! meaning), widths, what `--quiet` leaves out, and that a reader who went away (`emaj … | head`) is no error.
//! Text is made by pure functions; the few that write are at the bottom of their files.

mod confirm;
mod error;
mod format;
pub mod logging;
mod output;
mod progress;
mod table;

pub use self::error::print_error;
pub use self::format::{Color, Format, OutputArgs};
pub use self::output::{Output, Stream, out};
pub use self::progress::Progress;
pub use self::table::{Align, Column, List, Tabular};
