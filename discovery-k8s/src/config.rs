//! The `kubernetes_discovery:` block.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use discovery_core::config::{KnownBlock, Secret, TlsConfig, UriForm, duration};
use serde::{Deserialize, Serialize};

use crate::error;

/// Settings of a Kubernetes backend: the `kubernetes_discovery:` block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct K8sConfig {
    /// Which cluster, and as whom.
    pub cluster_config: ClusterConfig,
    /// Where services are looked for.
    pub service_discovery: ServiceDiscovery,
    /// Which endpoints count.
    pub endpoints: Endpoints,
    /// The annotations of a Service that are understood.
    pub annotations: Annotations,
    /// The labels that are shown as metadata.
    pub labels: Labels,
    /// How instances that are no pods are registered.
    pub registration: RegistrationSettings,
    /// Where configuration values are kept.
    pub configmap: ConfigMaps,
}

/// Which cluster, and as whom. Without `server`: `kubeconfig`, else `KUBECONFIG`, else `~/.kube/config`, else the pod's own
/// service account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ClusterConfig {
    /// A kubeconfig file; `~/` is the home directory.
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; its current one where there is none.
    pub context: Option<String>,
    /// The folder of a service account, with `token`, `ca.crt` and `namespace`, all read again when they change; goes before any
    /// kubeconfig. Without `server`, `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT` say where the apiserver is.
    pub service_account: Option<PathBuf>,
    /// `host:port`, `https://…` or `http://…` of an apiserver, instead of a kubeconfig.
    pub server: Option<String>,
    /// With `server`: the bearer token itself.
    pub token: Option<Secret>,
    /// With `server`: the environment variable that holds the token.
    pub token_env: Option<String>,
    /// With `server`: the file that holds the token; read again when the server refuses it.
    pub token_file: Option<PathBuf>,
    /// With `server`: how the connection is secured.
    pub tls: TlsConfig,
}

/// Where services are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ServiceDiscovery {
    /// The namespaces; `*` for all of them, none for the one of the context or pod.
    pub namespaces: Vec<String>,
    /// Labels that services must carry. What is registered gets them.
    pub selectors: BTreeMap<String, String>,
    /// How long the server keeps a watch open without news; 50 s, from 1 s on. A tenth is drawn at random.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub watch_timeout: Duration,
}

impl Default for ServiceDiscovery {
    fn default() -> Self {
        Self {
            namespaces: Vec::new(),
            selectors: BTreeMap::new(),
            watch_timeout: Duration::from_secs(50),
        }
    }
}

/// Which address a pod of two families is reached at, and which slices count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum IpFamily {
    /// IPv4 where a pod has both.
    #[default]
    PreferIpv4,
    /// IPv6 where a pod has both.
    PreferIpv6,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
}

/// Which endpoints count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Endpoints {
    /// Whether endpoints are looked up; without, every Service is one instance at its cluster IP.
    pub enabled: bool,
    /// Whether only ready endpoints are healthy. When none is, those that still serve while terminating are.
    pub ready_only: bool,
    /// Whether endpoints that are not ready count as healthy with a warning; goes before `ready_only`.
    pub include_not_ready: bool,
    /// IPv4 or IPv6.
    pub ip_family: IpFamily,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self {
            enabled: true,
            ready_only: true,
            include_not_ready: false,
            ip_family: IpFamily::default(),
        }
    }
}

/// The annotations of a Service that are understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Annotations {
    /// The port clients connect to, by number or name; the first of the endpoint without.
    pub service_port: String,
    /// Shown as the metadata `health_path`.
    pub health_path: String,
    /// Shown as the metadata `metrics_path`.
    pub metrics_path: String,
}

impl Default for Annotations {
    fn default() -> Self {
        Self {
            service_port: "service.system-control.io/port".to_owned(),
            health_path: "service.system-control.io/health-path".to_owned(),
            metrics_path: "service.system-control.io/metrics-path".to_owned(),
        }
    }
}

/// The labels that are shown as metadata, under the names of these fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Labels {
    /// The application's name; a service is found under the name of its Service all the same.
    pub service_name: String,
    /// Its version.
    pub service_version: String,
    /// Where it is deployed.
    pub environment: String,
}

impl Default for Labels {
    fn default() -> Self {
        Self {
            service_name: "app.kubernetes.io/name".to_owned(),
            service_version: "app.kubernetes.io/version".to_owned(),
            environment: "app.kubernetes.io/environment".to_owned(),
        }
    }
}

/// How instances that are no pods are registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RegistrationSettings {
    /// The namespace; the first of `service_discovery.namespaces`, or the one of the context or pod, without.
    pub namespace: Option<String>,
    /// How long an instance outlives its last heartbeat, where it does not say itself; 30 s.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub ttl: Duration,
    /// Whether addresses that EndpointSlices refuse (loopback, link-local, names without a dot) may be registered: kept in
    /// an annotation that only this library reads. For tests and single machines.
    pub local_addresses: bool,
}

impl Default for RegistrationSettings {
    fn default() -> Self {
        Self {
            namespace: None,
            ttl: Duration::from_secs(30),
            local_addresses: false,
        }
    }
}

/// Where configuration values are kept. With one ConfigMap its keys are the keys; with several, `name/key` is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ConfigMaps {
    /// Whether there is a configuration store.
    pub enabled: bool,
    /// The namespace; the one of the context or pod without.
    pub namespace: Option<String>,
    /// The ConfigMaps; one is created when it is first written to.
    pub configmaps: Vec<ConfigMapKeys>,
}

impl Default for ConfigMaps {
    fn default() -> Self {
        Self {
            enabled: true,
            namespace: None,
            configmaps: vec![ConfigMapKeys::whole("system-control-config")],
        }
    }
}

/// A ConfigMap and which of its keys count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ConfigMapKeys {
    /// Its name.
    pub name: String,
    /// The keys; `*` for all.
    pub keys: Vec<String>,
}

impl ConfigMapKeys {
    /// All keys of the ConfigMap of this name.
    pub fn whole(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            keys: vec!["*".to_owned()],
        }
    }

    /// Whether this key counts.
    pub(crate) fn shows(&self, key: &str) -> bool {
        self.keys.iter().any(|shown| shown == "*" || shown == key)
    }
}

impl K8sConfig {
    /// The block, for [`Loader::new`](discovery_core::config::Loader::new).
    pub const BLOCK: KnownBlock = KnownBlock::of::<Self>("kubernetes_discovery").uri(UriForm {
        schemes: &[error::SCHEME, "kubernetes"],
        endpoints: Some("cluster_config.server"),
        path: None,
        params: &[
            ("kubeconfig", "cluster_config.kubeconfig"),
            ("context", "cluster_config.context"),
            ("service_account", "cluster_config.service_account"),
            ("namespace", "service_discovery.namespaces"),
            ("namespaces", "service_discovery.namespaces"),
            ("tls", "cluster_config.tls.enabled"),
            ("ca_file", "cluster_config.tls.ca_file"),
            ("cert_file", "cluster_config.tls.cert_file"),
            ("key_file", "cluster_config.tls.key_file"),
            ("server_name", "cluster_config.tls.server_name"),
            ("token_env", "cluster_config.token_env"),
            ("token_file", "cluster_config.token_file"),
            ("local_addresses", "registration.local_addresses"),
        ],
    });

    /// The settings for an apiserver at this address.
    pub fn at(server: impl Into<String>) -> Self {
        let mut config = Self::default();
        config.cluster_config.server = Some(server.into());
        config
    }

    /// The same settings with this token, instead of any other source of one.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.cluster_config.token = Some(Secret::from(token.into()));
        self.cluster_config.token_env = None;
        self.cluster_config.token_file = None;
        self
    }

    /// The same settings trusting the authorities in this PEM file.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.cluster_config.tls.ca_file = Some(path.into());
        self
    }

    /// The same settings in this namespace; `*` for all.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.service_discovery.namespaces = vec![namespace.into()];
        self
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
