//! For tests that try hard: how far to go, and chance that can be repeated.
//!
//! `EMAJ_LONG=n` makes every such test n times as long; `EMAJ_SEED` repeats a run. Each test prints the figure it reached.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns `short` times `EMAJ_LONG` (1 when that is not set).
pub fn scale(short: usize) -> usize {
    let factor = std::env::var("EMAJ_LONG").map(|text| text.parse::<usize>().expect("EMAJ_LONG is a number"));
    short * factor.unwrap_or(1).max(1)
}

/// Returns the seed of this run: `EMAJ_SEED`, or a new one. Whoever uses it prints it.
pub fn seed() -> u64 {
    match std::env::var("EMAJ_SEED") {
        Ok(text) => text.parse().expect("EMAJ_SEED is a number"),
        Err(_) => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a time after 1970")
            .subsec_nanos()
            .into(),
    }
}

/// Numbers by chance, the same ones for the same seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Chance(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number from 0 to below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Returns true `percent` times in a hundred.
    pub fn happens(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}
