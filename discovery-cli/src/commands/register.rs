//! `register` and `deregister`.

use std::time::Duration;

use discovery::{Check, Error, ErrorKind, LeaseMode, Registration, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    args::{Format, Global, One, Register},
    commands::{one, with},
    fault::Fault,
    open::Chosen,
    show,
};

/// How long withdrawing may take at the end.
const FAREWELL: Duration = Duration::from_secs(10);

pub(super) async fn register(global: &Global, told: Register) -> Result<(), Fault> {
    let registration = registration(&told)?;
    let mut chosen = Chosen::by(global)?;
    let lasting = !told.keep_alive && told.ttl.is_none();
    if lasting && chosen.backend == "consul" {
        // Nobody is there to send heartbeats.
        chosen.loaded = chosen.loaded.set("consul.health_checks.enabled", false)?;
    }
    let client = chosen
        .builder()?
        .deregister_on_shutdown(told.keep_alive)
        .build()?;
    let registered = client.register(registration).await?;
    show::done(global.format, "registered", registered.key())?;
    if told.keep_alive {
        show::note("kept alive until this program ends (Ctrl-C withdraws it)")?;
        let mut term = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = term.recv() => {}
            result = tokio::signal::ctrl_c() => result?,
        }
        client.shutdown(FAREWELL).await?;
        show::note("withdrawn")?;
        return Ok(());
    }
    let state = client.status().await.registrations.into_iter().next();
    if let Some(ttl) = state.and_then(|state| state.ttl)
        && client.capabilities().lease != LeaseMode::None
        && global.format == Format::Table
    {
        show::note(&format!(
            "it lives for {ttl:?} from now: keep it with `register --keep-alive` or `agent`"
        ))?;
    }
    client.shutdown(FAREWELL).await?;
    Ok(())
}

pub(super) async fn deregister(global: &Global, told: &One) -> Result<(), Fault> {
    with(global, async |client| {
        let key = one(client, told).await?.key;
        client.registry().deregister(&key).await?;
        Ok(show::done(global.format, "deregistered", &key)?)
    })
    .await
}

fn registration(told: &Register) -> Result<Registration> {
    let mut builder = Registration::builder(&told.name, &told.address, told.port)
        .tags(told.tags.iter().filter(|tag| !tag.is_empty()))
        .weight(told.weight);
    if let Some(id) = &told.id {
        builder = builder.id(id);
    }
    for (key, value) in &told.meta {
        builder = builder.meta(key, value);
    }
    if let Some(ttl) = told.ttl {
        builder = builder.ttl(ttl);
    }
    for (i, url) in told.health_check.iter().enumerate() {
        let check = check(url)?.every(told.interval);
        // Names tell checks apart.
        let name = if i == 0 {
            check.name.clone()
        } else {
            format!("{}-{}", check.name, i + 1)
        };
        builder = builder.check(check.named(name));
    }
    builder.build()
}

fn check(url: &str) -> Result<Check> {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    match scheme {
        "http" | "https" => Ok(Check::http(url)),
        "tcp" => Ok(Check::tcp(rest)),
        "grpc" => Ok(Check::grpc(rest, false)),
        "grpcs" => Ok(Check::grpc(rest, true)),
        _ => Err(Error::new(ErrorKind::InvalidInput, "not a health check")
            .with_context("health_check", format!("{url:?}"))
            .with_hint("give http://…, https://…, tcp://host:port or grpc://host:port")),
    }
}
