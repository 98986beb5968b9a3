//! The words of each command.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use discovery::Status;

use super::{duration, pair};

#[derive(Debug, Args)]
pub(crate) struct Register {
    /// The service.
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub(crate) name: Option<String>,
    /// The IP address or host name clients connect to.
    #[arg(long, required_unless_present = "file", conflicts_with = "file")]
    pub(crate) address: Option<String>,
    /// The port clients connect to.
    #[arg(long, required_unless_present = "file", conflicts_with = "file")]
    pub(crate) port: Option<u16>,
    /// The id of the instance. [default: NAME-ADDRESS-PORT]
    #[arg(
        long,
        visible_alias = "service-id",
        value_name = "ID",
        conflicts_with = "file"
    )]
    pub(crate) id: Option<String>,
    /// Tags, with commas between them.
    #[arg(long, value_delimiter = ',', value_name = "A,B", conflicts_with = "file")]
    pub(crate) tags: Vec<String>,
    /// A pair of metadata; may be given more than once.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, conflicts_with = "file")]
    pub(crate) meta: Vec<(String, String)>,
    /// A check: http://…, https://…, tcp://host:port or grpc://host:port[/service]; may be given more than once. Where the
    /// registry runs no checks, this program looks: once, or as long as it stays (`--keep-alive`).
    #[arg(long, value_name = "URL", conflicts_with = "file")]
    pub(crate) health_check: Vec<String>,
    /// The time between two looks of each check.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "10s", conflicts_with = "file")]
    pub(crate) interval: Duration,
    /// Its weight beside other instances.
    #[arg(long, default_value_t = 1, conflicts_with = "file")]
    pub(crate) weight: u16,
    /// A file with a `service_definition`.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// What `{{ .NAME }}` in the file stands for; else the environment variable of that name in capitals does. Known
    /// without: `hostname`, `host_ip`, and `instance_id`, which is the host's name.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair, requires = "file")]
    pub(crate) set: Vec<(String, String)>,
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
    /// The service.
    pub(crate) name: String,
    /// The id of the instance; not needed where the service has one only that is of this host.
    #[arg(long, value_name = "ID")]
    pub(crate) service_id: Option<String>,
    /// passing, warning or critical.
    #[arg(long)]
    pub(crate) status: Status,
    /// What to say about it.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) output: String,
    /// How long the report counts, where the registry keeps it apart (Consul); then it is critical until the next one.
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "24h")]
    pub(crate) valid_for: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct HealthList {
    /// passing, warning, critical, starting, unknown, or failing (neither passing nor warning).
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
    /// How to balance, such as `round_robin` or `p2c`.
    #[arg(long)]
    pub(crate) strategy: Option<String>,
    /// How many picks.
    #[arg(short = 'n', long = "count", value_name = "COUNT", default_value_t = 1)]
    pub(crate) count: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The service.
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Agent {
    /// A file with a `service_definition`, or a folder of such files (*.yaml, *.yml); may be given more than once.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Vec<PathBuf>,
    /// What `{{ .NAME }}` in the files stands for, as of `register`.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) set: Vec<(String, String)>,
    /// Answer DNS for every service of the registry, over UDP and TCP. [default address: 127.0.0.1:8600]
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, default_missing_value = "127.0.0.1:8600")]
    pub(crate) dns: Option<SocketAddr>,
    /// The domain of the names that are answered: NAME.service.DOMAIN.
    #[arg(long, value_name = "DOMAIN", default_value = "discovery")]
    pub(crate) dns_zone: String,
    /// Show metrics to Prometheus, at /metrics. [default address: 127.0.0.1:9469]
    #[arg(long, value_name = "ADDRESS:PORT", num_args = 0..=1, default_missing_value = "127.0.0.1:9469")]
    pub(crate) metrics: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Debug {
    /// Register a service for a moment, step by step, and withdraw it. It is critical: nobody picks it.
    Register(Named),
    /// Show every check of a service and what it said last.
    HealthChecks {
        #[command(flatten)]
        named: Named,
        /// Show outputs whole.
        #[arg(long)]
        detailed: bool,
    },
    /// Ask DNS for a name: SRV records and addresses.
    Dns {
        /// The name, such as `api.service.consul`.
        name: String,
        /// The server to ask. [default: the DNS port of the Consul agent, else the servers of this system]
        #[arg(long, value_name = "IP:PORT")]
        server: Option<String>,
    },
    /// Try whether ports of the registry's hosts can be connected to.
    Network {
        /// The ports, with commas between them. [default: those of the registry]
        #[arg(long, value_delimiter = ',', value_name = "PORT,PORT")]
        test_ports: Vec<u16>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Print a value.
    Get {
        /// The key: segments with slashes between them.
        key: String,
    },
    /// Write a value.
    Set {
        /// The key.
        key: String,
        /// The value; `-` reads it from standard input.
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// Only where the key is absent.
        #[arg(long, conflicts_with = "if_version")]
        if_absent: bool,
        /// Only while the key has this version.
        #[arg(long, value_name = "VERSION")]
        if_version: Option<String>,
    },
    /// Delete a value.
    Delete {
        /// The key.
        key: String,
        /// Only while the key has this version.
        #[arg(long, value_name = "VERSION")]
        if_version: Option<String>,
    },
    /// List the values whose keys start with a text.
    List {
        /// What keys start with; every key where it is left out.
        #[arg(default_value = "")]
        prefix: String,
    },
    /// Watch a key and all below it.
    Watch {
        /// The key.
        key: String,
        /// Go on with every change, one a line; without it, show what there is now.
        #[arg(long)]
        follow: bool,
    },
    /// Write every value of a YAML file: mappings become segments of the key, lists their JSON text.
    Import {
        /// The file.
        file: PathBuf,
        /// What goes before each key, such as `config/`.
        #[arg(long, default_value = "")]
        prefix: String,
    },
    /// Every setting of this program in force, and where it came from; secrets are masked.
    Explain,
}
