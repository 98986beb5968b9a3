//! From Python arguments to what the library takes.

use std::time::Duration;

use discovery::{
    Check, Error, ErrorKind, MetaChange, Query, Registration, Result as Outcome, config::parse_duration,
};
use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    types::{PyBool, PyDelta, PyDict, PyFloat, PyInt, PyMapping, PyString},
};

use crate::errors::{OrRaise, invalid, raise};

/// The longest duration taken, in seconds: a hundred years.
const LONGEST: f64 = 36_500.0 * 86_400.0;

/// A duration: text such as `"10s"`, a number of seconds, or a `timedelta`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seconds(pub(crate) Duration);

impl<'py> FromPyObject<'_, 'py> for Seconds {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let py = object.py();
        if let Ok(text) = object.cast::<PyString>() {
            let text = text.to_string();
            return parse_duration(&text).map(Self).map_err(|error| {
                let message = error.message().to_owned();
                raise(py, &Error::new(ErrorKind::InvalidInput, message))
            });
        }
        let number = object.is_instance_of::<PyFloat>() || object.is_instance_of::<PyInt>();
        let seconds = if number && !object.is_instance_of::<PyBool>() {
            object.extract::<f64>()?
        } else if object.is_instance_of::<PyDelta>() {
            object.call_method0("total_seconds")?.extract::<f64>()?
        } else {
            let kind = object.get_type().name()?.to_string();
            let message = format!(
                "a duration is a str such as \"10s\", a number of seconds or a timedelta, not {kind}"
            );
            return Err(PyTypeError::new_err(message));
        };
        if !(0.0..=LONGEST).contains(&seconds) {
            return Err(invalid(
                py,
                "duration",
                &seconds.to_string(),
                "give zero or more seconds, at most a hundred years",
            ));
        }
        Ok(Self(Duration::from_secs_f64(seconds)))
    }
}

/// What `register` takes.
#[derive(Debug)]
pub(crate) struct Registering<'a, 'py> {
    pub(crate) name: &'a str,
    pub(crate) address: &'a str,
    pub(crate) port: i64,
    pub(crate) id: Option<&'a str>,
    pub(crate) tags: Vec<String>,
    pub(crate) meta: Option<&'a Bound<'py, PyMapping>>,
    pub(crate) health_check: Option<&'a Bound<'py, PyAny>>,
    pub(crate) health_checks: Option<Vec<Bound<'py, PyAny>>>,
    pub(crate) weight: i64,
    pub(crate) ttl: Option<Seconds>,
}

impl Registering<'_, '_> {
    pub(crate) fn build(self, py: Python<'_>) -> PyResult<Registration> {
        let port = u16::try_from(self.port)
            .map_err(|_| invalid(py, "port", &self.port.to_string(), "give a port from 1 to 65535"))?;
        let weight = u16::try_from(self.weight).map_err(|_| {
            invalid(
                py,
                "weight",
                &self.weight.to_string(),
                "give a weight from 0 to 65535",
            )
        })?;
        let mut builder = Registration::builder(self.name, self.address, port)
            .tags(self.tags)
            .weight(weight);
        if let Some(id) = self.id {
            builder = builder.id(id);
        }
        if let Some(meta) = self.meta {
            for item in meta.items()? {
                let (key, value): (String, String) = item.extract().map_err(|_| text_only("meta"))?;
                builder = builder.meta(key, value);
            }
        }
        if let Some(Seconds(ttl)) = self.ttl {
            builder = builder.ttl(ttl);
        }
        let several = self.health_checks.unwrap_or_default();
        let one = self.health_check.cloned();
        for (index, given) in one.into_iter().chain(several).enumerate() {
            builder = builder.check(check(&given, index)?);
        }
        builder.build().or_raise(py)
    }
}

fn text_only(what: &str) -> PyErr {
    PyTypeError::new_err(format!("keys and values of {what} are str"))
}

/// A check: a URL, or a dict with `http` or `tcp` and its options. The first unnamed one keeps the plain name of its kind.
fn check(given: &Bound<'_, PyAny>, index: usize) -> PyResult<Check> {
    let py = given.py();
    let numbered = |check: Check| {
        if index == 0 {
            return check;
        }
        let name = format!("{}-{}", check.name, index + 1);
        check.named(name)
    };
    if let Ok(url) = given.cast::<PyString>() {
        let url = url.to_string();
        return match url.split_once("://") {
            Some(("tcp", address)) => Ok(numbered(Check::tcp(address))),
            Some(("http" | "https", _)) => Ok(numbered(Check::http(url))),
            _ => Err(invalid(
                py,
                "health_check",
                &format!("{url:?}"),
                "give a URL: \"http://host:port/path\" or \"tcp://host:port\"",
            )),
        };
    }
    let Ok(given) = given.cast::<PyMapping>() else {
        return Err(PyTypeError::new_err(
            "a health check is a URL or a dict such as {\"http\": \"http://host:port/health\", \"interval\": \"10s\"}",
        ));
    };
    let (mut http, mut tcp, mut options) = (None, None, Vec::new());
    for item in given.items()? {
        let (key, value): (String, Bound<'_, PyAny>) = item.extract()?;
        match key.as_str() {
            "http" => http = Some(value.extract::<String>()?),
            "tcp" => tcp = Some(value.extract::<String>()?),
            _ => options.push((key, value)),
        }
    }
    let mut check = match (http, tcp) {
        (Some(url), None) => Check::http(url),
        (None, Some(address)) => Check::tcp(address),
        _ => {
            let keys = options
                .iter()
                .map(|(key, _)| key.as_str())
                .collect::<Vec<_>>()
                .join(", ");
            return Err(invalid(
                py,
                "health_check",
                &keys,
                "give either \"http\": a URL, or \"tcp\": \"host:port\"",
            ));
        }
    };
    let mut named = false;
    for (key, value) in options {
        check = match key.as_str() {
            "name" => {
                named = true;
                check.named(value.extract::<String>()?)
            }
            "interval" => check.every(value.extract::<Seconds>()?.0),
            "timeout" => check.timeout(value.extract::<Seconds>()?.0),
            "deregister_after" => check.deregister_after(value.extract::<Seconds>()?.0),
            _ => {
                return Err(invalid(
                    py,
                    "health_check",
                    &format!("{key:?}"),
                    "the keys are http or tcp, name, interval, timeout, deregister_after",
                ));
            }
        };
    }
    Ok(if named { check } else { numbered(check) })
}

/// What `update_meta` takes: text sets a key, `None` removes it.
pub(crate) fn meta_change(values: &Bound<'_, PyMapping>) -> PyResult<MetaChange> {
    let mut change = MetaChange::new();
    for item in values.items()? {
        let (key, value): (String, Option<String>) = item.extract().map_err(|_| text_only("metadata"))?;
        change = match value {
            Some(value) => change.set(key, value),
            None => change.remove(key),
        };
    }
    Ok(change)
}

/// What `discover`, `service` and `watch` take.
#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) tags: Vec<String>,
    pub(crate) healthy_only: bool,
    pub(crate) datacenter: Option<String>,
    pub(crate) max_stale: Option<Seconds>,
}

impl Asking {
    /// Nothing but a name.
    pub(crate) fn plain() -> Self {
        Self {
            tags: Vec::new(),
            healthy_only: true,
            datacenter: None,
            max_stale: None,
        }
    }

    /// Whether nothing but a name was given.
    pub(crate) fn is_plain(&self) -> bool {
        self.tags.is_empty() && self.healthy_only && self.datacenter.is_none() && self.max_stale.is_none()
    }

    pub(crate) fn query(self, name: &str) -> Outcome<Query> {
        let mut query = Query::service(name)?;
        for tag in self.tags {
            query = query.tag(tag);
        }
        if !self.healthy_only {
            query = query.include_unhealthy();
        }
        if let Some(datacenter) = self.datacenter {
            query = query.datacenter(datacenter);
        }
        if let Some(Seconds(max_stale)) = self.max_stale {
            query = query.max_stale(max_stale);
        }
        Ok(query)
    }
}

/// A server or several, as one list.
#[derive(Debug, FromPyObject)]
pub(crate) enum Endpoints {
    One(String),
    Several(Vec<String>),
}

impl Endpoints {
    pub(crate) fn list(self) -> String {
        match self {
            Self::One(one) => one,
            Self::Several(several) => several.join(","),
        }
    }
}

/// A mapping as JSON.
pub(crate) fn json(given: &Bound<'_, PyMapping>) -> PyResult<serde_json::Map<String, serde_json::Value>> {
    let py = given.py();
    let dict = PyDict::new(py);
    for item in given.items()? {
        let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
        dict.set_item(key, value)?;
    }
    let text: String = py.import("json")?.call_method1("dumps", (dict,))?.extract()?;
    serde_json::from_str(&text).map_err(|error| PyTypeError::new_err(error.to_string()))
}
