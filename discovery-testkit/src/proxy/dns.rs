//! A DNS server that lies on demand: between a client and a real server, or alone.
//!
//! It listens over UDP and TCP at one port. What it does with a question is up to its rule: a function of the packet.
//!
//! ```
//! use discovery_testkit::proxy::dns::{Act, DnsProxy, refusal};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> discovery_core::Result<()> {
//! let proxy = DnsProxy::stub().await?;
//! // 2: the server cannot answer now.
//! proxy.rule(|packet| Act::Reply(vec![refusal(packet.bytes, 2)]));
//! # proxy.shutdown().await
//! # }
//! ```

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use discovery_core::{Result, TaskGroup};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{ACCEPT_PAUSE, SHUTDOWN_DEADLINE, cannot_listen, door::Door};
use crate::sync::lock;

/// How long the real server may take.
const UPSTREAM: Duration = Duration::from_secs(20);
/// How long a port may be in the hands of somebody else when it is wanted back.
const REOPENED: Duration = Duration::from_secs(20);
/// How many questions are remembered.
const LOG: usize = 100_000;
/// The head of a message, in bytes.
const HEAD: usize = 12;

/// A question as it arrived.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Packet<'a> {
    /// All of it, without the length before it over TCP.
    pub bytes: &'a [u8],
    /// Whether it came over TCP.
    pub tcp: bool,
}

impl Packet<'_> {
    /// The name and the number of the type it asks for, the name in lower case without the dot at its end.
    pub fn asks(&self) -> Option<(String, u16)> {
        let end = question(self.bytes)?;
        let (mut labels, mut at) = (Vec::new(), HEAD);
        while self.bytes[at] > 0 {
            let next = at + 1 + usize::from(self.bytes[at]);
            labels.push(String::from_utf8_lossy(&self.bytes[at + 1..next]).to_lowercase());
            at = next;
        }
        let kind = u16::from_be_bytes([self.bytes[end - 4], self.bytes[end - 3]]);
        Some((labels.join("."), kind))
    }
}

/// A change of what the real server answered, into any number of packets.
pub type Edit = Arc<dyn Fn(Vec<u8>) -> Vec<Vec<u8>> + Send + Sync>;

/// What to do with a question.
#[derive(Clone)]
#[non_exhaustive]
pub enum Act {
    /// Ask the real server, and answer what it does.
    Pass,
    /// Say nothing.
    Silence,
    /// Over TCP, close the connection; over UDP, say nothing.
    Close,
    /// Send these.
    Reply(Vec<Vec<u8>>),
    /// Ask the real server, and send what is made of its answer.
    Edit(Edit),
    /// As [`Self::Pass`], so much later.
    Delay(Duration),
}

impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "Pass",
            Self::Silence => "Silence",
            Self::Close => "Close",
            Self::Reply(_) => "Reply",
            Self::Edit(_) => "Edit",
            Self::Delay(_) => "Delay",
        })
    }
}

impl Act {
    /// Asks the real server, and sends what `change` makes of its answer.
    pub fn edit(change: impl Fn(Vec<u8>) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self::Edit(Arc::new(change))
    }
}

/// The answer to `question` with this response code, without any record.
pub fn refusal(question: &[u8], code: u8) -> Vec<u8> {
    let end = self::question(question).unwrap_or(HEAD);
    let mut reply = question.get(..end).unwrap_or(question).to_vec();
    reply.resize(end.max(HEAD), 0);
    reply[2] |= 0x80;
    reply[3] = 0x80 | (code & 0xf);
    reply[4..HEAD].fill(0);
    reply[5] = u8::from(end > HEAD);
    reply
}

/// The answer to `question` that says it was cut, and holds nothing.
pub fn cut(question: &[u8]) -> Vec<u8> {
    let mut reply = refusal(question, 0);
    reply[2] |= 0x02;
    reply
}

/// Where the first question of a message ends.
fn question(bytes: &[u8]) -> Option<usize> {
    let mut at = HEAD;
    loop {
        match usize::from(*bytes.get(at)?) {
            0 => break,
            length @ 1..64 => at += length + 1,
            _ => return None,
        }
    }
    let end = at + 5;
    (end <= bytes.len()).then_some(end)
}

type Rule = Arc<dyn Fn(&Packet<'_>) -> Act + Send + Sync>;

/// A DNS server that passes on, changes, invents or swallows answers. Everything is passed on until there is a rule.
///
/// Dropping it ends its tasks soon; [`DnsProxy::shutdown`] waits for them.
pub struct DnsProxy {
    shared: Arc<Shared>,
    tasks: TaskGroup,
    udp: Mutex<Option<(CancellationToken, JoinHandle<()>)>>,
}

impl fmt::Debug for DnsProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DnsProxy").field(&self.addr()).finish()
    }
}

struct Shared {
    door: Door,
    upstream: Option<SocketAddr>,
    rule: Mutex<Rule>,
    /// Ends the connections that are open.
    cut: Mutex<CancellationToken>,
    log: Mutex<Vec<(String, u16, bool)>>,
}

impl DnsProxy {
    /// A proxy on a free port of 127.0.0.1 that asks `upstream`.
    ///
    /// # Errors
    /// [`ConfigInvalid`](discovery_core::ErrorKind::ConfigInvalid) outside a tokio runtime,
    /// [`Unexpected`](discovery_core::ErrorKind::Unexpected) when there is no port to listen on.
    pub async fn start(upstream: SocketAddr) -> Result<Self> {
        Self::listen(Some(upstream)).await
    }

    /// A server that has its rule only, and says nothing where that passes on.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn stub() -> Result<Self> {
        Self::listen(None).await
    }

    async fn listen(upstream: Option<SocketAddr>) -> Result<Self> {
        let tasks = TaskGroup::current()?;
        // A port that is free over TCP may be taken over UDP.
        let (door, socket) = loop {
            let door = Door::new().map_err(cannot_listen)?;
            match UdpSocket::bind(door.addr()).await {
                Ok(socket) => break (door, socket),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(cannot_listen(error)),
            }
        };
        let shared = Arc::new(Shared {
            door,
            upstream,
            rule: Mutex::new(Arc::new(|_| Act::Pass)),
            cut: Mutex::new(tasks.cancelled().child_token()),
            log: Mutex::default(),
        });
        tasks.spawn(accept(shared.clone(), tasks.clone()));
        let proxy = Self {
            shared,
            tasks,
            udp: Mutex::default(),
        };
        proxy.open(socket);
        Ok(proxy)
    }

    fn open(&self, socket: UdpSocket) {
        let token = self.tasks.cancelled().child_token();
        let task = self.tasks.spawn(datagrams(
            self.shared.clone(),
            self.tasks.clone(),
            socket,
            token.clone(),
        ));
        *lock(&self.udp) = Some((token, task));
    }

    /// Where clients ask, over UDP and TCP.
    pub fn addr(&self) -> SocketAddr {
        self.shared.door.addr()
    }

    /// What happens to questions from now on.
    pub fn rule(&self, rule: impl Fn(&Packet<'_>) -> Act + Send + Sync + 'static) {
        *lock(&self.shared.rule) = Arc::new(rule);
    }

    /// How many questions came so far.
    pub fn count(&self) -> usize {
        lock(&self.shared.log).len()
    }

    /// The questions so far: name, type, and whether over TCP.
    pub fn asked(&self) -> Vec<(String, u16, bool)> {
        lock(&self.shared.log).clone()
    }

    /// Closes the connections that are open over TCP.
    pub fn cut(&self) {
        let next = self.tasks.cancelled().child_token();
        std::mem::replace(&mut *lock(&self.shared.cut), next).cancel();
    }

    /// Nobody listens any more, over UDP and TCP, and open connections are closed.
    pub async fn refuse(&self) {
        self.shared.door.shut();
        self.cut();
        let open = lock(&self.udp).take();
        if let Some((token, task)) = open {
            token.cancel();
            let _ = task.await;
        }
    }

    /// Passes everything on again, at the same port.
    ///
    /// # Errors
    /// [`Unexpected`](discovery_core::ErrorKind::Unexpected) when the port cannot be listened on again.
    pub async fn heal(&self) -> Result<()> {
        self.rule(|_| Act::Pass);
        self.shared.door.open().map_err(cannot_listen)?;
        if lock(&self.udp).is_none() {
            let over = Instant::now() + REOPENED;
            let socket = loop {
                match UdpSocket::bind(self.addr()).await {
                    Ok(socket) => break socket,
                    // Whoever asks something got that port for the moment.
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < over => {
                        sleep(ACCEPT_PAUSE).await;
                    }
                    Err(error) => return Err(cannot_listen(error)),
                }
            };
            self.open(socket);
        }
        Ok(())
    }

    /// Stops listening and waits for every task.
    ///
    /// # Errors
    /// [`Timeout`](discovery_core::ErrorKind::Timeout) when a task does not end within 30 s.
    pub async fn shutdown(&self) -> Result<()> {
        self.shared.door.shut();
        self.tasks.join(SHUTDOWN_DEADLINE).await
    }
}

impl Drop for DnsProxy {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

impl Shared {
    /// What to send for a question; nothing where the connection is to be closed.
    async fn answers(&self, bytes: &[u8], tcp: bool) -> Option<Vec<Vec<u8>>> {
        let packet = Packet { bytes, tcp };
        {
            let mut log = lock(&self.log);
            if log.len() < LOG {
                let (name, kind) = packet.asks().unwrap_or_default();
                log.push((name, kind, tcp));
            }
        }
        let rule = lock(&self.rule).clone();
        match rule(&packet) {
            Act::Silence => Some(Vec::new()),
            Act::Close => None,
            Act::Reply(packets) => Some(packets),
            Act::Pass => Some(self.ask(bytes, tcp).await.into_iter().collect()),
            Act::Delay(delay) => {
                sleep(delay).await;
                Some(self.ask(bytes, tcp).await.into_iter().collect())
            }
            Act::Edit(edit) => Some(
                self.ask(bytes, tcp)
                    .await
                    .map(|reply| edit(reply))
                    .unwrap_or_default(),
            ),
        }
    }

    async fn ask(&self, bytes: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let upstream = self.upstream?;
        let asked = async {
            if tcp {
                let mut stream = TcpStream::connect(upstream).await?;
                write(&mut stream, bytes).await?;
                read(&mut stream).await
            } else {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
                socket.connect(upstream).await?;
                socket.send(bytes).await?;
                let mut reply = vec![0; usize::from(u16::MAX)];
                let length = socket.recv(&mut reply).await?;
                reply.truncate(length);
                Ok(reply)
            }
        };
        timeout(UPSTREAM, asked).await.ok()?.ok()
    }
}

async fn datagrams(shared: Arc<Shared>, tasks: TaskGroup, socket: UdpSocket, token: CancellationToken) {
    let socket = Arc::new(socket);
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let receive = async {
        loop {
            let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let (bytes, shared, token) = (buffer[..length].to_vec(), shared.clone(), token.clone());
            // Whoever still answers must not keep the socket open.
            let weak = Arc::downgrade(&socket);
            tasks.spawn(async move {
                let answers = token.run_until_cancelled(shared.answers(&bytes, false)).await;
                for packet in answers.flatten().unwrap_or_default() {
                    if let Some(socket) = weak.upgrade() {
                        let _ = socket.send_to(&packet, client).await;
                    }
                }
            });
        }
    };
    token.run_until_cancelled(receive).await;
}

async fn accept(shared: Arc<Shared>, tasks: TaskGroup) {
    let cancelled = tasks.cancelled().clone();
    while let Some(accepted) = cancelled.run_until_cancelled(shared.door.accept()).await {
        let Ok(mut stream) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (shared, cancelled) = (shared.clone(), lock(&shared.cut).clone());
        tasks.spawn(async move {
            let serve = async {
                loop {
                    let bytes = read(&mut stream).await?;
                    match shared.answers(&bytes, true).await {
                        None => return Ok::<_, io::Error>(()),
                        Some(packets) => {
                            for packet in packets {
                                write(&mut stream, &packet).await?;
                            }
                        }
                    }
                }
            };
            // A client that went away needs no telling.
            cancelled.run_until_cancelled(serve).await
        });
    }
}

async fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend(bytes);
    stream.write_all(&framed).await
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a.Test`, type A, under id 7.
    const QUESTION: &[u8] = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01a\x04Test\0\0\x01\0\x01";

    #[test]
    fn a_question_is_read_and_answered_without_records() {
        let packet = Packet {
            bytes: QUESTION,
            tcp: false,
        };
        assert_eq!(packet.asks(), Some(("a.test".to_owned(), 1)));
        let reply = refusal(QUESTION, 5);
        assert_eq!(reply[..6], [0, 7, 0x81, 0x85, 0, 1]);
        assert_eq!(reply[HEAD..], QUESTION[HEAD..]);
        assert_eq!(cut(QUESTION)[2], 0x83);
        assert_eq!(
            refusal(&[1], 2).len(),
            HEAD,
            "what is no question has an answer, too"
        );
    }

    async fn ask(server: SocketAddr) -> io::Result<Vec<u8>> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        socket.connect(server).await?;
        socket.send(QUESTION).await?;
        let mut reply = vec![0; 512];
        let length = timeout(Duration::from_secs(5), socket.recv(&mut reply)).await??;
        reply.truncate(length);
        Ok(reply)
    }

    #[tokio::test]
    async fn it_answers_by_rule_over_both_and_refuses_and_heals() {
        let server = DnsProxy::stub().await.unwrap();
        server.rule(|packet| Act::Reply(vec![refusal(packet.bytes, 3)]));
        let proxy = DnsProxy::start(server.addr()).await.unwrap();
        assert_eq!(ask(proxy.addr()).await.unwrap(), refusal(QUESTION, 3));
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        write(&mut stream, QUESTION).await.unwrap();
        assert_eq!(read(&mut stream).await.unwrap(), refusal(QUESTION, 3));
        assert_eq!(
            proxy.asked(),
            [("a.test".to_owned(), 1, false), ("a.test".to_owned(), 1, true)]
        );

        proxy.rule(|_| Act::edit(|reply| vec![vec![0], reply]));
        assert_eq!(ask(proxy.addr()).await.unwrap(), [0]);

        proxy.refuse().await;
        assert_eq!(
            ask(proxy.addr()).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        proxy.heal().await.unwrap();
        assert_eq!(ask(proxy.addr()).await.unwrap(), refusal(QUESTION, 3));
        proxy.shutdown().await.unwrap();
        server.shutdown().await.unwrap();
    }
}
