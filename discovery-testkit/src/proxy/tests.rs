//! Every fault, seen from the client's side.

use std::{io::ErrorKind as Io, net::Ipv4Addr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{Instant, timeout},
};

use super::*;
use crate::eventually;

const DEADLINE: Duration = Duration::from_secs(60);
/// How long is watched that nothing comes.
const QUIET: Duration = Duration::from_millis(100);

/// What the server does with a connection.
#[derive(Clone, Copy)]
enum Server {
    /// Sends back what it reads, its end included.
    Echo,
    /// Answers anything with a head and these bytes, each time.
    Answer(&'static str),
}

/// A server and the group it runs in.
struct Upstream(SocketAddr, TaskGroup);

impl Drop for Upstream {
    fn drop(&mut self) {
        self.1.cancel();
    }
}

async fn upstream(server: Server) -> Upstream {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let tasks = TaskGroup::current().unwrap();
    let group = tasks.clone();
    let serve = async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let cancelled = group.cancelled().clone();
            group.spawn(async move {
                cancelled
                    .run_until_cancelled(async {
                        let mut buffer = [0; 4096];
                        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                            let written = match server {
                                Server::Echo => stream.write_all(&buffer[..read]).await,
                                Server::Answer(text) => stream.write_all(text.as_bytes()).await,
                            };
                            if written.is_err() {
                                break;
                            }
                        }
                    })
                    .await
            });
        }
    };
    let cancelled = tasks.cancelled().clone();
    tasks.spawn(async move { cancelled.run_until_cancelled(serve).await });
    Upstream(addr, tasks)
}

async fn echo() -> (Upstream, Proxy) {
    let upstream = upstream(Server::Echo).await;
    let proxy = Proxy::start(upstream.0).unwrap();
    (upstream, proxy)
}

/// A client whose connection has carried something, so that the proxy knows it.
async fn connected(proxy: &Proxy) -> TcpStream {
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    exchange(&mut client, b"hello").await;
    client
}

async fn exchange(client: &mut TcpStream, bytes: &[u8]) {
    client.write_all(bytes).await.unwrap();
    let mut answer = vec![0; bytes.len()];
    timeout(DEADLINE, client.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer, bytes);
}

async fn read_end(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut rest = Vec::new();
    timeout(DEADLINE, client.read_to_end(&mut rest))
        .await
        .unwrap()
        .map(|_| rest)
}

/// Whether nothing can be read for a while, not even an end.
async fn is_silent(client: &mut TcpStream) -> bool {
    timeout(QUIET, client.read_u8()).await.is_err()
}

#[tokio::test]
async fn forwards_both_ways_and_counts() {
    let (_upstream, proxy) = echo().await;
    let mut one = connected(&proxy).await;
    let two = connected(&proxy).await;
    let big = vec![7; 300_000];
    let (mut read, mut write) = one.split();
    let mut back = vec![0; big.len()];
    let (sent, received) = tokio::join!(write.write_all(&big), read.read_exact(&mut back));
    sent.unwrap();
    received.unwrap();
    assert_eq!(back, big);
    drop(two);
    eventually("one open connection", DEADLINE, || async {
        proxy.counters().open == 1
    })
    .await;
    eventually("all bytes counted", DEADLINE, || async {
        proxy.counters().bytes_down == 300_010
    })
    .await;
    let expected = Counters {
        accepted: 2,
        open: 1,
        peak: 2,
        bytes_up: 300_010,
        bytes_down: 300_010,
    };
    assert_eq!(proxy.counters(), expected);
}

#[tokio::test]
async fn passes_on_the_end_of_one_direction() {
    let (_upstream, proxy) = echo().await;
    let mut client = connected(&proxy).await;
    client.write_all(b"last words").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_end(&mut client).await.unwrap(), b"last words");
    eventually("no open connection", DEADLINE, || async {
        proxy.counters().open == 0
    })
    .await;
}

#[tokio::test]
async fn refused_connections_come_back_on_the_same_port() {
    let (_upstream, proxy) = echo().await;
    let mut before = connected(&proxy).await;
    for _ in 0..20 {
        proxy.refuse();
        let refused = TcpStream::connect(proxy.addr()).await.unwrap_err();
        assert_eq!(refused.kind(), Io::ConnectionRefused);
        proxy.heal().unwrap();
        connected(&proxy).await;
    }
    exchange(&mut before, b"still here").await;
}

#[tokio::test]
async fn a_shut_door_keeps_its_port() {
    let (_upstream, proxy) = echo().await;
    proxy.refuse();
    let taken = std::net::TcpListener::bind(proxy.addr()).unwrap_err();
    assert_eq!(taken.kind(), Io::AddrInUse);
}

#[tokio::test]
async fn hanging_up_is_seen_as_fin_or_reset() {
    let (_upstream, proxy) = echo().await;
    let mut before = connected(&proxy).await;
    proxy.hang_up(Close::Fin);
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(read_end(&mut client).await.unwrap(), b"");
    proxy.hang_up(Close::Reset);
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(
        read_end(&mut client).await.unwrap_err().kind(),
        Io::ConnectionReset
    );
    exchange(&mut before, b"still here").await;
    let counters = proxy.counters();
    assert_eq!((counters.accepted, counters.open, counters.peak), (3, 1, 1));
    proxy.heal().unwrap();
    connected(&proxy).await;
}

#[tokio::test]
async fn a_cut_ends_all_open_connections_and_no_new_one() {
    let (_upstream, proxy) = echo().await;
    let mut clients = [connected(&proxy).await, connected(&proxy).await];
    assert_eq!(proxy.cut(Close::Reset).await, 2);
    assert_eq!(proxy.counters().open, 0);
    for client in &mut clients {
        assert_eq!(read_end(client).await.unwrap_err().kind(), Io::ConnectionReset);
    }
    let mut client = connected(&proxy).await;
    client.write_all(b"unanswered").await.unwrap();
    assert_eq!(proxy.cut(Close::Fin).await, 1);
    assert_eq!(proxy.counters().open, 0);
    // Not an error, whatever was under way.
    assert!(b"unanswered".starts_with(&read_end(&mut client).await.unwrap()));
    connected(&proxy).await;
}

#[tokio::test]
async fn a_stall_lets_nothing_through_and_loses_nothing() {
    let (_upstream, proxy) = echo().await;
    for direction in [Direction::Up, Direction::Down] {
        let mut client = connected(&proxy).await;
        proxy.flow(direction, Flow::Stall);
        let before = proxy.counters();
        client.write_all(b"into the hole").await.unwrap();
        assert!(is_silent(&mut client).await, "{direction:?}");
        let after = proxy.counters();
        assert_eq!(after.bytes_down, before.bytes_down);
        assert_eq!(after.bytes_up > before.bytes_up, direction == Direction::Down);
        proxy.heal().unwrap();
        let mut answer = [0; 13];
        timeout(DEADLINE, client.read_exact(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&answer, b"into the hole");
    }
}

#[tokio::test]
async fn a_stall_hides_the_end_of_the_server() {
    let (upstream, proxy) = echo().await;
    let mut client = connected(&proxy).await;
    proxy.flow_both(Flow::Stall);
    upstream.1.join(DEADLINE).await.unwrap();
    assert!(is_silent(&mut client).await);
    assert_eq!(proxy.counters().open, 1);
    proxy.heal().unwrap();
    // The server's end may come as either.
    assert_eq!(read_end(&mut client).await.unwrap_or_default(), b"");
}

#[tokio::test]
async fn a_stalled_connection_can_be_cut() {
    let (_upstream, proxy) = echo().await;
    let mut client = connected(&proxy).await;
    proxy.flow_both(Flow::Stall);
    assert_eq!(proxy.cut(Close::Reset).await, 1);
    assert_eq!(
        read_end(&mut client).await.unwrap_err().kind(),
        Io::ConnectionReset
    );
}

#[tokio::test]
async fn a_delay_holds_each_direction() {
    const DELAY: Duration = Duration::from_millis(60);
    let (_upstream, proxy) = echo().await;
    let mut client = connected(&proxy).await;
    for (up, down, expected) in [(1, 0, 1), (0, 2, 2), (1, 2, 3)] {
        proxy.flow(Direction::Up, Flow::Delay(DELAY * up));
        proxy.flow(Direction::Down, Flow::Delay(DELAY * down));
        let sent = Instant::now();
        exchange(&mut client, b"ping").await;
        assert!(sent.elapsed() >= DELAY * expected, "{:?}", sent.elapsed());
    }
    proxy.flow(Direction::Up, Flow::Delay(DEADLINE * 10));
    client.write_all(b"ping").await.unwrap();
    assert!(is_silent(&mut client).await);
    proxy.heal().unwrap(); // what waits is released
    let mut answer = [0; 4];
    timeout(DEADLINE, client.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_trickle_takes_its_time_and_loses_nothing() {
    let (_upstream, proxy) = echo().await;
    let mut client = connected(&proxy).await;
    let every = Duration::from_millis(20);
    proxy.flow(Direction::Down, Flow::Trickle { bytes: 2, every });
    let sent = Instant::now();
    exchange(&mut client, b"0123456789").await;
    assert!(sent.elapsed() >= every * 4, "{:?}", sent.elapsed());
}

#[tokio::test]
async fn a_discarded_answer_never_comes_though_the_request_arrived() {
    let (upstream, proxy) = echo().await;
    let mut client = connected(&proxy).await;
    proxy.flow(Direction::Down, Flow::Discard);
    client.write_all(b"request").await.unwrap();
    eventually("the request upstream", DEADLINE, || async {
        proxy.counters().bytes_up == 12
    })
    .await;
    assert!(is_silent(&mut client).await);
    upstream.1.join(DEADLINE).await.unwrap();
    assert!(is_silent(&mut client).await, "the end is discarded as well");
    assert_eq!(proxy.counters().bytes_down, 5);
}

#[tokio::test]
async fn garbage_replaces_the_answer() {
    let (_upstream, proxy) = echo().await;
    let mut client = connected(&proxy).await;
    proxy.flow(Direction::Down, Flow::Garbage);
    let request = [b'a'; 64];
    client.write_all(&request).await.unwrap();
    let mut answer = [0; 64];
    timeout(DEADLINE, client.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_ne!(answer, request);
}

#[tokio::test]
async fn a_body_is_cut_where_it_was_said() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n";
    const RESPONSE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789";
    let upstream = upstream(Server::Answer(RESPONSE)).await;
    let proxy = Proxy::start(upstream.0).unwrap();
    for close in [Close::Fin, Close::Reset] {
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        proxy.flow(Direction::Down, Flow::CutBody { after: 100, close });
        let mut first = vec![0; RESPONSE.len()];
        client.write_all(b"GET").await.unwrap();
        timeout(DEADLINE, client.read_exact(&mut first))
            .await
            .unwrap()
            .unwrap();
        proxy.flow(Direction::Down, Flow::CutBody { after: 4, close });
        client.write_all(b"GET").await.unwrap();
        let mut second = vec![0; HEAD.len() + 4];
        timeout(DEADLINE, client.read_exact(&mut second))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(second, format!("{HEAD}0123").as_bytes());
        let end = read_end(&mut client).await;
        match close {
            Close::Fin => assert_eq!(end.unwrap(), b""),
            Close::Reset => assert_eq!(end.unwrap_err().kind(), Io::ConnectionReset),
        }
    }
}

#[tokio::test]
async fn half_closed_downwards_the_client_may_still_send() {
    let (_upstream, proxy) = echo().await;
    let mut client = connected(&proxy).await;
    assert_eq!(proxy.half_close(Direction::Down), 1);
    assert_eq!(read_end(&mut client).await.unwrap(), b"");
    client.write_all(b"and yet").await.unwrap();
    eventually("the bytes upstream", DEADLINE, || async {
        proxy.counters().bytes_up == 12
    })
    .await;
    assert_eq!(proxy.counters().open, 1);
}

#[tokio::test]
async fn half_closed_upwards_the_server_sees_the_end() {
    let (_upstream, proxy) = echo().await;
    let mut client = connected(&proxy).await;
    assert_eq!(proxy.half_close(Direction::Up), 1);
    // The server ends its own side then, as it does at the end of a stream.
    assert_eq!(read_end(&mut client).await.unwrap(), b"");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_reset() {
    let (_upstream, proxy) = echo().await;
    proxy.limit(Some(1));
    let first = connected(&proxy).await;
    let mut second = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(
        read_end(&mut second).await.unwrap_err().kind(),
        Io::ConnectionReset
    );
    drop(first);
    eventually("room", DEADLINE, || async { proxy.counters().open == 0 }).await;
    connected(&proxy).await;
}

#[tokio::test]
async fn an_unreachable_server_is_a_reset_and_another_can_be_named() {
    let (upstream, proxy) = echo().await;
    upstream.1.join(DEADLINE).await.unwrap();
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(
        read_end(&mut client).await.unwrap_err().kind(),
        Io::ConnectionReset
    );
    let other = self::upstream(Server::Echo).await;
    proxy.set_upstream(other.0);
    connected(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_joins_every_task_under_every_flow() {
    let all = [
        Flow::Pass,
        Flow::Delay(DEADLINE),
        Flow::Trickle {
            bytes: 1,
            every: DEADLINE,
        },
        Flow::Stall,
        Flow::Discard,
        Flow::Garbage,
        Flow::CutBody {
            after: 1,
            close: Close::Fin,
        },
    ];
    for flow in all {
        let (_upstream, proxy) = echo().await;
        let mut clients = [connected(&proxy).await, connected(&proxy).await];
        proxy.flow_both(flow);
        for client in &mut clients {
            client.write_all(b"more").await.unwrap();
        }
        proxy.shutdown().await.unwrap();
        assert_eq!(proxy.counters().open, 0, "{flow:?}");
        let before = proxy.counters().accepted;
        // Refused, unless a process that another test is starting has a copy of the socket until it runs its program.
        drop(TcpStream::connect(proxy.addr()).await);
        assert_eq!(proxy.counters().accepted, before, "{flow:?}");
    }
}

#[test]
fn outside_a_runtime_it_says_so() {
    let error = Proxy::start((Ipv4Addr::LOCALHOST, 1).into()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
}
