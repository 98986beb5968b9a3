//! A TCP proxy on loopback that breaks what passes through it on demand.
//!
//! A fault is one of three things: a *flow* says what happens to the bytes of one direction ([`Proxy::flow`]), the *door*
//! says what happens to new connections ([`Proxy::refuse`], [`Proxy::hang_up`], [`Proxy::limit`]), and an *order* ends
//! the connections open now ([`Proxy::cut`], [`Proxy::half_close`]). Flows and the door last until [`Proxy::heal`].

mod connection;
pub mod dns;
mod door;
mod flow;
pub mod http;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use discovery_core::{Error, ErrorKind, Result, TaskGroup};
use tokio::{net::TcpStream, sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

pub use self::flow::{Close, Direction, Flow};
use self::{
    connection::{Link, Orders, Traffic, close, linger},
    door::Door,
    flow::Flows,
};
use crate::sync::lock;

const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(30);
/// The pause after a failed `accept`, such as one for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// A TCP proxy between a client and the server it wants to reach, both on loopback.
///
/// Dropping it ends its tasks soon; [`Proxy::shutdown`] waits for them.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    tasks: TaskGroup,
}

#[derive(Debug)]
struct Shared {
    door: Door,
    flows: watch::Sender<Flows>,
    traffic: Traffic,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    upstream: SocketAddr,
    hang_up: Option<Close>,
    limit: Option<usize>,
    accepted: u64,
    peak: usize,
    open: HashMap<u64, watch::Sender<Orders>>,
}

/// What went through a proxy so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Connections accepted, those hung up on at once included; a refused one is never seen.
    pub accepted: u64,
    /// Connections open now.
    pub open: usize,
    /// The most that were ever open at a time.
    pub peak: usize,
    /// Bytes delivered to the server.
    pub bytes_up: u64,
    /// Bytes delivered to clients.
    pub bytes_down: u64,
}

impl Proxy {
    /// A proxy on a free port of 127.0.0.1 that forwards to `upstream`.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] outside a tokio runtime, [`ErrorKind::Unexpected`] when there is no port to listen on.
    pub fn start(upstream: SocketAddr) -> Result<Self> {
        let tasks = TaskGroup::current()?;
        let shared = Arc::new(Shared {
            door: Door::new().map_err(cannot_listen)?,
            flows: watch::Sender::new(Flows::default()),
            traffic: Traffic::default(),
            state: Mutex::new(State {
                upstream,
                hang_up: None,
                limit: None,
                accepted: 0,
                peak: 0,
                open: HashMap::new(),
            }),
        });
        tasks.spawn(accept(shared.clone(), tasks.clone()));
        Ok(Self { shared, tasks })
    }

    /// Where clients connect to; the same for the proxy's whole life.
    pub fn addr(&self) -> SocketAddr {
        self.shared.door.addr()
    }

    /// Forwards new connections to `upstream`; open ones stay where they are.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        lock(&self.shared.state).upstream = upstream;
    }

    /// Sets what happens to the bytes of one direction.
    pub fn flow(&self, direction: Direction, flow: Flow) {
        self.shared.flows.send_modify(|flows| flows.set(direction, flow));
    }

    /// Sets what happens to the bytes of both directions.
    pub fn flow_both(&self, flow: Flow) {
        self.shared.flows.send_replace(Flows { up: flow, down: flow });
    }

    /// Refuses new connections (`ECONNREFUSED`); open ones go on.
    pub fn refuse(&self) {
        self.shared.door.shut();
    }

    /// Accepts new connections and closes them at once; open ones go on.
    pub fn hang_up(&self, close: Close) {
        lock(&self.shared.state).hang_up = Some(close);
    }

    /// Resets new connections while `limit` are open; `None` is no limit.
    pub fn limit(&self, limit: Option<usize>) {
        lock(&self.shared.state).limit = limit;
    }

    /// Ends every fault: listens on the same port, forwards both directions, limits nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Unexpected`] when the port cannot be listened on again.
    pub fn heal(&self) -> Result<()> {
        self.flow_both(Flow::Pass);
        {
            let mut state = lock(&self.shared.state);
            (state.hang_up, state.limit) = (None, None);
        }
        self.shared.door.open().map_err(cannot_listen)
    }

    /// Closes all open connections on both sides and says how many they were.
    ///
    /// # Cancel safety
    /// Cancel-safe: the connections are told before the first wait.
    pub async fn cut(&self, close: Close) -> usize {
        let connections = self.order(|orders| orders.cut = Some(close));
        for connection in &connections {
            connection.closed().await;
        }
        connections.len()
    }

    /// Ends one direction of all open connections and says how many they were: downwards the client reads an end of file
    /// and may still send.
    pub fn half_close(&self, direction: Direction) -> usize {
        self.order(|orders| match direction {
            Direction::Up => orders.half_close_up = true,
            Direction::Down => orders.half_close_down = true,
        })
        .len()
    }

    fn order(&self, change: impl Fn(&mut Orders)) -> Vec<watch::Sender<Orders>> {
        let connections: Vec<_> = lock(&self.shared.state).open.values().cloned().collect();
        for connection in &connections {
            connection.send_modify(&change);
        }
        connections
    }

    /// What went through so far.
    pub fn counters(&self) -> Counters {
        let traffic = &self.shared.traffic;
        let state = lock(&self.shared.state);
        Counters {
            accepted: state.accepted,
            open: state.open.len(),
            peak: state.peak,
            bytes_up: traffic.up.load(Ordering::Relaxed),
            bytes_down: traffic.down.load(Ordering::Relaxed),
        }
    }

    /// Resets all connections, stops listening and waits for every task.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] when a task does not end within 30 s.
    ///
    /// # Cancel safety
    /// Cancel-safe: calling it again goes on waiting.
    pub async fn shutdown(&self) -> Result<()> {
        self.shared.door.shut();
        self.tasks.join(SHUTDOWN_DEADLINE).await
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

fn cannot_listen(source: std::io::Error) -> Error {
    Error::new(ErrorKind::Unexpected, "cannot listen on loopback").with_source(source)
}

async fn accept(shared: Arc<Shared>, tasks: TaskGroup) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = tasks.cancelled().cancelled() => return,
            accepted = shared.door.accept() => accepted,
        };
        match accepted {
            Ok(client) => admit(&shared, client, &tasks),
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Starts a connection, or hangs up where the door says so.
fn admit(shared: &Arc<Shared>, client: TcpStream, tasks: &TaskGroup) {
    let cancelled = tasks.cancelled().clone();
    let mut state = lock(&shared.state);
    state.accepted += 1;
    let full = state.limit.is_some_and(|limit| state.open.len() >= limit);
    if let Some(how) = state.hang_up.or(full.then_some(Close::Reset)) {
        drop(state);
        tasks.spawn(turn_away(client, how, cancelled));
        return;
    }
    let (id, upstream) = (state.accepted, state.upstream);
    let (orders, received) = watch::channel(Orders::default());
    state.open.insert(id, orders);
    state.peak = state.peak.max(state.open.len());
    drop(state);
    let open = Open {
        shared: shared.clone(),
        id,
    };
    tasks.spawn(serve(client, upstream, open, received, cancelled));
}

async fn serve(
    mut client: TcpStream,
    upstream: SocketAddr,
    open: Open,
    orders: watch::Receiver<Orders>,
    cancelled: CancellationToken,
) {
    let shared = open.shared.clone();
    let link = Link {
        flows: shared.flows.subscribe(),
        orders,
        traffic: &shared.traffic,
    };
    let (server, how) = cancelled
        .run_until_cancelled(link.run(&mut client, upstream))
        .await
        .unwrap_or((None, Close::Reset));
    let mut ends: Vec<_> = server.into_iter().chain([client]).collect();
    for end in &mut ends {
        // A peer that is gone already needs no telling.
        let _ = close(end, how).await;
    }
    if how == Close::Reset {
        ends.clear();
    }
    drop(open);
    drop(link); // `cut` waits for this
    for end in ends {
        cancelled.run_until_cancelled(linger(end)).await;
    }
}

async fn turn_away(mut client: TcpStream, how: Close, cancelled: CancellationToken) {
    if close(&mut client, how).await.is_ok() && how == Close::Fin {
        cancelled.run_until_cancelled(linger(client)).await;
    }
}

/// One open connection; dropping it counts it as closed.
#[derive(Debug)]
struct Open {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        lock(&self.shared.state).open.remove(&self.id);
    }
}
