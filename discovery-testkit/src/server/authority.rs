//! An authority of one test, and certificates of it, made by `openssl`.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use discovery_core::Result;
use tempfile::TempDir;
use tokio::process::Command;

use super::program::{cannot, run};

const NAME: &str = "openssl";
/// What a certificate is for; no file of the system is read.
const SETTINGS: &str = "
[req]
distinguished_name = name
prompt = no
[name]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = IP:127.0.0.1, DNS:localhost
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
";

/// A certificate and its key, PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// An authority made for one test; its files live as long as any clone of it.
#[derive(Debug, Clone)]
pub struct Authority {
    dir: Arc<TempDir>,
}

impl Authority {
    /// Makes a new authority; also to have one that a server does not know.
    ///
    /// # Errors
    /// [`discovery_core::ErrorKind::Unavailable`] when `openssl` does not run.
    pub async fn make() -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("authority-")
            .tempdir()
            .map_err(|source| cannot(NAME, "have a directory").with_source(source))?;
        fs::write(dir.path().join("settings"), SETTINGS)
            .map_err(|source| cannot(NAME, "have its settings").with_source(source))?;
        let authority = Self { dir: Arc::new(dir) };
        authority.key("ca").await?;
        authority
            .openssl(
                "req -x509 -new -config settings -extensions ca -key ca-key.pem -out ca.pem -days 2 -subj",
                &["/CN=discovery test authority"],
            )
            .await?;
        Ok(authority)
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// Issues a certificate of a server on 127.0.0.1, `localhost`; again for another one under another name.
    pub async fn server(&self, name: &str) -> Result<Identity> {
        self.issue("server", name, &format!("/CN={name}")).await
    }

    /// Issues a client's certificate: the common name is the user, the organisations are its groups.
    pub async fn client(&self, user: &str, groups: &[&str]) -> Result<Identity> {
        let mut subject = String::new();
        for group in groups {
            subject += "/O=";
            subject += group;
        }
        self.issue("client", user, &format!("{subject}/CN={user}")).await
    }

    async fn issue(&self, role: &'static str, name: &str, subject: &str) -> Result<Identity> {
        let stem: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let stem = format!("{role}-{stem}");
        self.key(&stem).await?;
        let [request, cert, key] =
            ["-request.pem", ".pem", "-key.pem"].map(|suffix| format!("{stem}{suffix}"));
        self.openssl(
            "req -new -config settings",
            &["-key", &key, "-out", &request, "-subj", subject],
        )
        .await?;
        let serial = format!("{:#x}", fastrand::u64(1..));
        self.openssl(
            "x509 -req -CA ca.pem -CAkey ca-key.pem -days 2 -extfile settings",
            &[
                "-extensions",
                role,
                "-set_serial",
                &serial,
                "-in",
                &request,
                "-out",
                &cert,
            ],
        )
        .await?;
        Ok(Identity {
            cert: self.file(&cert),
            key: self.file(&key),
        })
    }

    async fn key(&self, stem: &str) -> Result<()> {
        let out = format!("{stem}-key.pem");
        self.openssl(
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out",
            &[&out],
        )
        .await
    }

    async fn openssl(&self, line: &str, rest: &[&str]) -> Result<()> {
        let mut command = Command::new(NAME);
        command
            .args(line.split(' '))
            .args(rest)
            .current_dir(self.dir.path());
        run(NAME, command, "make a certificate").await.map(drop)
    }

    fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }
}
