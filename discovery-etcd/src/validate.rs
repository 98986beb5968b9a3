//! What settings must be.

use std::time::Duration;

use discovery_core::{Result, tls};

use crate::config::{EtcdConfig, invalid};

impl EtcdConfig {
    /// The members: whether TLS is spoken, and `host:port`.
    pub(crate) fn members(&self) -> Result<Vec<(bool, String)>> {
        let bad = |text: &str, fault: &str| {
            Err(invalid("endpoints", fault)
                .with_context("endpoint", format!("{text:?}"))
                .with_hint("write `host:port`, `http://host:port` or `https://host:port` for every member"))
        };
        if self.endpoints.is_empty() {
            return bad("", "none is given");
        }
        let mut members: Vec<(bool, String)> = Vec::new();
        for text in &self.endpoints {
            let (scheme, rest) = match text.trim().split_once("://") {
                None => (None, text.trim()),
                Some(("http", rest)) => (Some(false), rest),
                Some(("https", rest)) => (Some(true), rest),
                Some(_) => return bad(text, "an unknown scheme"),
            };
            let rest = rest.trim_end_matches('/');
            if rest.contains('@') {
                return bad("…", "a user or password in an address");
            }
            let uri: http::uri::Authority = match rest.parse() {
                Ok(authority) => authority,
                Err(_) => return bad(text, "not an address"),
            };
            let port = match uri.port_u16() {
                None if rest.len() > uri.host().len() => return bad(text, "a bad port"),
                port => port.unwrap_or(2379),
            };
            if port == 0 || uri.host().is_empty() {
                return bad(text, "not an address to connect to");
            }
            let tls = match (scheme, self.tls.enabled) {
                (Some(false), Some(true)) => return bad(text, "`http` although `tls.enabled` is true"),
                (Some(true), Some(false)) => return bad(text, "`https` although `tls.enabled` is false"),
                (Some(said), _) => said,
                (None, _) => self.tls.is_enabled(),
            };
            let member = (tls, format!("{}:{port}", uri.host()));
            if !members.contains(&member) {
                members.push(member);
            }
        }
        Ok(members)
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let members = self.members()?;
        self.authentication.credentials()?;
        self.tls.validate()?;
        if members.iter().any(|(tls, _)| *tls) {
            tls::client_config(&self.tls)?;
        }
        let registration = &self.service_registration;
        if registration.ttl < Duration::from_secs(1) || registration.ttl > Duration::from_secs(9_000_000_000)
        {
            return Err(
                invalid("service_registration.ttl", "out of range").with_hint("give a second or more")
            );
        }
        if registration
            .refresh_interval
            .is_some_and(|every| every > registration.ttl / 2 || every.is_zero())
        {
            return Err(invalid(
                "service_registration.refresh_interval",
                "out of range: it is up to half of the TTL",
            )
            .with_hint("give a third of the TTL, or remove it"));
        }
        if self.keep_alive_interval < Duration::from_secs(5) {
            return Err(invalid("keep_alive_interval", "too short")
                .with_hint("give 5 s or more: etcd ends connections that probe more often"));
        }
        if !(1..=10_000).contains(&self.discovery.page_size) {
            return Err(invalid("discovery.page_size", "out of range").with_hint("give 1 to 10000"));
        }
        let watched = self.discovery.watch_prefix.as_ref();
        if watched.is_some_and(|prefix| *prefix != registration.key_prefix) {
            return Err(
                invalid("discovery.watch_prefix", "not `service_registration.key_prefix`").with_hint(
                    "give both the same prefix, or remove it; another prefix takes a client of its own",
                ),
            );
        }
        if !self.discovery.recursive {
            return Err(invalid("discovery.recursive", "services are below their prefix")
                .with_hint("set it to `true`, or remove it"));
        }
        let (services, values) = (&registration.key_prefix, &self.config.prefix);
        for (field, prefix) in [
            ("service_registration.key_prefix", services),
            ("config.prefix", values),
        ] {
            if !prefix.is_empty() && (!prefix.ends_with('/') || prefix.chars().any(char::is_control)) {
                return Err(invalid(field, "does not end with `/`").with_hint("write it like `/services/`"));
            }
        }
        if values.is_empty() || values.starts_with(services.as_str()) && !services.is_empty() {
            return Err(invalid("config.prefix", "values would be among the services")
                .with_hint("give a prefix of its own, such as `/config/`"));
        }
        Ok(())
    }
}
