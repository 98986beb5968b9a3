//! The checks of `health_checks:`, run by the client that registers.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not know as such"
)]

use std::time::Duration;

use discovery::{
    Client, ErrorKind, Instance, Query, Registration, Status, TaskGroup, builder_from, loader,
    memory::MemoryStore,
};
use discovery_testkit::eventually;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
};

const PATIENCE: Duration = Duration::from_secs(30);

fn client(blocks: &str) -> Client {
    let text = format!("memory: {{}}\n{blocks}");
    let loaded = loader().yaml("discovery.yaml", &text).unwrap();
    let store = MemoryStore::new().backend();
    let builder = builder_from(&loaded, "memory").unwrap_or_else(|error| panic!("{error:#}"));
    builder.map_backend(|_| store).build().unwrap()
}

/// The one instance of `api` there is, with its checks.
async fn shown(client: &Client) -> Option<Instance> {
    let query = Query::service("api").unwrap().include_unhealthy().with_checks();
    let found = client.registry().instances(&query).await.unwrap();
    found
        .instances
        .iter()
        .next()
        .cloned()
        .map(std::sync::Arc::unwrap_or_clone)
}

async fn becomes(client: &Client, status: Status, output: &str) {
    eventually(format!("{status:?} with {output:?}"), PATIENCE, || async {
        let Some(instance) = shown(client).await else {
            return Err("nothing".to_owned());
        };
        let told = instance.checks.iter().any(|check| check.output.contains(output));
        if instance.status == status && (told || output.is_empty()) {
            Ok(())
        } else {
            Err(format!("{instance:?}"))
        }
    })
    .await;
}

/// Answers every request with the body last sent.
async fn serve(listener: TcpListener, bodies: watch::Receiver<&'static str>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => request.push(byte),
                Err(_) => break,
            }
        }
        let body = *bodies.borrow();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

#[tokio::test]
async fn the_set_of_a_service_is_looked_at_for_what_it_expects() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (body, bodies) = watch::channel("all is healthy");
    let tasks = TaskGroup::current().unwrap();
    let server = tasks.spawn(serve(listener, bodies));
    // As the specification has it, in less time; its script is left out, and named in a warning.
    let client = client(
        r#"
health_checks:
  api_service:
    checks:
      - name: "HTTP Health Endpoint"
        type: "http"
        url: "http://{{ .address }}:{{ .port }}/health"
        method: "GET"
        timeout: "5s"
        interval: "50ms"
        expected_status: 200
        expected_body: "healthy"
      - { name: "Port", type: "tcp", address: "{{ .address }}:{{ .port }}", interval: "50ms" }
      - { name: "Database Connectivity", type: "script", script: "exit 1" }
    failure_threshold: 3
    success_threshold: 2
"#,
    );
    let registration = Registration::builder("api", "127.0.0.1", port).build().unwrap();
    client.register(registration).await.unwrap();
    becomes(&client, Status::Passing, "").await;
    body.send_replace("all is lost");
    becomes(&client, Status::Critical, "the body does not hold \"healthy\"").await;
    body.send_replace("healthy again");
    becomes(&client, Status::Passing, "").await;
    server.abort();
    becomes(&client, Status::Critical, "Port: ").await;
    // Other services have no such checks.
    let other = Registration::builder("other", "127.0.0.1", 1).build().unwrap();
    let registered = client.register(other).await.unwrap();
    let instance = client
        .registry()
        .instance(registered.key())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(instance.status, Status::Passing);
    client.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn what_is_critical_for_too_long_is_withdrawn() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let client = client(
        r#"
health_checks:
  api:
    checks: [{ name: "Port", type: "tcp", address: "{{ .address }}:{{ .port }}", interval: "50ms" }]
    deregister_critical_service_after: "500ms"
"#,
    );
    let registration = Registration::builder("api", "127.0.0.1", closed.port())
        .build()
        .unwrap();
    client.register(registration).await.unwrap();
    becomes(&client, Status::Critical, "Port: ").await;
    eventually("the withdrawal", PATIENCE, || async {
        shown(&client).await.is_none()
    })
    .await;
    assert!(client.status().await.registrations.is_empty());
    client.shutdown(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn a_set_counts_where_one_check_is_allowed_and_bad_ones_are_told() {
    let set = "health_checks: { api: { checks: [{ name: a, type: tcp, address: \"h:1\" }, { name: b, type: tcp, address: \"h:2\" }] } }";
    let one = client(&format!(
        "high_availability: {{ health_checks: {{ multiple_checks: false }} }}\n{set}"
    ));
    let registration = Registration::builder("api", "127.0.0.1", 1).build().unwrap();
    let error = one.register(registration.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.hint().unwrap().contains("multiple_checks"), "{error:?}");

    let bad = client("health_checks: { api: { checks: [{ name: a, type: http, url: \"ftp://h/\" }] } }");
    let error = bad.register(registration).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(bad.status().await.registrations.is_empty());
}
