//! What looks after a running worker: addresses for monitoring, systemd, and the work that a worker does on the side.
//!
//! Everything here reads the worker's `deliver::Status` or the database, and nothing here delivers. `commands/run` starts it: each part is a
//! thread that listens to the worker's `Stop`. `listen` serves what `metrics` and the status say, `backlog` asks how far behind the sinks
//! are, `housekeeping` runs rounds of retention, `systemd` tells the service manager.

mod backlog;
mod housekeeping;
mod listen;
mod metrics;
mod systemd;

pub use backlog::Backlog;
pub use housekeeping::keep_house;
pub use listen::{Addresses, listen};
pub use systemd::{reloading, tell_systemd};
