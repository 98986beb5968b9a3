//! What each command does.

mod debug;
mod find;
mod health;
mod pick;
mod register;
mod settings;
mod status;
mod watch;

use clap::CommandFactory as _;
use discovery::{Client, Error, ErrorKind, Instance, Query, Result};

use crate::{
    args::{Cli, Command, Later, One},
    fault::Fault,
    open, show,
};

pub(crate) async fn run(cli: Cli) -> Result<(), Fault> {
    let global = &cli.global;
    match cli.command {
        Command::Register(told) => register::register(global, told).await,
        Command::Deregister(one) => register::deregister(global, &one).await,
        Command::List => find::list(global).await,
        Command::Find(told) => find::find(global, &told).await,
        Command::Describe(one) => find::describe(global, &one).await,
        Command::Health(named) => health::health(global, &named).await,
        Command::Watch(told) => watch::watch(global, &told).await,
        Command::HealthUpdate(told) => health::update(global, told).await,
        Command::HealthList(told) => health::list(global, &told).await,
        Command::HealthSummary(told) => health::summary(global, &told).await,
        Command::Status(told) => status::status(global, &told).await,
        Command::TestConnection => status::test_connection(global).await,
        Command::Pick(told) => pick::pick(global, &told).await,
        Command::Debug(told) => debug::debug(global, told).await,
        Command::Config(told) => settings::settings(global, &told),
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "sysctl-discovery",
                &mut std::io::stdout(),
            );
            Ok(())
        }
        Command::Man => Ok(clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout())?),
        Command::Later(later) => Err(Fault::Later(match later {
            Later::HealthCheck(_) => "health-check",
            Later::HealthHistory(_) => "health-history",
            Later::Metrics(_) => "metrics",
            Later::Report(_) => "report",
            Later::Catalog(_) => "catalog",
            Later::Acl(_) => "acl",
            Later::Analyze(_) => "analyze",
        })),
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

/// The one instance that is meant: by its id, or the only one there is.
async fn one(client: &Client, one: &One) -> Result<Instance, Fault> {
    let query = Query::service(&one.name)?.include_unhealthy().with_checks();
    let mut all = found(client, &query).await?;
    if let Some(id) = &one.service_id {
        all.retain(|instance| instance.key.id.as_str() == id);
    }
    match all.len() {
        1 => Ok(all.remove(0)),
        0 => Err(Error::new(ErrorKind::NotFound, "no such instance")
            .with_context("service", &one.name)
            .with_context("id", one.service_id.clone().unwrap_or_else(|| "any".to_owned()))
            .with_hint("`find` and `list` show what there is")
            .into()),
        many => {
            let keys: Vec<_> = all.iter().map(|instance| instance.key.to_string()).collect();
            Err(Fault::Ambiguous(format!(
                "{} has {many} instances that could be meant: {}",
                one.name,
                keys.join(", ")
            )))
        }
    }
}

/// Opens a client, for a command that asks and ends.
async fn with<T>(
    global: &crate::args::Global,
    ask: impl AsyncFnOnce(&Client) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let client = open::client(global)?;
    let asked = ask(&client).await;
    // Whatever a one-shot command did stays as it is.
    let _ = client.shutdown(std::time::Duration::from_secs(1)).await;
    asked
}
