//! `emaj top`: what is being changed, live: looks that follow each other, and what `tally` makes of them.

mod tally;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use self::tally::Tally;
use super::act::connect;
use super::{Context, InstallationArgs, parse_duration};
use crate::errors::{Error, Kind, Result};
use crate::journal;
use crate::pg;
use crate::ui::Format;

/// Every look reads what is new in the logs; more often than that is work for nothing.
const SHORTEST: Duration = Duration::from_millis(100);

/// Shows what is being changed, live: per group, table and sequence, in the last interval and since the start
///
/// On a terminal it redraws; elsewhere it prints a block for each interval, with `-o json` an object a line. Ctrl-C ends it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Groups [default: all]
    #[arg(value_name = "GROUP")]
    groups: Vec<String>,
    /// How long an interval is
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = parse_duration)]
    interval: Duration,
    /// End after so many intervals
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    installation: InstallationArgs,
}

pub fn run(args: Args, context: &Context) -> Result<ExitCode> {
    context.output.accept(&[Format::Table, Format::Json])?;
    if args.interval < SHORTEST {
        return Err(Error::message(Kind::Usage, "the interval is shorter than 100 ms")
            .hint("write a longer one: `--interval 2s`"));
    }
    let (mut session, schema) = connect(context, &args.installation)?;
    journal::check_origin(&mut *session, &schema)?;
    let over = ends()?;
    let started = Instant::now();
    let mut before = started;
    let mut tally = Tally::default();
    let mut look = journal::look(&mut session, &schema, &args.groups, None)?;
    tally.add(&look);
    for shown in 1_u32.. {
        let due = started + args.interval.saturating_mul(shown);
        // What ends the waiting is a signal, or its end.
        if !matches!(
            over.recv_timeout(due.saturating_duration_since(Instant::now())),
            Err(mpsc::RecvTimeoutError::Timeout)
        ) {
            break;
        }
        look = journal::look(&mut session, &schema, &args.groups, Some(&look.snapshot))?;
        let now = Instant::now();
        tally.add(&look);
        let mut block = tally.block(Timestamp::now(), now - before, now - started);
        before = now;
        if context.output.format() == Format::Json {
            context.output.line(&block)?;
        } else {
            // The heading, that of the table with its rule, and the line where the cursor stands.
            block.lines = context
                .output
                .height()
                .map_or(usize::MAX, |height| height.saturating_sub(4));
            context.output.screen(&block.heading(), &block)?;
        }
        if args.count.is_some_and(|count| u64::from(shown) >= count) {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells when Ctrl-C, a kill or a lost terminal has come; a second one ends the program where it is, should the server not answer.
fn ends() -> Result<Receiver<()>> {
    let hangup = (!pg::hangup_is_ignored()).then_some(SIGHUP);
    let all = [SIGINT, SIGTERM].into_iter().chain(hangup);
    let came = Arc::new(AtomicBool::new(false));
    for signal in all.clone() {
        flag::register_conditional_shutdown(signal, 0, Arc::clone(&came))?;
        flag::register(signal, Arc::clone(&came))?;
    }
    let mut signals = Signals::new(all)?;
    let (tell, over) = mpsc::channel();
    std::thread::spawn(move || {
        // When nobody listens any more, the program is ending.
        for _ in signals.forever() {
            let _ = tell.send(());
        }
    });
    Ok(over)
}
