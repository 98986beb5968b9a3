//! The `health_checks:` block: the checks of services, by service.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use serde::{Deserialize, Serialize};

use super::Variables;
use crate::config::{KnownBlock, duration};

/// The `health_checks:` block: what to look at, by service; the set of the service `api` is called `api` or `api_service`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct HealthCheckSets(pub BTreeMap<String, ServiceChecks>);

impl HealthCheckSets {
    /// The block, for [`Loader::new`](crate::config::Loader::new).
    pub const BLOCK: KnownBlock = KnownBlock::of::<Self>("health_checks");
}

/// The checks of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ServiceChecks {
    /// What is looked at.
    pub checks: Vec<ServiceCheck>,
    /// So many failures in a row make it critical; three where left out.
    #[serde(default = "three")]
    pub failure_threshold: NonZeroU32,
    /// So many successes in a row make it passing again; two where left out.
    #[serde(default = "two")]
    pub success_threshold: NonZeroU32,
    /// What is critical for so long is withdrawn; never where left out.
    #[serde(default, with = "duration::option")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<Duration>"))]
    pub deregister_critical_service_after: Option<Duration>,
}

fn two() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(1)
}

fn three() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(2)
}

/// One check; its texts may use `{{ .address }}` and `{{ .port }}`, those of the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "AnyCheck")]
#[non_exhaustive]
pub struct ServiceCheck {
    /// Its name.
    pub name: String,
    /// What is looked at.
    #[serde(flatten)]
    pub look: Look,
    /// How long a look may take.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub timeout: Duration,
    /// The time between two looks.
    #[serde(with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    pub interval: Duration,
}

/// What a check looks at, by its `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Look {
    /// A request, and what its answer must be.
    #[non_exhaustive]
    Http {
        /// Where it goes.
        url: String,
        /// Its method; GET where left out.
        method: String,
        /// The status that passes; any success where left out.
        expected_status: Option<u16>,
        /// A text that the body holds.
        expected_body: Option<String>,
    },
    /// A connection.
    #[non_exhaustive]
    Tcp {
        /// Where to.
        address: String,
    },
    /// A shell script, which ends with zero; not run in this release.
    #[non_exhaustive]
    Script {
        /// What is run.
        script: String,
    },
}

/// A check before its type and the rest are known to go together.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct AnyCheck {
    name: String,
    r#type: Type,
    url: Option<String>,
    method: Option<String>,
    expected_status: Option<u16>,
    expected_body: Option<String>,
    address: Option<String>,
    script: Option<String>,
    #[serde(default = "seconds_5", with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    timeout: Duration,
    #[serde(default = "seconds_10", with = "duration::positive")]
    #[cfg_attr(feature = "schema", schemars(with = "Duration"))]
    interval: Duration,
}

fn seconds_5() -> Duration {
    Duration::from_secs(5)
}

fn seconds_10() -> Duration {
    Duration::from_secs(10)
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
enum Type {
    Http,
    Tcp,
    Script,
}

impl TryFrom<AnyCheck> for ServiceCheck {
    type Error = String;

    fn try_from(check: AnyCheck) -> Result<Self, Self::Error> {
        let http = check.url.is_some()
            || check.method.is_some()
            || check.expected_status.is_some()
            || check.expected_body.is_some();
        let (tcp, script) = (check.address.is_some(), check.script.is_some());
        let look = match (check.r#type, http, tcp, script) {
            (Type::Http, _, false, false) => Look::Http {
                url: check.url.ok_or("a check of type `http` has a `url`")?,
                method: check.method.unwrap_or_else(|| "GET".to_owned()),
                expected_status: check.expected_status,
                expected_body: check.expected_body,
            },
            (Type::Tcp, false, _, false) => Look::Tcp {
                address: check.address.ok_or("a check of type `tcp` has an `address`")?,
            },
            (Type::Script, false, false, _) => Look::Script {
                script: check.script.ok_or("a check of type `script` has a `script`")?,
            },
            _ => return Err(format!("the check `{}` holds keys of another type", check.name)),
        };
        let text = match &look {
            Look::Http { url: text, .. } | Look::Tcp { address: text } | Look::Script { script: text } => {
                text
            }
        };
        let names = Variables::used(text).map_err(|error| error.to_string())?;
        if let Some(name) = names.iter().find(|name| !matches!(**name, "address" | "port")) {
            return Err(format!(
                "unknown variable `{name}`: a check knows `address` and `port`"
            ));
        }
        Ok(Self {
            name: check.name,
            look,
            timeout: check.timeout,
            interval: check.interval,
        })
    }
}
