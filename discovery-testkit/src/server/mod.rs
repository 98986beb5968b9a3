//! Real servers for tests, on loopback only.

mod child;
pub mod consul;
mod place;
#[cfg(test)]
mod tests;

use std::{fmt::Debug, net::SocketAddr};

use async_trait::async_trait;
use discovery_core::Result;

pub use self::{
    child::{ChildServer, Recipe},
    place::Place,
};

/// A server that a test may start, stop and break; it keeps its endpoint and its data from one start to the next.
#[async_trait]
pub trait Server: Debug + Send + Sync {
    /// Starts it and waits until it serves.
    ///
    /// # Errors
    /// Says why it could not start, with the end of its log; never a reason to skip a test.
    async fn start(&self) -> Result<()>;

    /// Stops it in order, by force where it takes too long; stopping a stopped server does nothing.
    async fn stop(&self) -> Result<()>;

    /// Ends it at once, as a crash would; killing a stopped server does nothing.
    async fn kill(&self) -> Result<()>;

    /// Stops it in order and starts it again.
    async fn restart(&self) -> Result<()> {
        self.stop().await?;
        self.start().await
    }

    /// Where it serves, now or once started.
    fn endpoint(&self) -> SocketAddr;

    /// The version it says it has.
    async fn version(&self) -> Result<String>;
}
