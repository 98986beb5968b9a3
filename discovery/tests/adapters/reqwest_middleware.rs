//! `http://api/…` over real connections to servers on loopback.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use discovery::adapters::reqwest_middleware::ByName;
use reqwest::{Method, StatusCode, header::HOST};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

use super::{api, end, load};

/// What a server does with a request.
#[derive(Clone, Copy)]
enum Does {
    /// Answers with this status, and the first line and the host of the request.
    Answer(u16),
    /// Reads it and hangs up.
    HangUp,
    /// Reads it and says nothing.
    Nothing,
}

struct Server {
    port: u16,
    requests: Arc<AtomicUsize>,
    /// Ends with it.
    _task: JoinSet<()>,
}

async fn server(does: Does) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::<AtomicUsize>::default();
    let counted = requests.clone();
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            counted.fetch_add(1, SeqCst);
            match does {
                Does::HangUp => {}
                Does::Nothing => silent.push(stream),
                Does::Answer(status) => {
                    let head = String::from_utf8(head).unwrap();
                    let host = head.lines().find(|line| line.to_lowercase().starts_with("host:"));
                    let body = format!("{} | {}", head.lines().next().unwrap(), host.unwrap());
                    let answer = format!(
                        "HTTP/1.1 {status} Status\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    stream.write_all(answer.as_bytes()).await.ok();
                }
            }
        }
    });
    Server {
        port,
        requests,
        _task: task,
    }
}

/// A port on which nobody listens.
async fn nobody() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

fn http(client: &discovery::Client) -> ClientWithMiddleware {
    let plain = reqwest::Client::builder()
        .tls_backend_preconfigured(discovery::tls::unused().unwrap())
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap();
    ClientBuilder::new(plain).with(ByName::new(client)).build()
}

async fn ask(http: &ClientWithMiddleware, method: Method, times: usize) -> Vec<Result<StatusCode, String>> {
    let mut answers = Vec::new();
    for _ in 0..times {
        let request = http.request(method.clone(), "http://api/").body("text");
        let answer = request.send().await;
        answers.push(
            answer
                .map(|answer| answer.status())
                .map_err(|error| error.to_string()),
        );
    }
    answers
}

fn good(answers: &[Result<StatusCode, String>]) -> usize {
    answers
        .iter()
        .filter(|answer| **answer == Ok(StatusCode::OK))
        .count()
}

#[tokio::test]
async fn the_server_is_told_the_name_of_the_service() {
    let one = server(Does::Answer(200)).await;
    let (client, service) = api(&[one.port]).await;
    let http = http(&client);
    let text = |request: reqwest_middleware::RequestBuilder| async {
        request.send().await.unwrap().text().await.unwrap()
    };
    assert_eq!(
        text(http.get("http://api/users?id=1")).await,
        "GET /users?id=1 HTTP/1.1 | host: api"
    );
    assert_eq!(
        text(http.get("http://api/").header(HOST, "shop.example")).await,
        "GET / HTTP/1.1 | host: shop.example"
    );
    let direct = format!("http://127.0.0.1:{}/", one.port);
    assert_eq!(
        text(http.get(direct)).await,
        format!("GET / HTTP/1.1 | host: 127.0.0.1:{}", one.port)
    );
    // The last one was nobody's pick.
    assert_eq!(load(&service, one.port), (0, 2, 0));
    end(client).await;
}

#[tokio::test]
async fn what_was_never_sent_goes_to_the_next_whatever_the_method() {
    let (one, closed) = (server(Does::Answer(200)).await, nobody().await);
    let (client, service) = api(&[one.port, closed]).await;
    assert_eq!(good(&ask(&http(&client), Method::POST, 10).await), 10);
    let (_, _, failed) = load(&service, closed);
    assert!(failed > 0, "{failed}");
    assert_eq!(load(&service, one.port), (0, 10, 0));
    end(client).await;
}

#[tokio::test]
async fn what_was_sent_is_repeated_only_where_the_method_allows() {
    let (one, broken) = (server(Does::Answer(200)).await, server(Does::HangUp).await);
    let (client, service) = api(&[one.port, broken.port]).await;
    let http = http(&client);
    assert_eq!(good(&ask(&http, Method::PUT, 10).await), 10);
    let (met, (_, _, failed)) = (broken.requests.load(SeqCst), load(&service, broken.port));
    assert!(met > 0 && failed > 0, "{met} {failed}");
    let posts = ask(&http, Method::POST, 10).await;
    assert_eq!(good(&posts), 5, "{posts:?}");
    assert_eq!(broken.requests.load(SeqCst), met + 5, "none of them twice");
    end(client).await;
}

#[tokio::test]
async fn statuses_are_failures_from_500_on_and_some_may_pass_elsewhere() {
    for (status, gets, failures) in [(503, 10, true), (500, 5, true), (429, 5, false), (404, 5, false)] {
        let (one, other) = (
            server(Does::Answer(200)).await,
            server(Does::Answer(status)).await,
        );
        let (client, service) = api(&[one.port, other.port]).await;
        let http = http(&client);
        let answers = ask(&http, Method::GET, 10).await;
        assert_eq!(good(&answers), gets, "{answers:?}");
        let (_, succeeded, failed) = load(&service, other.port);
        assert_eq!((succeeded == 0, failed > 0), (failures, failures), "{status}");
        let answers = ask(&http, Method::POST, 10).await;
        assert_eq!(good(&answers), 5, "{answers:?}");
        end(client).await;
    }
}

#[tokio::test]
async fn no_answer_in_time_is_a_failure() {
    let silent = server(Does::Nothing).await;
    let (client, service) = api(&[silent.port]).await;
    let http = http(&client);
    let request = http.post("http://api/").timeout(Duration::from_millis(50));
    assert!(request.send().await.unwrap_err().is_timeout());
    assert_eq!(load(&service, silent.port), (0, 0, 1));
    end(client).await;
}

#[tokio::test]
async fn no_instance_is_an_error_of_ours() {
    let (client, _service) = api(&[]).await;
    let error = http(&client).get("http://api/").send().await.unwrap_err();
    assert!(error.is_middleware(), "{error:?}");
    assert!(error.to_string().contains("no instance can be picked"), "{error}");
    end(client).await;
}
