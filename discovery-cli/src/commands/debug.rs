//! `debug`.

use std::time::Duration;

use discovery::{BackendInfo, Error, ErrorKind, LeaseMode, Query, Registration, Result, Status};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    args::{Debug, Global},
    commands::{some, with},
    fault::Fault,
    open, show,
};

/// How long a port may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn debug(global: &Global, told: Debug) -> Result<(), Fault> {
    match told {
        Debug::Register(named) => register(global, &named.name).await,
        Debug::HealthChecks { named, detailed } => {
            let query = Query::service(&named.name)?.include_unhealthy().with_checks();
            with(global, async |client| {
                let instances = some(client, &query, &named.name).await?;
                Ok(show::checks(global.format, &instances, |_| true, detailed)?)
            })
            .await
        }
        Debug::Dns { name, server } => dns(global, &name, server).await,
        Debug::Network { test_ports } => network(global, &test_ports).await,
    }
}

/// Every step of a registration, with its time, and nothing left at the end.
async fn register(global: &Global, name: &str) -> Result<(), Fault> {
    let id = format!("{name}-debug-{}", std::process::id());
    // An address kept for documentation (RFC 5737), critical: nobody connects to it.
    let registration = Registration::builder(name, "192.0.2.1", 9)
        .id(id)
        .tag("debug")
        .status(Status::Critical)
        .build()?;
    let step = |what: &'static str, text: &str, started: Instant| {
        show::step(global.format, what, text, started.elapsed())
    };
    with(global, async |client| {
        let registry = client.registry();
        let started = Instant::now();
        let lease = registry.register(&registration).await?;
        let lives = match lease.ttl {
            Some(ttl) => format!(
                "{}, lives for {} without heartbeat",
                lease.key,
                discovery::config::format_duration(ttl)
            ),
            None if client.info().scheme == "local" => {
                format!("{}, lives as long as this process", lease.key)
            }
            None => format!("{}, lives until it is deregistered", lease.key),
        };
        step("registered", &lives, started)?;
        let outcome = async {
            let started = Instant::now();
            let own = registry.instance(&lease.key).await?;
            let text = match &own {
                Some(own) => format!("the registry has it at {}, {}", own.address(), own.status),
                None => "the registry does not have it".to_owned(),
            };
            step("read", &text, started)?;
            let started = Instant::now();
            let query = Query::service(name)?.include_unhealthy();
            let found = registry.instances(&query).await?.instances;
            let seen = found.iter().any(|one| one.key.id == lease.key.id);
            let text = if seen {
                "found by the name of its service"
            } else {
                "not yet found by the name of its service"
            };
            step("found", text, started)?;
            Ok::<_, Fault>(())
        }
        .await;
        let started = Instant::now();
        registry.deregister(&lease.key).await?;
        if client.capabilities().lease == LeaseMode::Shared {
            registry.release(&lease.group).await?;
        }
        step("withdrawn", &lease.key.to_string(), started)?;
        outcome
    })
    .await
}

async fn dns(global: &Global, name: &str, server: Option<String>) -> Result<(), Fault> {
    #[cfg(feature = "dns")]
    {
        let servers = match server {
            Some(server) => vec![server],
            None => match agents(global).await? {
                Some(server) => vec![server],
                None => discovery::dns::system_servers()?,
            },
        };
        let patience = global.timeout.unwrap_or(PATIENCE);
        let records = discovery::dns::answers(&servers, name, patience).await?;
        show::note(&format!("asked {}", servers.join(", ")))?;
        if records.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "no SRV record and no address")
                .with_context("name", name)
                .with_hint("`find` shows what the registry has; is the name within the server's domain?")
                .into());
        }
        Ok(show::records(global.format, &records)?)
    }
    #[cfg(not(feature = "dns"))]
    {
        let _ = (global, name, server);
        Err(Error::new(ErrorKind::Unsupported, "built without feature `dns`")
            .with_hint("rebuild with `--features dns`")
            .into())
    }
}

/// Where the agent answers DNS, if the registry is Consul.
#[cfg(feature = "dns")]
async fn agents(global: &Global) -> Result<Option<String>, Fault> {
    if open::Chosen::by(global)?.backend != "consul" {
        return Ok(None);
    }
    with(global, async |client| {
        let status = client.registry().status().await?;
        let told = status.details.into_iter().find(|(name, _)| name == "dns");
        Ok(told.map(|(_, address)| {
            let host = hosts(client.info()).into_iter().next();
            match (address.rsplit_once(':'), host) {
                // It listens on every address: that of its API is one of them.
                (Some(("0.0.0.0" | "[::]", port)), Some((host, _))) => format!("{host}:{port}"),
                _ => address,
            }
        }))
    })
    .await
}

/// The hosts of a registry and their ports.
fn hosts(info: &BackendInfo) -> Vec<(String, Option<u16>)> {
    if matches!(info.scheme, "local" | "memory") || info.address.contains("unix:") {
        return Vec::new();
    }
    let one = |text: &str| {
        let secure = text.starts_with("https");
        let bare = text.rsplit("//").next().unwrap_or(text);
        let bare = bare.split('/').next().unwrap_or(bare).trim();
        let (host, port) = match bare.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') => (host, port.parse().ok()),
            _ => (bare, None),
        };
        let port = port.or(match (text.contains("//"), secure) {
            (false, _) => None,
            (true, true) => Some(443),
            (true, false) => Some(80),
        });
        (host.trim_matches(['[', ']']).to_owned(), port)
    };
    info.address.split(',').map(one).collect()
}

async fn network(global: &Global, ports: &[u16]) -> Result<(), Fault> {
    let client = open::client(global)?;
    if client.info().scheme == "k8s" {
        // Where a kubeconfig leads is known once it is used; whether anybody answers there is what is to be found out.
        let _ = client.registry().status().await;
    }
    let info = client.registry().info();
    client.shutdown(Duration::from_secs(1)).await?;
    let hosts = hosts(&info);
    if hosts.is_empty() {
        return Err(
            Error::new(ErrorKind::Unsupported, "this registry has no network address")
                .with_context("address", info.address)
                .with_backend(info.scheme)
                .into(),
        );
    }
    let mut targets = Vec::new();
    for (host, own) in hosts {
        let its = if ports.is_empty() {
            own.into_iter().collect()
        } else {
            ports.to_vec()
        };
        targets.extend(its.into_iter().map(|port| (host.clone(), port)));
    }
    let progress = show::progress(targets.len());
    let mut all = Vec::new();
    for (host, port) in targets {
        let started = Instant::now();
        let tried = timeout(PATIENCE, TcpStream::connect((host.as_str(), port))).await;
        let state = match tried {
            Ok(Ok(_)) => "open".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer in {PATIENCE:?}"),
        };
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host
        };
        all.push((format!("{host}:{port}"), state, started.elapsed()));
        progress.inc(1);
    }
    progress.finish_and_clear();
    show::ports(global.format, &all)?;
    let closed = all.iter().filter(|(_, state, _)| state != "open").count();
    if closed > 0 {
        let text = format!("{closed} of {} ports cannot be connected to", all.len());
        return Err(Error::new(ErrorKind::Unavailable, text)
            .with_hint("is the server running there, and nothing in between that drops connections?")
            .into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_in_whatever_a_backend_calls_its_address() {
        for (address, wanted) in [
            ("127.0.0.1:8500", vec![("127.0.0.1", Some(8500))]),
            (
                "http://a:2379,http://b:2380",
                vec![("a", Some(2379)), ("b", Some(2380))],
            ),
            ("https://[::1]:6443/", vec![("::1", Some(6443))]),
            ("https://cluster/path", vec![("cluster", Some(443))]),
            ("host", vec![("host", None)]),
        ] {
            let found = hosts(&BackendInfo::new("consul", address));
            let found: Vec<_> = found.iter().map(|(host, port)| (host.as_str(), *port)).collect();
            assert_eq!(found, wanted, "{address}");
        }
        assert!(hosts(&BackendInfo::new("local", "/run/x.db")).is_empty());
    }
}
