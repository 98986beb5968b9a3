//! One question over UDP, as plain as it can be; no part of what is tested.

use std::{net::Ipv4Addr, net::SocketAddr, time::Duration};

use discovery_core::{Error, ErrorKind, Result};
use tokio::{net::UdpSocket, time::timeout};

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(10);
const IN: u16 = 1;

/// The head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Its response code: 0 no error, 3 no such name, 5 refused.
    pub code: u8,
    /// How many records its answer section has.
    pub answers: u16,
    /// Whether it was cut to what a packet holds.
    pub truncated: bool,
}

pub(super) async fn ask(server: SocketAddr, name: &str, kind: u16) -> Result<Answer> {
    let id = fastrand::u16(..);
    let question = question(id, name, kind)?;
    match timeout(DEADLINE, exchange(server, &question)).await {
        Ok(Ok(reply)) => {
            head(id, &reply).ok_or_else(|| Error::new(ErrorKind::Protocol, "no answer to this question"))
        }
        Ok(Err(source)) => Err(Error::new(ErrorKind::Unavailable, "no answer").with_source(source)),
        Err(_) => Err(Error::new(ErrorKind::Timeout, "no answer in time")),
    }
}

async fn exchange(server: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut reply = vec![0; 4096];
    let length = socket.recv(&mut reply).await?;
    reply.truncate(length);
    Ok(reply)
}

fn question(id: u16, name: &str, kind: u16) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for word in [id, 0, 1, 0, 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let length = u8::try_from(label.len()).ok().filter(|length| *length < 64);
        bytes.push(length.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "a label is too long"))?);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    for word in [kind, IN] {
        bytes.extend(word.to_be_bytes());
    }
    Ok(bytes)
}

fn head(id: u16, reply: &[u8]) -> Option<Answer> {
    let word = |at: usize| Some(u16::from_be_bytes([*reply.get(at)?, *reply.get(at + 1)?]));
    let flags = word(2)?;
    let answer = Answer {
        code: u8::try_from(flags & 0xf).ok()?,
        answers: word(6)?,
        truncated: flags & 0x200 != 0,
    };
    (word(0)? == id && flags & 0x8000 != 0).then_some(answer)
}
