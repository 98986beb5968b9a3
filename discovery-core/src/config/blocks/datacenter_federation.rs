//! The `datacenter_federation:` block: datacenters and what spans them.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::{config::KnownBlock, pick::strategy_named};

/// The `datacenter_federation:` block: datacenters, and which services fail over or balance between them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, try_from = "Written")]
#[non_exhaustive]
pub struct DatacenterFederation {
    /// The datacenters, by name; one of them is the primary.
    pub datacenters: BTreeMap<String, Datacenter>,
    /// Services that are looked for in more than one of them.
    pub cross_dc_services: Vec<CrossDcService>,
    /// Networks within a datacenter; a client has no use for them.
    pub network_segments: Vec<NetworkSegment>,
}

impl DatacenterFederation {
    /// The block, for [`Loader::new`](crate::config::Loader::new).
    pub const BLOCK: KnownBlock = KnownBlock::of::<Self>("datacenter_federation");
}

/// The block before its names are known to fit.
#[derive(Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
struct Written {
    datacenters: BTreeMap<String, Datacenter>,
    cross_dc_services: Vec<CrossDcService>,
    network_segments: Vec<NetworkSegment>,
}

/// One datacenter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Datacenter {
    /// Whether writes go there.
    pub primary: bool,
    /// The Consul to ask there.
    pub consul_address: String,
    /// Where its servers speak to those of other datacenters; a client has no use for it.
    pub wan_address: Option<String>,
}

/// A service that is looked for in more than one datacenter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CrossDcService {
    /// The service.
    pub name: String,
    /// Datacenters in the order in which one steps in for another.
    #[serde(default)]
    pub failover: Vec<String>,
    /// How it is balanced between `datacenters`.
    #[serde(default)]
    pub load_balancing: Option<String>,
    /// Datacenters that serve at the same time.
    #[serde(default)]
    pub datacenters: Vec<String>,
}

/// A network within a datacenter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct NetworkSegment {
    /// Its name.
    pub name: String,
    /// The port of its gossip.
    pub port: u16,
    /// The address it listens on.
    pub bind: IpAddr,
    /// The address it tells others.
    pub advertise: IpAddr,
}

impl TryFrom<Written> for DatacenterFederation {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Written {
            datacenters,
            cross_dc_services,
            network_segments,
        } = written;
        let primaries: Vec<_> = datacenters
            .iter()
            .filter(|(_, one)| one.primary)
            .map(|(name, _)| &**name)
            .collect();
        if primaries.len() > 1 {
            return Err(format!(
                "several datacenters are primary: {}",
                primaries.join(", ")
            ));
        }
        for (name, datacenter) in &datacenters {
            if datacenter.consul_address.is_empty() {
                return Err(format!("the datacenter `{name}` has no `consul_address`"));
            }
        }
        for service in &cross_dc_services {
            let named = service.failover.iter().chain(&service.datacenters);
            for datacenter in named {
                if !datacenters.contains_key(datacenter) {
                    return Err(format!(
                        "the service `{}` names the datacenter `{datacenter}`, which is not in `datacenters`",
                        service.name
                    ));
                }
            }
            if let Some(strategy) = &service.load_balancing {
                strategy_named(strategy).map_err(|error| error.to_string())?;
            }
        }
        Ok(Self {
            datacenters,
            cross_dc_services,
            network_segments,
        })
    }
}
