//! `health`, `health-update`, `health-list` and `health-summary`.

use std::{
    net::{IpAddr, UdpSocket},
    sync::Arc,
};

use discovery::{
    Client, Error, ErrorKind, HealthReport, Instance, Instances, Query, Result, ServiceHealth, ServiceName,
    Status, config::format_duration,
};

use crate::{
    args::{Global, HealthList, HealthSummary, HealthUpdate, Named},
    commands::{found, one, some, with},
    fault::Fault,
    show,
};

pub(super) async fn health(global: &Global, told: &Named) -> Result<(), Fault> {
    let query = Query::service(&told.name)?.include_unhealthy().with_checks();
    with(global, async |client| {
        let instances = some(client, &query, &told.name).await?;
        Ok(show::health(global.format, &instances)?)
    })
    .await
}

pub(super) async fn update(global: &Global, told: HealthUpdate) -> Result<(), Fault> {
    if !matches!(told.status, Status::Passing | Status::Warning | Status::Critical) {
        return Err(
            Error::new(ErrorKind::InvalidInput, "not a status that can be reported")
                .with_context("status", told.status.as_str())
                .with_hint("give passing, warning or critical")
                .into(),
        );
    }
    let report = HealthReport::new(told.status)
        .with_output(told.output)
        .with_valid_for(told.valid_for);
    with(global, async |client| {
        let host = match &told.service_id {
            Some(_) => None,
            None => Some(Host::of(client).await?),
        };
        let own = |instance: &Instance| host.as_ref().is_none_or(|host| host.owns(instance));
        let instance = one(client, &told.name, told.service_id.as_deref(), own).await?;
        let report = report.with_draining(instance.draining);
        client.registry().report_health(&instance.key, &report).await?;
        show::reported(global.format, told.status, &instance.key)?;
        if client.info().scheme == "consul" {
            show::note(&format!(
                "it counts for {}, then it is critical until the next report; other checks count as before",
                format_duration(told.valid_for)
            ))?;
        }
        Ok(())
    })
    .await
}

/// What tells the instances of this host from others.
enum Host {
    /// Everything is of this host.
    Whole,
    /// What the agent of this node holds.
    Node(String),
    /// What has an address of this host.
    Addresses,
}

impl Host {
    async fn of(client: &Client) -> Result<Self> {
        match client.info().scheme {
            "local" | "memory" => Ok(Self::Whole),
            "consul" => {
                let status = client.registry().status().await?;
                let mut details = status.details.into_iter();
                Ok(match details.find(|(name, _)| name == "node") {
                    Some((_, node)) => Self::Node(node),
                    None => Self::Addresses,
                })
            }
            _ => Ok(Self::Addresses),
        }
    }

    fn owns(&self, instance: &Instance) -> bool {
        match self {
            Self::Whole => true,
            Self::Node(node) => instance.key.node.as_deref() == Some(node),
            Self::Addresses => {
                let own = |ip: IpAddr| UdpSocket::bind((ip, 0)).is_ok();
                let name = rustix::system::uname();
                let named = *instance.host == *name.nodename().to_string_lossy();
                // Only an address of this host can be bound.
                instance
                    .host
                    .parse()
                    .map_or(named || &*instance.host == "localhost", own)
            }
        }
    }
}

pub(super) async fn list(global: &Global, told: &HealthList) -> Result<(), Fault> {
    let wanted: Box<dyn Fn(Status) -> bool> = match told.status.as_deref() {
        None => Box::new(|_| true),
        Some("failing") => Box::new(|status| !status.is_serving()),
        Some(text) => {
            let wanted: Status = text.parse().map_err(|error: Error| {
                error.with_hint("give passing, warning, critical, starting, unknown or failing")
            })?;
            Box::new(move |status| status == wanted)
        }
    };
    with(global, async |client| {
        let query = Query::all().include_unhealthy().with_checks();
        let instances = found(client, &query).await?;
        Ok(show::checks(global.format, &instances, wanted, true)?)
    })
    .await
}

pub(super) async fn summary(global: &Global, told: &HealthSummary) -> Result<(), Fault> {
    let query = match &told.service {
        Some(name) => Query::service(name)?,
        None => Query::all(),
    };
    with(global, async |client| {
        let query = query.include_unhealthy().with_checks();
        let instances: Instances = found(client, &query).await?.into_iter().map(Arc::new).collect();
        let mut names: Vec<ServiceName> = instances.iter().map(|one| one.key.service.clone()).collect();
        names.sort();
        names.dedup();
        if let (Some(name), true) = (&told.service, names.is_empty()) {
            names.push(ServiceName::new(name)?);
        }
        let of = |name: ServiceName| {
            let its = instances
                .iter()
                .filter(|one| one.key.service == name)
                .cloned()
                .collect();
            ServiceHealth::of(name, its)
        };
        let all: Vec<_> = names.into_iter().map(of).collect();
        Ok(show::summary(global.format, &all)?)
    })
    .await
}
