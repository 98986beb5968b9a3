//! `health`, `health-update`, `health-list` and `health-summary`.

use std::sync::Arc;

use discovery::{
    Error, ErrorKind, HealthReport, Instances, Query, Result, ServiceHealth, ServiceName, Status,
};

use crate::{
    args::{Global, HealthList, HealthSummary, HealthUpdate, Named},
    commands::{found, one, with},
    fault::Fault,
    show,
};

pub(super) async fn health(global: &Global, told: &Named) -> Result<(), Fault> {
    let query = Query::service(&told.name)?.include_unhealthy().with_checks();
    with(global, async |client| {
        let instances = found(client, &query).await?;
        if instances.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "the service has no instances")
                .with_context("service", &told.name)
                .with_hint("`list` shows the services there are")
                .into());
        }
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
    let report = HealthReport::new(told.status).with_output(told.output);
    with(global, async |client| {
        let instance = one(client, &told.one).await?;
        let report = report.with_draining(instance.draining);
        client.registry().report_health(&instance.key, &report).await?;
        Ok(show::done(global.format, told.status.as_str(), &instance.key)?)
    })
    .await
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
        let mut instances = found(client, &query).await?;
        instances.retain(|instance| wanted(instance.status));
        Ok(show::health(global.format, &instances)?)
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
