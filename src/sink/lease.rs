//! Whether who delivers still may. A worker may lose its sink to another one without noticing: its machine was suspended, its process stopped. A place whose
//! writes are no part of a transaction asks before each of them; the worker, who alone can know, renews the lease while deliveries are under way.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::Fault;

/// What was known longer ago has to be known anew. (By the clock of the wall: it goes on while a machine is suspended.)
const LASTS: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub struct Lease {
    state: Mutex<State>,
    renewed: Condvar,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    /// Nobody else may deliver there.
    #[default]
    Unlimited,
    /// At that time it was still held.
    Held(SystemTime),
    Lost,
}

impl Lease {
    /// Makes one that has to be renewed before anything is written.
    #[must_use]
    pub fn limited() -> Self {
        let state = Mutex::new(State::Held(SystemTime::UNIX_EPOCH));
        Lease {
            state,
            ..Lease::default()
        }
    }

    /// Notes that it was held at the time `at`.
    pub fn renew(&self, at: SystemTime) {
        self.set(State::Held(at));
    }

    /// Notes that somebody else may have it.
    pub fn lose(&self) {
        self.set(State::Lost);
    }

    /// Tells whether it should be renewed: before anybody has to wait for that.
    pub fn is_old(&self) -> bool {
        !self
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_young(LASTS / 2)
    }

    /// Waits until it is known of the last second that it is held.
    ///
    /// # Errors
    /// It is lost: nothing may be written any more.
    pub fn check(&self) -> Result<(), Fault> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_waiting = |state: &mut State| !matches!(state, State::Lost) && !state.is_young(LASTS);
        let state = self.renewed.wait_while(state, is_waiting);
        match *state.unwrap_or_else(PoisonError::into_inner) {
            State::Lost => Err(Fault::down(
                "the worker has lost the session that holds the sink: another one may deliver",
            )),
            State::Unlimited | State::Held(_) => Ok(()),
        }
    }

    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        self.renewed.notify_all();
    }
}

impl State {
    fn is_young(self, age: Duration) -> bool {
        match self {
            State::Unlimited => true,
            // (A clock that was set back tells nothing.)
            State::Held(at) => at.elapsed().is_ok_and(|elapsed| elapsed < age),
            State::Lost => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn who_waits_for_one_that_is_lost_is_told() {
        let lease = Arc::new(Lease::limited());
        let wait = || {
            let lease = Arc::clone(&lease);
            std::thread::spawn(move || lease.check())
        };
        assert!(lease.is_old());
        let waiting = wait();
        lease.lose();
        for waiting in [waiting, wait()] {
            assert!(waiting.join().unwrap().unwrap_err().reason.contains("another one may"));
        }
        assert!(Lease::default().check().is_ok() && !Lease::default().is_old());
    }

    #[test]
    fn what_a_clock_says_that_was_set_back_is_nothing() {
        let lease = Lease::limited();
        lease.renew(SystemTime::now() + Duration::from_secs(3600));
        assert!(lease.is_old());
    }
}
