//! Values to instances and back; pure.

use discovery_core::{
    ErrorKind, HealthReport, Instance, InstanceKey, Locality, MetaChange, Registration, Result, Weight,
};
use serde_json::Value;

use crate::{
    config::Format,
    error,
    wire::{Grpc, Native, Rest},
};

/// What a key's value says: all of a record, and the form it is written in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    format: Format,
    address: String,
    port: u16,
    rest: Rest,
}

impl Record {
    pub(crate) fn of(registration: &Registration, format: Format) -> Self {
        let health = &registration.health;
        Self {
            format,
            address: registration.address.to_string(),
            port: registration.port,
            rest: Rest {
                tags: registration.tags.clone(),
                meta: registration.meta.clone(),
                ports: registration.ports.clone(),
                status: health.status,
                draining: health.draining,
                output: health.output.clone(),
                weight: registration.weight.0,
                ..Rest::default()
            },
        }
    }

    /// Reads a value in either form; nothing where it is neither.
    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        if let Ok(mut rest) = serde_json::from_slice::<Rest>(value)
            && let (Some(address), Some(port)) = (rest.address.take(), rest.port.take())
        {
            return Some(Self {
                format: Format::Native,
                address,
                port,
                rest,
            });
        }
        let grpc: Grpc = serde_json::from_slice(value).ok()?;
        let (address, port) = split_address(&grpc.addr)?;
        // `Op` 1 is a deletion, which nobody writes as a value.
        if grpc.op != 0 {
            return None;
        }
        Some(Self {
            format: Format::Grpc,
            address,
            port,
            rest: rest_of(grpc.metadata),
        })
    }

    /// The value to write.
    pub(crate) fn write(&self) -> Result<Vec<u8>> {
        let written = match self.format {
            Format::Native => serde_json::to_vec(&Native {
                address: &self.address,
                port: self.port,
                rest: &self.rest,
            }),
            Format::Grpc => serde_json::to_value(&self.rest).and_then(|rest| {
                serde_json::to_vec(&Grpc {
                    op: 0,
                    addr: join_address(&self.address, self.port),
                    metadata: Some(rest),
                })
            }),
        };
        written.map_err(|failed| {
            error::error(ErrorKind::Unexpected, "a registration cannot be written").with_source(failed)
        })
    }

    pub(crate) fn health(&self) -> HealthReport {
        let rest = &self.rest;
        HealthReport::new(rest.status)
            .with_draining(rest.draining)
            .with_output(rest.output.clone())
    }

    pub(crate) fn set_health(&mut self, health: &HealthReport) {
        let rest = &mut self.rest;
        rest.status = health.status;
        rest.draining = health.draining;
        rest.output.clone_from(&health.output);
    }

    pub(crate) fn change_meta(&mut self, change: &MetaChange) {
        change.apply(&mut self.rest.meta);
    }

    pub(crate) fn instance(self, key: InstanceKey) -> Instance {
        let rest = self.rest;
        let zone = rest.zone.map(Into::into);
        let mut instance = Instance::builder(key, self.address, self.port)
            .status(rest.status)
            .priority(rest.priority)
            .draining(rest.draining)
            .locality(Locality::new(None, zone, None))
            .build();
        // As they are: the builder's would be filled anew.
        (instance.tags, instance.meta, instance.ports) = (rest.tags, rest.meta, rest.ports);
        instance.weight = Weight(rest.weight);
        instance
    }
}

/// What `Metadata` says: what we wrote there ourselves, or the flat map or single value that others write.
fn rest_of(metadata: Option<Value>) -> Rest {
    let mut rest = Rest::default();
    match metadata {
        None | Some(Value::Null) => {}
        Some(Value::Object(map)) => {
            // `status` and `weight` are in all that we write; a flat map of texts cannot be read so.
            if map.contains_key("status")
                && map.contains_key("weight")
                && let Ok(ours) = serde_json::from_value(Value::Object(map.clone()))
            {
                return Rest {
                    address: None,
                    port: None,
                    ..ours
                };
            }
            rest.meta = map.into_iter().map(|(key, value)| (key, plain(value))).collect();
        }
        Some(single) => {
            rest.meta.insert("metadata".to_owned(), plain(single));
        }
    }
    rest
}

fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn split_address(addr: &str) -> Option<(String, u16)> {
    let (host, port) = addr.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    if host.is_empty() {
        return None;
    }
    Some((host.to_owned(), port.parse().ok()?))
}

fn join_address(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
