//! Asking a group of servers: one question, one answer, from whichever of them gives one.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use discovery_core::{Error, ErrorKind, Result, config::TlsConfig, tls};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RecordType},
};
use tokio::{net::UdpSocket, sync::Semaphore, time::timeout};

use crate::{
    config::{Transport, invalid},
    error,
    stream::{self, Streams},
    wire::{BADVERS, Question, Read},
};

/// How many questions are under way at a time.
const AT_ONCE: usize = 64;
/// More than this no server may send over UDP, whatever it was told.
const LARGEST: usize = 4096;

/// Servers that are asked for the same names.
#[derive(Debug)]
pub(crate) struct Client {
    servers: Vec<Server>,
    transport: Transport,
    timeout: Duration,
    /// Which server answered last: it is asked first.
    preferred: AtomicUsize,
    turns: Semaphore,
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    streams: Streams,
    /// It does not understand EDNS (D-3).
    plain: AtomicBool,
}

/// What one try with one server came to, where it is no answer.
enum Failed {
    /// It may understand the question without EDNS.
    Edns(Error),
    /// Another server may do better.
    For(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::For(error)
    }
}

impl Client {
    /// Reads certificates where TLS is spoken; sends nothing.
    pub(crate) fn new(
        servers: &[String],
        transport: Transport,
        security: &TlsConfig,
        timeout: Duration,
    ) -> Result<Self> {
        let secure = transport == Transport::Tls;
        let config = if secure {
            Some(tls::client_config(security)?)
        } else {
            None
        };
        let port = if secure { 853 } else { 53 };
        let servers = servers
            .iter()
            .map(|text| {
                let address = address(text, port)?;
                let tls = config.clone().map(|config| stream::tls(config, address));
                Ok(Server {
                    address,
                    streams: Streams::new(address, tls),
                    plain: AtomicBool::new(false),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        if servers.is_empty() {
            return Err(invalid("servers", "there is none").with_hint("give the address of a DNS server"));
        }
        Ok(Self {
            servers,
            transport,
            timeout,
            preferred: AtomicUsize::new(0),
            turns: Semaphore::new(AT_ONCE),
        })
    }

    /// The server that is named first.
    #[cfg(feature = "update")]
    pub(crate) fn first(&self) -> SocketAddr {
        // `new` refuses to have none.
        self.servers[0].address
    }

    /// What it is called for people.
    pub(crate) fn display(&self) -> String {
        let all: Vec<_> = self
            .servers
            .iter()
            .map(|server| server.address.to_string())
            .collect();
        all.join(",")
    }

    /// The answer to a question: records, or that there are none. Anything else is an error, told when every server had its
    /// turn, twice where only silence came.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub(crate) async fn ask(&self, name: &Name, kind: RecordType, whole: bool) -> Result<Box<Message>> {
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await;
        let tcp = match self.transport {
            Transport::Tcp | Transport::Tls => true,
            Transport::Auto => whole,
            Transport::Udp => false,
        };
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last = None;
        for round in 0..2 {
            for turn in 0..self.servers.len() {
                let index = (first + turn) % self.servers.len();
                let server = &self.servers[index];
                // Silence may mean that a question with EDNS is thrown away.
                let edns = round == 0 && !server.plain.load(Ordering::Relaxed);
                match self.once(server, name, kind, edns, tcp).await {
                    Ok(answer) => {
                        if round == 1 {
                            server.plain.store(true, Ordering::Relaxed);
                        }
                        self.preferred.store(index, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Err(error) => last = Some(error.with_context("server", server.address.to_string())),
                }
            }
            let silent = |error: &Error| matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Protocol);
            if !last.as_ref().is_some_and(silent) {
                break;
            }
        }
        Err(last.unwrap_or_else(|| error::late(self.timeout)))
    }

    /// Whether any server answers anything at all.
    pub(crate) async fn ping(&self) -> Result<()> {
        match self.ask(&Name::root(), RecordType::SOA, false).await {
            Err(error)
                if matches!(error.kind(), ErrorKind::Timeout)
                    || error.context().all(|(key, _)| key != "code") =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// One server's answer, within one timeout, without EDNS where it says that it does not understand it.
    async fn once(
        &self,
        server: &Server,
        name: &Name,
        kind: RecordType,
        edns: bool,
        tcp: bool,
    ) -> Result<Box<Message>> {
        match self.attempt(server, name, kind, edns, tcp).await {
            Ok(answer) => Ok(answer),
            Err(Failed::For(error)) => Err(error),
            Err(Failed::Edns(_)) => match self.attempt(server, name, kind, false, tcp).await {
                Ok(answer) => {
                    server.plain.store(true, Ordering::Relaxed);
                    Ok(answer)
                }
                Err(Failed::For(error) | Failed::Edns(error)) => Err(error),
            },
        }
    }

    async fn attempt(
        &self,
        server: &Server,
        name: &Name,
        kind: RecordType,
        edns: bool,
        tcp: bool,
    ) -> std::result::Result<Box<Message>, Failed> {
        let question = Question::new(name, kind, edns)?;
        let late = || error::late(self.timeout);
        let answer = if tcp {
            None
        } else {
            let mut garbled = false;
            match timeout(self.timeout, datagram(server.address, &question, &mut garbled)).await {
                Ok(answer) => answer.map_err(error::of_io)?,
                Err(_) if garbled => return Err(error::garbled().into()),
                Err(_) => return Err(late().into()),
            }
        };
        let answer = match answer {
            Some(answer) => answer,
            None => timeout(self.timeout, over_stream(server, &question))
                .await
                .map_err(|_| late())??,
        };
        match answer.metadata.response_code {
            ResponseCode::NoError if is_referral(&answer) => Err(error::referral().into()),
            ResponseCode::NoError | ResponseCode::NXDomain => Ok(answer),
            code @ (ResponseCode::FormErr | ResponseCode::NotImp | BADVERS) if edns => {
                Err(Failed::Edns(error::of_answer(code)))
            }
            code => Err(error::of_answer(code).into()),
        }
    }

    /// Sends a message over TCP to the first server, and answers what it says.
    #[cfg(feature = "update")]
    pub(crate) async fn tell(&self, message: &[u8]) -> Result<Vec<u8>> {
        let _turn = self.turns.acquire().await;
        let Some(server) = self.servers.first() else {
            return Err(error::late(self.timeout));
        };
        // A zone that is being written answers when it is done.
        let limit = self.timeout * 2;
        match timeout(limit, server.streams.exchange(message)).await {
            Ok(answer) => answer.map_err(error::of_io),
            Err(_) => Err(error::late(limit)),
        }
        .map_err(|error| error.with_context("server", server.address.to_string()))
    }
}

/// The answer over UDP; none where it was cut. What is no answer to the question is passed over, and waited on (D-4).
async fn datagram(
    server: SocketAddr,
    question: &Question,
    garbled: &mut bool,
) -> io::Result<Option<Box<Message>>> {
    let any: SocketAddr = if server.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    // A socket of its own, at a random port; connected, so that the kernel drops what others send.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(&question.bytes).await?;
    let mut buffer = vec![0; LARGEST];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match question.read(&buffer[..length]) {
            Read::Answer(answer) => return Ok(Some(answer)),
            Read::Cut => return Ok(None),
            Read::Other | Read::Garbage => *garbled = true,
        }
    }
}

async fn over_stream(server: &Server, question: &Question) -> Result<Box<Message>> {
    let packet = server
        .streams
        .exchange(&question.bytes)
        .await
        .map_err(error::of_io)?;
    match question.read(&packet) {
        Read::Answer(answer) => Ok(answer),
        Read::Cut => Err(error::error(
            ErrorKind::Protocol,
            "the answer is longer than a DNS message can be",
        )),
        Read::Other | Read::Garbage => Err(error::garbled()),
    }
}

/// Whether an answer only names other servers.
fn is_referral(answer: &Message) -> bool {
    let of = |kind| {
        answer
            .authorities
            .iter()
            .any(|record| record.record_type() == kind)
    };
    answer.answers.is_empty()
        && !answer.metadata.authoritative
        && !answer.metadata.recursion_available
        && of(RecordType::NS)
        && !of(RecordType::SOA)
}

/// `ip` or `ip:port`; a name would need a resolver to be found.
fn address(text: &str, port: u16) -> Result<SocketAddr> {
    let text = text.trim();
    let text = text
        .strip_prefix("localhost")
        .map_or(text.to_owned(), |rest| format!("127.0.0.1{rest}"));
    text.parse()
        .or_else(|_| {
            text.trim_matches(['[', ']'])
                .parse()
                .map(|ip| SocketAddr::new(ip, port))
        })
        .map_err(|_| {
            invalid("servers", "no address")
                .with_context("server", format!("{text:?}"))
                .with_hint("give `ip` or `ip:port`: a name would have to be resolved to be asked")
        })
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
