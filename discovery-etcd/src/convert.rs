//! Values to instances and back; pure.

use std::collections::BTreeMap;

use discovery_core::{
    ErrorKind, HealthReport, Instance, InstanceKey, Locality, MetaChange, Registration, Result, Status,
    Weight,
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
    native: Native,
}

impl Record {
    pub(crate) fn of(registration: &Registration, format: Format) -> Self {
        let health = &registration.health;
        Self {
            format,
            native: Native {
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
                    priority: 0,
                    zone: None,
                },
            },
        }
    }

    /// Reads a value in either form; nothing where it is neither.
    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        if let Ok(native) = serde_json::from_slice::<Native>(value) {
            return Some(Self {
                format: Format::Native,
                native,
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
            native: Native {
                address,
                port,
                rest: rest_of(grpc.metadata),
            },
        })
    }

    /// The value to write.
    pub(crate) fn write(&self) -> Result<Vec<u8>> {
        let written = match self.format {
            Format::Native => serde_json::to_vec(&self.native),
            Format::Grpc => serde_json::to_value(&self.native.rest).and_then(|rest| {
                serde_json::to_vec(&Grpc {
                    op: 0,
                    addr: join_address(&self.native.address, self.native.port),
                    metadata: Some(rest),
                })
            }),
        };
        written.map_err(|failed| {
            error::error(ErrorKind::Unexpected, "a registration cannot be written").with_source(failed)
        })
    }

    pub(crate) fn health(&self) -> HealthReport {
        let rest = &self.native.rest;
        HealthReport::new(rest.status)
            .with_draining(rest.draining)
            .with_output(rest.output.clone())
    }

    pub(crate) fn set_health(&mut self, health: &HealthReport) {
        let rest = &mut self.native.rest;
        rest.status = health.status;
        rest.draining = health.draining;
        rest.output.clone_from(&health.output);
    }

    pub(crate) fn change_meta(&mut self, change: &MetaChange) {
        change.apply(&mut self.native.rest.meta);
    }

    pub(crate) fn instance(self, key: InstanceKey) -> Instance {
        let rest = self.native.rest;
        let zone = rest.zone.map(Into::into);
        let mut instance = Instance::builder(key, self.native.address, self.native.port)
            .tags(rest.tags)
            .meta(rest.meta)
            .status(rest.status)
            .priority(rest.priority)
            .draining(rest.draining)
            .locality(Locality::new(None, zone, None))
            .build();
        instance.ports = rest.ports;
        instance.weight = Weight(rest.weight);
        instance
    }
}

/// What `Metadata` says: what we wrote there ourselves, or the flat map or single value that others write.
fn rest_of(metadata: Option<Value>) -> Rest {
    let mut rest = Rest {
        tags: Vec::new(),
        meta: BTreeMap::new(),
        ports: Vec::new(),
        status: Status::Passing,
        draining: false,
        output: String::new(),
        weight: 1,
        priority: 0,
        zone: None,
    };
    match metadata {
        None | Some(Value::Null) => {}
        Some(Value::Object(map)) => {
            // `status` and `weight` are in all that we write; a flat map of texts cannot be read so.
            if map.contains_key("status")
                && map.contains_key("weight")
                && let Ok(ours) = serde_json::from_value(Value::Object(map.clone()))
            {
                return ours;
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
