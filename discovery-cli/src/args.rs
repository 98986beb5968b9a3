//! The words of the command line.

use std::{path::PathBuf, sync::LazyLock, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use discovery::{Status, config::parse_duration};

/// Register services, find them, watch them and look at their health, in whatever registry there is.
#[derive(Debug, Parser)]
#[command(
    name = "sysctl-discovery",
    bin_name = "sysctl discovery",
    version = VERSION.as_str(),
    propagate_version = false,
    disable_help_subcommand = true,
    max_term_width = 110,
    after_help = "Exit codes: 0 done; 64 wrong words or configuration; 65 not possible here; 66 not found; 67 conflict; \
        69 registry unavailable; 74 input or output failed; 75 in time, try again; 76 unreadable answer; 77 no right; \
        130 interrupted."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The version, and what is built in.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let backends = discovery::backends().join(", ");
    format!("{} (backends: {backends})", env!("CARGO_PKG_VERSION"))
});

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// The registry's kind, such as `consul`.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) backend: Option<String>,
    /// Its address; several with commas between them. Needs `--backend`.
    #[arg(long, global = true, value_name = "HOST:PORT", requires = "backend")]
    pub(crate) endpoint: Option<String>,
    /// A configuration file; later ones go before earlier ones. [default: ./discovery.yaml, then
    /// system-control/discovery.yaml in the user's configuration folder]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Vec<PathBuf>,
    /// How long one attempt to reach the registry may take.
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// How data is shown.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Say more of what is going on; twice for even more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// How data is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs; one object a line where data keeps coming.
    Json,
    /// For people and programs.
    Yaml,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register an instance of a service.
    Register(Register),
    /// Withdraw an instance, whoever registered it.
    Deregister(One),
    /// List the services.
    List,
    /// Find instances, of one service or of all.
    Find(Find),
    /// Show all of one instance.
    Describe(One),
    /// Show how well a service is.
    Health(Named),
    /// Watch the instances of a service.
    Watch(Watch),
    /// Report the health of an instance.
    HealthUpdate(HealthUpdate),
    /// List the instances whose health is as given.
    HealthList(HealthList),
    /// Count the healthy and the others, of one service or of all.
    HealthSummary(HealthSummary),
    /// Show how the registry is.
    Status(StatusArgs),
    /// Try whether the registry can be reached.
    TestConnection,
    /// Pick instances as a client would.
    Pick(Pick),
    /// Look closer when something does not work.
    #[command(subcommand)]
    Debug(Debug),
    /// Look at settings.
    #[command(subcommand)]
    Config(Config),
    /// Print what a shell needs to complete commands.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
    #[command(flatten)]
    Later(Later),
}

/// Commands of the specification that are not there yet.
#[derive(Debug, Subcommand)]
pub(crate) enum Later {
    #[command(hide = true)]
    HealthCheck(Rest),
    #[command(hide = true)]
    HealthHistory(Rest),
    #[command(hide = true)]
    Metrics(Rest),
    #[command(hide = true)]
    Report(Rest),
    #[command(hide = true)]
    Catalog(Rest),
    #[command(hide = true)]
    Acl(Rest),
    #[command(hide = true)]
    Analyze(Rest),
}

/// Whatever follows.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _rest: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Register {
    /// The service.
    pub(crate) name: String,
    /// The IP address or host name clients connect to.
    #[arg(long)]
    pub(crate) address: String,
    /// The port clients connect to.
    #[arg(long)]
    pub(crate) port: u16,
    /// The id of the instance. [default: NAME-ADDRESS-PORT]
    #[arg(long, visible_alias = "service-id")]
    pub(crate) id: Option<String>,
    /// Tags, with commas between them.
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    pub(crate) tags: Vec<String>,
    /// A pair of metadata; may be given more than once.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub(crate) meta: Vec<(String, String)>,
    /// A check: http://…, https://…, tcp://host:port or grpc://host:port[/service]; may be given more than once.
    #[arg(long, value_name = "URL")]
    pub(crate) health_check: Vec<String>,
    /// The time between two looks of each check.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s")]
    pub(crate) interval: Duration,
    /// Its weight beside other instances.
    #[arg(long, default_value_t = 1)]
    pub(crate) weight: u16,
    /// How long it outlives its last heartbeat. [default: until it is deregistered, where the registry can]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) ttl: Option<Duration>,
    /// Stay, keep it registered, and withdraw it at the end (Ctrl-C or SIGTERM).
    #[arg(long)]
    pub(crate) keep_alive: bool,
}

/// One instance.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// The service.
    pub(crate) name: String,
    /// The id of the instance; not needed where the service has one only.
    #[arg(long, value_name = "ID")]
    pub(crate) service_id: Option<String>,
}

/// One service.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The service.
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Find {
    /// The service; every service where it is left out.
    pub(crate) name: Option<String>,
    /// Only instances with this tag; may be given more than once.
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Vec<String>,
    /// Only instances that take new work.
    #[arg(long)]
    pub(crate) healthy_only: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The service.
    pub(crate) name: String,
    /// Go on with every change, one a line; without it, show what there is now.
    #[arg(long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HealthUpdate {
    #[command(flatten)]
    pub(crate) one: One,
    /// passing, warning or critical.
    #[arg(long)]
    pub(crate) status: Status,
    /// What to say about it.
    #[arg(long, default_value = "")]
    pub(crate) output: String,
}

#[derive(Debug, Args)]
pub(crate) struct HealthList {
    /// passing, warning, critical or failing (neither passing nor warning).
    #[arg(long)]
    pub(crate) status: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct HealthSummary {
    /// The service; every service where it is left out.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Add what the registry says of its parts, and what it can do.
    #[arg(long)]
    pub(crate) detailed: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Pick {
    /// The service.
    pub(crate) name: String,
    /// How to balance.
    #[arg(long)]
    pub(crate) strategy: Option<String>,
    /// How many picks.
    #[arg(short = 'n', long = "count", default_value_t = 1)]
    pub(crate) count: usize,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Debug {
    /// Register a service for a moment, step by step, and withdraw it.
    Register(Named),
    /// Show every check of a service and what it said last.
    HealthChecks {
        #[command(flatten)]
        named: Named,
        /// Show outputs whole.
        #[arg(long)]
        detailed: bool,
    },
    /// Try whether ports of the registry's host can be connected to.
    Network {
        /// The ports, with commas between them. [default: that of the registry]
        #[arg(long, value_delimiter = ',', value_name = "PORT,PORT")]
        test_ports: Vec<u16>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Every setting in force, and where it came from; secrets are masked.
    Explain,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| format!("{error}; give for example 500ms, 5s or 2m"))
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("give KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
