//! `pick`.

use discovery::{Query, Result, pick::strategy_named};

use crate::{
    args::{Global, Pick},
    commands::with,
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
