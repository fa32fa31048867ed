//! Whatever happens to a sink, in the end it has what the source has: lives by chance.
//!
//! A life is what an application writes, runs that end in order, are killed at a named point or find something locked, changes that are refused
//! and tried again or given up, marks, rollbacks, replays, edits of the manifest, partitions that come and go, and places that are set back to
//! an older copy. Then all is mended and delivered. The other database has to be the source; the file has to tell of each row what became of
//! it, in order, and nothing twice but where the pages say so. A life that fails is made shorter, and shown as a script.

mod law;
mod life;
mod steps;

use self::life::{Done, Machine};
use self::steps::Step;
use crate::support::scale;
use crate::support::steps::{Failed, tell_all, without_one};

/// Lives a life from the beginning; returns how it failed.
fn live(steps: &[Step], done: &mut Done) -> Option<Failed<Step>> {
    let mut machine = Machine::new();
    let lived = machine.live(steps);
    done.add(&machine.done);
    lived.err().map(|wrong| Failed {
        // What comes behind has not been lived.
        steps: steps[..machine.steps()].to_vec(),
        wrong,
        script: machine.script(),
    })
}

fn smaller(step: &Step) -> Vec<Step> {
    match step {
        Step::Write(said, commit) => without_one(said)
            .into_iter()
            .map(|said| Step::Write(said, *commit))
            .collect(),
        _ => Vec::new(),
    }
}

#[test]
fn whatever_happens_to_a_sink_it_ends_with_what_the_source_has() {
    tell_all("lives of sinks", (&steps::life(), b's'), scale(4), live, smaller);
}
