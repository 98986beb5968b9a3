//! Secrets: values that are never shown, and the places they come from.

use std::{env, fmt, fs, io::Read as _, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize, Serializer};

use super::text::MASK;
use crate::error::{Error, ErrorKind, Result};

/// The largest secret read from a file, in bytes: a long JWT fits many times over.
const LARGEST: u64 = 64 * 1024;

/// A value that never shows: `Debug`, `Display` and `Serialize` all give `***`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(from = "String")]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<Arc<str>>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self::new(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// Where a secret is read from, each time it is needed, so that a rotated one is picked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// Given in the configuration.
    Value(Secret),
    /// The environment variable of this name.
    Env(String),
    /// This file.
    File(PathBuf),
}

impl SecretSource {
    /// The source that the fields `field`, `field_env` and `field_file` of a block name together, if any.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] when more than one of them is set.
    ///
    /// ```
    /// use discovery_core::config::SecretSource;
    ///
    /// let source = SecretSource::choose("token", None, Some("CONSUL_TOKEN".into()), None)?;
    /// assert_eq!(source, Some(SecretSource::Env("CONSUL_TOKEN".into())));
    /// # Ok::<(), discovery_core::Error>(())
    /// ```
    pub fn choose(
        field: &str,
        value: Option<Secret>,
        env: Option<String>,
        file: Option<PathBuf>,
    ) -> Result<Option<Self>> {
        let set: Vec<_> = [
            (value.is_some(), ""),
            (env.is_some(), "_env"),
            (file.is_some(), "_file"),
        ]
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, suffix)| format!("`{field}{suffix}`"))
        .collect();
        if set.len() > 1 {
            let message = format!("{} are set together", set.join(" and "));
            return Err(Error::new(ErrorKind::ConfigInvalid, message).with_hint("keep one of them"));
        }
        Ok(value
            .map(Self::Value)
            .or(env.map(Self::Env))
            .or(file.map(Self::File)))
    }

    /// Reads the secret afresh; one newline at the end is not part of it. Blocks for as long as the file's read takes.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] naming the variable or file when it is missing, empty, unreadable, not UTF-8 or
    /// larger than 64 KiB.
    pub fn read(&self) -> Result<Secret> {
        let (place, value) = match self {
            Self::Value(secret) => return Ok(secret.clone()),
            Self::Env(name) => (format!("environment variable {name}"), read_env(name)),
            Self::File(path) => (format!("file {}", path.display()), read_file(path)),
        };
        let fault = match value {
            Ok(value) => {
                let trimmed = value.strip_suffix('\n').unwrap_or(&value);
                let trimmed = trimmed.strip_suffix('\r').unwrap_or(trimmed);
                if !trimmed.is_empty() {
                    return Ok(Secret::new(trimmed));
                }
                "is empty".to_owned()
            }
            Err(fault) => fault,
        };
        Err(Error::new(
            ErrorKind::ConfigInvalid,
            format!("no secret: {place} {fault}"),
        ))
    }
}

fn read_env(name: &str) -> Result<String, String> {
    // `var_os` panics on a name that cannot be one.
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err("is not a possible name".to_owned());
    }
    let value = env::var_os(name).ok_or("is not set")?;
    value.into_string().map_err(|_| "is not UTF-8".to_owned())
}

fn read_file(path: &PathBuf) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err("is larger than 64 KiB".to_owned());
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_shows() {
        let secret: Secret = serde_json::from_str("\"hunter2\"").unwrap();
        let source = SecretSource::Value(secret.clone());
        let shown = format!(
            "{secret} {secret:?} {source:?} {}",
            serde_json::to_string(&secret).unwrap()
        );
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_file_is_read_afresh_each_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = SecretSource::File(file.path().to_owned());
        for (written, read) in [
            ("one\n", "one"),
            ("two\r\n", "two"),
            ("three ", "three "),
            ("4\n\n", "4\n"),
        ] {
            fs::write(file.path(), written).unwrap();
            assert_eq!(source.read().unwrap().expose(), read);
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display();
        let error = SecretSource::File(file.path().into()).read().unwrap_err();
        assert_eq!(error.to_string(), format!("no secret: file {path} is empty"));
        fs::write(file.path(), vec![b'x'; 70_000]).unwrap();
        let error = SecretSource::File(file.path().into()).read().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("no secret: file {path} is larger than 64 KiB")
        );

        let error = SecretSource::File("/no/such/token".into()).read().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        assert!(
            error
                .to_string()
                .starts_with("no secret: file /no/such/token cannot be read: "),
            "{error}"
        );

        let error = SecretSource::Env("NO_SUCH_VARIABLE".into()).read().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        assert_eq!(
            error.to_string(),
            "no secret: environment variable NO_SUCH_VARIABLE is not set"
        );
        for name in ["", "A=B", "A\0B"] {
            assert!(SecretSource::Env(name.into()).read().is_err());
        }
    }

    #[test]
    fn a_variable_is_read() {
        // Cargo sets it for every test.
        let secret = SecretSource::Env("CARGO_PKG_NAME".into()).read().unwrap();
        assert_eq!(secret.expose(), "discovery-core");
    }

    #[test]
    fn only_one_source_may_be_set() {
        let choose = SecretSource::choose;
        assert_eq!(choose("token", None, None, None).unwrap(), None);
        let error = choose(
            "token",
            Some(Secret::new("x")),
            Some("E".into()),
            Some("f".into()),
        )
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        assert_eq!(
            error.to_string(),
            "`token` and `token_env` and `token_file` are set together"
        );
    }
}
