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
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
}

#[tokio::test]
async fn what_a_plug_in_prints_and_is_called_with_is_never_shown() {
    let server = guarded("t").await;
    for script in ["echo s3ntinel >&2; echo s3ntinel; exit 3", "echo 's3ntinel: ['"] {
        let exec = json!({ "exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "interactiveMode": "Never",
            "args": ["-c", script], "env": [{ "name": "SECRET", "value": "s3ntinel" }],
        } });
        let file = kubeconfig(&server, &exec);
        let error = with_kubeconfig(&file, "production").version().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
        assert!(!format!("{error:?} {error}").contains("s3ntinel"), "{error:?}");
    }
}

/// A plug-in that hangs costs its deadline and blocks no thread of the runtime, and there is never a second one beside it.
#[tokio::test]
async fn a_plug_in_that_hangs_runs_into_the_deadline() {
    let server = guarded("t").await;
    let folder = tempfile::tempdir().unwrap();
    let (runs, go) = (folder.path().join("runs"), folder.path().join("go"));
    let script = format!(
        "echo ran >> {}; for i in $(seq 200); do [ -e {} ] && break; sleep 0.05; done; exit 1",
        runs.display(),
        go.display()
    );
    let exec = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "interactiveMode": "Never",
        "args": ["-c", script],
    } });
    let file = kubeconfig(&server, &exec);
    let client = with_kubeconfig(&file, "production");
    let until = Instant::now() + Duration::from_millis(300);
    for _ in 0..2 {
        let error = client
            .answer(&Call::version(), until, DEADLINE)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    }
    discovery_testkit::eventually("one run", Duration::from_secs(20), || async {
        match std::fs::read_to_string(&runs) {
            Ok(text) if text.lines().count() == 1 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    std::fs::write(go, "").unwrap();
}

#[tokio::test]
async fn a_kubeconfig_that_cannot_be_read_shows_no_piece_of_itself() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "users:\n- user: { token: s3ntinel\n  name: [\n").unwrap();
    let error = with_kubeconfig(&file, "production").version().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error:?}");
    assert!(!format!("{error:?} {error}").contains("s3ntinel"), "{error:?}");
}

/// Token, authority and namespace come from the account's folder; the real server's tests rotate them.
#[tokio::test]
async fn the_folder_of_a_service_account_is_read_whole() {
    let server = guarded("of-the-pod").await;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let mut config = server.config();
    config.cluster_config.service_account = Some(folder.path().to_owned());
    let client = || Client::new(config.clone()).unwrap();
    write("token", "of-the-pod");
    let error = client().version().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error:?}");
    assert!(error.to_string().contains("namespace"), "{error}");
    write("namespace", "payments\n");
    // Any authority will do where no TLS is spoken.
    let made = discovery_testkit::server::Authority::make().await.unwrap();
    write("ca.crt", &std::fs::read_to_string(made.ca()).unwrap());
    let client = client();
    client.version().await.unwrap();
    assert_eq!(&*client.own_namespace().await.unwrap(), "payments");
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
