//! Reads of instances and how far they can be trusted: shared by look-ups and watches.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use discovery_core::{
    ErrorKind, Evidence, Instance, Query, Result, Scope, ServiceName, ServiceSummary, Suspicion, Target,
};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::timeout;
use tracing::warn;

use crate::{
    agent::Agent,
    client::{Answer, Call, Client, segment},
    convert::{self, Meta},
    decode::Decoder,
    error,
};

/// How many services are read at a time when all are.
const AT_ONCE: usize = 8;
/// How long reading all of them may take.
const ALL: Duration = Duration::from_secs(30);
/// How many scopes are remembered as seen whole.
const SCOPES: usize = 10_000;

/// The way to the registry, and what is known of it; clones share both.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pub(crate) client: Client,
    pub(crate) agent: Agent,
    /// The scopes that were once seen with nothing hidden: hiding something there is news.
    whole: Arc<Mutex<HashSet<String>>>,
}

impl Reader {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            agent: Agent::new(client.clone()),
            client,
            whole: Arc::default(),
        }
    }

    /// Refuses scopes that this server does not have, before anything is sent.
    pub(crate) fn check_scope(&self, scope: &Scope) -> Result<()> {
        if scope.namespace.is_some() && self.client.config().server.namespace.is_none() {
            return Err(
                error::error(ErrorKind::Unsupported, "namespaces need Consul Enterprise")
                    .with_hint("set `consul.server.namespace`, or ask without a namespace"),
            );
        }
        Ok(())
    }

    fn scoped(&self, call: Call, scope: &Scope) -> Call {
        let call = self
            .client
            .scoped(call, scope.datacenter.as_deref(), scope.namespace.as_deref());
        let call = self.client.consistency(call);
        let discovery = &self.client.config().discovery;
        discovery.node_meta.iter().fold(call, |call, (key, value)| {
            call.query("node-meta", format!("{key}:{value}"))
        })
    }

    /// The question for the instances of a service.
    pub(crate) fn service_call(&self, name: &ServiceName, scope: &Scope) -> Call {
        let discovery = &self.client.config().discovery;
        self.scoped(
            Call::get(format!("/v1/health/service/{}", segment(name.as_str()))),
            scope,
        )
        .query_opt("near", discovery.near.as_deref())
        .query_opt("filter", discovery.filter.as_deref())
    }

    /// The question for the names of all services.
    pub(crate) fn names_call(&self, scope: &Scope) -> Call {
        self.scoped(Call::get("/v1/catalog/services".to_owned()), scope)
    }

    /// The question for all checks, which moves whenever one does.
    pub(crate) fn checks_call(&self, scope: &Scope) -> Call {
        self.scoped(Call::get("/v1/health/state/any".to_owned()), scope)
    }

    /// Whether the server sorts the instances of a service.
    pub(crate) fn keeps_order(&self) -> bool {
        self.client.config().discovery.near.is_some()
    }

    /// The instances in an answer to [`Self::service_call`], and what speaks against them.
    pub(crate) async fn instances_in(
        &self,
        answer: &Answer,
        meta: &Meta,
        name: &ServiceName,
        scope: &Scope,
        decoder: &mut Decoder,
    ) -> Result<(Vec<Arc<Instance>>, Evidence)> {
        let instances = decoder.read(&answer.body, self.keeps_order())?;
        let scope = format!("{scope:?} {name}");
        let evidence = self.judge(meta, instances.is_empty(), &scope).await;
        Ok((instances, evidence))
    }

    /// How far an answer with these headers can be trusted; `scope` names what was asked for.
    pub(crate) async fn judge(&self, meta: &Meta, empty: bool, scope: &str) -> Evidence {
        let evidence = meta.evidence(self.client.config());
        if evidence != Evidence::Authoritative {
            return evidence;
        }
        if self.access_lost(meta.filtered, empty, scope) {
            return Evidence::Suspect(Suspicion::AccessLost);
        }
        // C-39: older servers hide without a word.
        if empty && !meta.filtered && self.agent.may_hide().await {
            return Evidence::Suspect(Suspicion::UnverifiedEmpty);
        }
        Evidence::Authoritative
    }

    /// Whether hidden results are news. A token that never saw all of a scope sees its part of it, and removals from
    /// that part are removals; hiding everything is never believed.
    fn access_lost(&self, filtered: bool, empty: bool, scope: &str) -> bool {
        let mut whole = self.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if !filtered {
            if whole.len() < SCOPES && !whole.contains(scope) {
                whole.insert(scope.to_owned());
            }
            return false;
        }
        let lost = empty || whole.contains(scope);
        if lost {
            warn!(scope, "the server hides results from this token");
        }
        lost
    }

    /// The instances of one service.
    pub(crate) async fn service(
        &self,
        name: &ServiceName,
        query: &Query,
    ) -> Result<(Vec<Arc<Instance>>, Evidence)> {
        let answer = self
            .client
            .send(&self.service_call(name, &query.scope))
            .await?
            .ok()?;
        let mut decoder = Decoder::new(query.with_checks);
        self.instances_in(
            &answer,
            &Meta::of(&answer.headers),
            name,
            &query.scope,
            &mut decoder,
        )
        .await
    }

    /// The services of a scope, and what speaks against the list.
    pub(crate) async fn services(&self, scope: &Scope) -> Result<(Vec<ServiceSummary>, Evidence)> {
        let answer = self.client.send(&self.names_call(scope)).await?.ok()?;
        let map: BTreeMap<String, Option<Vec<String>>> = answer
            .json::<Option<_>>("the names of services")?
            .unwrap_or_default();
        let meta = Meta::of(&answer.headers);
        let evidence = self.judge(&meta, map.is_empty(), &format!("{scope:?}")).await;
        Ok((convert::services(map), evidence))
    }

    /// The instances of every service: one read each, a few at a time, so not of one moment.
    pub(crate) async fn all(&self, query: &Query) -> Result<(Vec<Arc<Instance>>, Evidence)> {
        let read = async {
            let (services, evidence) = self.services(&query.scope).await?;
            let parts: Vec<_> = stream::iter(services)
                .map(|service| async move { self.service(&service.name, query).await })
                .buffered(AT_ONCE)
                .try_collect()
                .await?;
            let mut all = (Vec::new(), evidence);
            for (instances, evidence) in parts {
                // A service that went away between the two reads is not suspect for being empty.
                let harmless = evidence == Evidence::Suspect(Suspicion::UnverifiedEmpty);
                if all.1 == Evidence::Authoritative && !harmless {
                    all.1 = evidence;
                }
                all.0.extend(instances);
            }
            Ok(all)
        };
        timeout(ALL, read).await.unwrap_or_else(|_| Err(error::late(ALL)))
    }

    /// What a query means, uncached.
    pub(crate) async fn read(&self, query: &Query) -> Result<(Vec<Arc<Instance>>, Evidence)> {
        match &query.target {
            Target::Service(name) => self.service(name, query).await,
            Target::All => self.all(query).await,
        }
    }
}
