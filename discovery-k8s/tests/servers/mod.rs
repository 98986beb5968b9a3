//! A real kube-apiserver on a real etcd for tests. `DISCOVERY_KUBE_APISERVER` and `DISCOVERY_ETCD_NEW` name the programs;
//! `scripts/servers` says where they are.

#![allow(dead_code, reason = "each test program uses its part")]

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use discovery_core::{ConfigKey, Error, ErrorKind, PutMode, Result, TaskGroup, config::TlsConfig};
use discovery_k8s::K8sConfig;
use discovery_testkit::server::{ChildServer, Place, Recipe, Server};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    process::Command,
};

/// The token of one who may do everything.
pub(crate) const ADMIN: &str = "admin-token";
/// The tokens of those who may do what a Role says: the user is called like the token.
pub(crate) const USERS: [&str; 4] = ["nobody", "reader", "registrant", "configurer"];

/// The programs, once both are named.
pub(crate) fn named() -> Option<(PathBuf, PathBuf)> {
    let program = |variable| {
        std::env::var_os(variable)
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    };
    Some((
        program("DISCOVERY_KUBE_APISERVER")?,
        program("DISCOVERY_ETCD_NEW")?,
    ))
}

#[derive(Debug)]
pub(crate) struct Etcd(PathBuf);

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Unavailable, "it does not serve yet").with_source(error)
}

#[async_trait]
impl Recipe for Etcd {
    fn name(&self) -> &'static str {
        "etcd"
    }

    fn ports(&self) -> usize {
        2
    }

    fn command(&self, place: &Place) -> Command {
        let url = |n: usize| format!("http://{}", place.endpoints()[n]);
        let mut command = Command::new(&self.0);
        command
            .arg("--data-dir")
            .arg(place.dir().join("data"))
            .arg("--unsafe-no-fsync");
        for (flag, n) in [
            ("--listen-client-urls", 0),
            ("--advertise-client-urls", 0),
            ("--listen-peer-urls", 1),
            ("--initial-advertise-peer-urls", 1),
        ] {
            command.arg(flag).arg(url(n));
        }
        command
            .arg("--initial-cluster")
            .arg(format!("default={}", url(1)));
        command
    }

    async fn probe(&self, place: &Place) -> Result<()> {
        TcpStream::connect(place.endpoints()[0])
            .await
            .map(drop)
            .map_err(unavailable)
    }

    async fn version(&self, _: &Place) -> Result<String> {
        Ok("3.5".to_owned())
    }
}

#[derive(Debug)]
pub(crate) struct Api {
    program: PathBuf,
    etcd: SocketAddr,
    more: Vec<String>,
}

#[async_trait]
impl Recipe for Api {
    fn name(&self) -> &'static str {
        "kube-apiserver"
    }

    fn ready_within(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn command(&self, place: &Place) -> Command {
        let (certs, tokens) = (place.dir().join("certs"), place.dir().join("tokens.csv"));
        let everybody = USERS.iter().enumerate();
        let users: String = [format!("{ADMIN},admin,1,\"system:masters\"\n")]
            .into_iter()
            .chain(everybody.map(|(n, user)| format!("{user},{user},{}\n", n + 2)))
            .collect();
        std::fs::write(&tokens, users).expect("the server's own directory can be written");
        // The key that it makes for itself signs the tokens of service accounts as well.
        let key = certs.join("apiserver.key");
        let mut command = Command::new(&self.program);
        command
            .arg(format!("--etcd-servers=http://{}", self.etcd))
            .arg(format!("--cert-dir={}", certs.display()))
            .arg(format!("--secure-port={}", place.endpoints()[0].port()))
            .arg(format!("--service-account-key-file={}", key.display()))
            .arg(format!("--service-account-signing-key-file={}", key.display()))
            .arg(format!("--token-auth-file={}", tokens.display()))
            .args([
                "--bind-address=127.0.0.1",
                "--service-cluster-ip-range=10.0.0.0/24",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--authorization-mode=RBAC",
                "--disable-admission-plugins=ServiceAccount",
                "--endpoint-reconciler-type=none",
                "--max-requests-inflight=2000",
                "--max-mutating-requests-inflight=1000",
            ])
            .args(&self.more);
        command
    }

    /// It serves once there is a namespace to write into.
    async fn probe(&self, place: &Place) -> Result<()> {
        let backend = discovery_k8s::backend(config(place).token(ADMIN))?;
        let values = backend.config.expect("a store of values");
        values
            .put(&ConfigKey::new("probe")?, b"", PutMode::Upsert)
            .await
            .map(drop)
    }

    async fn version(&self, place: &Place) -> Result<String> {
        let status = discovery_k8s::backend(config(place).token(ADMIN))?
            .registry
            .status()
            .await?;
        Ok(status.version.unwrap_or_default())
    }
}

fn config(place: &Place) -> K8sConfig {
    K8sConfig::at(place.endpoints()[0].to_string()).ca_file(place.dir().join("certs/apiserver.crt"))
}

/// An apiserver and its etcd, with nothing else: no controllers, no kubelets.
#[derive(Debug)]
pub(crate) struct Kube {
    pub(crate) api: ChildServer<Api>,
    pub(crate) etcd: ChildServer<Etcd>,
}

impl Kube {
    pub(crate) async fn start(more: &[&str]) -> Result<Arc<Self>> {
        let (program, etcd) = named().ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "no server is named").with_hint(
                "set DISCOVERY_KUBE_APISERVER and DISCOVERY_ETCD_NEW; `scripts/servers` tells the paths",
            )
        })?;
        let etcd = ChildServer::new(Etcd(etcd))?;
        etcd.start().await?;
        let api = ChildServer::new(Api {
            program,
            etcd: etcd.endpoint(),
            more: more.iter().map(|&flag| flag.to_owned()).collect(),
        })?;
        api.start().await?;
        Ok(Arc::new(Self { api, etcd }))
    }

    /// The settings for whoever has this token.
    pub(crate) fn config(&self, token: &str) -> K8sConfig {
        let mut config = config(self.api.place()).token(token);
        config.service_discovery.watch_timeout = Duration::from_secs(1);
        config
    }

    /// Where it serves.
    pub(crate) fn api_endpoint(&self) -> SocketAddr {
        self.api.endpoint()
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.api.place().dir().join("certs/apiserver.crt")
    }

    /// Restarts it without anything it held.
    pub(crate) async fn forget(&self) -> Result<()> {
        self.api.kill().await?;
        self.etcd.kill().await?;
        std::fs::remove_dir_all(self.etcd.place().dir().join("data")).map_err(unavailable)?;
        self.etcd.start().await?;
        self.api.start().await
    }
}

/// Speaks plain HTTP on one side and TLS to the server on the other, so that a proxy can read along.
#[derive(Debug)]
pub(crate) struct Bridge {
    pub(crate) addr: SocketAddr,
    tasks: TaskGroup,
}

impl Bridge {
    pub(crate) async fn start(kube: &Kube) -> Result<Self> {
        let mut tls = TlsConfig::default();
        tls.ca_file = Some(kube.ca_file());
        let connector = tokio_rustls::TlsConnector::from(Arc::new(discovery_core::tls::client_config(&tls)?));
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(unavailable)?;
        let addr = listener.local_addr().map_err(unavailable)?;
        let (tasks, upstream) = (TaskGroup::current()?, kube.api.endpoint());
        let group = tasks.clone();
        tasks.spawn(async move {
            let ended = group.cancelled().clone();
            ended
                .run_until_cancelled(async {
                    while let Ok((mut plain, _)) = listener.accept().await {
                        let (connector, ended) = (connector.clone(), ended.clone());
                        group.spawn(async move {
                            let pass = async {
                                let tcp = TcpStream::connect(upstream).await?;
                                tcp.set_nodelay(true)?;
                                plain.set_nodelay(true)?;
                                let name = upstream.ip().into();
                                let mut secure = connector.connect(name, tcp).await?;
                                copy_bidirectional(&mut plain, &mut secure).await
                            };
                            // What breaks here, the client sees.
                            let _ = ended.run_until_cancelled(pass).await;
                        });
                    }
                })
                .await
        });
        Ok(Self { addr, tasks })
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}
