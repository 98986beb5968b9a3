//! What DNS says of a name, as it says it: for people who look why something is not found.

use std::time::Duration;

use discovery_core::{ErrorKind, Result, config::TlsConfig};
use hickory_proto::rr::RecordType;

use crate::{client::Client, config::Transport, error::error, name, route};

/// What is asked for, in this order.
const KINDS: [RecordType; 3] = [RecordType::SRV, RecordType::A, RecordType::AAAA];

/// A record, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The name it is of: behind an alias, another one than was asked for.
    pub name: String,
    /// Its type, such as `SRV`.
    pub kind: String,
    /// How long it is good for.
    pub ttl: Duration,
    /// What it says.
    pub value: String,
}

/// The SRV and address records of a name, asked of `servers` (`ip` or `ip:port`); none where there is no such name.
///
/// # Errors
/// `InvalidInput` when `text` is no name; whatever the servers fail with.
///
/// # Cancel safety
/// Cancel-safe.
pub async fn answers(servers: &[String], text: &str, timeout: Duration) -> Result<Vec<Record>> {
    let name = name::absolute(text).map_err(|source| {
        error(ErrorKind::InvalidInput, "this is no name of DNS")
            .with_context("name", format!("{text:?}"))
            .with_source(source)
    })?;
    let client = Client::new(servers, Transport::Auto, &TlsConfig::default(), timeout)?;
    let mut all = Vec::new();
    for kind in KINDS {
        let answer = client.ask(&name, kind, false).await?;
        for record in &answer.answers {
            let record = Record {
                name: record.name.to_string(),
                kind: record.record_type().to_string(),
                ttl: Duration::from_secs(record.ttl.into()),
                value: record.data.to_string(),
            };
            // Aliases come with every answer.
            if !all.contains(&record) {
                all.push(record);
            }
        }
    }
    Ok(all)
}

/// The servers this system asks: those of `/etc/resolv.conf`.
///
/// # Errors
/// `ConfigInvalid` when it names none, or cannot be read.
pub fn system_servers() -> Result<Vec<String>> {
    route::system()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Records, alias, ip, srv};

    #[tokio::test]
    async fn every_record_of_a_name_is_told_once() {
        let server = testing::server(Records::of([
            srv("api.test", 1, 5, 8080, "one.test"),
            ip("api.test", "192.0.2.1"),
            ip("api.test", "2001:db8::1"),
            alias("www.test", "api.test"),
            testing::soa("test", 60, 5),
        ]))
        .await;
        let servers = [server.addr().to_string()];
        let asked = async |name| answers(&servers, name, Duration::from_secs(5)).await.unwrap();
        let all: Vec<_> = asked("api.test")
            .await
            .into_iter()
            .map(|record| format!("{} {} {}", record.kind, record.ttl.as_secs(), record.value))
            .collect();
        assert_eq!(
            all,
            [
                "SRV 60 1 5 8080 one.test.",
                "A 60 192.0.2.1",
                "AAAA 60 2001:db8::1"
            ]
        );
        assert!(asked("none.test").await.is_empty());
    }
}
