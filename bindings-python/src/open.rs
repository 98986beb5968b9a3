//! From the arguments of a constructor to a client.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use discovery::{
    ClientBuilder, Error, ErrorKind, Result, builder_for, builder_from_configs, builder_from_env,
    builder_from_uri, config::format_duration,
};
use pyo3::{prelude::*, types::PyMapping};
use serde_json::Value;

use crate::{
    arguments::{Endpoints, Seconds, json},
    errors::OrRaise,
    fork::Local,
    ops::{Owner, Shared},
};

/// What both classes hold.
pub(crate) type Kept = Local<Arc<Owner>>;

/// What a constructor takes.
pub(crate) struct Opening<'a, 'py> {
    pub(crate) backend: Option<String>,
    pub(crate) endpoints: Option<Endpoints>,
    pub(crate) config: Option<&'a Bound<'py, PyMapping>>,
    pub(crate) token: Option<String>,
    pub(crate) timeout: Option<Seconds>,
    pub(crate) max_stale: Option<Seconds>,
    pub(crate) strategy: Option<String>,
    pub(crate) balancing: Option<&'a Bound<'py, PyMapping>>,
    pub(crate) snapshot_dir: Option<PathBuf>,
}

impl Opening<'_, '_> {
    pub(crate) fn open(self, py: Python<'_>) -> PyResult<Kept> {
        let mut settings = Vec::new();
        if let Some(config) = self.config {
            settings.extend(
                json(config)?
                    .into_iter()
                    .map(|(key, value)| (format!(".{key}"), value)),
            );
        }
        if let Some(balancing) = self.balancing {
            settings.push(("client.balancing".to_owned(), Value::Object(json(balancing)?)));
        }
        let token = match self.backend.as_deref() {
            Some("k8s" | "kubernetes") => ".cluster_config.token",
            _ => ".authentication.token",
        };
        let duration = |given: Option<Seconds>| given.map(|Seconds(given)| format_duration(given));
        let text = [
            (token, self.token),
            ("client.timeout", duration(self.timeout)),
            ("client.max_stale", duration(self.max_stale)),
            ("client.load_balancing", self.strategy),
            (
                "client.snapshot_dir",
                self.snapshot_dir.map(|dir| dir.to_string_lossy().into_owned()),
            ),
        ];
        let given = text
            .into_iter()
            .filter_map(|(path, value)| Some((path.to_owned(), Value::String(value?))));
        settings.extend(given);
        let servers = self.endpoints.map(Endpoints::list).unwrap_or_default();
        let Some(backend) = self.backend else {
            if !settings.is_empty() || !servers.is_empty() {
                let error = Error::new(ErrorKind::InvalidInput, "settings for no backend").with_hint(
                    "name it, as in backend='consul'; without arguments the environment says everything",
                );
                return Err(error).or_raise(py);
            }
            return opened(py, builder_from_env);
        };
        opened(py, move || {
            builder_for(
                &backend,
                &servers,
                settings
                    .iter()
                    .map(|(path, value)| (path.as_str(), value.clone())),
            )
        })
    }
}

fn opened(py: Python<'_>, build: impl FnOnce() -> Result<ClientBuilder> + Send) -> PyResult<Kept> {
    Shared::open(py, build).map(Local::new)
}

pub(crate) fn from_config(
    py: Python<'_>,
    paths: Vec<PathBuf>,
    variables: Option<BTreeMap<String, String>>,
) -> PyResult<Kept> {
    opened(py, move || {
        let builder = builder_from_configs(paths)?;
        let variables = variables.unwrap_or_default().into_iter();
        Ok(variables.fold(builder, |builder, (name, value)| builder.variable(name, value)))
    })
}

pub(crate) fn from_uri(py: Python<'_>, uri: &str) -> PyResult<Kept> {
    opened(py, || builder_from_uri(uri))
}

pub(crate) fn repr(class: &str, kept: &Kept) -> String {
    match kept.try_get() {
        Some(owner) => {
            let info = owner.client().info();
            format!("<{class} of {} at {}>", info.scheme, info.address)
        }
        None => format!("<{class} of another process>"),
    }
}
