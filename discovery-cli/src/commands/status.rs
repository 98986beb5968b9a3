//! `status` and `test-connection`.

use discovery::Result;

use crate::{
    args::{Global, StatusArgs},
    commands::with,
    fault::Fault,
    show,
};

pub(super) async fn status(global: &Global, told: &StatusArgs) -> Result<(), Fault> {
    with(global, async |client| {
        let status = client.registry().status().await?;
        let can = told.detailed.then(|| client.capabilities());
        Ok(show::status(
            global.format,
            &client.registry().info(),
            &status,
            can.as_ref(),
        )?)
    })
    .await
}

pub(super) async fn test_connection(global: &Global) -> Result<(), Fault> {
    with(global, async |client| {
        let status = client.registry().status().await?;
        Ok(show::status(
            global.format,
            &client.registry().info(),
            &status,
            None,
        )?)
    })
    .await
}
