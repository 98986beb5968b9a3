//! A DNS server for what any registry holds.

mod answer;
mod index;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    thread::available_parallelism,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use discovery_core::{ErrorKind, Result, TaskGroup, pick::Service};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    time::{sleep, timeout},
};

pub(crate) use self::{answer::Desk, index::Index};
use crate::{
    config::{invalid, misnamed},
    error::error,
    name, stream,
};

/// The largest packet that is read: questions are short.
const QUESTION: usize = 4096;
/// How many connections are open at a time.
const CONNECTIONS: usize = 256;
/// How long a connection may say nothing, and take to be written to.
const IDLE: Duration = Duration::from_secs(10);
/// The pause after a failed `recv`.
const PAUSE: Duration = Duration::from_millis(10);
/// How long shutting down may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// How a [`Face`] answers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaceConfig {
    /// Where it listens, over UDP and TCP: 127.0.0.1:8600.
    pub listen: SocketAddr,
    /// The domain everything is below: `discovery`.
    pub zone: String,
    /// How long its answers are good for while the view behind is live; 5 s. What is stale is good for a second.
    pub ttl: Duration,
    /// How long it is good that there is nothing; 2 s.
    pub negative_ttl: Duration,
}

impl Default for FaceConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8600).into(),
            zone: "discovery".to_owned(),
            ttl: Duration::from_secs(5),
            negative_ttl: Duration::from_secs(2),
        }
    }
}

impl FaceConfig {
    /// A face that listens here; port 0 is any that is free.
    pub fn at(listen: SocketAddr) -> Self {
        Self {
            listen,
            ..Self::default()
        }
    }

    /// The same face for this domain.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = zone.into();
        self
    }
}

/// Answers DNS from a view of any registry: made for one of every service, `client.query(&Query::all())`.
///
/// Answered are A, AAAA, SRV and TXT of `<service>.service.<zone>`, `<tag>.<service>.service.<zone>` and
/// `_<service>._<tag>.service.<zone>` (RFC 2782; `_tcp` and `_udp` are no tags). Instances that are unhealthy or draining are
/// left out. SRV records lead to names made of the address, which come along. While there is no view, the answer is SERVFAIL.
///
/// The view is the only thing that is kept: no question makes another.
///
/// # Errors
/// `ConfigInvalid` for a zone that is no name, `Unavailable` when the address cannot be listened on.
pub async fn serve(view: &Service, config: FaceConfig) -> Result<Face> {
    let zone = name::absolute(&config.zone).map_err(|error| misnamed("zone", &error))?;
    let tasks = TaskGroup::current()?;
    let (udp, tcp) = listen(config.listen).await.map_err(|source| {
        error(ErrorKind::Unavailable, "cannot listen")
            .with_context("address", config.listen.to_string())
            .with_hint("is the address of this host, and the port free? those below 1024 need a right")
            .with_source(source)
    })?;
    let addr = udp
        .local_addr()
        .map_err(|source| error(ErrorKind::Unexpected, "no address").with_source(source))?;
    let seconds = |ttl: Duration| u32::try_from(ttl.as_secs()).map_err(|_| invalid("ttl", "out of range"));
    let desk = Arc::new(Desk {
        zone,
        ttl: seconds(config.ttl)?,
        negative_ttl: seconds(config.negative_ttl)?,
        index: ArcSwapOption::empty(),
    });
    tasks.spawn(follow(view.clone(), desk.clone(), tasks.clone()));
    let udp = Arc::new(udp);
    for _ in 0..available_parallelism().map_or(1, usize::from).min(4) {
        tasks.spawn(datagrams(udp.clone(), desk.clone(), tasks.clone()));
    }
    tasks.serve(tcp, CONNECTIONS, move |connection| {
        converse(connection, desk.clone())
    });
    Ok(Face { addr, tasks })
}

/// A DNS server for what a registry holds; made by [`serve`]. Dropping it ends it soon.
#[derive(Debug)]
pub struct Face {
    addr: SocketAddr,
    tasks: TaskGroup,
}

impl Face {
    /// Where it listens, over UDP and TCP.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Ends it, and waits for every task.
    ///
    /// # Errors
    /// `Timeout` when a task does not end within 5 s.
    pub async fn shutdown(&self) -> Result<()> {
        self.tasks.join(DEADLINE).await
    }
}

impl Drop for Face {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

/// Both sockets, on one port.
async fn listen(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    for _ in 0..16 {
        let tcp = TcpListener::bind(address).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((udp, tcp)),
            // A port that is free over TCP may be taken over UDP: another one then.
            Err(error) if address.port() == 0 && error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// Keeps the index as the view is.
async fn follow(view: Service, desk: Arc<Desk>, tasks: TaskGroup) {
    let mut changes = view.subscribe();
    loop {
        let Some(next) = tasks.cancelled().run_until_cancelled(changes.next()).await else {
            return;
        };
        match next {
            Ok(snapshot) => desk.index.store(Some(Arc::new(Index::new(&snapshot)))),
            Err(error) => {
                desk.index.store(None);
                if error.kind() == ErrorKind::Closed {
                    return;
                }
            }
        }
    }
}

async fn datagrams(socket: Arc<UdpSocket>, desk: Arc<Desk>, tasks: TaskGroup) {
    let serve = async {
        let mut buffer = vec![0; QUESTION];
        loop {
            let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
                sleep(PAUSE).await;
                continue;
            };
            if let Some(reply) = desk.answer(&buffer[..length], false) {
                // One that is gone needs no answer.
                let _ = socket.send_to(&reply, client).await;
            }
        }
    };
    tasks.cancelled().run_until_cancelled(serve).await;
}

/// Answers one question after another, until the client ends it or says nothing for too long.
async fn converse(mut connection: TcpStream, desk: Arc<Desk>) {
    while let Ok(Ok(question)) = timeout(IDLE, stream::read(&mut connection, None)).await {
        let Some(reply) = desk.answer(&question, true) else {
            return;
        };
        if !matches!(
            timeout(IDLE, stream::write(&mut connection, &reply)).await,
            Ok(Ok(()))
        ) {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
