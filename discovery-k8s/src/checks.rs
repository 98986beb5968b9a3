//! What settings make no sense, and what those that do mean.

use std::time::Duration;

use discovery_core::{
    Error, ErrorKind, Result,
    config::{SecretSource, TlsConfig},
};

use crate::{
    config::K8sConfig,
    error,
    names::{is_label, is_subdomain},
};

impl K8sConfig {
    /// Where the token comes from, if there is one.
    pub(crate) fn token_source(&self) -> Result<Option<SecretSource>> {
        let cluster = &self.cluster_config;
        SecretSource::choose(
            "token",
            cluster.token.clone(),
            cluster.token_env.clone(),
            cluster.token_file.clone(),
        )
    }

    /// The address of the apiserver as a URL, where the settings name one.
    pub(crate) fn server_url(&self) -> Result<Option<String>> {
        let Some(text) = self.cluster_config.server.as_deref().map(str::trim) else {
            return Ok(None);
        };
        let bad = |fault: &str| {
            Err(invalid("cluster_config.server", fault)
                .with_hint("write one apiserver's `host:port`, or leave it out to use a kubeconfig"))
        };
        let tls = &self.cluster_config.tls;
        let url = match text.split_once("://") {
            None if tls.enabled == Some(false) => format!("http://{text}"),
            None => format!("https://{text}"),
            Some(("http", _)) if tls.enabled == Some(true) => {
                return bad("`http://` although `tls.enabled` is true");
            }
            Some(("https", _)) if tls.enabled == Some(false) => {
                return bad("`https://` although `tls.enabled` is false");
            }
            Some(("http" | "https", _)) => text.to_owned(),
            Some(_) => return bad("an unknown scheme"),
        };
        if text.contains(',') {
            return bad("several apiservers");
        }
        match url::Url::parse(&url) {
            Ok(parsed) if !parsed.username().is_empty() || parsed.password().is_some() => {
                bad("a user or password, which belongs into `token_file`")
            }
            Ok(parsed) if parsed.has_host() && parsed.query().is_none() && parsed.fragment().is_none() => {
                Ok(Some(url.trim_end_matches('/').to_owned()))
            }
            _ => bad("not an address"),
        }
    }

    /// Refuses what makes no sense, naming the field.
    pub(crate) fn validate(&self) -> Result<()> {
        let cluster = &self.cluster_config;
        self.server_url()?;
        self.token_source()?;
        cluster.tls.validate()?;
        let credentials = self.token_source()?.is_some() || cluster.tls != TlsConfig::default();
        if cluster.service_account.is_some() {
            if credentials || cluster.kubeconfig.is_some() || cluster.context.is_some() {
                return Err(invalid(
                    "cluster_config.service_account",
                    "beside other credentials or a kubeconfig",
                )
                .with_hint("keep `service_account`, or the others"));
            }
        } else if cluster.server.is_some() {
            if cluster.kubeconfig.is_some() || cluster.context.is_some() {
                return Err(invalid("cluster_config", "both a server and a kubeconfig")
                    .with_hint("keep `server`, or `kubeconfig` and `context`"));
            }
        } else if credentials {
            return Err(
                invalid("cluster_config", "a token or TLS settings without `server`")
                    .with_hint("name the server, or put them into the kubeconfig"),
            );
        }
        let namespaces = &self.service_discovery.namespaces;
        if namespaces.iter().any(|name| name == "*") && namespaces.len() > 1 {
            return Err(
                invalid("service_discovery.namespaces", "`*` beside other namespaces")
                    .with_hint("keep `*` for all of them, or the names"),
            );
        }
        for name in namespaces.iter().filter(|name| *name != "*") {
            check_namespace("service_discovery.namespaces", name)?;
        }
        for (field, name) in [
            ("registration.namespace", &self.registration.namespace),
            ("configmap.namespace", &self.configmap.namespace),
        ] {
            if let Some(name) = name {
                check_namespace(field, name)?;
            }
        }
        if self.registration.ttl < Duration::from_secs(1) {
            return Err(invalid("registration.ttl", "less than a second").with_hint("give a second or more"));
        }
        if self.service_discovery.watch_timeout < Duration::from_secs(1) {
            return Err(invalid("service_discovery.watch_timeout", "less than a second")
                .with_hint("give a second or more"));
        }
        let maps = &self.configmap.configmaps;
        if self.configmap.enabled && maps.is_empty() {
            return Err(invalid("configmap.configmaps", "none")
                .with_hint("name one, or set `configmap.enabled` to false"));
        }
        for (i, map) in maps.iter().enumerate() {
            if !is_subdomain(&map.name) {
                return Err(invalid("configmap.configmaps.name", &format!("{:?}", map.name))
                    .with_hint("give a name of lower-case letters, digits, `-` and `.`"));
            }
            if maps[..i].iter().any(|other| other.name == map.name) {
                return Err(invalid("configmap.configmaps.name", "the same name twice"));
            }
        }
        Ok(())
    }
}

fn check_namespace(field: &'static str, name: &str) -> Result<()> {
    if is_label(name) {
        return Ok(());
    }
    Err(invalid(field, &format!("{name:?} is no namespace"))
        .with_hint("give a name of lower-case letters, digits and `-`"))
}

fn invalid(field: &'static str, fault: &str) -> Error {
    error::error(
        ErrorKind::ConfigInvalid,
        format!("kubernetes_discovery.{field}: {fault}"),
    )
}
