//! Which server to ask: near ones first, one at a time, bad ones last (U-29, U-30).

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::address::Address;

/// How many servers one request tries.
const TRIES: usize = 3;
/// How long one server is used before another gets its turn, give or take half of it.
const SESSION: Duration = Duration::from_secs(20 * 60);

/// The servers, and what is known of them.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) all: Vec<Address>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Near ones first, else in a random order of this client's own.
    order: Vec<usize>,
    /// The one that answered last.
    current: Option<usize>,
    bad: HashSet<usize>,
    until: Instant,
}

impl Servers {
    pub(crate) fn new(all: Vec<Address>) -> Self {
        let state = Mutex::new(State::new(&all));
        Self { all, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The servers to try, best first.
    pub(crate) fn candidates(&self) -> Vec<usize> {
        let mut state = self.state();
        if Instant::now() >= state.until {
            *state = State::new(&self.all);
        }
        if state.bad.len() * 100 >= self.all.len() * 66 {
            state.bad.clear();
        }
        let mut candidates: Vec<_> = state.current.into_iter().collect();
        candidates.extend(state.order.iter().copied().filter(|i| Some(*i) != state.current));
        // Stable: those that are known to be bad go last, in the same order.
        candidates.sort_by_key(|i| state.bad.contains(i));
        candidates.truncate(TRIES);
        candidates
    }

    /// One failed.
    pub(crate) fn failed(&self, server: usize) {
        self.state().bad.insert(server);
    }

    /// One answered: the next request goes there, too.
    pub(crate) fn worked(&self, server: usize) {
        let mut state = self.state();
        state.bad.remove(&server);
        state.current = Some(server);
    }

    /// How many are known to be bad.
    pub(crate) fn bad(&self) -> usize {
        self.state().bad.len()
    }
}

impl State {
    fn new(all: &[Address]) -> Self {
        let mut order: Vec<_> = (0..all.len()).collect();
        fastrand::shuffle(&mut order);
        order.sort_by_key(|i| !all[*i].near);
        Self {
            order,
            current: None,
            bad: HashSet::new(),
            until: Instant::now() + SESSION.mul_f64(0.5 + fastrand::f64()),
        }
    }
}

#[cfg(test)]
#[path = "servers_tests.rs"]
mod tests;
