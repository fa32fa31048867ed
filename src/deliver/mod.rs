//! Delivery: the log is read forwards, from a cursor, and what the bindings make of it is handed to sinks.
//!
//! The road of a change: `stream` reads a window of the log in order, `change` nets what a transaction did to a row, `binding`
//! renders what a sink is to do, `lookup` asks the database where a binding needs more than the row, `lanes` spreads the work
//! over the sink's connections without breaking the order of a key, `courier` does all that for one sink, keeps its cursor and
//! sets aside what the sink refuses, and `worker` runs a courier for each sink of a manifest.

mod binding;
mod change;
mod escape;
mod lanes;
mod row;
mod stream;

pub use change::Change;
pub use row::Row;
