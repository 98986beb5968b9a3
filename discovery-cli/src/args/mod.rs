//! The words of the command line.

mod commands;

use std::{ffi::OsString, path::PathBuf, sync::LazyLock, time::Duration};

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use discovery::config::parse_duration;

pub(crate) use self::commands::*;

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
        69 registry unavailable; 70 a bug; 74 input or output failed; 75 in time, try again; 76 unreadable answer; \
        77 no right; 130 interrupted."
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
    /// The registry's kind, such as `consul`. [default: what `DISCOVERY_URI` or the configuration names, else `local`]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) backend: Option<String>,
    /// Its address; several with commas between them. Needs `--backend`.
    #[arg(long, global = true, value_name = "HOST:PORT", requires = "backend")]
    pub(crate) endpoint: Option<String>,
    /// A configuration file; may be given more than once, later ones go before earlier ones. [default: ./discovery.yaml,
    /// then system-control/discovery.yaml in the user's configuration folder]
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
    ///
    /// On Consul the report is a check of its own, `<id>:reported`: it hides no other check, and counts for --valid-for. On
    /// other registries it is the status of the instance until the next report.
    HealthUpdate(HealthUpdate),
    /// List health checks, of every service, as the registry knows them.
    HealthList(HealthList),
    /// Count the healthy instances and the others, of one service or of all.
    HealthSummary(HealthSummary),
    /// Show how the registry is.
    Status(StatusArgs),
    /// Try whether the registry can be reached.
    TestConnection,
    /// Pick instances as a client would.
    Pick(Pick),
    /// Say of each instance of a service whether a client would pick it, and if not, why.
    Explain(Explain),
    /// Hold registrations, serve them over DNS, and show metrics, until it is told to end.
    ///
    /// SIGHUP reads the files again: what is new is registered, what is gone withdrawn, what is the same left alone; with a
    /// mistake in any of them everything stays as it is. SIGTERM and Ctrl-C withdraw what is held.
    Agent(Agent),
    /// Look closer when something does not work.
    #[command(subcommand)]
    Debug(Debug),
    /// Read and write the configuration values that the registry keeps, and explain our own settings.
    #[command(subcommand)]
    Config(Config),
    /// Print what a shell needs to complete commands.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, of all or of one command.
    Man {
        /// The command.
        command: Option<String>,
    },
    /// Print the reference of the commands, as it is in `docs/reference/cli.md`.
    #[command(hide = true)]
    Reference,
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

impl Later {
    const NAMES: [&str; 7] = [
        "health-check",
        "health-history",
        "metrics",
        "report",
        "catalog",
        "acl",
        "analyze",
    ];

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::HealthCheck(_) => "health-check",
            Self::HealthHistory(_) => "health-history",
            Self::Metrics(_) => "metrics",
            Self::Report(_) => "report",
            Self::Catalog(_) => "catalog",
            Self::Acl(_) => "acl",
            Self::Analyze(_) => "analyze",
        }
    }

    /// The command of these words, where it is one that comes later: its flags are not known yet, and may be mistaken for
    /// others.
    pub(crate) fn meant(words: &[OsString]) -> Option<&'static str> {
        let found = Cli::command()
            .ignore_errors(true)
            .try_get_matches_from(words)
            .ok()?;
        let name = found.subcommand_name()?;
        Self::NAMES.into_iter().find(|later| *later == name)
    }
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| format!("{error}; give for example 500ms, 5s or 2m"))
}

pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
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
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_that_come_later_are_known_whatever_their_flags() {
        for (words, later) in [
            (
                "report --format pdf --include-metrics --period weekly",
                Some("report"),
            ),
            (
                "acl test-permission --token t --operation service:read:api",
                Some("acl"),
            ),
            (
                "--format json metrics --duration 1h --backend consul",
                Some("metrics"),
            ),
            ("list --format pdf", None),
            ("--format pdf", None),
        ] {
            let words: Vec<OsString> = ["sysctl-discovery"]
                .into_iter()
                .chain(words.split(' '))
                .map(OsString::from)
                .collect();
            assert_eq!(Later::meant(&words), later, "{words:?}");
        }
    }
}
