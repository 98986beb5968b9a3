//! Faults on demand: what tests of System Control Discovery, and of backends made elsewhere, break things with.
//!
//! - [`proxy::Proxy`]: a TCP proxy that refuses, cuts, stalls, delays and garbles; [`proxy::http::HttpProxy`]: one that
//!   understands HTTP, changes answers by rule and remembers every request.
//! - [`server`]: real servers as child processes, with their logs at hand when they fail: [Consul](server::consul),
//!   [etcd](server::etcd), kube-apiserver (`server::kube`, under the feature `kube`), [Eureka](server::eureka), BIND and
//!   Knot ([`server::dns`]).
//! - [`suite`]: the conformance cases every backend must pass, to be run on your own.
//! - [`chaos`]: a wrapper that gives a backend without a wire its failures.
//! - [`eventually()`]: waiting for something without a bare sleep.
//! - [`capture`]: everything logged, to be searched for a secret.
//!
//! Everything listens on 127.0.0.1 only, and every task belongs to the thing that started it. Proxies compose: put a
//! [`proxy::Proxy`] in front of an [`proxy::http::HttpProxy`] to have the faults of both. Real sockets do not know the
//! paused clock of tokio's tests: it would jump to the next deadline while bytes are under way.
//!
//! ```
//! use std::time::Duration;
//!
//! use discovery_testkit::{
//!     eventually,
//!     proxy::{Close, Proxy, http::{HttpProxy, Rule}},
//! };
//! use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::TcpStream};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = HttpProxy::stub()?;
//! server.rule(Rule::get("/hello").reply(200, "world"));
//! let proxy = Proxy::start(server.addr())?;
//!
//! let mut client = TcpStream::connect(proxy.addr()).await?;
//! client.write_all(b"GET /hello HTTP/1.1\r\nhost: test\r\n\r\n").await?;
//! eventually("the request arrives", Duration::from_secs(5), || async {
//!     server.requests_matching("/hello").len() == 1
//! })
//! .await;
//!
//! proxy.cut(Close::Fin).await; // the client's connection ends ...
//! client.read_to_end(&mut Vec::new()).await?;
//! proxy.refuse(); // ... and no new one is let in
//! assert!(TcpStream::connect(proxy.addr()).await.is_err());
//! proxy.heal()?; // on the same port
//! assert!(TcpStream::connect(proxy.addr()).await.is_ok());
//!
//! proxy.shutdown().await?;
//! server.shutdown().await?;
//! # Ok(())
//! # }
//! ```

pub mod capture;
pub mod chaos;
mod eventually;
pub mod proxy;
pub mod server;
pub mod suite;
mod sync;

pub use eventually::{Outcome, eventually, try_eventually};
