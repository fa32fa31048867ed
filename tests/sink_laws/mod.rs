//! Whatever happens to a sink, in the end it has what the source has: lives by chance.
//!
//! A life is what an application writes, runs that end in order, are killed at a named point or find something locked, changes that are refused
//! and tried again or given up, marks, rollbacks, replays, edits of the manifest, partitions that come and go, and places that are set back to
//! an older copy. Then all is mended and delivered. The other database has to be the source; the file has to tell of each row what became of
//! it, in order, and nothing twice but where the pages say so. A life that fails is made shorter, and shown as a script.

mod law;
mod life;
mod steps;

use std::time::Instant;

use self::life::{Done, Machine};
use self::steps::Step;
use crate::support;
use crate::support::steps::{Failed, drawn, shorten, without_one};

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
    let (seed, started) = (support::seed(), Instant::now());
    let (mut done, lives) = (Done::default(), support::scale(4));
    for own in (seed..).take(lives) {
        let life = drawn(&steps::life(), b's', own);
        if let Some(failed) = live(&life, &mut done) {
            eprintln!("seed {own} is made shorter: {}", failed.wrong);
            let Failed { steps, wrong, script } = shorten(failed, |life| live(life, &mut Done::default()), smaller);
            panic!("seed {own}: {wrong}\nthe life: {steps:#?}\nas a script:\n{script}");
        }
    }
    println!(
        "lives of sinks: {lives} in {:.1} s, {done:?} (seed {seed})",
        started.elapsed().as_secs_f64()
    );
}
