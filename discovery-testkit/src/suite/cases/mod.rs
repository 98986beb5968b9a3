//! The cases, by group.

mod cancel;
mod config_store;
mod errors;
mod load;
mod recover;
mod register;
mod registrar;
mod renew;
mod resolve;
mod watch;

use super::Case;

/// The groups about what clients make of a backend, rather than the backend itself.
pub const CLIENT_GROUPS: [&str; 4] = ["registrar", "recover", "cancel", "load"];

/// Every case.
pub fn all() -> impl Iterator<Item = &'static Case> {
    [
        register::CASES,
        renew::CASES,
        resolve::CASES,
        watch::CASES,
        errors::CASES,
        config_store::CASES,
        registrar::CASES,
        recover::CASES,
        cancel::CASES,
        load::CASES,
    ]
    .into_iter()
    .flatten()
}
