//! Reads of instances: shared by look-ups, watches and whoever writes.

use std::{collections::BTreeMap, sync::Arc};

use discovery_core::{ErrorKind, Instance, Query, Result, Scope, ServiceName, ServiceSummary, Target};

use crate::{
    call::{LEASES, Resource, SERVICES, SLICES},
    client::Client,
    convert::Rules,
    error, feed,
    lease::Beats,
    merge::Merge,
    names::is_label,
    record::{APP_MANAGED_BY, MANAGER, SERVICE},
    wire,
};

/// The way to the cluster, and when each Lease was last seen to change; clones share both.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub(crate) client: Client,
    pub(crate) beats: Beats,
}

impl Reader {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            beats: Beats::default(),
        }
    }

    /// Refuses what this registry cannot be asked, before anything is sent.
    pub(crate) fn check(query: &Query) -> Result<()> {
        check_scope(&query.scope)?;
        match &query.target {
            Target::Service(name) => check_name(name),
            Target::All => Ok(()),
        }
    }

    /// The namespaces to look in; `None` for all.
    pub(crate) async fn namespaces(&self, scope: &Scope) -> Result<Vec<Option<String>>> {
        if let Some(namespace) = &scope.namespace {
            return Ok(vec![Some(namespace.to_string())]);
        }
        let named = &self.client.config().service_discovery.namespaces;
        match &named[..] {
            [] => Ok(vec![Some(self.client.own_namespace().await?.to_string())]),
            [all] if all == "*" => Ok(vec![None]),
            named => Ok(named.iter().cloned().map(Some).collect()),
        }
    }

    /// The namespace that registrations go to.
    pub(crate) async fn home(&self) -> Result<Arc<str>> {
        let config = self.client.config();
        let listed = config
            .service_discovery
            .namespaces
            .iter()
            .find(|name| *name != "*");
        match config.registration.namespace.as_ref().or(listed) {
            Some(namespace) => Ok(namespace.as_str().into()),
            None => self.client.own_namespace().await,
        }
    }

    pub(crate) fn merge(&self, query: &Query) -> Merge {
        let config = self.client.config();
        let rules = Rules::of(config, query.with_checks);
        Merge::new(rules, config.endpoints.enabled, self.beats.clone())
    }

    fn scope(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        labels: Vec<String>,
        fields: Option<String>,
    ) -> feed::Scope {
        let selectors = &self.client.config().service_discovery.selectors;
        let mut all: Vec<_> = selectors
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        all.extend(labels);
        feed::Scope {
            resource,
            namespace: namespace.map(str::to_owned),
            labels: (!all.is_empty()).then(|| all.join(",")),
            fields,
        }
    }

    pub(crate) fn slices(&self, namespace: Option<&str>, target: &Target) -> feed::Scope {
        self.scope(&SLICES, namespace, vec![of_service(target)], None)
    }

    pub(crate) fn services(&self, namespace: Option<&str>, target: &Target) -> feed::Scope {
        let fields = match target {
            Target::Service(name) => Some(format!("metadata.name={name}")),
            Target::All => None,
        };
        self.scope(&SERVICES, namespace, Vec::new(), fields)
    }

    pub(crate) fn leases(&self, namespace: Option<&str>, target: &Target) -> feed::Scope {
        let ours = format!("{APP_MANAGED_BY}={MANAGER}");
        self.scope(&LEASES, namespace, vec![of_service(target), ours], None)
    }

    /// What a query means, uncached.
    pub(crate) async fn read(&self, query: &Query) -> Result<Vec<Arc<Instance>>> {
        Self::check(query)?;
        let mut merge = self.merge(query);
        let (client, target) = (&self.client, &query.target);
        let namespaces = self.namespaces(&query.scope).await?;
        if client.config().endpoints.enabled {
            for namespace in &namespaces {
                let slices = self.slices(namespace.as_deref(), target);
                for slice in slices.list::<wire::EndpointSlice>(client).await?.0 {
                    merge.put_slice(&slice);
                }
            }
        }
        if query.target == Target::All || merge.wants_services() {
            for namespace in &namespaces {
                let services = self.services(namespace.as_deref(), target);
                for service in services.list::<wire::Service>(client).await?.0 {
                    merge.put_service(&service);
                }
            }
        }
        if merge.has_leased() {
            let mut all = Vec::new();
            for namespace in &namespaces {
                let leases = self.leases(namespace.as_deref(), target);
                all.extend(leases.list::<wire::Lease>(client).await?.0);
            }
            merge.all_leases(&all);
        }
        Ok(merge.shown())
    }

    /// The services that have instances, sorted by name.
    pub(crate) async fn summaries(&self, scope: &Scope) -> Result<Vec<ServiceSummary>> {
        let mut query = Query::all().include_unhealthy();
        query.scope = scope.clone();
        let mut found: BTreeMap<ServiceName, (Vec<String>, usize)> = BTreeMap::new();
        for instance in self.read(&query).await? {
            let (tags, count) = found.entry(instance.key.service.clone()).or_default();
            tags.extend(instance.tags.iter().cloned());
            *count += 1;
        }
        let summary = |(name, (tags, count))| ServiceSummary::new(name, tags, Some(count));
        Ok(found.into_iter().map(summary).collect())
    }
}

/// The label selector of slices and Leases.
fn of_service(target: &Target) -> String {
    match target {
        Target::Service(name) => format!("{SERVICE}={name}"),
        Target::All => SERVICE.to_owned(),
    }
}

fn check_scope(scope: &Scope) -> Result<()> {
    if scope.datacenter.is_some() {
        return Err(
            error::error(ErrorKind::Unsupported, "Kubernetes has no datacenters")
                .with_hint("ask without a datacenter; one client serves one cluster"),
        );
    }
    match &scope.namespace {
        Some(namespace) if !is_label(namespace) => Err(error::error(ErrorKind::InvalidInput, "no namespace")
            .with_context("namespace", format!("{namespace:?}"))
            .with_hint("give a name of lower-case letters, digits and `-`")),
        _ => Ok(()),
    }
}

/// A selector is text: what is no name must not get into it.
fn check_name(name: &ServiceName) -> Result<()> {
    if is_label(name.as_str()) {
        return Ok(());
    }
    Err(
        error::error(ErrorKind::InvalidInput, "no name of a Kubernetes Service")
            .with_context("service", format!("{:?}", name.as_str()))
            .with_hint("Services have names of lower-case letters, digits and `-`"),
    )
}
