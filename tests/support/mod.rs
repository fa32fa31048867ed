//! What the integration tests stand on: a fresh database for each test, and a way to run `emaj` against it.
//!
//! One throw-away cluster serves the whole test binary. It is started when the first test asks for it; a server that
//! cannot be started fails the tests, nothing is skipped. Its watchdog removes it when the binary ends.

mod database;
pub mod kafka;
mod load;
pub mod nats;
mod program;
pub mod receiver;
mod redact;
pub mod rows;
pub mod shop;
pub mod sinks;
pub mod slapd;
pub mod steps;
pub mod story;
mod worker;

pub use self::database::{Database, Owner, database, dump, owner, run_file, shared_cluster};
pub use self::load::{Chance, scale, seed};
pub use self::program::{Emaj, Run, emaj, emaj_alone, said};
pub use self::redact::redact;
pub use self::worker::{Worker, until, wait_for};

/// Watches a program to its end; returns the most memory that it had, in kB.
pub fn peak_of(pid: u32) -> u64 {
    let mut peak = 0;
    while let Some(kilobytes) = high_water(pid) {
        peak = kilobytes;
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    peak
}

/// Nothing once it has ended: a zombie has no memory.
fn high_water(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
