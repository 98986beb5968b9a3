//! Where one server lives: its directory and its ports.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tokio::net::TcpSocket;

/// How much of the end of each log is shown.
const TAIL: u64 = 4 << 10;
const LOGS: [&str; 2] = ["stdout.log", "stderr.log"];

/// The ports and the directory of one server, its own for as long as it lives.
#[derive(Debug)]
pub struct Place {
    dir: TempDir,
    endpoints: Vec<SocketAddr>,
    /// Bound, not listening: the server may listen there (it sets `SO_REUSEADDR`, as servers do), nobody else is given
    /// the port, and connections are refused while the server is down.
    _reserved: Vec<TcpSocket>,
}

impl Place {
    /// A new directory and so many free ports of 127.0.0.1.
    pub(super) fn new(name: &str, ports: usize) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir()?;
        let mut reserved = Vec::with_capacity(ports);
        let mut endpoints = Vec::with_capacity(ports);
        while endpoints.len() < ports {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
            let endpoint = socket.local_addr()?;
            // Some servers want it over UDP as well, where it may be taken.
            match UdpSocket::bind(endpoint) {
                Ok(_) => endpoints.push(endpoint),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
            reserved.push(socket);
        }
        if !cfg!(target_os = "linux") {
            reserved.clear(); // elsewhere a bound port is taken, listening or not
        }
        Ok(Self {
            dir,
            endpoints,
            _reserved: reserved,
        })
    }

    /// The server's own directory, empty at first and deleted with the server.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The server's endpoints; the first is the one that clients use.
    pub fn endpoints(&self) -> &[SocketAddr] {
        &self.endpoints
    }

    pub(super) fn logs(&self) -> [PathBuf; 2] {
        LOGS.map(|name| self.dir().join(name))
    }

    /// The end of what the server wrote to its standard output and standard error.
    pub fn log_tail(&self) -> String {
        let tails = self.logs().map(|path| match tail(&path) {
            Ok(text) => text,
            Err(error) => format!("({error})"),
        });
        let [out, err] = tails.each_ref().map(|tail| tail.trim_end());
        format!("--- {}\n{out}\n--- {}\n{err}", LOGS[0], LOGS[1])
    }
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
