//! The progress of long work, on stderr: a bar on a terminal; elsewhere (a log of CI) a plain line now and then.

use std::io::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// How often a line is written where there is no bar.
const PACE: Duration = Duration::from_secs(10);

/// How often a bar is drawn anew.
const TICK: Duration = Duration::from_millis(250);

/// Work that is being shown; it may be shared by threads. Dropped, it leaves no bar behind.
#[derive(Debug)]
pub struct Progress {
    /// Counts in any case; draws itself only on a terminal.
    bar: ProgressBar,
    what: String,
    lines: Option<Mutex<Pace>>,
}

impl Progress {
    pub(super) fn begin(what: &str, total: Option<u64>, quiet: bool, terminal: bool) -> Progress {
        let target = if terminal && !quiet {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(total, target);
        bar.set_style(style(total.is_some()));
        bar.set_message(what.to_owned());
        if terminal && !quiet {
            // The time goes on while nothing gets done.
            bar.enable_steady_tick(TICK);
        }
        let lines = (!terminal && !quiet).then(|| Mutex::new(Pace::begin(Instant::now())));
        Progress {
            bar,
            what: what.to_owned(),
            lines,
        }
    }

    /// Counts `number` more things as done.
    pub fn advance(&self, number: u64) {
        self.bar.inc(number);
        let Some(pace) = &self.lines else { return };
        let now = Instant::now();
        // A thread that panicked while it held the lock left nothing half done.
        let due = pace
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .is_due(now);
        if due {
            // When stderr is gone there is nobody left to tell; the work goes on.
            let _ = writeln!(
                std::io::stderr(),
                "{}",
                sentence(&self.what, self.bar.position(), self.bar.length())
            );
        }
    }

    /// Returns how many things are done.
    pub fn done(&self) -> u64 {
        self.bar.position()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(total_known: bool) -> ProgressStyle {
    let template = if total_known {
        "{msg} [{bar:30}] {human_pos} of {human_len} ({time})"
    } else {
        "{spinner} {msg}: {human_pos} ({elapsed})"
    };
    ProgressStyle::with_template(template)
        .map_or_else(|_| ProgressStyle::default_bar(), |style| style.progress_chars("=> "))
        .with_key("time", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            // A text that cannot be written is one that nobody reads.
            let _ = text.write_str(&time(state.pos(), state.elapsed(), state.eta()));
        })
}

/// Says how long it will take; while nothing is done yet there is nothing to tell that from, and it says how long it has taken.
fn time(done: u64, taken: Duration, left: Duration) -> String {
    match done {
        0 => format!("{:#}", HumanDuration(taken)),
        _ => format!("about {:#} left", HumanDuration(left)),
    }
}

fn sentence(what: &str, done: u64, total: Option<u64>) -> String {
    match total {
        Some(total) if total > 0 => {
            let percent = u128::from(done.min(total)) * 100 / u128::from(total);
            format!("{what}: {done} of {total} ({percent} %)")
        }
        _ => format!("{what}: {done}"),
    }
}

/// Says when the next line is due.
#[derive(Debug)]
struct Pace {
    last: Instant,
}

impl Pace {
    fn begin(now: Instant) -> Pace {
        Pace { last: now }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        let due = now.duration_since(self.last) >= PACE;
        if due {
            self.last = now;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_at_a_slow_pace_and_never_for_short_work() {
        let begin = Instant::now();
        let mut pace = Pace::begin(begin);
        let due = [0, 9, 10, 11, 19, 20, 45, 46].map(|second| pace.is_due(begin + Duration::from_secs(second)));
        assert_eq!(due, [false, false, true, false, false, true, true, false]);
    }

    #[test]
    fn a_line_says_how_much_of_how_much() {
        assert_eq!(
            sentence("sending rows", 120, Some(500)),
            "sending rows: 120 of 500 (24 %)"
        );
        assert_eq!(sentence("sending rows", 7, None), "sending rows: 7");
        assert_eq!(sentence("sending rows", 7, Some(0)), "sending rows: 7");
        assert_eq!(
            sentence("sending rows", 501, Some(500)),
            "sending rows: 501 of 500 (100 %)"
        );
    }

    #[test]
    fn no_time_is_foretold_before_anything_is_done() {
        let (taken, left) = (Duration::from_secs(4), Duration::ZERO);
        assert_eq!(time(0, taken, left), "4s");
        assert_eq!(time(1, taken, Duration::from_secs(30)), "about 30s left");
    }

    #[test]
    fn both_styles_are_valid_and_threads_share_the_count() {
        for known in [true, false] {
            let template = style(known);
            ProgressBar::hidden().set_style(template);
        }
        let progress = Progress::begin("sending rows", Some(40), true, false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10).for_each(|_| progress.advance(1)));
            }
        });
        assert_eq!(progress.done(), 40);
    }
}
