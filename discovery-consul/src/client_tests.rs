use discovery_core::Query;
use discovery_testkit::proxy::{
    Direction, Flow, Proxy,
    http::{HttpProxy, Rule},
};
use proptest::prelude::*;

use super::*;
use crate::testing::{WEB, scripted, scripted_with, web};

fn client(server: &HttpProxy) -> Client {
    Client::new(ConsulConfig::at(server.addr().to_string())).unwrap()
}

fn ask() -> Call {
    Call::get(WEB.to_owned())
}

#[tokio::test]
async fn c_5_a_question_that_waits_may_take_longer_than_it_says() {
    let server = HttpProxy::stub().unwrap();
    server.rule(Rule::any("*").delay(Duration::from_millis(1500)).reply(200, "[]"));
    // A second, a sixteenth of it and more: no spurious time-out.
    let call = ask().blocking(7, Duration::from_secs(1));
    assert_eq!(client(&server).send(&call).await.unwrap().status, 200);
}

#[tokio::test(start_paused = true)]
async fn c_5_the_deadline_of_a_question_that_waits_allows_for_an_election() {
    let server = HttpProxy::stub().unwrap();
    server.rule(Rule::any("*").delay(Duration::from_secs(3600)).reply(200, "[]"));
    let started = Instant::now();
    let error = client(&server)
        .send(&ask().blocking(7, Duration::from_secs(16)))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(
        started.elapsed() >= Duration::from_secs(16 + 1 + 7),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn c_6_c_7_a_wait_has_its_unit_and_an_index_all_its_digits() {
    let call = ask().blocking(u64::MAX, Duration::from_secs(55));
    assert_eq!(
        call.target(),
        format!("{WEB}?index=18446744073709551615&wait=55000ms")
    );
    assert!(ask().blocking(1, Duration::ZERO).target().ends_with("wait=1ms"));
}

/// C-14
#[tokio::test]
async fn c_14_redirects_are_not_followed() {
    let server = HttpProxy::stub().unwrap();
    for status in [301, 302, 307, 308] {
        server.clear_rules();
        server.rule(Rule::any(WEB).redirect(status, "/v1/elsewhere"));
        let error = client(&server).send(&ask()).await.unwrap().ok().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
    }
    assert!(server.requests_matching("/v1/elsewhere").is_empty());
}

proptest! {
    /// C-15, A-7
    #[test]
    fn c_15_any_text_is_one_segment(text in "\\PC{1,40}") {
        let encoded = segment(&text).to_string();
        prop_assert!(!encoded.contains(['/', '?', '#', ' ', '+', '&']));
        let decoded = percent_encoding::percent_decode_str(&encoded).decode_utf8().unwrap().into_owned();
        prop_assert_eq!(decoded, text);
    }
}

///
#[tokio::test]
async fn a_15_an_endless_answer_is_a_typed_error() {
    let server = HttpProxy::stub().unwrap();
    server.rule(Rule::any("*").endless(" "));
    let error = client(&server).send(&ask()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("32 MiB"), "{error}");
}

#[tokio::test]
async fn a_cut_body_is_no_answer() {
    let server = HttpProxy::stub().unwrap();
    server.rule(Rule::any("*").reply(200, "x".repeat(1000)));
    let way = Proxy::start(server.addr()).unwrap();
    way.flow(
        Direction::Down,
        Flow::CutBody {
            after: 10,
            close: discovery_testkit::proxy::Close::Fin,
        },
    );
    let client = Client::new(ConsulConfig::at(way.addr().to_string())).unwrap();
    assert_eq!(
        client.send(&ask()).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
}

/// C-41
#[tokio::test]
async fn c_41_a_rotated_token_is_used_from_the_next_request_on() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "one\n").unwrap();
    let (server, backend) = scripted_with(|config| config.token_file(file.path()));
    server
        .rule(web(Rule::get(WEB), 1, &["a"]).when(|request| request.header("x-consul-token") == Some("one")));
    let query = Query::service("web").unwrap();
    backend.registry.instances(&query).await.unwrap();
    std::fs::write(file.path(), "two\n").unwrap();
    server.clear_rules();
    server
        .rule(web(Rule::get(WEB), 1, &["a"]).when(|request| request.header("x-consul-token") == Some("two")));
    backend.registry.instances(&query).await.unwrap();
    // While the file is being replaced, the last token stands in.
    std::fs::write(file.path(), "").unwrap();
    backend.registry.instances(&query).await.unwrap();
}

/// C-41: the token changed while the request was under way.
#[tokio::test]
async fn c_41_a_refused_token_is_read_again_before_it_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "old").unwrap();
    let (server, backend) = scripted_with(|config| config.token_file(file.path()));
    let path = file.path().to_owned();
    server.rule(
        Rule::get(WEB)
            .when(move |request| {
                let old = request.header("x-consul-token") == Some("old");
                if old {
                    std::fs::write(&path, "new").unwrap();
                }
                old
            })
            .reply(403, "ACL not found"),
    );
    server.rule(web(Rule::get(WEB), 1, &["a"]));
    let found = backend
        .registry
        .instances(&Query::service("web").unwrap())
        .await
        .unwrap();
    assert_eq!(found.instances.len(), 1);
}

/// C-41, with the watch's question under way.
#[tokio::test(start_paused = true)]
async fn c_41_a_question_that_waits_starts_over_with_a_rotated_token() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "old").unwrap();
    let server = HttpProxy::stub().unwrap();
    server.rule(
        Rule::get(WEB)
            .when(|request| request.header("x-consul-token") == Some("old"))
            .delay(Duration::from_secs(3600))
            .reply(200, "[]"),
    );
    server.rule(web(Rule::get(WEB), 8, &["a"]));
    let client = Client::new(ConsulConfig::at(server.addr().to_string()).token_file(file.path())).unwrap();
    let call = ask().blocking(7, Duration::from_secs(55));
    let (answer, ()) = tokio::join!(client.send(&call), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        std::fs::write(file.path(), "new").unwrap();
    });
    assert_eq!(answer.unwrap().status, 200);
}

///
#[tokio::test]
async fn a_6_a_token_is_in_no_debug_and_in_no_request_but_its_header() {
    let server = HttpProxy::stub().unwrap();
    server.rule(Rule::any("*").reply(500, "your token s3ntinel is odd"));
    let config = ConsulConfig::at(server.addr().to_string()).token("s3ntinel");
    let client = Client::new(config.clone()).unwrap();
    let error = client.send(&ask()).await.unwrap().ok().unwrap_err();
    let backend = crate::backend(config.clone()).unwrap();
    let shown = format!(
        "{client:?} {config:?} {error:?} {backend:?} {:?}",
        backend.registry
    );
    assert!(!shown.contains("s3ntinel"), "{shown}");
    let request = &server.requests_matching("*")[0];
    assert_eq!(request.find("s3ntinel").as_deref(), Some("header x-consul-token"));
}

/// C-42
#[tokio::test]
async fn c_42_plain_text_from_a_server_that_should_speak_tls_is_permanent() {
    let server = HttpProxy::stub().unwrap();
    let mut config = ConsulConfig::at(server.addr().to_string());
    config.tls.enabled = Some(true);
    config.tls.verify_ssl = false;
    let client = Client::new(config).unwrap();
    let error = client.send(&ask()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error:?}");
    assert!(server.requests_matching("*").is_empty(), "no plain-text fallback");
}

/// C-43
#[tokio::test]
async fn c_43_a_unix_socket_is_spoken_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("consul.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let client = Client::new(ConsulConfig::at(format!("unix://{}", path.display()))).unwrap();
    let serve = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        let read = stream.read(&mut head).await.unwrap();
        assert!(head[..read].starts_with(b"GET /v1/health/service/web HTTP/1.1"));
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]")
            .await
            .unwrap();
    };
    let call = ask();
    let (answer, ()) = tokio::join!(client.send(&call), serve);
    assert_eq!(answer.unwrap().body, "[]");
}

#[tokio::test]
async fn refused_connections_and_foreign_bytes_are_told_apart() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let client = Client::new(ConsulConfig::at(closed.to_string())).unwrap();
    let error = client.send(&ask()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.hint().is_some_and(|hint| hint.contains("CONSUL_HTTP_ADDR")));

    let (server, backend) = scripted();
    server.rule(Rule::any("*").reply(200, "<html>"));
    let error = backend
        .registry
        .instances(&Query::service("web").unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}
