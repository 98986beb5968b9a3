//! `pick` and `explain`.

use discovery::{Query, Result, pick::strategy_named};

use crate::{
    args::{Explain, Global, Pick},
    commands::{some, with},
    fault::Fault,
    show,
};

pub(super) async fn pick(global: &Global, told: &Pick) -> Result<(), Fault> {
    let query = Query::service(&told.name)?;
    with(global, async |client| {
        let service = match &told.strategy {
            Some(name) => client.balanced(&query, &strategy_named(name)?)?,
            None => client.query(&query)?,
        };
        service.ready().await?;
        let mut picked = Vec::new();
        for _ in 0..told.count {
            picked.push((**service.acquire()?.instance()).clone());
        }
        Ok(show::picks(global.format, &picked)?)
    })
    .await
}

pub(super) async fn explain(global: &Global, told: &Explain) -> Result<(), Fault> {
    with(global, async |client| {
        some(
            client,
            &Query::service(&told.name)?.include_unhealthy(),
            &told.name,
        )
        .await?;
        let mut all = client.explain(&told.name).await?;
        all.sort_by(|a, b| a.instance.key.cmp(&b.instance.key));
        Ok(show::explained(global.format, &all)?)
    })
    .await
}
