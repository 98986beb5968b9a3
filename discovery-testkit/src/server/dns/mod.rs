//! Real authoritative DNS servers: BIND and Knot, with zones of a test and dynamic updates.
//!
//! `scripts/servers` gets the programs.
//!
//! ```no_run
//! # async fn example() -> discovery_core::Result<()> {
//! use discovery_testkit::server::{Server, dns::{Dns, Software}};
//!
//! let zone = "$TTL 2
//! @ SOA ns root 1 3600 600 86400 3
//! @ NS ns
//! ns A 127.0.0.1
//! _web._tcp SRV 10 60 8080 a
//! a A 192.0.2.1
//! ";
//! let dns = Dns::of(Software::Bind, "/usr/sbin/named").zone("svc.test", zone).updates().build()?;
//! dns.start().await?;
//! let answer = dns.ask("_web._tcp.svc.test", 33).await?;
//! assert_eq!((answer.code, answer.answers), (0, 1));
//! # Ok(())
//! # }
//! ```

mod settings;
mod wire;

use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

use async_trait::async_trait;
use discovery_core::{Error, ErrorKind, Result, config::Secret};
use tokio::process::Command;

pub use self::wire::Answer;
use super::{ChildServer, Identity, Place, Program, Recipe, Server, child_server, program};

/// The configuration file, in its place.
const CONFIG: &str = "server.conf";
/// The folder of zones and journals, in its place.
const DATA: &str = "data";
const SOA: u16 = 6;

/// Which of the two servers that the tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Software {
    /// ISC's BIND.
    Bind,
    /// Knot DNS; it knows no `$GENERATE`.
    Knot,
}

impl Software {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Bind, Self::Knot];

    fn program(self) -> Program {
        match self {
            Self::Bind => Program::new("bind", "DISCOVERY_BIND"),
            Self::Knot => Program::new("knot", "DISCOVERY_KNOT"),
        }
    }

    /// What it is called in the names of tests.
    pub fn name(self) -> &'static str {
        self.program().name()
    }

    /// The variable that holds the path of its program; `scripts/test` sets it.
    pub fn variable(self) -> &'static str {
        self.program().variable()
    }

    /// The path of its program, where the tests were told one.
    pub fn binary(self) -> Option<PathBuf> {
        self.program().binary()
    }
}

/// The key under which dynamic updates are taken: HMAC-SHA256.
#[derive(Debug, Clone)]
pub struct TsigKey {
    /// Its name.
    pub name: String,
    /// The key itself, in base64.
    pub secret: Secret,
}

#[derive(Debug, Clone)]
struct Zone {
    name: String,
    records: String,
}

impl Zone {
    fn file(&self) -> String {
        format!("{}.zone", self.name)
    }
}

/// How one server is run.
#[derive(Debug)]
struct Daemon {
    software: Software,
    binary: PathBuf,
    zones: Vec<Zone>,
    tls: Option<Identity>,
}

#[async_trait]
impl Recipe for Daemon {
    fn name(&self) -> &'static str {
        self.software.name()
    }

    /// One for UDP and TCP, one for TLS.
    fn ports(&self) -> usize {
        1 + usize::from(self.tls.is_some())
    }

    /// It starts at once; with a zone it cannot read it runs as well, and never serves that.
    fn ready_within(&self) -> Duration {
        Duration::from_secs(30)
    }

    fn command(&self, _: &Place) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(["-c", CONFIG]);
        if self.software == Software::Bind {
            // In the foreground, its log to standard error, IPv4, few threads.
            command.args(["-g", "-4", "-n", "2"]);
        }
        command
    }

    /// It answers for its zones.
    async fn probe(&self, place: &Place) -> Result<()> {
        for zone in &self.zones {
            let answer = wire::ask(place.endpoints()[0], &zone.name, SOA).await?;
            if answer.code != 0 || answer.answers != 1 {
                let text = format!("no {} yet: {answer:?}", zone.name);
                return Err(Error::new(ErrorKind::Unavailable, text));
            }
        }
        Ok(())
    }

    async fn version(&self, _: &Place) -> Result<String> {
        let mut command = Command::new(&self.binary);
        command.arg(match self.software {
            Software::Bind => "-v",
            Software::Knot => "--version",
        });
        let said = program::run(self.software.name(), command, "tell its version").await?;
        let mut words = said.split_whitespace();
        words
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
            .map(|word| word.split('-').next().unwrap_or(word).to_owned())
            .ok_or_else(|| {
                Error::new(ErrorKind::Protocol, "no version in what it prints").with_context("said", said)
            })
    }
}

/// Options of a server; [`Dns::of`] makes one.
#[derive(Debug, Clone)]
pub struct DnsBuilder {
    software: Software,
    binary: PathBuf,
    zones: Vec<Zone>,
    updates: bool,
    tls: Option<Identity>,
}

impl DnsBuilder {
    /// A zone of these records, in the format of zone files, relative to it; a SOA and an NS among them.
    #[must_use]
    pub fn zone(mut self, name: impl Into<String>, records: impl Into<String>) -> Self {
        let (name, records) = (name.into(), records.into());
        self.zones.push(Zone { name, records });
        self
    }

    /// Takes dynamic updates of all its zones, under a key of its own.
    #[must_use]
    pub fn updates(mut self) -> Self {
        self.updates = true;
        self
    }

    /// Serves over TLS as well (RFC 7858), at a port of its own, under this certificate. BIND only.
    #[must_use]
    pub fn tls(mut self, identity: Identity) -> Self {
        self.tls = Some(identity);
        self
    }

    /// The server, not started.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] without a zone, or of a Knot with TLS, which it does not speak before 3.4;
    /// [`ErrorKind::Unexpected`] when its files cannot be written.
    pub fn build(self) -> Result<Dns> {
        if self.zones.is_empty() {
            return Err(Error::new(ErrorKind::ConfigInvalid, "a DNS server needs a zone")
                .with_hint("give it one with `zone`"));
        }
        if self.tls.is_some() && self.software == Software::Knot {
            return Err(Error::new(ErrorKind::ConfigInvalid, "this Knot speaks no TLS")
                .with_hint("take `Software::Bind`"));
        }
        let key = self.updates.then(|| TsigKey {
            name: "update".to_owned(),
            // Letters and digits, as many as a multiple of four: base64 as it is.
            secret: Secret::new((0..44).map(|_| fastrand::alphanumeric()).collect::<String>()),
        });
        let server = ChildServer::new(Daemon {
            software: self.software,
            binary: self.binary,
            zones: self.zones,
            tls: self.tls,
        })?;
        let dns = Dns { server, key };
        dns.write_config()
            .and_then(|()| dns.write_zones())
            .map_err(|source| {
                Error::new(ErrorKind::Unexpected, "cannot write a server's files").with_source(source)
            })?;
        Ok(dns)
    }
}

/// One authoritative server on loopback, over UDP and TCP at one port.
///
/// It keeps its zones, as updates left them, from one start to the next.
#[derive(Debug)]
pub struct Dns {
    server: ChildServer<Daemon>,
    key: Option<TsigKey>,
}

impl Dns {
    /// A server of the program at this path.
    ///
    /// The builder's options change what it is; nothing is run yet.
    pub fn of(software: Software, binary: impl Into<PathBuf>) -> DnsBuilder {
        DnsBuilder {
            software,
            binary: binary.into(),
            zones: Vec::new(),
            updates: false,
            tls: None,
        }
    }

    /// The key under which it takes updates, where that was asked for.
    pub fn key(&self) -> Option<&TsigKey> {
        self.key.as_ref()
    }

    /// Where it serves over TLS, where that was asked for.
    pub fn tls(&self) -> Option<SocketAddr> {
        self.server.place().endpoints().get(1).copied()
    }

    /// Asks it over UDP, at most 10 s; `kind` is the number of a record type, 33 for SRV.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] or [`ErrorKind::Timeout`] without an answer.
    pub async fn ask(&self, name: &str, kind: u16) -> Result<Answer> {
        wire::ask(self.server.endpoint(), name, kind).await
    }

    /// Kills it and starts it with its zones as they were at first.
    pub async fn restart_empty(&self) -> Result<()> {
        self.server.kill().await?;
        program::delete(&self.server.place().dir().join(DATA)).await?;
        self.write_zones().map_err(|source| {
            Error::new(ErrorKind::Unexpected, "cannot write a server's zones").with_source(source)
        })?;
        self.start().await
    }

    fn write_config(&self) -> std::io::Result<()> {
        let Daemon { software, zones, .. } = self.server.recipe();
        let port = self.server.endpoint().port();
        let secure = self.server.recipe().tls.as_ref();
        let text = match software {
            Software::Bind => settings::bind(port, zones, self.key.as_ref(), self.tls().zip(secure)),
            Software::Knot => settings::knot(port, zones, self.key.as_ref()),
        };
        fs::write(self.server.place().dir().join(CONFIG), text)
    }

    fn write_zones(&self) -> std::io::Result<()> {
        let data = self.server.place().dir().join(DATA);
        fs::create_dir_all(&data)?;
        for zone in &self.server.recipe().zones {
            fs::write(data.join(zone.file()), &zone.records)?;
        }
        Ok(())
    }
}

child_server!(Dns);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_a_zone_is_refused() {
        let error = Dns::of(Software::Bind, "named").build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    }

    #[test]
    fn tls_of_a_server_that_does_not_speak_it_is_refused() {
        let identity = Identity {
            cert: "cert.pem".into(),
            key: "key.pem".into(),
        };
        let knot = Dns::of(Software::Knot, "knotd").zone("test", "").tls(identity);
        assert_eq!(knot.build().unwrap_err().kind(), ErrorKind::ConfigInvalid);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error_that_says_what_to_do() {
        let dns = Dns::of(Software::Knot, "/nonexistent/knotd")
            .zone("test", "")
            .build()
            .unwrap();
        let error = dns.start().await.unwrap_err();
        assert_eq!(
            (error.kind(), error.is_retryable()),
            (ErrorKind::Unavailable, false)
        );
        assert!(error.hint().unwrap().contains("installed"));
    }
}
