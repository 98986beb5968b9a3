//! One connection through the proxy: two pumps, one for each direction.

use std::{
    future::pending,
    io, mem,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, sink},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    time::{sleep, timeout},
};

use super::flow::{BodyMeter, Close, Direction, Flow, Flows};

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How long a peer may take to read what was sent before its end.
const LINGER: Duration = Duration::from_secs(1);
const BUFFER: usize = 64 << 10;

/// What one connection was told to do.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Orders {
    pub(super) cut: Option<Close>,
    pub(super) half_close_up: bool,
    pub(super) half_close_down: bool,
}

impl Orders {
    fn half_close(self, direction: Direction) -> bool {
        match direction {
            Direction::Up => self.half_close_up,
            Direction::Down => self.half_close_down,
        }
    }
}

/// Bytes delivered, over all connections.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) up: AtomicU64,
    pub(super) down: AtomicU64,
}

/// What a connection needs to know while it lasts.
#[derive(Debug)]
pub(super) struct Link<'a> {
    pub(super) flows: watch::Receiver<Flows>,
    pub(super) orders: watch::Receiver<Orders>,
    pub(super) traffic: &'a Traffic,
}

impl Link<'_> {
    /// Connects to `upstream` and forwards until either side or an order ends it; returns the server's side, if there was
    /// one, and how both are to be closed.
    pub(super) async fn run(
        &self,
        client: &mut TcpStream,
        upstream: SocketAddr,
    ) -> (Option<TcpStream>, Close) {
        let connected = tokio::select! {
            biased;
            close = self.cut() => return (None, close),
            connected = timeout(CONNECT_DEADLINE, TcpStream::connect(upstream)) => connected,
        };
        let Ok(Ok(mut server)) = connected else {
            return (None, Close::Reset);
        };
        // Best effort: without it small pieces only take longer.
        let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
        let (client_read, client_write) = client.split();
        let (server_read, server_write) = server.split();
        let close = tokio::select! {
            biased;
            close = self.cut() => close,
            ended = async {
                tokio::try_join!(
                    self.pump(Direction::Up, client_read, server_write),
                    self.pump(Direction::Down, server_read, client_write),
                )
            } => ended.err().unwrap_or(Close::Fin),
        };
        (Some(server), close)
    }

    async fn cut(&self) -> Close {
        let mut orders = self.orders.clone();
        match orders
            .wait_for(|orders| orders.cut.is_some())
            .await
            .map(|orders| orders.cut)
        {
            Ok(Some(close)) => close,
            _ => pending().await,
        }
    }

    async fn half_close(&self, direction: Direction) {
        let mut orders = self.orders.clone();
        if orders
            .wait_for(|orders| orders.half_close(direction))
            .await
            .is_err()
        {
            pending::<()>().await;
        }
    }

    /// Forwards one direction to its end; an error ends the other one too.
    async fn pump(&self, direction: Direction, from: ReadHalf<'_>, to: WriteHalf<'_>) -> Result<(), Close> {
        let mut pump = Pump {
            direction,
            from,
            to,
            flows: self.flows.clone(),
            meter: BodyMeter::default(),
            delivered: match direction {
                Direction::Up => &self.traffic.up,
                Direction::Down => &self.traffic.down,
            },
        };
        tokio::select! {
            biased;
            () = self.half_close(direction) => {}
            ended = pump.run() => ended?,
        }
        pump.to.shutdown().await.map_err(|_| Close::Reset)
    }
}

struct Pump<'a> {
    direction: Direction,
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    flows: watch::Receiver<Flows>,
    meter: BodyMeter,
    delivered: &'a AtomicU64,
}

impl Pump<'_> {
    /// Forwards until the end of the stream.
    async fn run(&mut self) -> Result<(), Close> {
        let mut buffer = vec![0; BUFFER];
        loop {
            if self.flow() == Flow::Stall {
                changed(&mut self.flows).await;
                continue;
            }
            let read = tokio::select! {
                biased;
                () = changed(&mut self.flows) => continue,
                read = self.from.read(&mut buffer) => read.map_err(|_| Close::Reset)?,
            };
            if read == 0 {
                return self.end().await;
            }
            self.deliver(&mut buffer[..read]).await?;
        }
    }

    /// The flow now; a change after this wakes [`changed`].
    fn flow(&mut self) -> Flow {
        let flow = self.flows.borrow_and_update().of(self.direction);
        if !matches!(flow, Flow::CutBody { .. }) {
            self.meter = BodyMeter::default();
        }
        flow
    }

    /// Waits until the end of the stream may be passed on.
    async fn end(&mut self) -> Result<(), Close> {
        loop {
            match self.flow() {
                Flow::Stall | Flow::Discard => changed(&mut self.flows).await,
                Flow::Delay(delay) if !self.held(delay).await => {}
                _ => return Ok(()),
            }
        }
    }

    async fn deliver(&mut self, mut read: &mut [u8]) -> Result<(), Close> {
        while !read.is_empty() {
            match self.flow() {
                Flow::Pass => return self.write(read).await,
                Flow::Delay(delay) => {
                    if self.held(delay).await {
                        return self.write(read).await;
                    }
                }
                Flow::Trickle { bytes, every } => {
                    let at = bytes.clamp(1, read.len());
                    let (now, later) = mem::take(&mut read).split_at_mut(at);
                    self.write(now).await?;
                    read = later;
                    self.held(every).await;
                }
                Flow::Stall => changed(&mut self.flows).await,
                Flow::Discard => return Ok(()),
                Flow::Garbage => {
                    fastrand::fill(read);
                    return self.write(read).await;
                }
                Flow::CutBody { after, close } => {
                    let Some(allowed) = self.meter.allow(read, after) else {
                        return self.write(read).await;
                    };
                    self.write(&read[..allowed]).await?;
                    return Err(close);
                }
            }
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Close> {
        self.to.write_all(bytes).await.map_err(|_| Close::Reset)?;
        self.delivered.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Waits for `delay`; false when the flow changed before.
    async fn held(&mut self, delay: Duration) -> bool {
        tokio::select! {
            biased;
            () = changed(&mut self.flows) => false,
            () = sleep(delay) => true,
        }
    }
}

async fn changed(flows: &mut watch::Receiver<Flows>) {
    if flows.changed().await.is_err() {
        pending::<()>().await; // the proxy is gone, and its task group ends this task
    }
}

/// Sends a FIN or arms the socket to send a RST when dropped.
pub(super) async fn close(stream: &mut TcpStream, close: Close) -> io::Result<()> {
    match close {
        Close::Fin => stream.shutdown().await,
        Close::Reset => stream.set_zero_linger(),
    }
}

/// Reads what the peer still sends for a while: a socket dropped with unread bytes would send a RST after its FIN.
pub(super) async fn linger(mut stream: TcpStream) {
    // Neither a time-out nor an error changes anything: the stream is dropped next.
    let _ = timeout(LINGER, copy(&mut stream, &mut sink())).await;
}
