//! From a URI, a file or the environment to a client.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use discovery_core::{
    Backend, Error, ErrorKind, Result,
    config::{
        AclPolicies, ConnectIntentions, DatacenterFederation, DiscoveryMetrics, DynamicConfiguration, EnvVar,
        HealthCheckSets, HighAvailability, KnownBlock, Loader, ServiceDefinition, Setting, SidecarProxies,
        default_paths, duration, parse_uri,
    },
    memory::{MemoryConfig, MemoryStore},
    pick::{Balancing, strategy_named},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::warn;

use crate::{
    Client, ClientBuilder,
    definition::DEFINITION,
    dynamic,
    federation::{FailoverConfig, Plan},
    measured, sets,
};

/// The backends built in.
const BACKENDS: &[&str] = &[
    MEMORY,
    #[cfg(feature = "consul")]
    CONSUL,
    #[cfg(feature = "local")]
    LOCAL,
    #[cfg(feature = "etcd")]
    ETCD,
    #[cfg(feature = "dns")]
    DNS_BLOCK,
    #[cfg(feature = "eureka")]
    EUREKA,
    #[cfg(feature = "k8s")]
    KUBERNETES,
];
const MEMORY: &str = "memory";
pub(crate) const CONSUL: &str = "consul";
const LOCAL: &str = "local";
const ETCD: &str = "etcd";
const DNS: &str = "dns";
const DNS_BLOCK: &str = "dns_discovery";
const EUREKA: &str = "eureka";
const CHECKS: &str = "health_checks";
const METRICS: &str = "discovery_metrics";
const DYNAMIC: &str = "dynamic_configuration";
#[cfg(feature = "k8s")]
const KUBERNETES: &str = "kubernetes_discovery";

#[cfg(feature = "consul")]
const CONSUL_BLOCK: KnownBlock = discovery_consul::ConsulConfig::BLOCK;
#[cfg(not(feature = "consul"))]
const CONSUL_BLOCK: KnownBlock = KnownBlock::missing_feature(CONSUL, CONSUL);

#[cfg(feature = "local")]
const LOCAL_BLOCK: KnownBlock = discovery_local::LocalConfig::BLOCK;
#[cfg(not(feature = "local"))]
const LOCAL_BLOCK: KnownBlock = KnownBlock::missing_feature(LOCAL, LOCAL);

#[cfg(feature = "etcd")]
const ETCD_BLOCK: KnownBlock = discovery_etcd::EtcdConfig::BLOCK;
#[cfg(not(feature = "etcd"))]
const ETCD_BLOCK: KnownBlock = KnownBlock::missing_feature(ETCD, ETCD);

#[cfg(feature = "dns")]
const DNS_KNOWN: KnownBlock = discovery_dns::DnsConfig::BLOCK;
#[cfg(not(feature = "dns"))]
const DNS_KNOWN: KnownBlock = KnownBlock::missing_feature(DNS_BLOCK, DNS);

#[cfg(feature = "eureka")]
const EUREKA_BLOCK: KnownBlock = discovery_eureka::EurekaConfig::BLOCK;
#[cfg(not(feature = "eureka"))]
const EUREKA_BLOCK: KnownBlock = KnownBlock::missing_feature(EUREKA, EUREKA);

#[cfg(feature = "k8s")]
const KUBERNETES_BLOCK: KnownBlock = discovery_k8s::K8sConfig::BLOCK;
#[cfg(not(feature = "k8s"))]
const KUBERNETES_BLOCK: KnownBlock = KnownBlock::missing_feature("kubernetes_discovery", "k8s");

/// Every block a file may hold; one of a backend that is not built in names its feature.
const KNOWN: &[KnownBlock] = &[
    ClientConfig::BLOCK,
    HighAvailability::BLOCK,
    FailoverConfig::BLOCK,
    ServiceDefinition::BLOCK,
    HealthCheckSets::BLOCK,
    DatacenterFederation::BLOCK,
    ConnectIntentions::BLOCK,
    SidecarProxies::BLOCK,
    DynamicConfiguration::BLOCK,
    DiscoveryMetrics::BLOCK,
    AclPolicies::BLOCK,
    MemoryConfig::BLOCK,
    CONSUL_BLOCK,
    ETCD_BLOCK,
    LOCAL_BLOCK,
    DNS_KNOWN,
    EUREKA_BLOCK,
    KUBERNETES_BLOCK,
];

/// Blocks that are loaded and validated, but not acted on in this release.
const LATER: &[&str] = &["connect_intentions", "sidecar_proxies", "acl_policies"];

/// Environment variables that are ours but set no field.
const RESERVED: &[&str] = &[
    "DISCOVERY_URI",
    "DISCOVERY_LOG",
    "DISCOVERY_CACHE",
    "DISCOVERY_BIND",
    "DISCOVERY_CONSUL_NEW",
    "DISCOVERY_CONSUL_OLD",
    "DISCOVERY_ETCD_NEW",
    "DISCOVERY_ETCD_OLD",
    "DISCOVERY_EUREKA",
    "DISCOVERY_EUREKA_CLIENT",
    "DISCOVERY_KNOT",
    "DISCOVERY_KUBE_APISERVER",
    "DISCOVERY_PYTHON_EUREKA",
    "DISCOVERY_TEST_TIER",
    "DISCOVERY_TEST_REPORT",
];

/// The `client:` block: what a client of any backend does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ClientConfig {
    /// How long one attempt of a read, and the wait for a first view, may take.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub timeout: Duration,
    /// Refuse to answer from views that the registry last confirmed longer ago.
    #[serde(with = "duration::option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Duration>"))]
    pub max_stale: Option<Duration>,
    /// How long a watch goes on after its last user is gone.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub linger: Duration,
    /// Where last-good snapshots are kept.
    pub snapshot_dir: Option<PathBuf>,
    /// How services are balanced; goes before what `high_availability` says.
    pub load_balancing: Option<String>,
    /// Whether a client registers what its `service_definition:` declares as soon as it starts; goes before what the
    /// backend's block and `high_availability` say.
    pub auto_register: Option<bool>,
    /// What goes around every strategy.
    pub balancing: Balancing,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            max_stale: None,
            linger: Duration::from_secs(30),
            snapshot_dir: None,
            load_balancing: None,
            auto_register: None,
            balancing: Balancing::default(),
        }
    }
}

impl ClientConfig {
    /// The block, for [`Loader::new`].
    pub const BLOCK: KnownBlock = KnownBlock::of::<Self>("client").always().env(&[
        EnvVar::new("DISCOVERY_CLIENT_TIMEOUT", "timeout"),
        EnvVar::new("DISCOVERY_CLIENT_MAX_STALE", "max_stale"),
        EnvVar::new("DISCOVERY_CLIENT_LINGER", "linger"),
        EnvVar::new("DISCOVERY_CLIENT_SNAPSHOT_DIR", "snapshot_dir"),
        EnvVar::new("DISCOVERY_CLIENT_LOAD_BALANCING", "load_balancing"),
        EnvVar::new("DISCOVERY_CLIENT_AUTO_REGISTER", "auto_register"),
    ]);
}

impl Client {
    /// A client of the backend a URI names, such as `memory://`, configured further by the environment.
    ///
    /// `memory://` is a registry of its own; `memory://name` is shared by everybody in this process under that name.
    ///
    /// # Errors
    /// `ConfigInvalid` for a URI or variable that makes no sense, `Unsupported` for a backend this build lacks, naming its
    /// feature. No message repeats what might be a secret.
    pub fn from_uri(uri: &str) -> Result<Self> {
        builder_from_uri(uri)?.build()
    }

    /// A client as a YAML file says, the environment going before the file. Where the file asks for it, what its
    /// `service_definition:` declares is registered at once, in the background: [`declared`](Self::declared) waits for that.
    ///
    /// ```yaml
    /// memory:
    ///   name: "shared"
    /// client:
    ///   timeout: "2s"
    /// high_availability:
    ///   discovery:
    ///     load_balancing: "weighted_round_robin"
    /// ```
    ///
    /// # Errors
    /// `ConfigInvalid` with file, line, column and the offending line for whatever is wrong, `Unsupported` for a block whose
    /// backend this build lacks, naming its feature.
    pub fn from_config(path: impl AsRef<Path>) -> Result<Self> {
        builder_from_config(path)?.build()
    }

    /// A client as the environment says: the backend in `DISCOVERY_URI`, else in the first of `discovery.yaml` here and
    /// `system-control/discovery.yaml` in the user's configuration directory.
    ///
    /// # Errors
    /// As [`Self::from_uri`] and [`Self::from_config`]; `ConfigInvalid` when nothing names a backend.
    pub fn from_env() -> Result<Self> {
        builder_from_env()?.build()
    }
}

/// As [`Client::from_uri`], to be configured further.
///
/// # Errors
/// As [`Client::from_uri`].
pub fn builder_from_uri(uri: &str) -> Result<ClientBuilder> {
    let parsed = parse_uri(uri)?;
    let loaded = loader().env(env::vars_os())?.uri(&parsed)?;
    builder_from(&loaded, &parsed.scheme)
}

/// As [`Client::from_config`], to be configured further.
///
/// # Errors
/// As [`Client::from_config`].
pub fn builder_from_config(path: impl AsRef<Path>) -> Result<ClientBuilder> {
    builder_from_configs([path])
}

/// As [`builder_from_config`], from several files: a later one goes before an earlier one, key by key.
///
/// # Errors
/// As [`Client::from_config`].
pub fn builder_from_configs<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<ClientBuilder> {
    let paths: Vec<P> = paths.into_iter().collect();
    let files = paths.iter().try_fold(loader(), Loader::file)?;
    // The files decide: a variable such as CONSUL_HTTP_ADDR is often there for other programs.
    let mut named = named_backends(&files);
    let loaded = files.env(env::vars_os())?;
    if named.is_empty() {
        named = named_backends(&loaded);
    }
    let shown = || {
        let paths = paths.iter().map(|path| path.as_ref().display().to_string());
        paths.collect::<Vec<_>>().join(", ")
    };
    match named[..] {
        [backend] => builder_from(&loaded, backend),
        [] => Err(Error::new(ErrorKind::ConfigInvalid, "no backend is configured")
            .with_context("file", shown())
            .with_hint(format!("add a block for one of: {}", BACKENDS.join(", ")))),
        _ => Err(
            Error::new(ErrorKind::ConfigInvalid, "several backends are configured")
                .with_context("blocks", named.join(", "))
                .with_hint("keep one of them; `failover.sources` takes further ones as URIs"),
        ),
    }
}

/// As [`Client::from_env`], to be configured further.
///
/// # Errors
/// As [`Client::from_env`].
pub fn builder_from_env() -> Result<ClientBuilder> {
    match env::var("DISCOVERY_URI") {
        Ok(uri) if !uri.is_empty() => builder_from_uri(&uri),
        _ => match default_paths(|name| env::var_os(name))
            .into_iter()
            .find(|path| path.is_file())
        {
            Some(path) => builder_from_config(path),
            None => Err(Error::new(ErrorKind::ConfigInvalid, "nothing names a backend")
                .with_hint("set DISCOVERY_URI, for example to memory://, or write a discovery.yaml")),
        },
    }
}

/// A client of `backend` (a name such as `consul`, or an alias) as code says, over the environment and the defaults, to be
/// configured further.
///
/// `servers` are addresses with commas between them; where it is empty, the environment or the default says. `settings` are
/// pairs of a dotted path and a value, such as `client.timeout` and `"2s"`; a path that starts with a dot lies within the
/// backend's own block: `.authentication.token`.
///
/// # Errors
/// As [`Client::from_uri`].
pub fn builder_for<'a>(
    backend: &str,
    servers: &str,
    settings: impl IntoIterator<Item = (&'a str, Value)>,
) -> Result<ClientBuilder> {
    let (mut loader, block) = loader().env(env::vars_os())?.servers(backend, servers)?;
    for (path, value) in settings {
        loader = match path.strip_prefix('.') {
            Some(field) => loader.set(&format!("{block}.{field}"), value)?,
            None => loader.set(path, value)?,
        };
    }
    builder_from(&loader, block)
}

/// Every setting in force when this file is loaded, with where it came from; secrets are masked.
///
/// # Errors
/// As [`Client::from_config`].
pub fn explain(path: impl AsRef<Path>) -> Result<Vec<Setting>> {
    Ok(loaded([path])?.explain())
}

/// What these files say, a later one over an earlier one, and the environment over both.
///
/// # Errors
/// As [`Client::from_config`], except that no backend needs to be named.
pub fn loaded<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Loader> {
    let files = paths.into_iter().try_fold(loader(), Loader::file)?;
    files.env(env::vars_os())
}

/// The backends whose blocks `loaded` holds, of those built in. A `datacenter_federation:` without any is Consul's.
pub fn named_backends(loaded: &Loader) -> Vec<&'static str> {
    let blocks = loaded.blocks();
    let named: Vec<_> = blocks
        .iter()
        .copied()
        .filter(|block| BACKENDS.contains(block))
        .collect();
    if named.is_empty() && blocks.contains(&"datacenter_federation") {
        return vec![CONSUL];
    }
    named
}

/// The blocks of the backends built in: what [`builder_from`] takes as `backend`.
pub fn backends() -> &'static [&'static str] {
    BACKENDS
}

/// A loader that knows every block, for programs that put settings together in ways of their own.
pub fn loader() -> Loader {
    Loader::new(KNOWN).reserve(RESERVED)
}

/// A client of the backend whose block is `backend`, as `loaded` says: the one path from settings to a client, whatever way
/// they came.
///
/// # Errors
/// As [`Client::from_config`].
pub fn builder_from(loaded: &Loader, backend: &str) -> Result<ClientBuilder> {
    loaded.validate()?;
    let client: ClientConfig = loaded.block("client")?;
    let Plan {
        own,
        sources,
        mut later,
    } = Plan::of(loaded, backend)?;
    let mut builder = Client::builder(own).balancing(client.balancing);
    if let Some(sources) = sources {
        builder = builder.sources(sources);
    }
    #[cfg(feature = "dns")]
    if matches!(backend, DNS | DNS_BLOCK) {
        // SRV records say how they want to be balanced.
        builder.strategy = std::sync::Arc::new(discovery_dns::Rfc2782);
    }
    let blocks = loaded.blocks();
    later.append(&mut builder.backend.idle);
    let mut on_startup = None;
    if blocks.contains(&"high_availability") {
        let block: HighAvailability = loaded.block("high_availability")?;
        builder = builder.high_availability(&block)?;
        on_startup = Some(block.service_registration.register_on_startup);
    }
    if blocks.contains(&CHECKS) {
        let block: HealthCheckSets = loaded.block(CHECKS)?;
        later.extend(sets::idle(&block));
        builder = builder.health_checks(block);
    }
    if blocks.contains(&METRICS) {
        later.extend(measured::idle(&loaded.block(METRICS)?));
    }
    if blocks.contains(&DYNAMIC) {
        let idle;
        (builder, idle) = dynamic::apply(&loaded.block(DYNAMIC)?, builder)?;
        later.extend(idle);
    }
    let asked = startup(
        client.auto_register,
        builder.backend.defaults.auto_register,
        on_startup,
    );
    if blocks.contains(&DEFINITION) {
        let definition: ServiceDefinition = loaded.block(DEFINITION)?;
        later.extend(definition.connect.map(|_| "service_definition.connect"));
        builder.declared = Some(loaded.clone());
        builder.register_on_startup = asked == Some(true);
        if asked.is_none() {
            later.push("service_definition (nothing asks for it: set `client.auto_register`)");
        }
    } else if client.auto_register.or(builder.backend.defaults.auto_register) == Some(true) {
        later.push("auto_register (there is no `service_definition`)");
    }
    later.extend(LATER.iter().filter(|name| blocks.contains(name)));
    if !later.is_empty() {
        warn!("loaded, but not acted on in this release: {}", later.join(", "));
    }
    builder = builder.timeout(client.timeout).linger(client.linger);
    if let Some(max_stale) = client.max_stale {
        builder = builder.max_stale(max_stale);
    }
    if let Some(dir) = client.snapshot_dir {
        builder = builder.snapshot_dir(dir);
    }
    if let Some(name) = client.load_balancing {
        builder.strategy = strategy_named(&name)?;
    }
    Ok(builder)
}

/// Whether what is declared is registered at the start: as the client's block says, else where one of the others asks for
/// it and none is against it. Nothing where nobody says.
fn startup(client: Option<bool>, backend: Option<bool>, high_availability: Option<bool>) -> Option<bool> {
    match (backend, high_availability) {
        _ if client.is_some() => client,
        (Some(one), Some(other)) => Some(one && other),
        (one, other) => one.or(other),
    }
}

pub(crate) fn connect(loaded: &Loader, backend: &str) -> Result<Backend> {
    match backend {
        MEMORY => Ok(MemoryStore::with_config(loaded.block(MEMORY)?)?.backend()),
        #[cfg(feature = "consul")]
        CONSUL => discovery_consul::backend(loaded.block(CONSUL)?),
        #[cfg(feature = "local")]
        LOCAL => discovery_local::backend(loaded.block(LOCAL)?),
        #[cfg(feature = "etcd")]
        ETCD => {
            let mut config: discovery_etcd::EtcdConfig = loaded.block(ETCD)?;
            let kv = loaded.block::<DynamicConfiguration>(DYNAMIC)?.etcd_kv;
            if kv.enabled && !kv.prefix.is_empty() {
                config.config.prefix = kv.prefix;
            }
            discovery_etcd::backend(config)
        }
        #[cfg(feature = "dns")]
        DNS | DNS_BLOCK => discovery_dns::backend(loaded.block(DNS_BLOCK)?),
        #[cfg(feature = "eureka")]
        EUREKA => discovery_eureka::backend(loaded.block(EUREKA)?),
        #[cfg(feature = "k8s")]
        KUBERNETES | "k8s" | "kubernetes" => discovery_k8s::backend(kubernetes(loaded)?),
        other => Err(Error::new(ErrorKind::ConfigInvalid, "unknown backend")
            .with_context("backend", format!("{other:?}"))
            .with_hint(format!("use one of: {}", BACKENDS.join(", ")))),
    }
}

/// The settings of Kubernetes, with the ConfigMaps that `dynamic_configuration` names in the place of its own.
#[cfg(feature = "k8s")]
fn kubernetes(loaded: &Loader) -> Result<discovery_k8s::K8sConfig> {
    let mut config: discovery_k8s::K8sConfig = loaded.block(KUBERNETES)?;
    let maps = loaded
        .block::<DynamicConfiguration>(DYNAMIC)?
        .kubernetes_configmap;
    if maps.enabled {
        config.configmap.enabled = true;
        config.configmap.namespace = maps.namespace.or(config.configmap.namespace);
        if !maps.configmaps.is_empty() {
            let named = maps.configmaps.into_iter().map(|map| {
                let mut shown = discovery_k8s::ConfigMapKeys::whole(map.name);
                shown.keys = map.keys;
                shown
            });
            config.configmap.configmaps = named.collect();
        }
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::startup;

    #[test]
    fn one_must_ask_for_it_and_none_be_against_it() {
        let (yes, no) = (Some(true), Some(false));
        for (client, backend, high_availability, expected) in [
            (None, None, None, None),
            (None, yes, None, yes),
            (None, None, yes, yes),
            (None, yes, yes, yes),
            (None, no, yes, no),
            (None, yes, no, no),
            (yes, no, no, yes),
            (no, yes, yes, no),
        ] {
            assert_eq!(startup(client, backend, high_availability), expected);
        }
    }

    #[cfg(feature = "k8s")]
    #[test]
    fn config_maps_are_those_that_dynamic_configuration_names() {
        let own = "kubernetes_discovery: { configmap: { namespace: mine, configmaps: [{ name: a, keys: [b] }] } }\n";
        let specified = include_str!("../tests/specification/config-dynamic-config.yaml");
        let read = |text: &str| {
            let loaded = super::loader().yaml("discovery.yaml", text).unwrap();
            super::kubernetes(&loaded).unwrap().configmap
        };
        let maps = read(&format!("{own}{specified}"));
        assert_eq!(maps.namespace.as_deref(), Some("production"));
        let named: Vec<_> = maps
            .configmaps
            .iter()
            .map(|map| (&*map.name, map.keys.join(",")))
            .collect();
        let expected = [("api-config", "database_url,redis_url"), ("feature-flags", "*")];
        assert_eq!(named, expected.map(|(name, keys)| (name, keys.to_owned())));
        let maps = read(own);
        assert_eq!(
            (maps.namespace.as_deref(), &*maps.configmaps[0].name),
            (Some("mine"), "a")
        );
    }
}
