//! The `tls:` block, the same for every backend.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// How a connection is secured. Holds paths only: files that are replaced are read again while running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TlsConfig {
    /// Whether to speak TLS; ask [`is_enabled`](Self::is_enabled).
    pub enabled: Option<bool>,
    /// PEM file of the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file of our own certificate; needs `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM file of its private key; needs `cert_file`.
    pub key_file: Option<PathBuf>,
    /// Whether to verify the server's certificate; false is for tests only.
    pub verify_ssl: bool,
    /// The name the server's certificate must carry, where it is not the host connected to.
    pub server_name: Option<String>,
}

impl Default for TlsConfig {
    /// Nothing said: no TLS, and verifying once it is enabled.
    fn default() -> Self {
        Self {
            enabled: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            verify_ssl: true,
            server_name: None,
        }
    }
}

impl TlsConfig {
    /// Whether to speak TLS: as `enabled` says, and where it says nothing, when anything else is set. A file named is meant
    /// to be used, and plain text would be a bad surprise.
    pub fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(*self != Self::default())
    }

    /// Checks that the fields agree and, where TLS is enabled, that the files can be read.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] naming the field, for a certificate without key, a key without certificate, or a file
    /// that cannot be opened.
    pub fn validate(&self) -> Result<()> {
        let half = |set: &str, missing: &str| {
            let message = format!("tls: `{set}` is set without `{missing}`");
            let hint = format!("add `{missing}`, or remove `{set}` to connect without a client certificate");
            Err(Error::new(ErrorKind::ConfigInvalid, message).with_hint(hint))
        };
        match (&self.cert_file, &self.key_file) {
            (Some(_), None) => return half("cert_file", "key_file"),
            (None, Some(_)) => return half("key_file", "cert_file"),
            _ => {}
        }
        if !self.is_enabled() {
            return Ok(());
        }
        let files = [
            ("ca_file", &self.ca_file),
            ("cert_file", &self.cert_file),
            ("key_file", &self.key_file),
        ];
        for (field, path) in files {
            if let Some(path) = path {
                readable(path).map_err(|error| {
                    let message = format!("tls: `{field}` cannot be read: {}", path.display());
                    Error::new(ErrorKind::ConfigInvalid, message).with_source(error)
                })?;
            }
        }
        Ok(())
    }
}

fn readable(path: &Path) -> std::io::Result<()> {
    // A directory opens, too.
    if File::open(path)?.metadata()?.is_dir() {
        return Err(std::io::ErrorKind::IsADirectory.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> TlsConfig {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_is_set_is_meant() {
        assert!(!TlsConfig::default().is_enabled());
        let tls = read(r#"{ "ca_file": "/etc/consul/ca.pem" }"#);
        assert!(tls.is_enabled() && tls.verify_ssl);
        assert!(read(r#"{ "enabled": true }"#).is_enabled());
        assert!(!read(r#"{ "enabled": false, "ca_file": "/etc/consul/ca.pem" }"#).is_enabled());
    }

    #[test]
    fn half_a_client_certificate_is_refused() {
        let error = read(r#"{ "cert_file": "c.pem" }"#).validate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        assert_eq!(error.to_string(), "tls: `cert_file` is set without `key_file`");
        assert_eq!(
            error.hint(),
            Some("add `key_file`, or remove `cert_file` to connect without a client certificate")
        );
        let error = read(r#"{ "enabled": false, "key_file": "k.pem" }"#)
            .validate()
            .unwrap_err();
        assert_eq!(error.to_string(), "tls: `key_file` is set without `cert_file`");
    }

    #[test]
    fn unreadable_files_are_named() {
        let error = read(r#"{ "ca_file": "/no/such/ca.pem" }"#)
            .validate()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        assert_eq!(
            error.to_string(),
            "tls: `ca_file` cannot be read: /no/such/ca.pem"
        );
        assert!(format!("{error:#}").contains("No such file"));
        assert!(read(r#"{ "ca_file": "/" }"#).validate().is_err());

        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        let tls = TlsConfig {
            ca_file: Some(path.clone()),
            cert_file: Some(path.clone()),
            key_file: Some(path),
            enabled: Some(true),
            ..TlsConfig::default()
        };
        tls.validate().unwrap();
    }
}
