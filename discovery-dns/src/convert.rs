//! Records into instances, and what we register into the strings of a TXT record. Pure.

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, SocketAddr},
};

#[cfg(any(test, feature = "update"))]
use discovery_core::{ErrorKind, Result};
use discovery_core::{Instance, InstanceId, InstanceKey, Locality, NamedPort, ServiceName, Status};
use serde::{Deserialize, Serialize};

use crate::error;
#[cfg(any(test, feature = "update"))]
use crate::error::error;

/// What the strings of ours start with that hold what a plain `key=value` cannot.
const OURS: &str = "sd-";
/// How much of it one string holds.
#[cfg(any(test, feature = "update"))]
const CHUNK: usize = 240;
/// The most a string of a TXT record holds.
#[cfg(any(test, feature = "update"))]
const STRING: usize = 255;
/// The most that all of them together may be: an update must fit into one message.
#[cfg(any(test, feature = "update"))]
const MOST: usize = 60_000;

/// A place to connect to, as records tell it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Host {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    /// The name it was found by, where that says something.
    pub(crate) target: Option<String>,
}

impl Host {
    fn place(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    fn instance(&self, service: &ServiceName, id: InstanceId) -> Instance {
        let key = InstanceKey::new(error::SCHEME, service.clone(), id);
        let node = self.target.as_deref().map(Into::into);
        Instance::builder(key, self.address.to_string(), self.port)
            .priority(self.priority)
            .weight(self.weight)
            .locality(Locality::new(None, None, node))
            .build()
    }
}

/// The instances at these hosts, each place once (D-12): the one of the lowest priority number. Sorted.
pub(crate) fn plain(service: &ServiceName, mut hosts: Vec<Host>) -> Vec<Instance> {
    hosts.sort_by(|a, b| (a.place(), a.priority, &a.target).cmp(&(b.place(), b.priority, &b.target)));
    hosts.dedup_by_key(|host| host.place());
    let id = |host: &Host| InstanceId::observed(host.place().to_string());
    hosts
        .iter()
        .map(|host| host.instance(service, id(host)))
        .collect()
}

/// The instances behind one label of DNS-SD: the first is called by the label, others by their place too.
pub(crate) fn labelled(
    service: &ServiceName,
    label: &str,
    mut hosts: Vec<Host>,
    content: &Content,
) -> Vec<Instance> {
    hosts.sort();
    hosts.dedup_by_key(|host| host.place());
    let one = |(n, host): (usize, &Host)| {
        let id = match n {
            0 => label.to_owned(),
            _ => format!("{label}@{}", host.place()),
        };
        let mut instance = host.instance(service, InstanceId::observed(id));
        content.put(&mut instance);
        instance
    };
    hosts.iter().enumerate().map(one).collect()
}

/// What the TXT record of an instance says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) meta: BTreeMap<String, String>,
    pub(crate) more: More,
}

/// What a plain `key=value` cannot say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct More {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) ports: Vec<NamedPort>,
    #[serde(skip_serializing_if = "Status::is_plain")]
    pub(crate) status: Status,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) draining: bool,
    /// The weight while it is well, where the SRV record shows another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) weight: Option<u16>,
    /// Metadata that is too long, or not in the letters of a key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    meta: BTreeMap<String, String>,
}

trait Plain {
    fn is_plain(&self) -> bool;
}

impl Plain for Status {
    fn is_plain(&self) -> bool {
        *self == Status::Passing
    }
}

impl Content {
    fn put(&self, instance: &mut Instance) {
        instance.meta.clone_from(&self.meta);
        instance.tags.clone_from(&self.more.tags);
        instance.ports.clone_from(&self.more.ports);
        instance.status = self.more.status;
        instance.draining = self.more.draining;
        if let Some(weight) = self.more.weight {
            instance.weight.0 = weight;
        }
    }

    /// Reads the strings of TXT records (RFC 6763 §6): keys in any case and the first of several, a key without a value is
    /// there and empty, values of any bytes.
    pub(crate) fn read<'a>(strings: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let (mut meta, mut seen) = (BTreeMap::new(), HashSet::new());
        let mut chunks: BTreeMap<usize, (String, String)> = BTreeMap::new();
        for string in strings {
            let split = string.iter().position(|b| *b == b'=').unwrap_or(string.len());
            let (key, value) = string.split_at(split);
            let key = String::from_utf8_lossy(key).into_owned();
            let value = String::from_utf8_lossy(value.get(1..).unwrap_or_default()).into_owned();
            if key.is_empty() || !seen.insert(key.to_ascii_lowercase()) {
                continue;
            }
            match key.strip_prefix(OURS).and_then(|n| n.parse().ok()) {
                Some(n) => drop(chunks.insert(n, (key, value))),
                None => drop(meta.insert(key, value)),
            }
        }
        let text: String = chunks.values().map(|(_, value)| value.as_str()).collect();
        let more = if let Ok(mut more) = serde_json::from_str::<More>(&text) {
            meta.append(&mut more.meta);
            more
        } else {
            // Somebody else's: shown as it is.
            meta.extend(chunks.into_values());
            More::default()
        };
        Self { meta, more }
    }
}

#[cfg(any(test, feature = "update"))]
impl Content {
    /// The strings that say it.
    ///
    /// # Errors
    /// `InvalidInput` when that is more than a message holds.
    pub(crate) fn strings(&self) -> Result<Vec<Vec<u8>>> {
        let (mut strings, mut seen) = (Vec::new(), HashSet::new());
        let mut more = self.more.clone();
        for (key, value) in &self.meta {
            let lower = key.to_ascii_lowercase();
            let plain = !key.is_empty()
                && key.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=')
                && !lower.starts_with(OURS)
                && key.len() + 1 + value.len() <= STRING
                && seen.insert(lower);
            if plain {
                strings.push(format!("{key}={value}").into_bytes());
            } else {
                more.meta.insert(key.clone(), value.clone());
            }
        }
        if more != More::default() {
            let text = serde_json::to_string(&more).map_err(|source| {
                error(ErrorKind::Unexpected, "the registration cannot be written").with_source(source)
            })?;
            for (n, chunk) in chunks(&text).into_iter().enumerate() {
                strings.push(format!("{OURS}{n}={chunk}").into_bytes());
            }
        }
        if strings.is_empty() {
            // An empty record is one string of nothing.
            strings.push(Vec::new());
        }
        let size: usize = strings.iter().map(|string| string.len() + 1).sum();
        if size > MOST {
            return Err(
                error(ErrorKind::InvalidInput, "more metadata than a TXT record holds")
                    .with_context("bytes", size.to_string())
                    .with_hint(format!("keep it under {MOST} bytes")),
            );
        }
        Ok(strings)
    }
}

#[cfg(any(test, feature = "update"))]
/// The text in pieces of whole characters.
fn chunks(text: &str) -> Vec<&str> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let within = |end: &usize| rest.is_char_boundary(*end);
        let end = (0..=CHUNK.min(rest.len()))
            .rev()
            .find(within)
            .unwrap_or(rest.len());
        let (piece, tail) = rest.split_at(end);
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
