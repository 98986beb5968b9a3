//! Real servers for tests, on loopback only.

mod authority;
mod child;
pub mod consul;
pub mod dns;
pub mod etcd;
pub mod eureka;
mod http;
#[cfg(feature = "kube")]
pub mod kube;
mod place;
mod program;
#[cfg(test)]
mod tests;

use std::{fmt::Debug, net::SocketAddr};

use async_trait::async_trait;
use discovery_core::Result;

pub use self::{
    authority::{Authority, Identity},
    child::{ChildServer, Recipe},
    http::Reply,
    place::Place,
    program::Program,
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

/// What every launcher around a [`ChildServer`] in its field `server` has.
///
/// A second argument names an async method of it that is called before it is started.
macro_rules! child_server {
    ($name:ident $(, $before:ident)?) => {
        impl $name {
            /// The id of its process, while it runs.
            pub fn pid(&self) -> Option<u32> {
                self.server.pid()
            }

            /// Its own directory, deleted with it.
            pub fn dir(&self) -> &std::path::Path {
                self.server.place().dir()
            }

            /// The end of its log.
            pub fn log_tail(&self) -> String {
                self.server.place().log_tail()
            }

            /// Freezes it: it keeps its connections and answers nothing.
            pub async fn pause(&self) -> discovery_core::Result<()> {
                self.server.pause().await
            }

            /// Lets it go on after [`Self::pause`].
            pub fn resume(&self) -> discovery_core::Result<()> {
                self.server.resume()
            }
        }

        /// # Cancel safety
        /// As [`ChildServer`](crate::server::ChildServer)'s.
        #[async_trait::async_trait]
        impl crate::server::Server for $name {
            async fn start(&self) -> discovery_core::Result<()> {
                $(self.$before().await?;)?
                self.server.start().await
            }

            async fn stop(&self) -> discovery_core::Result<()> {
                self.server.stop().await
            }

            async fn kill(&self) -> discovery_core::Result<()> {
                self.server.kill().await
            }

            fn endpoint(&self) -> std::net::SocketAddr {
                self.server.endpoint()
            }

            async fn version(&self) -> discovery_core::Result<String> {
                self.server.version().await
            }
        }
    };
}
use child_server;
