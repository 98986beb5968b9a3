//! The listening side of a proxy: one port for life, whether it listens on it or not.

use std::{
    future::poll_fn,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Mutex,
    task::{Poll, Waker},
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Handle,
};

use crate::sync::lock;

const BACKLOG: u32 = 1024;

/// A listener that can be closed and opened again on the same port.
///
/// A second socket stays bound to the port without listening, so that nobody else is given it meanwhile; connections to a
/// port without a listener are refused by the kernel.
#[derive(Debug)]
pub(super) struct Door {
    addr: SocketAddr,
    runtime: Handle,
    _reservation: TcpSocket,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    listener: Option<TcpListener>,
    waiting: Option<Waker>,
}

impl Door {
    /// An open door on a free port of 127.0.0.1.
    pub(super) fn new() -> io::Result<Self> {
        let reservation = bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let door = Self {
            addr: reservation.local_addr()?,
            runtime: Handle::current(),
            _reservation: reservation,
            state: Mutex::default(),
        };
        door.open()?;
        Ok(door)
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Listens, unless it does already.
    pub(super) fn open(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        if state.listener.is_none() {
            let _runtime = self.runtime.enter();
            state.listener = Some(bind(self.addr)?.listen(BACKLOG)?);
            if let Some(acceptor) = state.waiting.take() {
                acceptor.wake();
            }
        }
        Ok(())
    }

    /// Stops listening: before this returns, connections not yet accepted are reset and new ones refused.
    pub(super) fn shut(&self) {
        lock(&self.state).listener = None;
    }

    /// The next connection, waiting while the door is shut; for one task only.
    ///
    /// # Cancel safety
    /// Cancel-safe: no connection is lost.
    pub(super) async fn accept(&self) -> io::Result<TcpStream> {
        poll_fn(|cx| {
            let mut state = lock(&self.state);
            state.waiting = Some(cx.waker().clone());
            match &state.listener {
                Some(listener) => listener.poll_accept(cx).map_ok(|(stream, _)| stream),
                None => Poll::Pending,
            }
        })
        .await
    }
}

fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // The reservation and the listener share the port, with each other and with connections that are still closing;
    // a socket without this option cannot have it.
    socket.set_reuseport(true)?;
    socket.bind(addr)?;
    Ok(socket)
}
