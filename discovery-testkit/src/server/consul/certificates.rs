//! An authority, a server's and a client's certificate, made by `consul tls`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use discovery_core::Result;
use tempfile::TempDir;
use tokio::process::Command;

use super::builder::{cannot, run};

/// PEM files of an authority made for one test; its server is `server.<datacenter>.consul`, `localhost` and 127.0.0.1.
#[derive(Debug, Clone)]
pub struct Certificates {
    dir: Arc<TempDir>,
    datacenter: String,
}

impl Certificates {
    /// Makes a new authority; also to have one that a server does not know.
    ///
    /// # Errors
    /// [`discovery_core::ErrorKind::Unavailable`] when the program does not run.
    pub async fn make(binary: &Path, datacenter: &str) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("consul-tls-")
            .tempdir()
            .map_err(|source| cannot("make a directory").with_source(source))?;
        let consul = |arguments: &[&str]| {
            let mut command = Command::new(binary);
            command.current_dir(dir.path()).arg("tls").args(arguments);
            run(command, "make certificates")
        };
        consul(&["ca", "create"]).await?;
        consul(&[
            "cert",
            "create",
            "-server",
            "-dc",
            datacenter,
            "-additional-ipaddress=127.0.0.1",
        ])
        .await?;
        consul(&["cert", "create", "-client", "-dc", datacenter]).await?;
        Ok(Self {
            dir: Arc::new(dir),
            datacenter: datacenter.to_owned(),
        })
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("consul-agent-ca.pem")
    }

    /// A client's certificate.
    pub fn client_cert(&self) -> PathBuf {
        self.file("client", "")
    }

    /// The key of the client's certificate.
    pub fn client_key(&self) -> PathBuf {
        self.file("client", "-key")
    }

    pub(super) fn server_cert(&self) -> PathBuf {
        self.file("server", "")
    }

    pub(super) fn server_key(&self) -> PathBuf {
        self.file("server", "-key")
    }

    fn file(&self, role: &str, suffix: &str) -> PathBuf {
        self.dir
            .path()
            .join(format!("{}-{role}-consul-0{suffix}.pem", self.datacenter))
    }
}
