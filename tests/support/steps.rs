//! Stories of steps by chance: each drawn from a seed of its own, and one that fails made shorter.

use std::fmt::Debug;
use std::time::Instant;

use proptest::strategy::{Strategy, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::seed;

/// How many stories a failing one may cost until it is short.
const TRIES: usize = 120;

/// A story that failed.
#[derive(Debug)]
pub struct Failed<Step> {
    /// The steps up to the one that failed.
    pub steps: Vec<Step>,
    pub wrong: String,
    /// What was done, for whoever wants to do it by hand.
    pub script: String,
}

/// Returns what `strategy` makes of a seed; `variant` keeps tests with one seed apart.
fn drawn<T>(strategy: &impl Strategy<Value = T>, variant: u8, seed: u64) -> T {
    let mut bytes = [variant; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    strategy.new_tree(&mut runner).expect("a story").current()
}

/// Tells `stories` that `strategy` makes, each of a seed of its own, and says how much was done in them. One that fails is made shorter and shown.
pub fn tell_all<Step: Clone + Debug, Done: Default + Debug>(
    what: &str,
    (strategy, variant): (&impl Strategy<Value = Vec<Step>>, u8),
    stories: usize,
    tell: impl Fn(&[Step], &mut Done) -> Option<Failed<Step>>,
    smaller: impl Fn(&Step) -> Vec<Step>,
) {
    let (seed, started, mut done) = (seed(), Instant::now(), Done::default());
    for own in (seed..).take(stories) {
        if let Some(failed) = tell(&drawn(strategy, variant, own), &mut done) {
            eprintln!("seed {own} is made shorter: {}", failed.wrong);
            let Failed { steps, wrong, script } = shorten(failed, |steps| tell(steps, &mut Done::default()), smaller);
            panic!("seed {own}: {wrong}\nthe life: {steps:#?}\nas a script:\n{script}");
        }
    }
    println!(
        "{what}: {stories} in {:.1} s, {done:?} (seed {seed})",
        started.elapsed().as_secs_f64()
    );
}

/// Takes out what a failing story does not need: steps, half of them at first, then parts of a step, as `smaller` has them. `tell` tells a
/// story, and returns how it failed.
fn shorten<Step: Clone>(
    mut failed: Failed<Step>,
    mut tell: impl FnMut(&[Step]) -> Option<Failed<Step>>,
    smaller: impl Fn(&Step) -> Vec<Step>,
) -> Failed<Step> {
    let mut tries = 0;
    let mut fails_too = |failed: &mut Failed<Step>, steps: &[Step]| {
        tries += 1;
        // (Another fault would hide this one.)
        let shorter = (tries <= TRIES)
            .then(|| tell(steps))
            .flatten()
            .filter(|shorter| kind(&shorter.wrong) == kind(&failed.wrong));
        shorter.map(|shorter| *failed = shorter).is_some()
    };
    let mut size = failed.steps.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < failed.steps.len() {
            let mut steps = failed.steps.clone();
            steps.drain(at..(at + size).min(steps.len()));
            if !fails_too(&mut failed, &steps) {
                at += size;
            }
        }
        size /= 2;
    }
    let mut at = 0;
    while at < failed.steps.len() {
        let found = smaller(&failed.steps[at]).into_iter().any(|step| {
            let mut steps = failed.steps.clone();
            steps[at] = step;
            fails_too(&mut failed, &steps)
        });
        at += usize::from(!found);
    }
    failed
}

/// The first words of what is wrong.
fn kind(wrong: &str) -> String {
    wrong.chars().filter(|c| !c.is_ascii_digit()).take(24).collect()
}

/// Of each list that is longer than one, what it is without one of its items.
pub fn without_one<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    let without = |at: usize| {
        let mut less = items.to_vec();
        less.remove(at);
        less
    };
    if items.len() < 2 {
        return Vec::new();
    }
    (0..items.len()).map(without).collect()
}
