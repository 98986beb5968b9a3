//! A scripted apiserver for faults that no real one can show.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use discovery_core::TaskGroup;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::K8sConfig;

/// A part of an answer.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// A chunk of the body.
    Data(Vec<u8>),
    /// Nothing, for so long.
    Wait(Duration),
    /// The connection is closed in the middle of the answer.
    Cut,
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    parts: Vec<Part>,
}

impl Reply {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            parts: vec![Part::Data(body.to_string().into_bytes())],
        }
    }

    pub(crate) fn parts(parts: Vec<Part>) -> Self {
        Self { status: 200, parts }
    }

    /// A watch with these events, ended in order.
    pub(crate) fn events(events: &[Value]) -> Self {
        Self::parts(events.iter().map(line).collect())
    }

    /// A Status.
    pub(crate) fn refuse(status: u16, reason: &str, cause: &str) -> Self {
        Self::json(status, &refusal(status, reason, cause))
    }
}

pub(crate) fn refusal(status: u16, reason: &str, cause: &str) -> Value {
    json!({
        "kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": format!("no: {reason}"),
        "details": { "causes": [{ "reason": cause }] },
    })
}

pub(crate) fn line(event: &Value) -> Part {
    Part::Data(format!("{event}\n").into_bytes())
}

pub(crate) fn event(kind: &str, object: &Value) -> Value {
    json!({ "type": kind, "object": object })
}

/// A slice of `web` with these addresses.
pub(crate) fn slice(name: &str, version: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|address| json!({ "addresses": [address] }))
        .collect();
    json!({
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("uid-{name}"), "resourceVersion": version,
            "labels": { "kubernetes.io/service-name": "web" },
        },
        "addressType": "IPv4", "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }], "endpoints": endpoints,
    })
}

pub(crate) fn list(version: &str, items: &[Value]) -> Value {
    json!({ "metadata": { "resourceVersion": version }, "items": items })
}

type Script = dyn Fn(&Asked) -> Reply + Send + Sync;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Its first line.
    pub(crate) line: String,
    pub(crate) head: String,
    pub(crate) body: String,
    /// How many came before it.
    pub(crate) nth: usize,
}

impl Asked {
    pub(crate) fn is(&self, what: &str) -> bool {
        self.line.contains(what)
    }
}

/// A server that answers as it is told to.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    _tasks: Arc<Tasks>,
}

struct Tasks(TaskGroup);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Server {
    pub(crate) async fn start(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let tasks = TaskGroup::current().unwrap();
        let (script, log, group): (Arc<Script>, _, _) = (Arc::new(script), asked.clone(), tasks.clone());
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = group.cancelled().cancelled() => return,
                    accepted = listener.accept() => {
                        let (stream, _) = accepted.unwrap();
                        let (script, log, ended) = (script.clone(), log.clone(), group.cancelled().clone());
                        group.spawn(async move {
                            tokio::select! {
                                () = ended.cancelled() => {}
                                () = serve(stream, &*script, &log) => {}
                            }
                        });
                    }
                }
            }
        });
        Self {
            url,
            asked,
            _tasks: Arc::new(Tasks(tasks)),
        }
    }

    pub(crate) fn config(&self) -> K8sConfig {
        let mut config = K8sConfig::at(self.url.clone());
        config.service_discovery.watch_timeout = Duration::from_secs(1);
        config
    }

    /// The first lines of requests that hold this text.
    pub(crate) fn asked(&self, what: &str) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|asked| asked.is(what)).cloned().collect()
    }
}

async fn serve(mut stream: TcpStream, script: &Script, log: &Mutex<Vec<Asked>>) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            let mut more = [0; 4096];
            match stream.read(&mut more).await {
                Ok(count) if count > 0 => buffer.extend_from_slice(&more[..count]),
                _ => return,
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        let length = head
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            })
            .unwrap_or(0);
        while buffer.len() < end + length {
            let mut more = [0; 4096];
            match stream.read(&mut more).await {
                Ok(count) if count > 0 => buffer.extend_from_slice(&more[..count]),
                _ => return,
            }
        }
        let body = String::from_utf8_lossy(&buffer[end..end + length]).into_owned();
        buffer.drain(..end + length);
        let asked = {
            let mut log = log.lock().unwrap();
            let asked = Asked {
                line: head.lines().next().unwrap_or_default().to_owned(),
                head,
                body,
                nth: log.len(),
            };
            log.push(asked.clone());
            asked
        };
        let reply = script(&asked);
        let head = format!(
            "HTTP/1.1 {} X\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
            reply.status
        );
        if stream.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        for part in reply.parts {
            match part {
                Part::Data(data) => {
                    let chunk = [format!("{:x}\r\n", data.len()).as_bytes(), &data, b"\r\n"].concat();
                    if stream.write_all(&chunk).await.is_err() {
                        return;
                    }
                }
                Part::Wait(time) => sleep(time).await,
                Part::Cut => return,
            }
        }
        if stream.write_all(b"0\r\n\r\n").await.is_err() {
            return;
        }
    }
}
