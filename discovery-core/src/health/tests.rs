use std::{future::Future, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

use super::*;
use crate::{
    error::ErrorKind,
    model::{CheckOutcome, Instance, InstanceId, InstanceKey, ServiceName, Status},
};

fn target() -> Instance {
    let (service, id) = (
        ServiceName::new("api").unwrap(),
        InstanceId::new("api-1").unwrap(),
    );
    Instance::builder(InstanceKey::new("memory", service, id), "127.0.0.1", 80).build()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), future).await.expect("in time")
}

/// A loopback port nobody listens on.
async fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

/// What an HTTP check finds where every request is answered with these bytes and the end; and the request.
async fn answered(bytes: &[u8]) -> (CheckOutcome, String) {
    answered_to(|check| check, bytes).await
}

/// The same of a check that is told more.
async fn answered_to(told: impl FnOnce(HttpCheck) -> HttpCheck, bytes: &[u8]) -> (CheckOutcome, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let check = told(HttpCheck::new(&format!("http://127.0.0.1:{port}/health?deep=1#part")).unwrap());
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        // The check may hang up before the end of an endless body.
        let _ = stream.write_all(bytes).await;
        String::from_utf8(request).unwrap()
    };
    let target = target();
    let (outcome, request) = within(async { tokio::join!(check.check(&target), server) }).await;
    (outcome.unwrap(), request)
}

#[tokio::test]
async fn a_port_that_accepts_passes_and_one_that_refuses_is_critical() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = listener.local_addr().unwrap().to_string();
    let closed = format!("127.0.0.1:{}", closed_port().await);
    for (address, status) in [(open, Status::Passing), (closed, Status::Critical)] {
        let check = check_for(&Check::tcp(&address)).unwrap();
        let outcome = within(check.check(&target())).await.unwrap();
        assert_eq!(outcome.status, status, "{}", outcome.output);
    }
}

#[tokio::test]
async fn a_refused_http_connection_is_critical_too() {
    let check = check_for(&Check::http(format!("http://127.0.0.1:{}/", closed_port().await))).unwrap();
    let outcome = within(check.check(&target())).await.unwrap();
    assert_eq!(outcome.status, Status::Critical);
    assert!(
        outcome.output.starts_with("cannot connect: "),
        "{}",
        outcome.output
    );
}

#[tokio::test]
async fn an_http_check_passes_as_it_is_told_to_expect() {
    let answer = |code: &str, body: &str| {
        format!(
            "HTTP/1.1 {code} x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    for (code, body, status) in [
        ("200", "it is healthy", Status::Passing),
        ("200", "it is not", Status::Critical),
        ("201", "healthy", Status::Critical),
        ("429", "healthy", Status::Critical),
    ] {
        let told = |check: HttpCheck| {
            check
                .method("POST")
                .unwrap()
                .expect_status(200)
                .unwrap()
                .expect_body("healthy")
        };
        let bytes = answer(code, body);
        let (outcome, request) = answered_to(told, bytes.as_bytes()).await;
        assert_eq!(outcome.status, status, "{code}: {}", outcome.output);
        assert!(request.starts_with("POST /health?deep=1 "), "{request}");
    }
    let check = HttpCheck::new("http://127.0.0.1:1/").unwrap();
    assert_eq!(
        check.clone().method("G T").unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(
        check.expect_status(42).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

/// Rule H-1.
#[tokio::test]
async fn http_2xx_passes_429_warns_and_all_else_is_critical() {
    for (line, status) in [
        ("200 OK", Status::Passing),
        ("204 No Content", Status::Passing),
        ("299 Fine", Status::Passing),
        ("302 Found", Status::Critical),
        ("404 Not Found", Status::Critical),
        ("429 Too Many Requests", Status::Warning),
        ("500 Internal Server Error", Status::Critical),
        ("503 Service Unavailable", Status::Critical),
    ] {
        let (outcome, request) = answered(format!("HTTP/1.1 {line}\r\n\r\n").as_bytes()).await;
        assert_eq!(outcome.status, status, "{line}: {}", outcome.output);
        assert!(
            request.starts_with("GET /health?deep=1 HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(request.contains("host: 127.0.0.1:"), "{request}");
    }
}

#[tokio::test]
async fn the_start_of_the_body_is_kept() {
    let (outcome, _) = answered(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwell").await;
    assert_eq!(outcome.output, "HTTP 200 OK: well");

    let full = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 4096\r\n\r\n{}",
        "x".repeat(4096)
    );
    let (outcome, _) = answered(full.as_bytes()).await;
    assert_eq!(outcome.output, format!("HTTP 200 OK: {}", "x".repeat(4096)));

    let long = format!(
        "HTTP/1.1 500 Oh\r\ncontent-length: 900000\r\n\r\n{}",
        "x".repeat(900_000)
    );
    let (outcome, _) = answered(long.as_bytes()).await;
    assert_eq!(outcome.status, Status::Critical);
    assert!(
        outcome
            .output
            .ends_with("xxx ... (captured 4096 of 900000 bytes)")
    );

    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(900_000));
    let (outcome, _) = answered(endless.as_bytes()).await;
    assert_eq!(outcome.status, Status::Passing);
    assert!(
        outcome
            .output
            .ends_with("xxx ... (captured the first 4096 bytes)")
    );
}

#[tokio::test]
async fn garbage_and_silence_are_critical_and_a_broken_body_keeps_its_status() {
    for garbage in [
        &b""[..],
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 \xff\xff\r\n\r\n",
        b"HTTP/1.1 200",
    ] {
        let (outcome, _) = answered(garbage).await;
        assert_eq!(outcome.status, Status::Critical);
        assert!(
            outcome.output.starts_with("no HTTP answer: "),
            "{}",
            outcome.output
        );
    }
    let (outcome, _) = answered(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhal\xfff").await;
    assert_eq!(
        outcome,
        CheckOutcome::new(Status::Passing, "HTTP 200 OK: hal\u{fffd}f")
    );
}

#[test]
fn bad_addresses_and_urls_are_refused_without_showing_a_password() {
    for bad in [
        "",
        "host",
        "host:",
        ":80",
        "host:0",
        "host:65536",
        "::1:80",
        "[::1]",
        "[x]:80",
        "http://h:80",
        "h /:1",
    ] {
        let error = check_for(&Check::tcp(bad)).unwrap_err();
        assert_eq!(
            (error.kind(), error.hint().is_some()),
            (ErrorKind::InvalidInput, true),
            "{bad:?}"
        );
    }
    for good in ["127.0.0.1:80", "[::1]:80", "db-1.internal:5432"] {
        assert!(TcpCheck::new(good).is_ok(), "{good}");
    }
    for (bad, kind) in [
        ("", ErrorKind::InvalidInput),
        ("host:80", ErrorKind::InvalidInput),
        ("/health", ErrorKind::InvalidInput),
        ("ftp://host/", ErrorKind::InvalidInput),
        ("http://", ErrorKind::InvalidInput),
        ("http://user:hunter2@host/", ErrorKind::InvalidInput),
        ("https://user:hunter2@host/", ErrorKind::Unsupported),
    ] {
        let error = check_for(&Check::http(bad)).unwrap_err();
        assert_eq!((error.kind(), error.hint().is_some()), (kind, true), "{bad:?}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
    assert!(HttpCheck::new("http://[::1]:8080/health").is_ok());
}

#[test]
fn what_only_a_registry_can_look_at_is_refused_with_what_to_do() {
    for check in [Check::script(["/bin/true"]), Check::grpc("127.0.0.1:80", false)] {
        let error = check_for(&check).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(
            error.context().any(|pair| pair == ("check", check.name.as_str())),
            "{error}"
        );
        assert!(
            error.hint().is_some_and(|hint| hint.contains("HTTP or TCP")),
            "{error:?}"
        );
    }
}
