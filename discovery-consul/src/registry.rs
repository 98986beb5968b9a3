//! Registration at the agent, look-up in the catalogue.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use discovery_core::{
    BackendInfo, BackendStatus, Capabilities, Error, ErrorKind, HealthReport, Instance, InstanceKey, Lease,
    LeaseGroup, LeaseMode, MetaChange, Query, Registration, Renewal, Result, Scope, ServiceRegistry,
    ServiceSummary, Snapshot, Status, WatchMode,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tracing::warn;

use crate::{
    checks::{self, MIN_DEREGISTER_AFTER},
    client::{Call, DEADLINE, segment},
    convert,
    edits::{Own, name_of, not_found, not_ours, scope_of},
    error,
    reader::Reader,
    signed::Signed,
    wire,
};

/// How long an operation of several requests may take; one of them may wait 7 s for a leader.
const OPERATION: Duration = Duration::from_secs(12);

/// What was last asked for an id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Maintenance mode; somebody else's is left alone.
    pub(crate) draining: bool,
    /// The status its registration starts with, where checks that the agent runs decide afterwards: heartbeats that
    /// carry it on say no more than that the owner lives. A report ends this.
    pub(crate) starts: Option<Status>,
    /// The tags of its registration.
    tags: Vec<String>,
}

/// The registry behind one agent. Everything that writes goes to that agent and concerns its own services only.
#[derive(Debug)]
pub(crate) struct ConsulRegistry {
    pub(crate) reader: Reader,
    /// What was last asked for, by id.
    asked: Mutex<HashMap<String, Asked>>,
    signed: Signed,
    /// Metadata is read, changed and written by one at a time.
    pub(crate) editing: Semaphore,
}

impl ConsulRegistry {
    pub(crate) fn new(reader: Reader) -> Self {
        Self {
            reader,
            asked: Mutex::default(),
            signed: Signed::default(),
            editing: Semaphore::new(1),
        }
    }

    fn ttl(&self, registration: &Registration) -> Option<Duration> {
        let checks = &self.reader.client.config().health_checks;
        checks
            .enabled
            .then(|| registration.ttl.unwrap_or(checks.interval * 3))
    }

    pub(crate) async fn beat(&self, id: &str, health: &HealthReport) -> Result<()> {
        let starts = self.asked(id).and_then(|asked| asked.starts);
        let status = if starts == Some(health.status) {
            Status::Passing
        } else {
            health.status
        };
        let body = wire::CheckUpdate {
            status: convert::status_text(status),
            output: &health.output,
        };
        let check = checks::ttl_check(id);
        let call = Call::heartbeat(format!("/v1/agent/check/update/{}", segment(&check))).json(&body)?;
        let client = &self.reader.client;
        client.send(&client.owned(call)).await?.ok().map(drop)
    }

    pub(crate) async fn drain(&self, id: &str, health: &HealthReport) -> Result<()> {
        let call = Call::put(format!("/v1/agent/service/maintenance/{}", segment(id)))
            .query("enable", health.draining.to_string())
            .query("reason", health.output.clone());
        let client = &self.reader.client;
        client.send(&client.owned(call)).await?.ok()?;
        // Nothing is remembered of what others registered.
        if self.asked(id).is_some() {
            self.edit(id, |asked| asked.draining = health.draining);
        }
        Ok(())
    }

    pub(crate) fn asked(&self, id: &str) -> Option<Asked> {
        let all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(id).cloned()
    }

    pub(crate) fn edit(&self, id: &str, change: impl FnOnce(&mut Asked)) {
        let mut all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        change(all.entry(id.to_owned()).or_default());
    }

    async fn do_register(&self, registration: &Registration) -> Result<Lease> {
        let (client, id) = (&self.reader.client, registration.id.as_str());
        let ttl = self.ttl(registration);
        let mut body = convert::registration(registration, ttl, client.config())?;
        // C-36
        if !convert::is_dns_label(registration.service.as_str()) {
            warn!(service = %registration.service, "Consul's DNS does not show a service of this name");
        }
        for after in registration
            .checks
            .iter()
            .filter_map(|check| check.deregister_after)
        {
            if after < MIN_DEREGISTER_AFTER {
                warn!(%id, ?after, "Consul deregisters after a minute at the earliest");
            }
        }
        // An id is unique per agent: writing ours would silently replace the other service.
        if let Own::Record(record) = self.own(id).await? {
            if name_of(&record) != registration.service.as_str() {
                return Err(
                    error::error(ErrorKind::Conflict, "another service of this agent has this id")
                        .with_context("id", id)
                        .with_context("service", name_of(&record).to_owned())
                        .with_hint("give the registration another id"),
                );
            }
            let unchanged = self
                .asked(id)
                .is_some_and(|asked| asked.tags == registration.tags);
            if body.enable_tag_override && unchanged {
                body.tags = self
                    .overridden(&registration.service, &registration.id, &record)
                    .await;
            }
        }
        let call = Call::put("/v1/agent/service/register".to_owned())
            .query("replace-existing-checks", "true")
            .json(&body)?;
        let token = client.token()?;
        client.send(&client.owned(call)).await?.ok()?;
        self.signed.note(id, token);
        let (known, health) = (self.asked(id), &registration.health);
        self.edit(id, |asked| {
            asked.draining = health.draining;
            asked.tags.clone_from(&registration.tags);
            // One that has reported since it was first registered keeps its say.
            if registration.checks.is_empty() {
                asked.starts = None;
            } else if known.is_none() {
                asked.starts = Some(health.status);
            }
        });
        if ttl.is_some() {
            // C-25: a check that was there already has kept its status.
            self.beat(id, &registration.health).await?;
        }
        let identity = self.reader.agent.identity(Some(id)).await?;
        let mut key = InstanceKey::new(
            error::SCHEME,
            registration.service.clone(),
            registration.id.clone(),
        );
        key.node = identity.node;
        key.datacenter = identity.datacenter;
        key.namespace = client.config().server.namespace.as_deref().map(Into::into);
        Ok(Lease::new(key, LeaseGroup::new(id), ttl))
    }

    async fn do_deregister(&self, key: &InstanceKey) -> Result<()> {
        let (client, id) = (&self.reader.client, key.id.as_str());
        let identity = self.reader.agent.identity(Some(id)).await?;
        let elsewhere = matches!((&key.node, &identity.node), (Some(theirs), Some(own)) if theirs != own);
        let here = match self.own(id).await? {
            Own::Hidden => true,
            Own::Record(record) => name_of(&record) == key.service.as_str(),
            Own::Absent => false,
        };
        if elsewhere || (!here && (key.node.is_none() || identity.node.is_none())) {
            return match self.foreign(key).await? {
                Some(owner) => Err(not_ours(key, &owner)),
                None => Ok(()),
            };
        }
        if !here {
            return Ok(());
        }
        let call = Call::put(format!("/v1/agent/service/deregister/{}", segment(id)));
        match client.send(&client.owned(call)).await?.ok() {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            // C-22
            _ => {}
        }
        self.signed.forget(id);
        let mut all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(id);
        Ok(())
    }

    pub(crate) async fn do_instance(&self, key: &InstanceKey) -> Result<Option<Instance>> {
        let id = key.id.as_str();
        let identity = self.reader.agent.identity(Some(id)).await?;
        if matches!((&key.node, &identity.node), (Some(theirs), Some(own)) if theirs != own) {
            let found = self.reader.service(&key.service, &scope_of(key)).await?.0;
            return Ok(found
                .iter()
                .find(|instance| instance.key.id == key.id && instance.key.node == key.node)
                .map(|instance| (**instance).clone()));
        }
        let Some(health) = self.reader.agent.health(id).await? else {
            return Ok(None);
        };
        if health.service.id != id || health.service.name != key.service.as_str() {
            return Ok(None);
        }
        let word = |text: &Option<std::sync::Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
        let entry = wire::ServiceEntry {
            node: wire::Node {
                name: word(&identity.node),
                address: identity.address,
                datacenter: word(&identity.datacenter),
            },
            service: health.service,
            checks: health.checks,
        };
        Ok(Some(convert::instance(entry, true)))
    }
}

async fn within<T>(operation: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(OPERATION, work)
        .await
        .unwrap_or_else(|_| Err(error::late(OPERATION)))
        .map_err(|error| error.with_operation(operation))
}

#[async_trait]
impl ServiceRegistry for ConsulRegistry {
    fn info(&self) -> BackendInfo {
        BackendInfo::new(error::SCHEME, self.reader.client.display())
    }

    fn capabilities(&self) -> Capabilities {
        let config = self.reader.client.config();
        let mut can = Capabilities::read_only(if config.discovery.watch_services {
            // The wait, what the server adds to it, and the way.
            let wait = config.discovery.wait;
            wait + wait / 16 + (wait / 8).max(Duration::from_secs(1))
        } else {
            config.discovery.refresh_interval * 11 / 10 + DEADLINE
        });
        can.register = true;
        can.lease = if config.health_checks.enabled {
            LeaseMode::Single
        } else {
            LeaseMode::None
        };
        can.update_meta = true;
        can.report_health = config.health_checks.enabled;
        can.runs_checks = true;
        can.list_services = true;
        can.watch_all = true;
        can.datacenters = true;
        can.namespaces = config.server.namespace.is_some();
        can.watch = if config.discovery.watch_services {
            WatchMode::Push
        } else {
            WatchMode::Poll
        };
        can
    }

    async fn register(&self, registration: &Registration) -> Result<Lease> {
        within("register", self.do_register(registration)).await
    }

    async fn renew(&self, group: &LeaseGroup, renewal: &Renewal) -> Result<()> {
        within("renew", async {
            self.reports()?;
            for (key, health) in &renewal.members {
                let id = key.id.as_str();
                if id != group.as_str() {
                    return Err(not_found(key));
                }
                // C-41: the agent goes on under the token of the registration.
                if self.signed.differs(id, self.reader.client.token()?.as_ref()) {
                    return Err(
                        error::error(ErrorKind::NotFound, "it was registered under another token")
                            .with_context("key", key.to_string())
                            .with_hint("register again"),
                    );
                }
                self.beat(id, health).await.inspect_err(|error| {
                    if error.kind() == ErrorKind::NotFound {
                        self.reader.agent.forget();
                    }
                })?;
                // A report that failed is made up for; maintenance that somebody else asked for is not undone.
                if self.asked(id).is_some_and(|asked| asked.draining) != health.draining {
                    self.drain(id, health).await?;
                }
            }
            Ok(())
        })
        .await
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
        within("report_health", async {
            if report.valid_for.is_none() {
                self.reports()?;
            }
            self.do_report_health(key, report).await
        })
        .await
    }

    async fn instance(&self, key: &InstanceKey) -> Result<Option<Instance>> {
        within("instance", self.do_instance(key)).await
    }

    async fn instances(&self, query: &Query) -> Result<Snapshot> {
        let read = async {
            self.reader.check_scope(&query.scope)?;
            let (instances, evidence) = self.reader.read(query).await?;
            Ok(Snapshot::live(query.target.clone(), instances).with_evidence(evidence))
        };
        read.await
            .map_err(|error: Error| error.with_operation("instances"))
    }

    async fn services(&self, scope: &Scope) -> Result<Vec<ServiceSummary>> {
        let read = async {
            self.reader.check_scope(scope)?;
            Ok(self.reader.services(scope).await?.0)
        };
        read.await
            .map_err(|error: Error| error.with_operation("services"))
    }

    async fn status(&self) -> Result<BackendStatus> {
        within("status", async {
            let client = &self.reader.client;
            let started = Instant::now();
            let call = client.scoped(Call::get("/v1/status/leader".to_owned()), None, None);
            let leader: String = client.send(&call).await?.ok()?.json("the leader's address")?;
            let mut status = BackendStatus::new(started.elapsed());
            if !leader.is_empty() {
                status = status.with_leader(leader);
            }
            let identity = self.reader.agent.identity(None).await.unwrap_or_default();
            if let Some(version) = identity.version {
                status = status
                    .with_version(version)
                    .with_detail("role", if identity.server { "server" } else { "client" });
            }
            if let Some(node) = identity.node {
                status = status.with_detail("node", &*node);
            }
            if let Some(dns) = identity.dns {
                status = status.with_detail("dns", dns);
            }
            if let Some(datacenter) = identity.datacenter {
                status = status.with_detail("datacenter", &*datacenter);
            }
            Ok(status)
        })
        .await
    }
}

impl ConsulRegistry {
    fn reports(&self) -> Result<()> {
        if self.reader.client.config().health_checks.enabled {
            return Ok(());
        }
        Err(
            error::error(ErrorKind::Unsupported, "registrations have no heartbeat")
                .with_hint("set `consul.health_checks.enabled`"),
        )
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
