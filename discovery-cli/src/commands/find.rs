//! `list`, `find` and `describe`.

use discovery::{Query, Result, Scope};

use crate::{
    args::{Find, Global, One},
    commands::{found, one, with},
    fault::Fault,
    show,
};

pub(super) async fn list(global: &Global) -> Result<(), Fault> {
    with(global, async |client| {
        let services = client.registry().services(&Scope::default()).await?;
        Ok(show::services(global.format, &services)?)
    })
    .await
}

pub(super) async fn find(global: &Global, told: &Find) -> Result<(), Fault> {
    let mut query = match &told.name {
        Some(name) => Query::service(name)?,
        None => Query::all(),
    };
    if !told.healthy_only {
        query = query.include_unhealthy();
    }
    for tag in &told.tag {
        query = query.tag(tag);
    }
    with(global, async |client| {
        let instances = found(client, &query).await?;
        Ok(show::instances(global.format, &instances)?)
    })
    .await
}

pub(super) async fn describe(global: &Global, told: &One) -> Result<(), Fault> {
    with(global, async |client| {
        let instance = one(client, &told.name, told.service_id.as_deref(), |_| true).await?;
        Ok(show::instance(global.format, &instance)?)
    })
    .await
}
