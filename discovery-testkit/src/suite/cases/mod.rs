//! The cases, by group.

mod config_store;
mod errors;
mod register;
mod renew;
mod resolve;
mod watch;

use super::Case;

/// The groups about what clients make of a backend, rather than the backend itself.
pub const CLIENT_GROUPS: [&str; 0] = [];

/// Every case.
pub fn all() -> impl Iterator<Item = &'static Case> {
    [
        register::CASES,
        renew::CASES,
        resolve::CASES,
        watch::CASES,
        errors::CASES,
        config_store::CASES,
    ]
    .into_iter()
    .flatten()
}
