//! The words of the command line.

mod commands;
mod deferred;

use std::{ffi::OsString, path::PathBuf, sync::LazyLock, time::Duration};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use discovery::config::parse_duration;

pub(crate) use self::commands::*;
use self::deferred::Deferred;

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

impl Cli {
    /// Reads the words of a call, the first of which is the program.
    pub(crate) fn read(words: &[OsString]) -> Result<Self, clap::Error> {
        // What is wrong is explained by who knows every command.
        Self::of_one_command(words).map_or_else(|| Self::try_parse_from(words), Ok)
    }

    /// Reads them where they are right, with the one command that they seem to name: it is soon described.
    fn of_one_command(words: &[OsString]) -> Option<Self> {
        let all = Command::augment_subcommands(clap::Command::new(""));
        let mut names = words.iter().skip(1).filter_map(|word| word.to_str());
        let command = names.find_map(|name| all.find_subcommand(name))?;
        let one = Global::augment_args(clap::Command::new("")).subcommand(command.clone());
        Self::from_arg_matches(&one.try_get_matches_from(words).ok()?).ok()
    }
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
    Register(Deferred<Register>),
    /// Withdraw an instance, whoever registered it.
    Deregister(Deferred<One>),
    /// List the services.
    List,
    /// Find instances, of one service or of all.
    Find(Deferred<Find>),
    /// Show all of one instance.
    Describe(Deferred<One>),
    /// Show how well a service is.
    Health(Deferred<Named>),
    /// Watch the instances of a service.
    Watch(Deferred<Watch>),
    /// Report the health of an instance.
    ///
    /// On Consul the report is a check of its own, `<id>:reported`: it hides no other check, and counts for --valid-for. On
    /// other registries it is the status of the instance until the next report.
    HealthUpdate(Deferred<HealthUpdate>),
    /// List health checks, of every service, as the registry knows them.
    HealthList(Deferred<HealthList>),
    /// Count the healthy instances and the others, of one service or of all.
    HealthSummary(Deferred<HealthSummary>),
    /// Show how the registry is.
    Status(Deferred<StatusArgs>),
    /// Try whether the registry can be reached.
    TestConnection,
    /// Pick instances as a client would.
    Pick(Deferred<Pick>),
    /// Say of each instance of a service whether a client would pick it, and if not, why.
    Explain(Deferred<Explain>),
    /// Hold registrations, serve them over DNS, and show metrics, until it is told to end.
    ///
    /// SIGHUP reads the files again: what is new is registered, what is gone withdrawn, what is the same left alone; with a
    /// mistake in any of them everything stays as it is. SIGTERM and Ctrl-C withdraw what is held.
    Agent(Deferred<Agent>),
    /// Look closer when something does not work.
    #[command(subcommand)]
    Debug(Deferred<Debug>),
    /// Read and write the configuration values that the registry keeps, and explain our own settings.
    #[command(subcommand)]
    Config(Deferred<Config>),
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
    HealthCheck(Deferred<Rest>),
    #[command(hide = true)]
    HealthHistory(Deferred<Rest>),
    #[command(hide = true)]
    Metrics(Deferred<Rest>),
    #[command(hide = true)]
    Report(Deferred<Rest>),
    #[command(hide = true)]
    Catalog(Deferred<Rest>),
    #[command(hide = true)]
    Acl(Deferred<Rest>),
    #[command(hide = true)]
    Analyze(Deferred<Rest>),
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
    fn one_command_is_read_as_all_of_them_are() {
        for words in [
            "find web --tag a --format json",
            "--backend consul --endpoint 127.0.0.1:8500 -vv find --healthy-only",
            // The first word that is a command's name is another's value.
            "--config list find web",
            "--config list list",
            "describe find",
            "debug health-checks web --detailed",
            "health-update web --status passing --output find",
            "config get a",
            "",
            "find --nonsense",
            "nonsense",
            "--version",
            "find --help",
            "register web",
            "completions bash",
        ] {
            let words: Vec<OsString> = std::iter::once("sysctl-discovery")
                .chain(words.split(' ').filter(|word| !word.is_empty()))
                .map(OsString::from)
                .collect();
            let text = |read: Result<Cli, clap::Error>| match read {
                Ok(cli) => format!("{cli:?}"),
                Err(error) => error.to_string(),
            };
            let all = text(Cli::try_parse_from(&words));
            assert_eq!(text(Cli::read(&words)), all, "{words:?}");
            if let Some(cli) = Cli::of_one_command(&words) {
                assert_eq!(format!("{cli:?}"), all, "{words:?}");
            }
        }
        let find = ["sysctl-discovery", "find", "web"].map(OsString::from);
        assert!(Cli::of_one_command(&find).is_some());
    }

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
