//! Under which token each registration was made.
//!
//! The agent keeps that token with the record and writes to the catalogue under it, whatever token heartbeats carry. Once
//! it is revoked the catalogue learns of nothing more, so a registration is made again when the token is another.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use discovery_core::config::Secret;

/// The token of each registration of this process, by id.
#[derive(Debug, Default)]
pub(crate) struct Signed(Mutex<HashMap<String, Option<Secret>>>);

impl Signed {
    /// It was registered under this token.
    pub(crate) fn note(&self, id: &str, token: Option<Secret>) {
        self.all().insert(id.to_owned(), token);
    }

    /// Whether it was registered under another token than this.
    pub(crate) fn differs(&self, id: &str, token: Option<&Secret>) -> bool {
        self.all().get(id).is_some_and(|under| under.as_ref() != token)
    }

    /// It was deregistered.
    pub(crate) fn forget(&self, id: &str) {
        self.all().remove(id);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Option<Secret>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c_41_another_token_is_told_from_the_same() {
        let (signed, one, two) = (
            Signed::default(),
            Secret::new("s3cr3t-1"),
            Secret::new("s3cr3t-2"),
        );
        assert!(!signed.differs("web", Some(&one)), "nothing is known of it");
        signed.note("web", Some(one.clone()));
        assert!(!signed.differs("web", Some(&one)));
        assert!(signed.differs("web", Some(&two)) && signed.differs("web", None));
        assert!(!format!("{signed:?}").contains("s3cr3t"));
        signed.forget("web");
        assert!(!signed.differs("web", Some(&two)));
    }
}
