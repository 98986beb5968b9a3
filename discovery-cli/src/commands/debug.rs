//! `debug`.

use std::time::Duration;

use discovery::{LeaseMode, Query, Registration, Result};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::{
    args::{Debug, Global},
    commands::{found, with},
    fault::Fault,
    show,
};

/// How long a port may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn debug(global: &Global, told: Debug) -> Result<(), Fault> {
    match told {
        Debug::Register(named) => register(global, &named.name).await,
        Debug::HealthChecks { named, detailed } => {
            let query = Query::service(&named.name)?.include_unhealthy().with_checks();
            with(global, async |client| {
                let instances = found(client, &query).await?;
                Ok(show::checks(global.format, &instances, detailed)?)
            })
            .await
        }
        Debug::Network { test_ports } => network(global, &test_ports).await,
    }
}

/// Every step of a registration, with its time, and nothing left at the end.
async fn register(global: &Global, name: &str) -> Result<(), Fault> {
    let id = format!("{name}-debug-{}", std::process::id());
    let registration = Registration::builder(name, "127.0.0.1", 9)
        .id(id)
        .tag("debug")
        .build()?;
    with(global, async |client| {
        let registry = client.registry();
        let started = Instant::now();
        let lease = registry.register(&registration).await?;
        show::step("registered", &lease.key.to_string(), started.elapsed())?;
        let outcome = async {
            let started = Instant::now();
            let own = registry.instance(&lease.key).await?;
            let text = if own.is_some() {
                "read back from the registry"
            } else {
                "not there when read back"
            };
            show::step("read", text, started.elapsed())?;
            let started = Instant::now();
            let query = Query::service(name)?.include_unhealthy();
            let found = registry.instances(&query).await?.instances;
            let seen = found.iter().any(|one| one.key.id == lease.key.id);
            let text = if seen {
                "found by its service"
            } else {
                "not yet found by its service"
            };
            show::step("found", text, started.elapsed())?;
            Ok::<_, Fault>(())
        }
        .await;
        let started = Instant::now();
        registry.deregister(&lease.key).await?;
        if client.capabilities().lease == LeaseMode::Shared {
            registry.release(&lease.group).await?;
        }
        show::step("withdrawn", &lease.key.to_string(), started.elapsed())?;
        outcome
    })
    .await
}

async fn network(global: &Global, ports: &[u16]) -> Result<(), Fault> {
    let address = with(global, async |client| Ok(client.info().address.clone())).await?;
    let bare = address.rsplit("//").next().unwrap_or(&address);
    let (host, own) = bare
        .split(',')
        .next()
        .unwrap_or(bare)
        .rsplit_once(':')
        .unwrap_or((bare, ""));
    let mut ports = ports.to_vec();
    if ports.is_empty() {
        ports.extend(own.trim_end_matches('/').parse::<u16>().ok());
    }
    let mut all = Vec::new();
    for port in ports {
        let started = Instant::now();
        let tried = timeout(
            PATIENCE,
            TcpStream::connect((host.trim_matches(['[', ']']), port)),
        )
        .await;
        let state = match tried {
            Ok(Ok(_)) => "open".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer in {PATIENCE:?}"),
        };
        all.push((format!("{host}:{port}"), state, started.elapsed()));
    }
    Ok(show::ports(global.format, &all)?)
}
