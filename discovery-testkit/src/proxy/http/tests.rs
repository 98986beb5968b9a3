//! Every rule, seen from the client's side; a stub is the server behind the proxy.

use http_body_util::BodyExt;
use hyper::{Method, header::HOST};
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tokio::time::timeout;

use super::*;
use crate::{
    eventually,
    proxy::{Close, Direction, Flow, Proxy},
};

const DEADLINE: Duration = Duration::from_secs(60);

struct Answered {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

async fn open(
    addr: SocketAddr,
    method: Method,
    path: &str,
    body: &'static str,
) -> Result<Response<Incoming>, BoxError> {
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{addr}{path}"))
        .header("x-token", "t0ken")
        .body(Full::from(body))?;
    Ok(timeout(DEADLINE, client().request(request)).await??)
}

async fn send(
    addr: SocketAddr,
    method: Method,
    path: &str,
    body: &'static str,
) -> Result<Answered, BoxError> {
    let (head, body) = open(addr, method, path, body).await?.into_parts();
    let body = timeout(DEADLINE, body.collect()).await??.to_bytes();
    Ok(Answered {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
    })
}

async fn get(proxy: &HttpProxy, path: &str) -> Answered {
    send(proxy.addr(), Method::GET, path, "").await.unwrap()
}

/// A server that answers `/json` and the proxy before it.
fn pair() -> (HttpProxy, HttpProxy) {
    let server = HttpProxy::stub().unwrap();
    server.rule(
        Rule::any("/json")
            .reply(200, r#"{"index":1,"items":[1,2]}"#)
            .set_header("x-index", "100"),
    );
    let proxy = HttpProxy::start(server.addr()).unwrap();
    (server, proxy)
}

#[tokio::test]
async fn forwards_and_logs_the_whole_request() {
    let (server, proxy) = pair();
    let answer = send(proxy.addr(), Method::PUT, "/json?dc=a%20b", "payload")
        .await
        .unwrap();
    assert_eq!(
        (answer.status, &*answer.body),
        (200, &br#"{"index":1,"items":[1,2]}"#[..])
    );
    assert_eq!(answer.headers["x-index"], "100");
    for log in [proxy.requests_matching("/json"), server.requests_matching("/j*")] {
        let [request] = &log[..] else { panic!("{log:?}") };
        assert_eq!(
            (&request.method, &*request.path_and_query),
            (&Method::PUT, "/json?dc=a%20b")
        );
        assert_eq!(
            (request.query("dc").as_deref(), &*request.body),
            (Some("a b"), &b"payload"[..])
        );
        assert_eq!(request.header("x-token"), Some("t0ken"));
        assert_eq!(
            request.header(HOST.as_str()),
            Some(&*proxy.addr().to_string()),
            "the host is left alone"
        );
    }
    assert_eq!(get(&proxy, "/else").await.status, 404);
    assert!(proxy.rate("*", Duration::from_secs(100)) > 0.0);
}

#[tokio::test]
async fn a_hidden_header_stays_in_the_log_only() {
    let (server, proxy) = pair();
    proxy.rule(Rule::get("/json").hide_header("x-token"));
    get(&proxy, "/json").await;
    assert_eq!(
        proxy.requests_matching("/json")[0].header("x-token"),
        Some("t0ken")
    );
    assert_eq!(server.requests_matching("/json")[0].header("x-token"), None);
}

#[tokio::test]
async fn a_reply_is_given_so_many_times_without_forwarding() {
    let (server, proxy) = pair();
    let rule = proxy.rule(Rule::get("/json").reply(503, "no leader").times(2));
    for _ in 0..2 {
        let answer = get(&proxy, "/json").await;
        assert_eq!((answer.status, &*answer.body), (503, &b"no leader"[..]));
    }
    assert_eq!(server.requests_matching("*").len(), 0);
    assert_eq!(get(&proxy, "/json").await.status, 200);
    assert_eq!(rule.uses(), 2);
}

/// What rule C-1 is tested with: an index that goes back.
#[tokio::test]
async fn rules_apply_in_order_and_can_be_removed() {
    let (_server, proxy) = pair();
    for index in ["100", "105", "40"] {
        proxy.rule(Rule::any("*").set_header("x-index", index).times(1));
    }
    let stripped = proxy.rule(Rule::any("*").strip_header("X-Index"));
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(get(&proxy, "/json").await.headers.get("x-index").cloned());
    }
    let seen: Vec<_> = seen
        .iter()
        .map(|value| value.as_ref().map(|value| value.to_str().unwrap()))
        .collect();
    assert_eq!(seen, [Some("100"), Some("105"), Some("40"), None]);
    stripped.remove();
    stripped.remove();
    assert_eq!(get(&proxy, "/json").await.headers["x-index"], "100");
    assert_eq!(stripped.uses(), 1);
}

#[tokio::test]
async fn method_path_and_condition_must_all_match() {
    let (_server, proxy) = pair();
    proxy.rule(
        Rule::on(Method::PUT, "/json")
            .when(|request| request.query("index").is_some())
            .set_status(418),
    );
    for (method, path, expected) in [
        (Method::PUT, "/json?index=1", 418),
        (Method::GET, "/json?index=1", 200),
        (Method::PUT, "/json", 200),
        (Method::PUT, "/other?index=1", 404),
    ] {
        let status = send(proxy.addr(), method.clone(), path, "").await.unwrap().status;
        assert_eq!(status, expected, "{method} {path}");
    }
    proxy.clear_rules();
    assert_eq!(
        send(proxy.addr(), Method::PUT, "/json?index=1", "")
            .await
            .unwrap()
            .status,
        200
    );
}

#[tokio::test]
async fn bodies_are_changed_and_framed_anew() {
    let (server, proxy) = pair();
    server.rule(Rule::any("/text").reply(200, "plain"));
    proxy.rule(Rule::any("/json").map_json(|body| body["items"] = json!(null)));
    let answer = get(&proxy, "/json").await;
    assert_eq!(&*answer.body, br#"{"index":1,"items":null}"#);
    assert_eq!(answer.headers["content-length"], "24");
    let wrong = proxy.rule(Rule::any("/text").map_json(|_| {}));
    let answer = get(&proxy, "/text").await;
    assert_eq!(answer.status, 502);
    assert!(answer.body.starts_with(b"map_json: "), "{:?}", answer.body);
    wrong.remove();
    proxy.rule(Rule::any("/text").map_body(|body| body.slice(..2)));
    assert_eq!(&*get(&proxy, "/text").await.body, b"pl");
}

/// A-15: what a bounded read is tested with.
#[tokio::test]
async fn an_endless_body_does_not_end() {
    let proxy = HttpProxy::stub().unwrap();
    proxy.rule(Rule::any("*").endless(""));
    let mut body = open(proxy.addr(), Method::GET, "/", "")
        .await
        .unwrap()
        .into_body();
    let mut read = 0;
    while read < 1 << 20 {
        let piece = timeout(DEADLINE, body.frame())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap();
        assert!(piece.iter().all(|&byte| byte == b' '));
        read += piece.len();
    }
    drop(body);
    proxy.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_answer_is_delayed() {
    let (_server, proxy) = pair();
    let delay = Duration::from_millis(80);
    proxy.rule(Rule::any("*").delay(delay));
    let sent = Instant::now();
    assert_eq!(get(&proxy, "/json").await.status, 200);
    assert!(sent.elapsed() >= delay);
}

/// A-14: what credentials sent to another origin are found with.
#[tokio::test]
async fn a_redirect_names_the_other_server_which_must_not_see_the_secret() {
    let foreign = HttpProxy::stub().unwrap();
    let (_server, proxy) = pair();
    proxy.rule(Rule::any("*").redirect(307, &format!("http://{}/json", foreign.addr())));
    let answer = get(&proxy, "/json").await;
    assert_eq!(answer.status, 307);
    assert_eq!(
        answer.headers["location"],
        format!("http://{}/json", foreign.addr())
    );
    foreign.assert_no_secret("t0ken");
    get(&foreign, "/json").await; // a client that takes its header along
    let check = std::panic::AssertUnwindSafe(|| foreign.assert_no_secret("t0ken"));
    let panic = std::panic::catch_unwind(check).unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(
        text.contains("header x-token of a GET request") && !text.contains("t0ken"),
        "{text}"
    );
}

#[tokio::test]
async fn answers_are_streamed_and_leaving_ends_the_request_upstream() {
    let (server, _) = pair();
    server.rule(Rule::any("/watch").endless("event\n"));
    server.rule(Rule::any("/hang").delay(DEADLINE * 100));
    let middle = Proxy::start(server.addr()).unwrap();
    let proxy = HttpProxy::start(middle.addr()).unwrap();

    let mut body = open(proxy.addr(), Method::GET, "/watch", "")
        .await
        .unwrap()
        .into_body();
    assert!(
        timeout(DEADLINE, body.frame()).await.unwrap().is_some(),
        "comes before the answer is complete"
    );
    drop(body);
    eventually("the stream ends upstream", DEADLINE, || async {
        middle.counters().open == 0
    })
    .await;

    let waiting = open(proxy.addr(), Method::GET, "/hang", "");
    tokio::select! {
        answer = waiting => panic!("{answer:?}"),
        () = eventually("the request upstream", DEADLINE, || async { server.requests_matching("/hang").len() == 1 }) => {}
    }
    eventually("the request ends upstream", DEADLINE, || async {
        middle.counters().open == 0
    })
    .await;
}

#[tokio::test]
async fn what_breaks_upstream_breaks_the_connection_and_makes_no_answer() {
    let (server, _) = pair();
    let middle = Proxy::start(server.addr()).unwrap();
    let proxy = HttpProxy::start(middle.addr()).unwrap();
    middle.flow(
        Direction::Down,
        Flow::CutBody {
            after: 5,
            close: Close::Reset,
        },
    );
    let response = open(proxy.addr(), Method::GET, "/json", "").await;
    // The break may overtake the head of the answer, never the end of it.
    if let Ok(response) = response {
        assert_eq!(response.status(), 200);
        assert!(
            timeout(DEADLINE, response.into_body().collect())
                .await
                .unwrap()
                .is_err(),
            "an incomplete body"
        );
    }
    middle.refuse();
    assert!(
        open(proxy.addr(), Method::GET, "/json", "").await.is_err(),
        "an answer from nowhere"
    );
    middle.heal().unwrap();
    assert_eq!(get(&proxy, "/json").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_joins_waiting_and_streaming_requests() {
    let (server, proxy) = pair();
    server.rule(Rule::any("/hang").delay(DEADLINE * 100));
    server.rule(Rule::any("/watch").endless("event\n"));
    let hanging = open(proxy.addr(), Method::GET, "/hang", "");
    let streaming = open(proxy.addr(), Method::GET, "/watch", "");
    let body = streaming.await.unwrap().into_body();
    let stop = async {
        eventually("the request", DEADLINE, || async {
            server.requests_matching("/hang").len() == 1
        })
        .await;
        proxy.shutdown().await.unwrap();
        server.shutdown().await.unwrap();
    };
    let (hung, ()) = tokio::join!(hanging, stop);
    assert!(hung.is_err());
    assert!(timeout(DEADLINE, body.collect()).await.unwrap().is_err());
}

#[test]
#[should_panic(expected = "not the name of a header: \"a b\"")]
fn a_header_that_is_none_is_refused() {
    let _ = Rule::any("*").set_header("a b", "c");
}
