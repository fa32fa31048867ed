//! Named points at which the program can be made to end at once, as if it had been killed there: for tests of what is left then.
//!
//! `EMAJ_FAIL_AT=point` ends it at the first passage, `point:3` at the third. With `EMAJ_FAIL_HOLD=file` it is held there instead, so that
//! something else can be killed: it makes the file, and goes on when that is gone; with `EMAJ_FAIL_PANIC=file` its thread panics, at every
//! passage while the file is there. Unset, a point costs one look at a static. Whoever does something in several steps that a crash may tear
//! apart (the couriers, a rollback in several sessions) says where it is.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

struct Wanted {
    point: String,
    left: AtomicUsize,
}

static WANTED: OnceLock<Option<Wanted>> = OnceLock::new();

/// Ends the process here when that is wished: no destructor runs, nothing is flushed, nobody is told.
pub(crate) fn passing(point: &str) {
    let Some(wanted) = WANTED.get_or_init(read).as_ref().filter(|wanted| wanted.point == point) else {
        return;
    };
    if let Some(file) = std::env::var_os("EMAJ_FAIL_PANIC") {
        assert!(!Path::new(&file).exists(), "wished at {point}");
    } else if wanted.left.fetch_sub(1, Ordering::Relaxed) == 1 {
        match std::env::var_os("EMAJ_FAIL_HOLD") {
            Some(file) => hold(Path::new(&file)),
            None => std::process::abort(),
        }
    }
}

fn hold(file: &Path) {
    if std::fs::write(file, "").is_err() {
        std::process::abort();
    }
    while file.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn read() -> Option<Wanted> {
    let text = std::env::var("EMAJ_FAIL_AT").ok()?;
    let (point, passages) = text.split_once(':').unwrap_or((&text, "1"));
    Some(Wanted {
        point: point.to_owned(),
        left: AtomicUsize::new(passages.parse().unwrap_or(1)),
    })
}
