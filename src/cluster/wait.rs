//! Waiting for a child process, with a limit.

use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// How long to sleep between two looks.
pub(super) const MOMENT: Duration = Duration::from_millis(5);

/// Waits for `child` to end; `None` when it has not ended within `limit`, or cannot be waited for.
pub(super) fn for_exit(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < end => std::thread::sleep(MOMENT),
            Ok(None) | Err(_) => return None,
        }
    }
}
