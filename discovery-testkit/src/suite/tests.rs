//! The suite itself.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use discovery_core::{
    BackendInfo, BackendStatus, Capabilities, HealthReport, Instance, InstanceKey, Lease, LeaseGroup,
    MetaChange, Query, Registration, Renewal, Result, Scope, ServiceRegistry, ServiceSummary, Snapshot,
};

use super::*;

/// A registry that claims something else than it does.
#[derive(Debug)]
pub(super) struct Lying {
    pub(super) inner: Arc<dyn ServiceRegistry>,
    pub(super) can: Capabilities,
}

#[async_trait]
impl ServiceRegistry for Lying {
    fn info(&self) -> BackendInfo {
        self.inner.info()
    }
    fn capabilities(&self) -> Capabilities {
        self.can
    }
    async fn register(&self, registration: &Registration) -> Result<Lease> {
        self.inner.register(registration).await
    }
    async fn renew(&self, group: &LeaseGroup, renewal: &Renewal) -> Result<()> {
        self.inner.renew(group, renewal).await
    }
    async fn deregister(&self, key: &InstanceKey) -> Result<()> {
        self.inner.deregister(key).await
    }
    async fn release(&self, group: &LeaseGroup) -> Result<()> {
        self.inner.release(group).await
    }
    async fn update_meta(&self, key: &InstanceKey, change: &MetaChange) -> Result<()> {
        self.inner.update_meta(key, change).await
    }
    async fn report_health(&self, key: &InstanceKey, report: &HealthReport) -> Result<()> {
        self.inner.report_health(key, report).await
    }
    async fn instance(&self, key: &InstanceKey) -> Result<Option<Instance>> {
        self.inner.instance(key).await
    }
    async fn instances(&self, query: &Query) -> Result<Snapshot> {
        self.inner.instances(query).await
    }
    async fn services(&self, scope: &Scope) -> Result<Vec<ServiceSummary>> {
        self.inner.services(scope).await
    }
    async fn status(&self) -> Result<BackendStatus> {
        self.inner.status().await
    }
}

#[test]
fn no_two_cases_share_a_name_and_every_flag_can_be_proved() {
    let names: HashSet<_> = all().map(|case| (case.group, case.name)).collect();
    assert_eq!(names.len(), all().count());
    for flag in Flag::ALL {
        assert!(
            all().any(|case| case.proves.contains(&flag)),
            "nothing proves `{flag}`"
        );
    }
    for case in all() {
        for flag in case.proves {
            assert!(
                case.needs.contains(flag),
                "{case:?} proves `{flag}` without needing it"
            );
        }
    }
    for group in CLIENT_GROUPS {
        assert!(all().any(|case| case.group == group), "no case in `{group}`");
    }
}
