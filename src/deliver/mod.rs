//! Delivery: the log is read forwards, from a cursor, and what the bindings make of it is handed to sinks.
//!
//! The road of a change: `stream` reads a window of the log in order, `change` nets what a transaction did to a row, `binding`
//! renders what a sink is to do, `ask` asks the database where a binding needs more than the row, `lanes` spreads the work
//! over the sink's connections without breaking the order of a key, `courier` does all that for one sink, keeps its cursor and
//! sets aside what the sink refuses, and `worker` runs a courier for each sink of a manifest.

mod all_rows;
mod ask;
mod binding;
mod change;
mod courier;
mod digest;
mod escape;
mod ground;
mod init;
mod initial;
mod lanes;
mod left_out;
mod nulls;
mod operators;
mod others;
mod prune;
mod raw;
mod render;
mod row;
mod set_aside;
mod sources;
mod status;
mod stop;
mod stream;
mod take_over;
mod today;
mod uncaptured;
mod unsent;
mod worker;

pub use ground::Ground;
pub use initial::{Begun, Done, Initial, begin, choose, initialise, preview, source_group};
pub use left_out::LeftOut;
pub use status::{SinkCondition, SinkStatus, Status};
pub use stop::Stop;
pub use take_over::take_over;
pub use uncaptured::uncaptured;
pub use unsent::{Unsent, unsent};
pub use worker::{Reload, Task, work};
