//! `register` and `deregister`.

use std::time::Duration;

use discovery::{
    Check, Client, Error, ErrorKind, Instance, InstanceKey, Registration, Result, Status,
    config::format_duration, health::check_for,
};
use tokio::time::timeout;

use crate::{
    args::{Global, One, Register},
    commands::{definition, one, with},
    ends::Ends,
    fault::Fault,
    open::Chosen,
    show,
};

/// How long withdrawing may take at the end.
const FAREWELL: Duration = Duration::from_secs(10);

pub(super) async fn register(global: &Global, told: Register) -> Result<(), Fault> {
    let mut registration = registration(&told)?;
    let mut chosen = Chosen::by(global)?;
    if told.keep_alive {
        return keep_alive(global, &chosen.client(|builder| builder)?, registration).await;
    }
    // Nobody is there to send heartbeats, and no process for it to end with.
    if chosen.backend == "local" {
        chosen = chosen.set("local.lifetime", "detached")?;
    } else if chosen.backend == "consul" && registration.ttl.is_none() {
        chosen = chosen.set("consul.health_checks.enabled", false)?;
    }
    let client = chosen.client(|builder| builder.deregister_on_shutdown(false))?;
    let seen = if client.capabilities().runs_checks {
        None
    } else {
        look(&mut registration).await?
    };
    let registered = client.register(registration).await?;
    let ttl = ttl(&client, registered.key()).await;
    show::registered(global.format, registered.key(), ttl)?;
    if let Some(seen) = seen {
        show::note(&format!(
            "this registry runs no checks: looked once ({seen}), and nobody looks again; `--keep-alive` and `agent` do"
        ))?;
    }
    if let Some(ttl) = ttl {
        show::note(&format!(
            "it lives for {} from now, as nobody renews it: keep it with `register --keep-alive` or `agent`",
            format_duration(ttl)
        ))?;
    }
    client.shutdown(FAREWELL).await?;
    Ok(())
}

async fn keep_alive(global: &Global, client: &Client, registration: Registration) -> Result<(), Fault> {
    let mut ends = Ends::listen()?;
    let registered = tokio::select! {
        registered = client.register(registration) => registered?,
        () = ends.asked() => {
            client.shutdown(FAREWELL).await?;
            return Err(Fault::Interrupted);
        }
    };
    let ttl = ttl(client, registered.key()).await;
    show::registered(global.format, registered.key(), ttl)?;
    show::note("kept alive until this program ends (Ctrl-C withdraws it)")?;
    ends.asked().await;
    client.shutdown(FAREWELL).await?;
    show::note("withdrawn")?;
    Ok(())
}

/// How long a registration of this client lives without heartbeats.
async fn ttl(client: &Client, key: &InstanceKey) -> Option<Duration> {
    let states = client.status().await.registrations;
    let own = states
        .iter()
        .find(|state| state.key.service == key.service && state.key.id == key.id);
    own.and_then(|state| state.ttl)
}

/// Runs the checks of a registration once, in the place of a registry that does not: the registration starts as they say,
/// and has none of them. Answers what they said, where there are any.
async fn look(registration: &mut Registration) -> Result<Option<String>> {
    let key = InstanceKey::new("cli", registration.service.clone(), registration.id.clone());
    let target = Instance::builder(key, registration.address.clone(), registration.port).build();
    let mut worst: Option<(Status, String)> = None;
    for check in std::mem::take(&mut registration.checks) {
        let probe = check_for(&check)?;
        let (status, said) = match timeout(check.timeout, probe.check(&target)).await {
            Ok(Ok(outcome)) => (outcome.status, outcome.output),
            Ok(Err(error)) => (Status::Unknown, error.to_string()),
            Err(_) => (
                Status::Critical,
                format!("no answer in {}", format_duration(check.timeout)),
            ),
        };
        if worst.as_ref().is_none_or(|(before, _)| *before < status) {
            worst = Some((status, said));
        }
    }
    let Some((status, said)) = worst else {
        return Ok(None);
    };
    registration.health.status = status;
    registration.health.output.clone_from(&said);
    Ok(Some(format!("{status}: {said}")))
}

pub(super) async fn deregister(global: &Global, told: &One) -> Result<(), Fault> {
    with(global, async |client| {
        let key = one(client, &told.name, told.service_id.as_deref(), |_| true)
            .await?
            .key;
        client.registry().deregister(&key).await?;
        Ok(show::done(global.format, "deregistered", &key)?)
    })
    .await
}

/// What the flags say, or the file.
fn registration(told: &Register) -> Result<Registration> {
    if let Some(file) = &told.file {
        let mut registration = definition::registration(file, &told.set)?;
        registration.ttl = told.ttl.or(registration.ttl);
        return Ok(registration);
    }
    // One of the two is always there.
    let name = told.name.as_deref().unwrap_or_default();
    let address = told.address.as_deref().unwrap_or_default();
    let mut builder = Registration::builder(name, address, told.port.unwrap_or_default())
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
        let name = match i {
            0 => check.name.clone(),
            i => format!("{}-{}", check.name, i + 1),
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
