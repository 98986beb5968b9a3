//! The conformance suite on a real kube-apiserver.
//!
//! `DISCOVERY_KUBE_APISERVER` and `DISCOVERY_ETCD_NEW` name the programs; `scripts/servers` says where they are. Both must
//! be named: without a server there is nothing to prove.

use std::{
    process::ExitCode,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use discovery_core::{Backend, Error, ErrorKind, Result};
use discovery_k8s::{ConfigMapKeys, K8sConfig};
use discovery_testkit::{
    proxy::{
        Close, Direction, Flow, Proxy,
        http::{HttpProxy, Rule},
    },
    suite::{self, Case, Fault, Provider, Subject, Tool},
};
use serde_json::json;
use tokio::sync::Mutex;

mod servers;

use servers::{ADMIN, Bridge, Kube};

fn main() -> ExitCode {
    if servers::named().is_none() {
        #[expect(clippy::print_stderr, reason = "this is a test program's main")]
        {
            eprintln!(
                "conformance: set DISCOVERY_KUBE_APISERVER and DISCOVERY_ETCD_NEW; `scripts/servers` tells the paths"
            );
        }
        return ExitCode::FAILURE;
    }
    let cluster: Arc<dyn Provider> = Arc::new(Cluster::default());
    suite::run([cluster])
}

/// Cases share a cluster, unless they need one to themselves.
#[derive(Debug, Default)]
struct Cluster {
    shared: OnceLock<Mutex<Option<Arc<Kube>>>>,
}

#[async_trait]
impl Provider for Cluster {
    fn name(&self) -> &'static str {
        "k8s"
    }

    fn shows(&self, _: Fault) -> bool {
        true
    }

    fn has(&self, tool: Tool) -> bool {
        matches!(tool, Tool::Forget | Tool::Requests)
    }

    async fn subject(&self, case: &Case) -> Result<Box<dyn Subject>> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let kube = if case.exclusive {
            Kube::start(|builder| builder).await?
        } else {
            let mut shared = self.shared.get_or_init(Mutex::default).lock().await;
            match &*shared {
                Some(kube) => kube.clone(),
                None => shared.insert(Kube::start(|builder| builder).await?).clone(),
            }
        };
        let bridge = Bridge::start(&kube).await?;
        let http = HttpProxy::start(bridge.addr)?;
        Ok(Box::new(Apiserver {
            way: Proxy::start(http.addr())?,
            http,
            _bridge: bridge,
            kube,
            values: format!("values-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
            refused: AtomicU64::new(0),
            refusing_since: AtomicU64::new(0),
        }))
    }
}

#[derive(Debug)]
struct Apiserver {
    way: Proxy,
    http: HttpProxy,
    _bridge: Bridge,
    kube: Arc<Kube>,
    /// The ConfigMap of this case.
    values: String,
    /// Connections refused by faults that are over.
    refused: AtomicU64,
    /// How many connections there had been when the fault began, if it has.
    refusing_since: AtomicU64,
}

impl Apiserver {
    fn backend(&self, mut config: K8sConfig) -> Result<Backend> {
        // The suite registers what listens on 127.0.0.1.
        config.registration.local_addresses = true;
        // What a case registers without a TTL, nobody renews; a thousand of them take a while.
        config.registration.ttl = Duration::from_secs(300);
        config.service_discovery.watch_timeout = Duration::from_secs(1);
        config.configmap.configmaps = vec![ConfigMapKeys::whole(self.values.as_str())];
        discovery_k8s::backend(config)
    }
}

#[async_trait]
impl Subject for Apiserver {
    async fn connect(&self) -> Result<Backend> {
        self.backend(K8sConfig::at(format!("http://{}", self.way.addr())).token(self.kube.token()))
    }

    async fn direct(&self) -> Result<Backend> {
        self.backend(self.kube.config(ADMIN))
    }

    async fn break_way(&self, fault: Fault) -> Result<()> {
        let reply = |code: u16, reason: &'static str| {
            let status = json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason });
            self.http.rule(Rule::any("*").reply(code, status.to_string()));
        };
        match fault {
            // Let in and reset, so that tries can be counted.
            Fault::Refuse => {
                self.way.hang_up(Close::Reset);
                self.way.cut(Close::Reset).await;
                self.refusing_since
                    .store(self.way.counters().accepted, Ordering::Relaxed);
            }
            Fault::Cut => {
                self.way.cut(Close::Reset).await;
            }
            Fault::Stall => self.way.flow_both(Flow::Stall),
            Fault::Garbage => self.way.flow(Direction::Down, Flow::Garbage),
            Fault::Delay(delay) => self.way.flow_both(Flow::Delay(delay / 2)),
            Fault::Error(ErrorKind::PermissionDenied) => reply(403, "Forbidden"),
            Fault::Error(ErrorKind::Unauthenticated) => reply(401, "Unauthorized"),
            Fault::Error(ErrorKind::RateLimited) => reply(429, "TooManyRequests"),
            Fault::Error(ErrorKind::Unavailable) => reply(503, "ServiceUnavailable"),
            other => {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("an apiserver has no {other:?}"),
                ));
            }
        }
        Ok(())
    }

    async fn heal(&self) -> Result<()> {
        let since = self.refusing_since.swap(0, Ordering::Relaxed);
        if since > 0 {
            self.refused
                .fetch_add(self.way.counters().accepted - since, Ordering::Relaxed);
        }
        self.http.clear_rules();
        self.way.heal()
    }

    async fn forget(&self) -> Result<()> {
        // Nobody gets in before its namespaces are there again.
        self.way.refuse();
        self.way.cut(Close::Reset).await;
        self.kube.forget().await?;
        self.way.heal()
    }

    async fn compact(&self) -> Result<()> {
        Err(Error::new(
            ErrorKind::Unsupported,
            "no watch resumes from a cursor",
        ))
    }

    fn open_watches(&self) -> Option<usize> {
        None
    }

    fn requests(&self) -> Option<usize> {
        let count = |number| usize::try_from(number).unwrap_or(usize::MAX);
        let refused = match self.refusing_since.load(Ordering::Relaxed) {
            0 => 0,
            since => self.way.counters().accepted - since,
        };
        Some(self.http.requests_matching("*").len() + count(refused + self.refused.load(Ordering::Relaxed)))
    }

    fn visible_within(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// A heartbeat is a write to etcd, and a read of three kinds follows it.
    fn min_ttl(&self) -> Duration {
        Duration::from_secs(3)
    }
}
