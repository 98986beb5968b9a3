//! The registry of the quickstart, and the consumer's own way to it, which can be cut.

use std::env;

use discovery::{Client, Error, ErrorKind, Result, builder_from_uri, config::parse_uri, memory::MemoryStore};
use discovery_testkit::{
    chaos::Chaos,
    proxy::{Close, Proxy},
};
use tokio::net::lookup_host;

/// Where the instances register.
pub(crate) enum Registry {
    /// In this process, no server.
    Embedded(MemoryStore),
    /// A server, named by `DISCOVERY_URI`.
    Server { uri: String, endpoint: String },
    /// What `DISCOVERY_URI` names without a server in it: a file, or a server that the environment knows.
    Named { uri: String },
}

impl Registry {
    /// The server that `DISCOVERY_URI` names, else the embedded registry.
    pub(crate) fn from_env() -> Result<Self> {
        let uri = env::var("DISCOVERY_URI").unwrap_or_default();
        if uri.is_empty() || uri.starts_with("memory:") {
            return Ok(Self::Embedded(MemoryStore::new()));
        }
        Ok(match &parse_uri(&uri)?.endpoints[..] {
            [] => Self::Named { uri },
            [endpoint] => Self::Server {
                endpoint: endpoint.to_string(),
                uri,
            },
            _ => {
                return Err(
                    Error::new(ErrorKind::ConfigInvalid, "the quickstart wants one server")
                        .with_hint("set DISCOVERY_URI to scheme://host:port"),
                );
            }
        })
    }

    /// A client by the direct way, as each instance has one.
    pub(crate) fn client(&self) -> Result<Client> {
        match self {
            Self::Embedded(store) => Client::builder(store.backend()).build(),
            Self::Server { uri, .. } | Self::Named { uri } => Client::from_uri(uri),
        }
    }

    /// A client by a way of its own, and the means to cut that way.
    pub(crate) async fn consumer(&self) -> Result<(Client, Way)> {
        match self {
            Self::Embedded(store) => {
                let (backend, chaos) = Chaos::wrap(store.backend());
                Ok((Client::builder(backend).build()?, Way::Chaos(chaos)))
            }
            Self::Named { uri } => {
                let mut switches = None;
                let builder = builder_from_uri(uri)?.map_backend(|backend| {
                    let (backend, chaos) = Chaos::wrap(backend);
                    switches = Some(chaos);
                    backend
                });
                let client = builder.build()?;
                let chaos = switches.ok_or_else(|| Error::new(ErrorKind::Unexpected, "no backend"))?;
                Ok((client, Way::Chaos(chaos)))
            }
            Self::Server { uri, endpoint } => {
                let unknown = || Error::new(ErrorKind::Unavailable, "the server's name does not resolve");
                let server = lookup_host(endpoint)
                    .await
                    .map_err(|error| unknown().with_source(error))?
                    .next();
                let proxy = Proxy::start(server.ok_or_else(unknown)?)?;
                let uri = uri.replacen(endpoint, &proxy.addr().to_string(), 1);
                Ok((Client::from_uri(&uri)?, Way::Proxy(proxy)))
            }
        }
    }
}

/// The consumer's way to the registry.
pub(crate) enum Way {
    Chaos(Chaos),
    Proxy(Proxy),
}

impl Way {
    /// Nothing passes any more, and what is open is cut.
    pub(crate) async fn cut(&self) {
        match self {
            Self::Chaos(chaos) => chaos.cut(ErrorKind::Unavailable),
            Self::Proxy(proxy) => {
                proxy.refuse();
                proxy.cut(Close::Reset).await;
            }
        }
    }

    /// Everything passes again.
    pub(crate) fn heal(&self) -> Result<()> {
        match self {
            Self::Chaos(chaos) => chaos.heal(),
            Self::Proxy(proxy) => proxy.heal()?,
        }
        Ok(())
    }
}
