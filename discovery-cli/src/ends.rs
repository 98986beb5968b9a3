//! How commands that stay come to their end.

use std::{io, time::Duration};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

/// How often is looked whether anybody still reads.
const LOOK: Duration = Duration::from_millis(250);

/// Somebody who asks for the end: by Ctrl-C or SIGTERM.
pub(crate) struct Ends {
    term: Signal,
    interrupt: Signal,
}

impl Ends {
    /// Listens from now on: until then a signal kills.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits until the end is asked for.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Whoever read our output is gone. Without anything to write, nothing else would tell.
pub(crate) async fn unread() {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let stdout = io::stdout();
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let seen = poll(&mut watched, Some(&now));
        if seen.is_ok() && watched[0].revents().intersects(PollFlags::ERR | PollFlags::NVAL) {
            return;
        }
    }
}
