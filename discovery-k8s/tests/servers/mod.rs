//! A real kube-apiserver on a real etcd for tests. `DISCOVERY_KUBE_APISERVER` and `DISCOVERY_ETCD_NEW` name the programs;
//! `scripts/servers` says where they are.

#![allow(dead_code, reason = "each test program uses its part")]

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use discovery_core::{ConfigKey, Error, ErrorKind, PutMode, Result, TaskGroup, config::TlsConfig};
use discovery_k8s::K8sConfig;
use discovery_testkit::{
    server::{
        Server,
        etcd::Age,
        kube::{APISERVER, KubeApiserver, KubeBuilder},
    },
    try_eventually,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

/// Who may do everything.
pub(crate) const ADMIN: &str = "admin";
/// Those who may do what a test allows them.
const USERS: [&str; 4] = ["nobody", "reader", "registrant", "configurer"];
/// How many there are besides: `user-0` and so on.
const MORE_USERS: usize = 30;

/// The programs, once both are named.
pub(crate) fn named() -> Option<(PathBuf, PathBuf)> {
    Some((APISERVER.binary()?, Age::New.binary()?))
}

/// An apiserver and its etcd, with nothing else: no controllers, no kubelets.
#[derive(Debug)]
pub(crate) struct Kube {
    pub(crate) api: KubeApiserver,
}

impl Kube {
    pub(crate) async fn start(change: impl FnOnce(KubeBuilder) -> KubeBuilder) -> Result<Arc<Self>> {
        let (apiserver, etcd) = named().ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "no server is named").with_hint(
                "set DISCOVERY_KUBE_APISERVER and DISCOVERY_ETCD_NEW; `scripts/servers` tells the paths",
            )
        })?;
        let mut builder = KubeApiserver::dev(apiserver, etcd)
            .flag("--max-requests-inflight=2000")
            .flag("--max-mutating-requests-inflight=1000");
        for user in USERS {
            builder = builder.user(user, &[]);
        }
        for n in 0..MORE_USERS {
            builder = builder.user(format!("user-{n}"), &[]);
        }
        let kube = Self {
            api: change(builder).build().await?,
        };
        kube.api.start().await?;
        kube.ready().await?;
        Ok(Arc::new(kube))
    }

    /// Waits until there is a namespace to write into: it comes a moment after the server is ready.
    async fn ready(&self) -> Result<()> {
        let backend = discovery_k8s::backend(self.config(ADMIN))?;
        let values = backend.config.expect("a store of values");
        let key = ConfigKey::new("probe")?;
        try_eventually("the namespace `default`", Duration::from_secs(120), || async {
            values.put(&key, b"", PutMode::Upsert).await
        })
        .await
        .map(drop)
    }

    /// The settings for a user; a token the server does not know, for one there is not.
    pub(crate) fn config(&self, user: &str) -> K8sConfig {
        let token = self.api.token(user).map_or("unknown", |token| token.expose());
        let mut config = K8sConfig::at(self.api_endpoint().to_string())
            .ca_file(self.ca_file())
            .token(token);
        config.service_discovery.watch_timeout = Duration::from_secs(1);
        config
    }

    pub(crate) fn token(&self) -> &str {
        self.api.token(ADMIN).map_or("unknown", |token| token.expose())
    }

    /// Where it serves.
    pub(crate) fn api_endpoint(&self) -> SocketAddr {
        self.api.endpoint()
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.api.authority().ca()
    }

    /// Restarts it without anything it held.
    pub(crate) async fn forget(&self) -> Result<()> {
        self.api.kill().await?;
        self.api.etcd().restart_empty().await?;
        self.api.start().await?;
        self.ready().await
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
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(broken)?;
        let addr = listener.local_addr().map_err(broken)?;
        let (tasks, upstream) = (TaskGroup::current()?, kube.api_endpoint());
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

fn broken(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the bridge broke").with_source(error)
}
