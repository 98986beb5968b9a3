//! Which question finds a service, and who is asked it.

use std::{collections::BTreeMap, fs, io, sync::Arc};

use discovery_core::{ErrorKind, Result, config::TlsConfig};
use hickory_proto::rr::Name;

use crate::{
    client::Client,
    config::{DnsConfig, Transport, Zone, ZoneType, invalid, misnamed},
    error::error,
    name::{self, Pattern},
};

const CONSUL: &str = "consul";
const KUBERNETES: &str = "kubernetes";
/// Where a Consul agent answers DNS unless told otherwise.
const CONSUL_SERVER: &str = "127.0.0.1:8600";
const SYSTEM: &str = "/etc/resolv.conf";
/// Who is asked where that names nobody (resolv.conf(5)).
const LOCAL: &str = "127.0.0.1";

/// How one service may be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) form: Form,
    /// Whether the servers cut answers without saying so, and TCP is the way to a whole one (D-1).
    pub(crate) whole: bool,
    /// Records of names within this are taken from an answer's additional section (D-11).
    pub(crate) bailiwick: Name,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// SRV; addresses at this port where there is none.
    Srv(Name, Option<u16>),
    /// PTR, then SRV and TXT of each instance.
    Instances(Name),
    /// A and AAAA, at this port.
    Address(Name, u16),
}

/// The zones and servers that are configured.
#[derive(Debug)]
pub(crate) struct Routes {
    zones: Vec<(Name, Zone)>,
    search: Vec<Name>,
    ndots: usize,
    port: Option<u16>,
    patterns: Vec<(Pattern, Arc<Client>)>,
    pub(crate) default: Arc<Client>,
    /// Asked for zones of Consul where nothing else is said.
    consul: Option<Arc<Client>>,
}

impl Routes {
    /// Reads certificates, and the system's list of servers where it is asked for; sends nothing.
    pub(crate) fn new(config: &DnsConfig) -> Result<Self> {
        let client = |servers: &[String], transport, tls: &TlsConfig| {
            Client::new(servers, transport, tls, config.timeout).map(Arc::new)
        };
        let consul = || client(&[CONSUL_SERVER.to_owned()], Transport::Tcp, &TlsConfig::default());
        let zones = config.all_zones();
        let only_consul = config.servers.is_empty()
            && !zones.is_empty()
            && zones.iter().all(|zone| zone.kind == ZoneType::Consul);
        // Who is asked, Consul aside.
        let servers = || match &config.servers[..] {
            [] => client(&system()?, config.transport, &config.tls),
            servers => client(servers, config.transport, &config.tls),
        };
        let default = if only_consul { consul()? } else { servers()? };
        let mut named: BTreeMap<&str, Arc<Client>> = BTreeMap::new();
        for (name, resolver) in &config.resolvers {
            named.insert(
                name,
                client(&resolver.servers, resolver.transport, &resolver.tls)?,
            );
        }
        let mut patterns = Vec::new();
        for resolution in &config.resolution {
            let pattern =
                Pattern::new(&resolution.pattern).map_err(|error| misnamed("resolution.pattern", &error))?;
            let asked = match (
                named.get(resolution.resolver.as_str()),
                resolution.resolver.as_str(),
            ) {
                (Some(client), _) => client.clone(),
                (None, CONSUL) => consul()?,
                (None, KUBERNETES) if only_consul => servers()?,
                (None, KUBERNETES) => default.clone(),
                (None, other) => {
                    let known: Vec<_> = named.keys().copied().chain([CONSUL, KUBERNETES]).collect();
                    return Err(invalid("resolution.resolver", "there is no such resolver")
                        .with_context("resolver", format!("{other:?}"))
                        .with_hint(format!(
                            "list it under `resolvers`, or name one of: {}",
                            known.join(", ")
                        )));
                }
            };
            patterns.push((pattern, asked));
        }
        let needs_consul =
            config.servers.is_empty() && zones.iter().any(|zone| zone.kind == ZoneType::Consul);
        Ok(Self {
            consul: needs_consul.then(consul).transpose()?,
            zones: zones
                .into_iter()
                .map(|zone| Ok((name::absolute(&zone.name)?, zone)))
                .collect::<Result<_>>()?,
            search: config
                .search
                .iter()
                .map(|domain| name::absolute(domain))
                .collect::<Result<_>>()?,
            ndots: config.ndots,
            port: config.port,
            patterns,
            default,
        })
    }

    /// Who is asked for a name: whom the first pattern says, else the servers.
    pub(crate) fn client(&self, name: &Name) -> &Arc<Client> {
        if let Some((_, client)) = self
            .patterns
            .iter()
            .find(|(pattern, _)| name::fits(pattern, name))
        {
            return client;
        }
        match (&self.consul, self.zone_of(name)) {
            (Some(consul), Some((_, zone))) if zone.kind == ZoneType::Consul => consul,
            _ => &self.default,
        }
    }

    /// The zone a name lies in, the smallest of several.
    fn zone_of(&self, name: &Name) -> Option<&(Name, Zone)> {
        let zones = self.zones.iter().filter(|(zone, _)| zone.zone_of(name));
        zones.max_by_key(|(zone, _)| zone.num_labels())
    }

    /// The first zone that services of ours can be listed and registered in.
    pub(crate) fn own(&self) -> Option<&(Name, Zone)> {
        self.zones.iter().find(|(_, zone)| zone.kind == ZoneType::DnsSd)
    }

    /// The names of all zones.
    pub(crate) fn zones(&self) -> impl Iterator<Item = &(Name, Zone)> {
        self.zones.iter()
    }

    /// Where a service may be, most likely first. A name with `ndots` dots is a full name; nothing is ever put behind it (D-13).
    /// One with fewer is looked for in the search domains first, and one without any in the zones before those.
    pub(crate) fn places(&self, service: &str) -> Result<Vec<Place>> {
        let dots = service.matches('.').count();
        if service.ends_with('.') || dots >= self.ndots.max(1) {
            return Ok(vec![self.full(name::absolute(service)?)]);
        }
        let mut places = Vec::new();
        for (zone, settings) in self.zones.iter().filter(|_| dots == 0) {
            let form = in_zone(service, zone, settings, self.port)?;
            places.push(self.place(form, Some((zone, settings))));
        }
        for domain in &self.search {
            let labels = service.split('.').map(str::as_bytes).chain(domain.iter());
            places.push(self.full(name::from_labels(labels)?));
        }
        if dots > 0 {
            places.push(self.full(name::absolute(service)?));
        }
        if places.is_empty() {
            return Err(error(
                ErrorKind::InvalidInput,
                "a short name, and no zone to look for it in",
            )
            .with_context("name", format!("{service:?}"))
            .with_hint("give the full name, or configure `dns_discovery.zones`"));
        }
        Ok(places)
    }

    fn full(&self, name: Name) -> Place {
        let within = self.zone_of(&name).map(|(zone, settings)| (zone, settings));
        let port = within.and_then(|(_, zone)| zone.port).or(self.port);
        let form = match (within.map(|(_, zone)| zone.kind), port) {
            (Some(ZoneType::DnsSd), _) if name::first(&name).starts_with('_') => Form::Instances(name),
            (Some(ZoneType::Address), Some(port)) => Form::Address(name, port),
            (_, port) => Form::Srv(name, port),
        };
        self.place(form, within)
    }

    #[expect(clippy::unused_self, reason = "reads as what it is at its uses")]
    fn place(&self, form: Form, within: Option<(&Name, &Zone)>) -> Place {
        let (Form::Srv(name, _) | Form::Instances(name) | Form::Address(name, _)) = &form;
        let consuls = consuls(name);
        Place {
            whole: within.is_some_and(|(_, zone)| zone.kind == ZoneType::Consul) || consuls.is_some(),
            bailiwick: match within {
                Some((zone, _)) => zone.clone(),
                None => consuls.unwrap_or_else(|| parent(name)),
            },
            form,
        }
    }
}

/// The question for a short name in a zone.
fn in_zone(service: &str, zone: &Name, settings: &Zone, port: Option<u16>) -> Result<Form> {
    let service = name::label(service)?;
    let protocol = format!("_{}", settings.protocol);
    let below =
        |labels: &[&str]| name::from_labels(labels.iter().map(|label| label.as_bytes()).chain(zone.iter()));
    let typed = || below(&[&format!("_{service}"), &protocol]);
    let port = settings.port.or(port);
    Ok(match (settings.kind, port) {
        (ZoneType::Consul, _) => Form::Srv(below(&[service, "service"])?, None),
        (ZoneType::DnsSd, _) => Form::Instances(typed()?),
        (ZoneType::Address, Some(port)) => Form::Address(below(&[service])?, port),
        (ZoneType::Srv | ZoneType::Address, _) => Form::Srv(typed()?, None),
        (ZoneType::Kubernetes, port) => match (&settings.port_name, port) {
            (None, Some(port)) => Form::Address(below(&[service, &settings.namespace, "svc"])?, port),
            (port_name, _) => Form::Srv(
                below(&[
                    &format!("_{}", port_name.as_deref().unwrap_or(service)),
                    &protocol,
                    service,
                    &settings.namespace,
                    "svc",
                ])?,
                None,
            ),
        },
    })
}

/// What stands behind `service` or `query` in a name of Consul's, or the name itself where it ends in `consul`.
fn consuls(name: &Name) -> Option<Name> {
    let labels: Vec<_> = name.iter().collect();
    let is = |label: &[u8], word: &str| label.eq_ignore_ascii_case(word.as_bytes());
    let at = labels
        .iter()
        .rposition(|label| is(label, "service") || is(label, "query"));
    match (at, labels.last()) {
        (_, Some(last)) if is(last, CONSUL) => Some(name.trim_to(1)),
        (Some(at @ 1..), _) if at + 1 < labels.len() => Some(name.trim_to(labels.len() - at - 1)),
        _ => None,
    }
}

/// What a service's name is below: without its labels with `_`, or else without its first.
fn parent(name: &Name) -> Name {
    let marked = name
        .iter()
        .take_while(|label| label.first() == Some(&b'_'))
        .count();
    name.trim_to(usize::from(name.num_labels()).saturating_sub(marked.max(1)))
}

/// The servers this system asks.
pub(crate) fn system() -> Result<Vec<String>> {
    match fs::read(SYSTEM) {
        Ok(text) => listed(&text),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => listed(b""),
        Err(source) => Err(unreadable().with_source(source)),
    }
}

fn unreadable() -> discovery_core::Error {
    invalid("servers", &format!("none is given, and {SYSTEM} cannot be read"))
        .with_hint("give `ip:port` of a DNS server")
}

fn listed(text: &[u8]) -> Result<Vec<String>> {
    let config = resolv_conf::Config::parse(text).map_err(|source| unreadable().with_source(source))?;
    let servers: Vec<_> = config
        .nameservers
        .iter()
        .map(|server| std::net::IpAddr::from(server).to_string())
        .collect();
    Ok(if servers.is_empty() {
        vec![LOCAL.to_owned()]
    } else {
        servers
    })
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
