//! What each command does.

mod debug;
mod definition;
mod find;
mod health;
mod pick;
mod register;
mod status;
mod values;
mod watch;

use std::{io::Write as _, time::Duration};

use clap::CommandFactory as _;
use discovery::{Client, Error, ErrorKind, Instance, Query, Result};

pub(crate) use self::definition::registration;
use crate::{
    agent,
    args::{Cli, Command, Config, Global},
    fault::Fault,
    open, reference, show,
};

pub(crate) async fn run(cli: Cli) -> Result<(), Fault> {
    let global = &cli.global;
    match cli.command {
        Command::Register(told) => register::register(global, told.0).await,
        Command::Deregister(one) => register::deregister(global, &one).await,
        Command::List => find::list(global).await,
        Command::Find(told) => find::find(global, &told).await,
        Command::Describe(one) => find::describe(global, &one).await,
        Command::Health(named) => health::health(global, &named).await,
        Command::Watch(told) => watch::watch(global, &told).await,
        Command::HealthUpdate(told) => health::update(global, told.0).await,
        Command::HealthList(told) => health::list(global, &told).await,
        Command::HealthSummary(told) => health::summary(global, &told).await,
        Command::Status(told) => status::status(global, &told).await,
        Command::TestConnection => status::test_connection(global).await,
        Command::Pick(told) => pick::pick(global, &told).await,
        Command::Explain(told) => pick::explain(global, &told).await,
        Command::Agent(told) => agent::agent(global, told.0).await,
        Command::Debug(told) => debug::debug(global, told.0).await,
        Command::Config(told) => values::values(global, told.0).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "sysctl-discovery", &mut script);
            Ok(std::io::stdout().write_all(&script)?)
        }
        Command::Man { command } => {
            let mut page = Vec::new();
            clap_mangen::Man::new(reference::command(command.as_deref())?).render(&mut page)?;
            Ok(std::io::stdout().write_all(&page)?)
        }
        Command::Reference => Ok(std::io::stdout().write_all(reference::page().as_bytes())?),
        Command::Later(later) => Err(Fault::Later(later.name())),
    }
}

/// Whether a command goes on until somebody ends it, and knows how to end.
pub(crate) fn stays(command: &Command) -> bool {
    match command {
        Command::Register(told) => told.keep_alive,
        Command::Watch(told) => told.follow,
        Command::Config(told) => matches!(told.0, Config::Watch { follow: true, .. }),
        Command::Agent(_) => true,
        _ => false,
    }
}

/// The instances that a query finds, by service and id, asked for once; what speaks against them is said.
async fn found(client: &Client, query: &Query) -> Result<Vec<Instance>, Fault> {
    let snapshot = client.lookup(query).await?;
    if let Some(suspicion) = snapshot.evidence.suspicion() {
        show::note(&format!("the registry's answer is not certain: {suspicion}"))?;
    }
    let mut all: Vec<Instance> = snapshot.instances.iter().map(|one| (**one).clone()).collect();
    all.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(all)
}

/// The instances of a service that has some.
async fn some(client: &Client, query: &Query, name: &str) -> Result<Vec<Instance>, Fault> {
    let instances = found(client, query).await?;
    if instances.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "the service has no instances")
            .with_context("service", name)
            .with_hint("`list` shows the services there are")
            .into());
    }
    Ok(instances)
}

/// The one instance that is meant: by its id, or the only one there is of those that `may` be.
async fn one(
    client: &Client,
    name: &str,
    id: Option<&str>,
    may: impl Fn(&Instance) -> bool,
) -> Result<Instance, Fault> {
    let query = Query::service(name)?.include_unhealthy().with_checks();
    let mut all = found(client, &query).await?;
    let there = all.len();
    match id {
        Some(id) => all.retain(|instance| instance.key.id.as_str() == id),
        None => all.retain(may),
    }
    match all.len() {
        1 => Ok(all.remove(0)),
        0 if id.is_none() && there > 0 => Err(Fault::Ambiguous(format!(
            "none of the instances of {name} is of this host"
        ))),
        0 => Err(Error::new(ErrorKind::NotFound, "no such instance")
            .with_context("service", name)
            .with_context("id", id.unwrap_or("any"))
            .with_hint("`find` and `list` show what there is")
            .into()),
        several => {
            let keys: Vec<_> = all.iter().map(|instance| instance.key.to_string()).collect();
            Err(Fault::Ambiguous(format!(
                "{name} has {several} instances that could be meant: {}",
                keys.join(", ")
            )))
        }
    }
}

/// Opens a client, for a command that asks and ends.
async fn with<T>(global: &Global, ask: impl AsyncFnOnce(&Client) -> Result<T, Fault>) -> Result<T, Fault> {
    let client = open::client(global)?;
    let asked = ask(&client).await;
    // Whatever a one-shot command did stays as it is.
    let _ = client.shutdown(Duration::from_secs(1)).await;
    asked
}
