//! The agent's configuration, in the keys that its version knows.

use std::{net::SocketAddr, path::Path};

use serde_json::{Map, Value, json};

use super::Certificates;

/// A version as (major, minor).
pub(super) type Version = (u32, u32);

/// Whether HTTPS is served, and to whom.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Tls {
    #[default]
    Off,
    Server,
    Mutual,
}

/// What a test asks for.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one independent option of the builder"
)]
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    pub(super) datacenter: String,
    pub(super) acl: bool,
    pub(super) tls: Tls,
    pub(super) persistent: bool,
    pub(super) script_checks: bool,
    pub(super) unix_socket: bool,
    pub(super) connections_per_client: Option<u32>,
}

/// The ports of one agent, in the order of its place's endpoints.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) http: SocketAddr,
    pub(super) https: SocketAddr,
    pub(super) dns: SocketAddr,
    pub(super) server: SocketAddr,
    pub(super) lan: SocketAddr,
    pub(super) wan: SocketAddr,
}

impl Ports {
    pub(super) const COUNT: usize = 6;

    pub(super) fn of(endpoints: &[SocketAddr]) -> Option<Self> {
        let &[http, https, dns, server, lan, wan] = endpoints else {
            return None;
        };
        Some(Self {
            http,
            https,
            dns,
            server,
            lan,
            wan,
        })
    }
}

/// The folder of an agent that remembers, in its place.
pub(super) const DATA: &str = "data";

/// The socket of an agent that has one, in its place.
pub(super) const SOCKET: &str = "consul.sock";

/// One agent's configuration file.
#[derive(Debug)]
pub(super) struct Settings<'a> {
    pub(super) options: &'a Options,
    pub(super) version: Version,
    pub(super) node: &'a str,
    pub(super) ports: Ports,
    pub(super) token: Option<&'a str>,
    pub(super) certificates: Option<&'a Certificates>,
    pub(super) dir: &'a Path,
    /// The LAN ports of the whole cluster, this agent's among them; empty for a single one.
    pub(super) cluster: &'a [SocketAddr],
}

impl Settings<'_> {
    pub(super) fn json(&self) -> Value {
        let mut all = json!({
            "node_name": self.node,
            "datacenter": self.options.datacenter,
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "ports": self.ports(),
            "log_level": "WARN",
            "disable_update_check": true,
            "performance": { "raft_multiplier": 1 },
        });
        let Value::Object(map) = &mut all else {
            return all;
        };
        if self.options.persistent {
            map.insert("server".into(), true.into());
            map.insert("data_dir".into(), DATA.into());
            map.insert("bootstrap_expect".into(), self.cluster.len().max(1).into());
        }
        if !self.cluster.is_empty() {
            let join: Vec<String> = self.cluster.iter().map(SocketAddr::to_string).collect();
            map.insert("retry_join".into(), json!(join));
            map.insert("retry_interval".into(), "1s".into());
        }
        if self.options.script_checks {
            map.insert("enable_script_checks".into(), true.into());
        }
        if self.options.unix_socket {
            let socket = self.dir.join(SOCKET);
            let http = format!("127.0.0.1 unix://{}", socket.display());
            map.insert("addresses".into(), json!({ "http": http }));
        }
        if let Some(limit) = self.options.connections_per_client {
            map.insert("limits".into(), json!({ "http_max_conns_per_client": limit }));
        }
        if let Some(token) = self.token {
            map.insert("acl".into(), self.acl(token));
        }
        if let Some(certificates) = self.certificates {
            map.extend(self.tls(certificates));
        }
        all
    }

    fn ports(&self) -> Value {
        let mut ports = json!({
            "http": self.ports.http.port(),
            "https": if self.options.tls == Tls::Off { -1 } else { i32::from(self.ports.https.port()) },
            "dns": self.ports.dns.port(),
            "server": self.ports.server.port(),
            "serf_lan": self.ports.lan.port(),
            "serf_wan": self.ports.wan.port(),
            "grpc": -1,
        });
        // Before 1.14 an unknown key, which ends the agent.
        if self.version >= (1, 14) {
            ports["grpc_tls"] = (-1).into();
        }
        ports
    }

    fn acl(&self, token: &str) -> Value {
        let management = if self.version >= (1, 11) {
            "initial_management"
        } else {
            "master"
        };
        json!({
            "enabled": true,
            "default_policy": "deny",
            // The agent's own, so that it may write itself to the catalogue.
            "tokens": { management: token, "agent": token },
        })
    }

    fn tls(&self, certificates: &Certificates) -> Map<String, Value> {
        let files = json!({
            "ca_file": certificates.ca(),
            "cert_file": certificates.server_cert(),
            "key_file": certificates.server_key(),
        });
        let verify = self.options.tls == Tls::Mutual;
        let keys = if self.version >= (1, 12) {
            json!({ "tls": { "defaults": files, "https": { "verify_incoming": verify } } })
        } else {
            let mut keys = files;
            keys["verify_incoming_https"] = verify.into();
            keys
        };
        match keys {
            Value::Object(keys) => keys,
            _ => Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn settings(options: &Options, version: Version) -> Value {
        let endpoints: Vec<SocketAddr> = (1..=6).map(|port| (Ipv4Addr::LOCALHOST, port).into()).collect();
        Settings {
            options,
            version,
            node: "n",
            ports: Ports::of(&endpoints).unwrap(),
            token: options.acl.then_some("secret"),
            certificates: None,
            dir: Path::new("/tmp/place"),
            cluster: &[],
        }
        .json()
    }

    #[test]
    fn a_key_is_written_only_for_versions_that_know_it() {
        let options = Options {
            acl: true,
            ..Options::default()
        };
        let [old, new] = [(1, 8), (1, 22)].map(|version| settings(&options, version));
        assert_eq!(old["ports"].get("grpc_tls"), None);
        assert_eq!(new["ports"]["grpc_tls"], -1);
        assert_eq!(old["acl"]["tokens"]["master"], "secret");
        assert_eq!(new["acl"]["tokens"]["initial_management"], "secret");
        assert_eq!(new["acl"]["tokens"].get("master"), None);
    }

    #[test]
    fn only_what_is_asked_for_is_on() {
        let plain = settings(&Options::default(), (1, 22));
        assert_eq!(plain["ports"]["https"], -1);
        for key in [
            "server",
            "data_dir",
            "retry_join",
            "enable_script_checks",
            "limits",
            "addresses",
            "acl",
            "tls",
        ] {
            assert_eq!(plain.get(key), None, "{key}");
        }
        let persistent = Options {
            persistent: true,
            connections_per_client: Some(9),
            unix_socket: true,
            ..Options::default()
        };
        let persistent = settings(&persistent, (1, 8));
        assert_eq!(persistent["bootstrap_expect"], 1);
        assert_eq!(persistent["limits"]["http_max_conns_per_client"], 9);
        assert_eq!(
            persistent["addresses"]["http"],
            "127.0.0.1 unix:///tmp/place/consul.sock"
        );
    }
}
