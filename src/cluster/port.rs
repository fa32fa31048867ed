//! Free ports on 127.0.0.1.
//!
//! Between finding a port free and the server's taking it, another process may take it: callers try again. Ports below
//! 32768 are not handed out by the kernel for outgoing connections, so a stopped server finds its port free again.

use std::net::{Ipv4Addr, TcpListener};

const FIRST: u16 = 15_433;
const LAST: u16 = 31_999;

/// Returns a port that was free a moment ago, looking from a place that `seed` chooses.
pub(super) fn find_free(seed: u16) -> Option<u16> {
    let count = LAST - FIRST + 1;
    (0..count)
        .map(|step| FIRST + ((u32::from(seed) + u32::from(step)) % u32::from(count)) as u16)
        .find(|port| is_free(*port))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_passed_over() {
        // What is free may be gone a moment later, so the one that is to be passed over is held first.
        let taken = (FIRST..=LAST)
            .find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok())
            .unwrap();
        let first = taken.local_addr().unwrap().port();
        let second = find_free(first - FIRST).unwrap();
        assert!(second != first && (FIRST..=LAST).contains(&second));
    }

    #[test]
    fn every_seed_gives_a_port_in_the_range() {
        for seed in [0, 1, LAST - FIRST, u16::MAX] {
            assert!((FIRST..=LAST).contains(&find_free(seed).unwrap()), "seed {seed}");
        }
    }
}
