use std::io::Write as _;

use serde_json::json;

use super::*;
use crate::testing::{Part, Reply, Server};

fn version() -> Reply {
    Reply::json(200, &json!({ "gitVersion": "v1.33.0" }))
}

async fn guarded(token: &'static str) -> Server {
    Server::start(move |asked| {
        if asked.head.contains(&format!("Bearer {token}\r\n")) {
            version()
        } else {
            Reply::refuse(401, "Unauthorized", "")
        }
    })
    .await
}

/// kubernetes-client/python#1768, kuberesolver#28: a rotated token, and 401 until the next restart.
#[tokio::test]
async fn k_18_issue_kubernetes_client_1768_a_rotated_token_is_read_when_the_old_one_is_refused() {
    let server = guarded("new").await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"old\n").unwrap();
    let mut config = server.config();
    config.cluster_config.token_file = Some(file.path().to_owned());
    let client = Client::new(config).unwrap();
    let error = client.version().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
    std::fs::write(file.path(), "new\n").unwrap();
    tokio::time::sleep(REREAD).await;
    client.version().await.unwrap();
    let asked = server.asked("/version").len();
    client.version().await.unwrap();
    assert_eq!(
        server.asked("/version").len(),
        asked + 1,
        "one request once it fits"
    );
}

#[tokio::test]
async fn k_18_a_token_that_stays_wrong_is_sent_again_once_and_never_shown() {
    let server = guarded("another").await;
    let client = Client::new(server.config().token("s3ntinel-token")).unwrap();
    client.version().await.unwrap_err();
    tokio::time::sleep(REREAD).await;
    let before = server.asked("").len();
    let error = client.version().await.unwrap_err();
    assert_eq!(server.asked("").len() - before, 2);
    assert!(!format!("{error:?} {client:?}").contains("s3ntinel"));
}

fn kubeconfig(server: &Server, user: &serde_json::Value) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "elsewhere",
        "clusters": [
            { "name": "here", "cluster": { "server": server.url } },
            { "name": "nowhere", "cluster": { "server": "http://127.0.0.1:1" } },
        ],
        "users": [{ "name": "me", "user": user }],
        "contexts": [
            { "name": "production", "context": { "cluster": "here", "user": "me", "namespace": "prod" } },
            { "name": "elsewhere", "context": { "cluster": "nowhere", "user": "me" } },
        ],
    });
    std::fs::write(file.path(), config.to_string()).unwrap();
    file
}

fn with_kubeconfig(file: &tempfile::NamedTempFile, context: &str) -> Client {
    let mut config = K8sConfig::default();
    config.cluster_config.kubeconfig = Some(file.path().to_owned());
    config.cluster_config.context = Some(context.to_owned());
    Client::new(config).unwrap()
}

#[tokio::test]
async fn a_kubeconfig_is_read_with_its_context_and_namespace() {
    let server = guarded("t").await;
    let file = kubeconfig(&server, &json!({ "token": "t" }));
    let client = with_kubeconfig(&file, "production");
    client.version().await.unwrap();
    assert_eq!(&*client.own_namespace().await.unwrap(), "prod");
    let error = with_kubeconfig(&file, "missing").version().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error:?}");
    let error = with_kubeconfig(&file, "elsewhere").version().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
}

#[tokio::test]
async fn a_plug_in_of_the_kubeconfig_is_run() {
    let server = guarded("from-the-plug-in").await;
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": { "token": "from-the-plug-in" },
    });
    let exec = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "interactiveMode": "Never",
        "args": ["-c", format!("echo '{credential}'")],
    } });
    let file = kubeconfig(&server, &exec);
    with_kubeconfig(&file, "production").version().await.unwrap();
    let broken = json!({ "exec": { "apiVersion": "client.authentication.k8s.io/v1", "command": "/no/such/plug-in", "interactiveMode": "Never" } });
    let file = kubeconfig(&server, &broken);
    let error = with_kubeconfig(&file, "production").version().await.unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::Unauthenticated | ErrorKind::ConfigInvalid
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_14_a_redirect_is_not_followed() {
    let server = Server::start(|_| Reply::refuse(307, "Moved", "")).await;
    let client = Client::new(server.config().token("t")).unwrap();
    assert_eq!(client.version().await.unwrap_err().kind(), ErrorKind::Protocol);
    assert_eq!(server.asked("").len(), 1);
}

#[tokio::test]
async fn a_15_an_answer_without_end_is_an_error() {
    let server = Server::start(|_| Reply::parts(vec![Part::Data(vec![b' '; 1 << 20]); 80])).await;
    let client = Client::new(server.config()).unwrap();
    assert_eq!(client.version().await.unwrap_err().kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let error = Client::new(K8sConfig::at("http://127.0.0.1:1"))
        .unwrap()
        .version()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn what_is_no_apiserver_is_told() {
    let server = Server::start(|_| Reply::parts(vec![Part::Data(b"<html>".to_vec())])).await;
    let error = Client::new(server.config()).unwrap().version().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
}
