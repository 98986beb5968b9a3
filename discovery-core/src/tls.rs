//! TLS for backends: one `tls:` block into one rustls configuration.
//!
//! Always with the `ring` provider, handed over explicitly: nothing depends on what else the host program links.

mod reload;

use std::{fmt, fs, io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};

pub use self::reload::Reloader;
use crate::{
    config::TlsConfig,
    error::{Error, ErrorKind, Result},
};

/// The client side of TLS as a block says: its authorities or else the system's, its certificate, its server name.
///
/// Reads the files named; blocks for as long as that takes.
///
/// # Errors
/// [`ErrorKind::ConfigInvalid`] naming the field, for a file without what it should hold and for a system without any
/// authority.
pub fn client_config(tls: &TlsConfig) -> Result<ClientConfig> {
    tls.validate()?;
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid("no TLS version in common with the provider").with_source(error))?;
    let verifier: Arc<dyn ServerCertVerifier> = if tls.verify_ssl {
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(tls)?), provider)
            .build()
            .map_err(|error| invalid("`ca_file` holds no usable authority").with_source(error))?;
        match &tls.server_name {
            None => inner,
            Some(name) => Arc::new(Named {
                inner,
                name: ServerName::try_from(name.clone()).map_err(|error| {
                    invalid(format!("`server_name` is no host name or address: {name:?}")).with_source(error)
                })?,
            }),
        }
    } else {
        Arc::new(Unverified(provider))
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => {
            let chain = certificates("cert_file", cert)?;
            let key = PrivateKeyDer::from_pem_slice(&read("key_file", key)?).map_err(|error| {
                invalid(format!("`key_file` holds no private key: {}", key.display())).with_source(error)
            })?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                invalid("`cert_file` and `key_file` do not belong together").with_source(error)
            })
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

/// A configuration for clients that speak no TLS, from builders that want one all the same: it trusts nobody.
///
/// # Errors
/// [`ErrorKind::Unexpected`] when the provider knows no TLS version, which does not happen.
pub fn unused() -> Result<ClientConfig> {
    Ok(
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new(ErrorKind::Unexpected, "no TLS version").with_source(error))?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth(),
    )
}

/// What TLS itself objected to somewhere in a chain of causes: a wrong authority, name or certificate. Repeating the
/// connection cannot help.
pub fn objection<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a (dyn std::error::Error + 'static)> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if cause.is::<rustls::Error>() {
            return Some(cause);
        }
        // An io::Error hides what it wraps from `source`.
        next = match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        };
    }
    None
}

fn invalid(message: impl fmt::Display) -> Error {
    Error::new(ErrorKind::ConfigInvalid, format!("tls: {message}"))
}

fn read(field: &str, path: &Path) -> Result<Vec<u8>> {
    fs::read(path)
        .map_err(|error| invalid(format!("`{field}` cannot be read: {}", path.display())).with_source(error))
}

fn certificates(field: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let pem = read(field, path)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(format!("`{field}` is not PEM: {}", path.display())).with_source(error))?;
    if found.is_empty() {
        return Err(invalid(format!(
            "`{field}` holds no certificate: {}",
            path.display()
        )));
    }
    Ok(found)
}

fn roots(tls: &TlsConfig) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &tls.ca_file {
        for certificate in certificates("ca_file", path)? {
            roots.add(certificate).map_err(|error| {
                invalid(format!("`ca_file` holds a bad certificate: {}", path.display())).with_source(error)
            })?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(invalid("this system has no authorities to trust")
                .with_hint("install its CA certificates, or name a `ca_file`"));
        }
    }
    Ok(roots)
}

/// Expects one name, whatever host was connected to.
#[derive(Debug)]
struct Named {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.inner
            .verify_server_cert(end_entity, intermediates, &self.name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Takes any certificate: what `verify_ssl: false` asks for.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn files_without_what_they_should_hold_are_named() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"not PEM at all").unwrap();
        let tls = TlsConfig {
            ca_file: Some(file.path().to_owned()),
            ..TlsConfig::default()
        };
        let error = client_config(&tls).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        assert!(
            error
                .to_string()
                .starts_with("tls: `ca_file` holds no certificate: "),
            "{error}"
        );
    }

    #[test]
    fn a_configuration_needs_no_process_default() {
        let tls = TlsConfig {
            enabled: Some(true),
            verify_ssl: false,
            ..TlsConfig::default()
        };
        assert!(client_config(&tls).is_ok());
    }

    #[test]
    fn an_objection_is_found_behind_an_io_error() {
        let hidden = io::Error::other(rustls::Error::DecryptError);
        assert!(objection(&hidden).is_some());
        assert!(objection(&io::Error::other(hidden)).is_some());
        assert!(objection(&io::Error::other("refused")).is_none());
    }
}
