//! What the `dynamic_configuration:` block makes of a backend's configuration values.

use std::{sync::Arc, time::Duration};

use discovery_core::{
    Backend, Result,
    config::{ConsulKv, DynamicConfiguration},
};

use crate::{ClientBuilder, named::Named};

/// How often etcd is asked where it is not watched.
const POLL: Duration = Duration::from_secs(30);

/// Which part of the block a backend has to do with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Consul,
    Etcd,
    Kubernetes,
    None,
}

impl Part {
    /// That of a backend of this scheme.
    pub(crate) fn of(backend: &Backend) -> Self {
        match backend.registry.info().scheme {
            "consul" => Self::Consul,
            "etcd" => Self::Etcd,
            "k8s" => Self::Kubernetes,
            _ => Self::None,
        }
    }
}

/// Has the client's configuration values be what the block says, and answers what of it is not acted on.
///
/// # Errors
/// `ConfigInvalid` for a mapping that stands for no key.
pub(crate) fn apply(
    block: &DynamicConfiguration,
    mut builder: ClientBuilder,
) -> Result<(ClientBuilder, Vec<&'static str>)> {
    let part = Part::of(&builder.backend);
    let DynamicConfiguration {
        consul_kv,
        etcd_kv,
        kubernetes_configmap,
        ..
    } = block;
    // etcd and Kubernetes have their prefix and names from their own settings, see `connect`.
    if part == Part::Consul && consul_kv.enabled {
        let poll = consul_kv.polling.enabled.then_some(consul_kv.polling.interval);
        builder = named(builder, consul_kv, poll)?;
    } else if part == Part::Etcd && etcd_kv.enabled && !etcd_kv.watch {
        builder = named(builder, &ConsulKv::default(), Some(POLL))?;
    }
    let idle = [
        (
            consul_kv.enabled && part != Part::Consul,
            "dynamic_configuration.consul_kv (the backend is not Consul)",
        ),
        (
            consul_kv.enabled && part == Part::Consul && consul_kv.notifications.enabled,
            "dynamic_configuration.consul_kv.notifications",
        ),
        (
            etcd_kv.enabled && part != Part::Etcd,
            "dynamic_configuration.etcd_kv (the backend is not etcd)",
        ),
        (
            kubernetes_configmap.enabled && part != Part::Kubernetes,
            "dynamic_configuration.kubernetes_configmap (the backend is not Kubernetes)",
        ),
    ];
    let idle = idle.into_iter().filter_map(|(is, what)| is.then_some(what));
    Ok((builder, idle.collect()))
}

/// Puts names and polling in front of the values.
fn named(mut builder: ClientBuilder, kv: &ConsulKv, poll: Option<Duration>) -> Result<ClientBuilder> {
    if let Some(store) = builder.backend.config.take() {
        let named = Named::new(store, &kv.prefix, &kv.mappings, poll)?;
        builder.backend.config = Some(Arc::new(named));
    }
    if let Some(every) = poll {
        // It is silent between two questions.
        builder.values_idle = builder.values_idle.max(every * 2);
    }
    Ok(builder)
}
