//! HTTP/1.1 on a bare socket: what any client must do at least.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Longer than any question of a race waits.
const DEADLINE: Duration = Duration::from_secs(70);

/// One connection that is kept.
#[derive(Debug)]
pub(super) struct Raw {
    stream: TcpStream,
    host: SocketAddr,
    buffer: Vec<u8>,
    body: Vec<u8>,
}

impl Raw {
    pub(super) fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).expect("the server listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        Self {
            stream,
            host: to,
            buffer: vec![0; 256 << 10],
            body: Vec::new(),
        }
    }

    /// The body of a success; anything else panics.
    pub(super) fn get(&mut self, target: &str) -> &[u8] {
        self.ask("GET", target, b"").expect("a success").1
    }

    pub(super) fn put(&mut self, target: &str, body: &[u8]) {
        self.ask("PUT", target, body).expect("a success");
    }

    /// The index and the body of a success.
    pub(super) fn watch(&mut self, target: &str) -> Option<(u64, &[u8])> {
        self.ask("GET", target, b"")
    }

    fn ask(&mut self, method: &str, target: &str, body: &[u8]) -> Option<(u64, &[u8])> {
        let mut request = format!(
            "{method} {target} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n",
            self.host,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.stream.write_all(&request).ok()?;
        self.body.clear();
        let end = loop {
            self.more()?;
            if let Some(end) = find(&self.body, b"\r\n\r\n") {
                break end;
            }
        };
        let head = String::from_utf8_lossy(&self.body[..end]).to_ascii_lowercase();
        if !head.starts_with("http/1.1 200") {
            return None;
        }
        let header = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim_start_matches(':').trim())
        };
        let index = header("x-consul-index").and_then(|index| index.parse().ok());
        let length = header("content-length").and_then(|length| length.parse::<usize>().ok());
        self.body.drain(..end + 4);
        match length {
            Some(length) => {
                while self.body.len() < length {
                    self.more()?;
                }
            }
            None => self.chunks()?,
        }
        Some((index.unwrap_or(0), &self.body))
    }

    /// Takes what is there away from chunks, and reads the rest.
    fn chunks(&mut self) -> Option<()> {
        let (mut at, mut whole) = (0, Vec::with_capacity(self.body.len()));
        loop {
            let Some(line) = find(&self.body[at..], b"\r\n") else {
                self.more()?;
                continue;
            };
            let size = std::str::from_utf8(&self.body[at..at + line]).expect("a size");
            let size = usize::from_str_radix(size, 16).expect("a size");
            let from = at + line + 2;
            while self.body.len() < from + size + 2 {
                self.more()?;
            }
            whole.extend_from_slice(&self.body[from..from + size]);
            at = from + size + 2;
            if size == 0 {
                self.body = whole;
                return Some(());
            }
        }
    }

    fn more(&mut self) -> Option<()> {
        let read = self.stream.read(&mut self.buffer).ok().filter(|read| *read > 0)?;
        self.body.extend_from_slice(&self.buffer[..read]);
        Some(())
    }
}

/// Where `needle` starts.
pub(super) fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len()).position(|window| window == needle)
}
