//! Registration and look-up.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use discovery_core::{
    BackendInfo, BackendStatus, Capabilities, Error, ErrorKind, HealthReport, Instance, InstanceKey, Lease,
    LeaseGroup, LeaseMode, MetaChange, Query, Registration, Renewal, Result, Scope, ServiceName,
    ServiceRegistry, ServiceSummary, Snapshot, Target,
};
use tokio::time::{Instant, timeout};

use crate::{
    apps::{Apps, Which},
    client::{Answer, Call, Client, parse, segment},
    convert,
    edits::Edits,
    error,
    poll::{APPS, Poll},
    watcher::checked,
    wire,
};

/// How long an operation of several requests may take.
const OPERATION: Duration = Duration::from_secs(14);
/// How long an answer to who watches takes at most, while all is well.
const ANSWER: Duration = Duration::from_secs(2);
/// An application nobody has, asked for to see whether the server answers.
const NOBODY: &str = "DISCOVERY-STATUS";

/// The registry behind the servers.
#[derive(Debug)]
pub(crate) struct EurekaRegistry {
    pub(crate) client: Client,
    poll: Arc<Poll>,
    pub(crate) edits: Edits,
}

/// There are no datacenters and no namespaces to ask for.
pub(crate) fn check_scope(scope: &Scope) -> Result<()> {
    let (what, instead) = match (&scope.datacenter, &scope.namespace) {
        (None, None) => return Ok(()),
        (Some(_), _) => (
            "datacenters",
            "set `eureka.discovery.regions` to look in remote regions",
        ),
        _ => ("namespaces", "remove the namespace"),
    };
    Err(error::error(ErrorKind::Unsupported, format!("Eureka has no {what} to ask for")).with_hint(instead))
}

/// The path of a record.
pub(crate) fn path(key: &InstanceKey) -> String {
    let app = convert::app(key.service.as_str());
    format!("apps/{}/{}", segment(&app), segment(key.id.as_str()))
}

impl EurekaRegistry {
    pub(crate) fn new(client: Client, poll: Arc<Poll>) -> Self {
        Self {
            client,
            poll,
            edits: Edits::default(),
        }
    }

    /// What a server shows of the instances that are meant, from its cache.
    async fn read(&self, which: &Which) -> Result<Vec<Arc<Instance>>> {
        let config = self.client.config();
        let regions = &config.discovery.regions;
        let vip = |kind: &str, name: &str| Call::fetch(&format!("{kind}/{}", segment(name)));
        let call = match which {
            // A server knows of regions in the list of everything only.
            _ if !regions.is_empty() => Call::lists("apps", regions),
            Which::App(name) => Call::fetch(&format!("apps/{}", segment(name))),
            Which::Vip(name) => vip("vips", name),
            Which::SecureVip(name) => vip("svips", name),
            Which::All => Call::fetch("apps"),
        };
        let read = |answer: Answer| {
            let Some(answer) = answer.known(APPS)? else {
                return Ok(Apps::default());
            };
            let json = answer.json(APPS)?;
            let found = match which {
                Which::App(_) if regions.is_empty() => {
                    vec![parse::<wire::OneApplication<'_>>(&json, "an application")?.application]
                }
                _ => parse::<wire::Root<'_>>(&json, APPS)?.applications.application.0,
            };
            Ok(Apps::read(&found, config, &Apps::default()))
        };
        let (apps, _) = self.client.send(&call, read).await?;
        Ok(apps.select(which).cloned().collect())
    }

    async fn do_instance(&self, key: &InstanceKey) -> Result<Option<Instance>> {
        let config = self.client.config();
        let read = |answer: Answer| {
            let Some(answer) = answer.known("an instance")? else {
                return Ok(None);
            };
            let json = answer.json("an instance")?;
            let found = parse::<wire::OneInstance<'_>>(&json, "an instance")?.instance;
            Ok(Some(
                convert::instance(&found, &convert::app(key.service.as_str()), config).0,
            ))
        };
        let (found, _) = self.client.send(&Call::get(path(key)), read).await?;
        Ok(found.filter(|found| found.key == *key))
    }

    async fn do_status(&self) -> Result<BackendStatus> {
        let started = Instant::now();
        let call = Call::get(format!("apps/{NOBODY}"));
        let read = |answer: Answer| answer.known("an answer").map(drop);
        let ((), server) = self.client.send(&call, read).await?;
        let servers = self.client.servers();
        Ok(BackendStatus::new(started.elapsed())
            .with_detail("server", servers.all[server].display())
            .with_detail("servers", servers.all.len().to_string())
            .with_detail("quarantined", servers.bad().to_string()))
    }
}

pub(crate) async fn within<T>(operation: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(OPERATION, work)
        .await
        .unwrap_or_else(|_| Err(error::late(OPERATION)))
        .map_err(|error: Error| error.with_operation(operation))
}

#[async_trait]
impl ServiceRegistry for EurekaRegistry {
    fn info(&self) -> BackendInfo {
        BackendInfo::new(error::SCHEME, self.client.display())
    }

    fn capabilities(&self) -> Capabilities {
        let config = self.client.config();
        let interval = config.discovery.refresh_interval;
        // The wait, and what an answer takes from a server that is busy.
        let mut can = Capabilities::read_only(interval * 11 / 10 + (interval / 4).max(ANSWER));
        can.register = true;
        can.lease = LeaseMode::Single;
        can.update_meta = true;
        can.report_health = true;
        can.list_services = true;
        can.watch_all = true;
        can
    }

    async fn register(&self, registration: &Registration) -> Result<Lease> {
        within("register", self.do_register(registration)).await
    }

    async fn renew(&self, group: &LeaseGroup, renewal: &Renewal) -> Result<()> {
        within("renew", self.do_renew(group, renewal)).await
    }

    async fn deregister(&self, key: &InstanceKey) -> Result<()> {
        within("deregister", self.do_deregister(key)).await
    }

    async fn release(&self, _group: &LeaseGroup) -> Result<()> {
        Err(error::error(ErrorKind::Unsupported, "a lease holds one registration").with_operation("release"))
    }

    async fn update_meta(&self, key: &InstanceKey, change: &MetaChange) -> Result<()> {
        within("update_meta", self.do_update_meta(key, change)).await
    }

    async fn report_health(&self, key: &InstanceKey, report: &HealthReport) -> Result<()> {
        within("report_health", self.do_report_health(key, report)).await
    }

    async fn instance(&self, key: &InstanceKey) -> Result<Option<Instance>> {
        within("instance", self.do_instance(key)).await
    }

    async fn instances(&self, query: &Query) -> Result<Snapshot> {
        let read = async {
            check_scope(&query.scope)?;
            let which = match &query.target {
                Target::All => Which::All,
                Target::Service(name) => Which::new(self.poll.look_up(), name.as_str()),
            };
            let mut instances = self.read(&which).await?;
            if query.with_checks {
                instances = instances.iter().map(checked).collect();
            }
            let snapshot = Snapshot::live(query.target.clone(), instances);
            Ok(snapshot.with_evidence(self.poll.evidence()))
        };
        read.await
            .map_err(|error: Error| error.with_operation("instances"))
    }

    async fn services(&self, scope: &Scope) -> Result<Vec<ServiceSummary>> {
        let read = async {
            check_scope(scope)?;
            let mut services: std::collections::BTreeMap<ServiceName, (Vec<String>, usize)> =
                std::collections::BTreeMap::new();
            for instance in self.read(&Which::All).await? {
                let (tags, count) = services.entry(instance.key.service.clone()).or_default();
                tags.extend(instance.tags.iter().cloned());
                *count += 1;
            }
            let summary = |(name, (tags, count))| ServiceSummary::new(name, tags, Some(count));
            Ok(services.into_iter().map(summary).collect())
        };
        read.await
            .map_err(|error: Error| error.with_operation("services"))
    }

    async fn status(&self) -> Result<BackendStatus> {
        within("status", self.do_status()).await
    }
}
