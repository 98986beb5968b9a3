//! The `local:` block.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use discovery_core::{
    Error, ErrorKind, Result,
    config::{EnvVar, KnownBlock, UriForm, duration},
};
use serde::{Deserialize, Serialize};

use crate::error::{self, SCHEME};

/// What ends a registration, beside its withdrawal and its TTL.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Lifetime {
    /// The end of the process that made it, however it ends: for programs that serve.
    #[default]
    Process,
    /// Nothing: for commands that register something else and are done.
    Detached,
}

/// Settings of a local backend: the `local:` block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LocalConfig {
    /// The file; `system-control/discovery/local.db` in the user's state directory where not set.
    pub path: Option<PathBuf>,
    /// What ends a registration; the process.
    pub lifetime: Lifetime,
    /// How long an operation may take, waiting for other processes included; 5 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub timeout: Duration,
    /// How often a quiet watch confirms that nothing changed; 5 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub confirm_interval: Duration,
}

impl Default for LocalConfig {
    fn default() -> Self {
        Self {
            path: None,
            lifetime: Lifetime::Process,
            timeout: Duration::from_secs(5),
            confirm_interval: Duration::from_secs(5),
        }
    }
}

impl LocalConfig {
    /// The block, for [`Loader::new`](discovery_core::config::Loader::new).
    pub const BLOCK: KnownBlock = KnownBlock::of::<Self>(SCHEME)
        .env(&[
            EnvVar::new("DISCOVERY_LOCAL_PATH", "path"),
            EnvVar::new("DISCOVERY_LOCAL_LIFETIME", "lifetime"),
        ])
        .uri(UriForm {
            schemes: &[SCHEME],
            endpoints: None,
            path: Some("path"),
            params: &[],
        });

    /// The settings for this file.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: Some(path.into()),
            ..Self::default()
        }
    }

    /// The same settings with this end of registrations.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The same settings with this limit for an operation.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same settings confirming this often.
    #[must_use]
    pub fn confirm_interval(mut self, interval: Duration) -> Self {
        self.confirm_interval = interval;
        self
    }

    /// Refuses what could not work.
    pub(crate) fn validate(&self) -> Result<()> {
        if self.timeout.is_zero() {
            return Err(invalid("timeout", "give more than zero"));
        }
        if self.confirm_interval < Duration::from_millis(50) {
            return Err(invalid("confirm_interval", "give 50 ms or more"));
        }
        Ok(())
    }

    /// The absolute path of the file.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] when it names no file, or is not set and there is no home directory.
    pub(crate) fn file(&self) -> Result<PathBuf> {
        let path = match &self.path {
            Some(path) => std::path::absolute(path)
                .map_err(|source| invalid("path", "name the path of a file").with_source(source))?,
            None => default_path(|name| env::var_os(name).map(PathBuf::from)).ok_or_else(|| {
                invalid(
                    "path",
                    "neither XDG_STATE_HOME nor HOME says where: set `path`, or write `local:///path/to/file.db`",
                )
            })?,
        };
        let named = path.file_name().is_some() && !path.to_string_lossy().ends_with('/');
        if named && path.to_str().is_some() {
            Ok(path)
        } else {
            Err(invalid("path", "name a file, in UTF-8").with_context("path", path.display().to_string()))
        }
    }
}

/// In the user's state directory: `$XDG_STATE_HOME`, else `~/.local/state`. A relative one counts as not set, as the XDG
/// base directory specification has it.
fn default_path(var: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let state = var("XDG_STATE_HOME").and_then(absolute).or_else(|| {
        var("HOME")
            .and_then(absolute)
            .map(|home| home.join(".local/state"))
    })?;
    Some(state.join(Path::new("system-control/discovery/local.db")))
}

fn invalid(field: &'static str, hint: &'static str) -> Error {
    error::error(
        ErrorKind::ConfigInvalid,
        format!("invalid settings: local.{field}"),
    )
    .with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_path_it_is_the_users_state_directory() {
        let of = |xdg: Option<&str>, home: Option<&str>| {
            default_path(|name| match name {
                "XDG_STATE_HOME" => xdg.map(PathBuf::from),
                _ => home.map(PathBuf::from),
            })
        };
        let expected = |dir: &str| Some(Path::new(dir).join("system-control/discovery/local.db"));
        assert_eq!(of(Some("/s"), Some("/h")), expected("/s"));
        assert_eq!(of(None, Some("/h")), expected("/h/.local/state"));
        assert_eq!(of(Some("relative"), Some("/h")), expected("/h/.local/state"));
        assert_eq!(of(None, None), None);
    }

    #[test]
    fn what_could_not_work_is_refused() {
        let base = LocalConfig::at("/tmp/x.db");
        assert!(base.validate().is_ok());
        for bad in [
            base.clone().timeout(Duration::ZERO),
            base.clone().confirm_interval(Duration::from_millis(1)),
        ] {
            let error = bad.validate().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
            assert!(error.hint().is_some());
        }
        for path in ["", "/", "/tmp/", "/tmp/.."] {
            let error = LocalConfig::at(path).file().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{path:?}");
        }
        assert_eq!(base.file().unwrap(), Path::new("/tmp/x.db"));
    }
}
