//! What the `datacenter_federation:` and `failover:` blocks say: the sources of a client, and where each service is looked for.

use std::{env, num::NonZeroUsize, time::Duration};

use discovery_core::{
    Backend, Error, ErrorKind, Result,
    config::{CrossDcService, DatacenterFederation, KnownBlock, Loader, duration, parse_uri},
    failover::FailoverPolicy,
    pick::strategy_named,
};
use serde::{Deserialize, Serialize};

use crate::{
    open::{CONSUL, connect, loader},
    sources::{Route, Sources},
};

const FEDERATION: &str = "datacenter_federation";
const FAILOVER: &str = "failover";

/// The `failover:` block: further sources, and when they step in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FailoverConfig {
    /// What the backend of this file is called as a source; its scheme unless set, and with `datacenter_federation` the
    /// name of the primary datacenter.
    pub name: Option<String>,
    /// Where services are looked for after it, one after the other.
    pub sources: Vec<FurtherSource>,
    /// With fewer healthy instances than this, a source gives way.
    pub min_healthy: NonZeroUsize,
    /// A source whose registry has not answered for so long gives way.
    #[serde(with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub max_outage: Duration,
    /// For how long a source must have been good again before it is used again.
    #[serde(with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub hold: Duration,
}

/// A further source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FurtherSource {
    /// What it is called.
    pub name: String,
    /// The backend, as for [`Client::from_uri`](crate::Client::from_uri).
    pub uri: String,
}

impl Default for FailoverConfig {
    fn default() -> Self {
        let policy = FailoverPolicy::default();
        Self {
            name: None,
            sources: Vec::new(),
            min_healthy: NonZeroUsize::MIN,
            max_outage: policy.max_outage,
            hold: policy.hold,
        }
    }
}

impl FailoverConfig {
    /// The block, for [`Loader::new`].
    pub const BLOCK: KnownBlock = KnownBlock::of::<Self>(FAILOVER);

    fn policy(&self) -> FailoverPolicy {
        FailoverPolicy::default()
            .min_healthy(self.min_healthy.get())
            .max_outage(self.max_outage)
            .hold(self.hold)
    }
}

/// What both blocks come to.
pub(crate) struct Plan {
    /// The client's own backend.
    pub(crate) own: Backend,
    /// The sources, where there are several.
    pub(crate) sources: Option<Sources>,
    /// What is not acted on.
    pub(crate) later: Vec<&'static str>,
}

impl Plan {
    /// Connects the client's own backend and the further sources.
    pub(crate) fn of(loaded: &Loader, backend: &str) -> Result<Self> {
        let blocks = loaded.blocks();
        let mut later = Vec::new();
        let mut federation = None;
        if blocks.contains(&FEDERATION) {
            let block: DatacenterFederation = loaded.block(FEDERATION)?;
            if backend == CONSUL && !block.datacenters.is_empty() {
                federation = Some(block);
            } else {
                // It is about Consul, and this client is of something else.
                later.push(FEDERATION);
            }
        }
        let told: Option<FailoverConfig> = blocks
            .contains(&FAILOVER)
            .then(|| loaded.block(FAILOVER))
            .transpose()?;
        let failover = told.clone().unwrap_or_default();
        let (own, sources) = if let Some(block) = &federation {
            later.extend(not_acted_on(block));
            let primary = primary(block)?;
            if failover.name.as_ref().is_some_and(|name| name != primary) {
                return Err(Error::new(
                    ErrorKind::ConfigInvalid,
                    "`failover.name` is not the name of the primary datacenter",
                )
                .with_context("primary", primary)
                .with_hint("leave it out"));
            }
            let (own, sources) = federated(loaded, block, primary)?;
            (own, Some(sources))
        } else {
            let own = connect(loaded, backend)?;
            let scheme = own.registry.info().scheme;
            let name = failover.name.as_deref().unwrap_or(scheme);
            (own, told.map(|_| Sources::new(name)))
        };
        let mut sources = sources.map(|sources| sources.policy(failover.policy()));
        for further in &failover.sources {
            let backend = connected(further)?;
            sources = sources.map(|sources| sources.then(&*further.name, backend));
        }
        if let Some(block) = &federation {
            let primary = primary(block)?;
            let after = |route: Route| {
                let names = failover.sources.iter();
                names.fold(route, |route, source| route.or([&source.name]))
            };
            for service in &block.cross_dc_services {
                let route = after(route(service, primary)?);
                sources = sources.map(|sources| sources.service(&service.name, route));
            }
            sources = sources.map(|sources| sources.others(after(Route::to([primary]))));
        }
        Ok(Self { own, sources, later })
    }
}

/// The primary datacenter and the others, each asked at its own address for what is its own.
fn federated(loaded: &Loader, block: &DatacenterFederation, primary: &str) -> Result<(Backend, Sources)> {
    let connected = |name: &str| -> Result<Backend> {
        let Some(datacenter) = block.datacenters.get(name) else {
            return Err(Error::new(ErrorKind::Unexpected, "no such datacenter"));
        };
        let at = loaded
            .clone()
            .set("consul.server.address", &*datacenter.consul_address)?
            .set("consul.server.datacenter", name)?;
        connect(&at, CONSUL).map_err(|error| error.with_context("datacenter", name))
    };
    let mut sources = Sources::new(primary);
    for name in block.datacenters.keys().filter(|name| *name != primary) {
        sources = sources.then(&**name, connected(name)?);
    }
    Ok((connected(primary)?, sources))
}

fn primary(block: &DatacenterFederation) -> Result<&str> {
    let mut datacenters = block.datacenters.iter();
    datacenters
        .find(|(_, datacenter)| datacenter.primary)
        .map(|(name, _)| &**name)
        .ok_or_else(|| {
            Error::new(
                ErrorKind::ConfigInvalid,
                "datacenter_federation: no datacenter is primary",
            )
            .with_hint("say `primary: true` of the one that programs register in")
        })
}

fn route(service: &CrossDcService, primary: &str) -> Result<Route> {
    let mut route = if service.datacenters.is_empty() {
        None
    } else {
        Some(Route::to(&service.datacenters))
    };
    let after = service.failover.iter();
    for name in after.filter(|name| !service.datacenters.contains(name)) {
        route = Some(match route {
            Some(route) => route.or([name]),
            None => Route::to([name]),
        });
    }
    let route = route.unwrap_or_else(|| Route::to([primary]));
    match &service.load_balancing {
        Some(strategy) => Ok(route.strategy(strategy_named(strategy)?)),
        None => Ok(route),
    }
}

fn not_acted_on(block: &DatacenterFederation) -> Vec<&'static str> {
    let wan = block.datacenters.values().any(|one| one.wan_address.is_some());
    let segments = !block.network_segments.is_empty();
    let wan = wan.then_some("datacenter_federation.datacenters.*.wan_address");
    let segments = segments.then_some("datacenter_federation.network_segments");
    wan.into_iter().chain(segments).collect()
}

fn connected(source: &FurtherSource) -> Result<Backend> {
    let connected = || {
        let uri = parse_uri(&source.uri)?;
        connect(&loader().env(env::vars_os())?.uri(&uri)?, &uri.scheme)
    };
    connected().map_err(|error| error.with_context("source", &source.name))
}
