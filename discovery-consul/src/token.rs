//! The token, which may be rotated while the program runs.

use std::sync::{Mutex, PoisonError};

use discovery_core::{
    Result,
    config::{Secret, SecretSource},
};
use tracing::warn;

use crate::error;

/// Where tokens come from, and the last one that could be read.
pub(crate) struct Token {
    source: Option<SecretSource>,
    last: Mutex<Option<Secret>>,
}

impl Token {
    pub(crate) fn new(source: Option<SecretSource>) -> Self {
        Self {
            source,
            last: Mutex::default(),
        }
    }

    pub(crate) fn is_some(&self) -> bool {
        self.source.is_some()
    }

    /// Whether it can be another while the program runs.
    pub(crate) fn may_change(&self) -> bool {
        !matches!(self.source, None | Some(SecretSource::Value(_)))
    }

    /// The token now. While its file is being replaced, the last one stands in.
    pub(crate) fn read(&self) -> Result<Option<Secret>> {
        let Some(source) = &self.source else {
            return Ok(None);
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match source.read() {
            Ok(token) => {
                if last.as_ref() != Some(&token) {
                    *last = Some(token);
                }
            }
            Err(failed) if last.is_none() => return Err(failed.with_backend(error::SCHEME)),
            Err(failed) => warn!(error = %failed, "the token cannot be read: the last one is used"),
        }
        Ok(last.clone())
    }
}
