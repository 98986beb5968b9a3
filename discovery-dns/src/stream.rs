//! Messages over TCP and TLS: two bytes of length before each (D-5), connections kept for a while.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use tokio_rustls::TlsConnector;

/// How long a connection without work is kept: servers close theirs after two seconds or more.
const KEEP: Duration = Duration::from_millis(1500);
/// How many are kept per server.
const KEPT: usize = 8;
/// The head of every message, in bytes.
const HEAD: usize = 12;

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// The connections to one server.
pub(crate) struct Streams {
    address: SocketAddr,
    tls: Option<Tls>,
    idle: Mutex<Vec<(Instant, Connection)>>,
}

/// How to speak TLS to a server.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) connector: TlsConnector,
    pub(crate) name: ServerName<'static>,
}

type Connection = Box<dyn Io>;

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams")
            .field("address", &self.address)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

impl Streams {
    pub(crate) fn new(address: SocketAddr, tls: Option<Tls>) -> Self {
        Self {
            address,
            tls,
            idle: Mutex::default(),
        }
    }

    /// Sends a message and reads what answers it.
    ///
    /// A kept connection may have been closed meanwhile: then, once, a new one is tried. That may repeat a message the server
    /// has acted on, so messages are such that this does no harm (D-27).
    ///
    /// # Cancel safety
    /// Cancel-safe: a connection with an answer under way is dropped with the future.
    pub(crate) async fn exchange(&self, message: &[u8]) -> io::Result<Vec<u8>> {
        while let Some(connection) = self.kept() {
            if let Ok(answer) = self.on(connection, message).await {
                return Ok(answer);
            }
        }
        let connection = self.connect().await?;
        self.on(connection, message).await
    }

    async fn on(&self, mut connection: Connection, message: &[u8]) -> io::Result<Vec<u8>> {
        write(&mut connection, message).await?;
        let answer = read(&mut connection, message.first_chunk().copied()).await?;
        self.keep(connection);
        Ok(answer)
    }

    async fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(stream),
            Some(tls) => Box::new(tls.connector.connect(tls.name.clone(), stream).await?),
        })
    }

    fn kept(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, _)| since.elapsed() < KEEP);
        idle.pop().map(|(_, connection)| connection)
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push((Instant::now(), connection));
        }
    }
}

/// Writes a message behind its length, in one go.
pub(crate) async fn write(to: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "longer than a DNS message can be"))?;
    let mut framed = Vec::with_capacity(message.len() + 2);
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    to.write_all(&framed).await?;
    to.flush().await
}

/// Reads the next message, however it is cut into packets. One under another id than `wanted` is an error at once: there is
/// one question at a time on a connection.
pub(crate) async fn read(
    from: &mut (impl AsyncRead + Unpin),
    wanted: Option<[u8; 2]>,
) -> io::Result<Vec<u8>> {
    let length = from.read_u16().await?;
    let mut id = [0; 2];
    from.read_exact(&mut id).await?;
    if usize::from(length) < HEAD || wanted.is_some_and(|wanted| wanted != id) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; usize::from(length)];
    message[..2].copy_from_slice(&id);
    from.read_exact(&mut message[2..]).await?;
    Ok(message)
}

/// A connector and the name a server's certificate must carry, by default its address.
pub(crate) fn tls(config: rustls::ClientConfig, address: SocketAddr) -> Tls {
    Tls {
        connector: TlsConnector::from(Arc::new(config)),
        name: ServerName::from(address.ip()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn d_5_a_message_comes_byte_by_byte() {
        let (mut here, mut there) = tokio::io::duplex(1);
        let message = vec![7; 300];
        let (sent, received) = tokio::join!(write(&mut here, &message), async {
            read(&mut there, Some([7; 2])).await
        });
        sent.unwrap();
        assert_eq!(received.unwrap(), message);
    }

    #[tokio::test]
    async fn d_5_an_end_within_a_message_is_an_error() {
        let (mut here, mut there) = tokio::io::duplex(64);
        here.write_all(&[1, 0, 5]).await.unwrap();
        drop(here);
        let error = read(&mut there, None).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn d_4_another_id_is_seen_before_the_message_is_there() {
        let (mut here, mut there) = tokio::io::duplex(64);
        here.write_all(&[255, 255, 1, 2]).await.unwrap();
        let error = read(&mut there, Some([1, 3])).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
