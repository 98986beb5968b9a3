//! Who the client is: kubeconfigs, plug-ins, service accounts, and what is replaced while it runs.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use discovery_core::{Change, ErrorKind, Query, TaskGroup};
use discovery_k8s::K8sConfig;
use discovery_testkit::{
    eventually,
    proxy::{Close, Proxy},
    server::{Authority, Identity},
};
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::{
    Shared,
    servers::{Bridge, Kube},
    support::{PATIENCE, admin, ask, bind, change, cluster, web},
};

/// The folder of a service account, as a pod has it.
struct Account {
    folder: tempfile::TempDir,
}

impl Account {
    fn new(token: &str, ca: &Path) -> Self {
        let account = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        account.write("token", token);
        account.write("ca.crt", &std::fs::read_to_string(ca).unwrap());
        account.write("namespace", "default");
        account
    }

    /// As the kubelet does it: in one step.
    fn write(&self, name: &str, text: &str) {
        let new = self.folder.path().join(format!("{name}.new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.folder.path().join(name)).unwrap();
    }

    fn config(&self, server: std::net::SocketAddr) -> K8sConfig {
        let mut config = K8sConfig::at(server.to_string());
        config.cluster_config.service_account = Some(self.folder.path().to_owned());
        config.service_discovery.watch_timeout = std::time::Duration::from_secs(1);
        config
    }
}

/// A token of the service account that is good as long as the Secret of this name is there.
async fn token(kube: &Kube, secret: &str) -> String {
    let core = "/api/v1/namespaces/default";
    let made = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": secret } });
    let made = ask(kube, "POST", &format!("{core}/secrets"), Some(&made)).await;
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": { "expirationSeconds": 3600, "boundObjectRef": {
            "apiVersion": "v1", "kind": "Secret", "name": secret, "uid": made["metadata"]["uid"] } },
    });
    let path = format!("{core}/serviceaccounts/robot/token");
    let token = ask(kube, "POST", &path, Some(&request)).await;
    token["status"]["token"].as_str().unwrap().to_owned()
}

/// kubernetes-client/python#1768: the token of a running pod is replaced, and the old one is no longer good.
pub(crate) async fn k_18_a_service_account_outlives_its_token(shared: Shared) {
    let kube = cluster(&shared).await;
    let robot = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "robot" } });
    ask(
        &kube,
        "POST",
        "/api/v1/namespaces/default/serviceaccounts",
        Some(&robot),
    )
    .await;
    let who = json!({ "kind": "ServiceAccount", "name": "robot", "namespace": "default" });
    bind(&kube, crate::rights::READ, "robot-reads", &who).await;
    let account = Account::new(&token(&kube, "first").await, &kube.ca_file());
    let robot = discovery_k8s::backend(account.config(kube.api_endpoint())).unwrap();
    let query = Query::service("account").unwrap();
    eventually("the rights", PATIENCE, || async {
        robot.registry.instances(&query).await.map(drop)
    })
    .await;
    let mut watch = robot.watcher.watch(&query, None);
    assert!(matches!(change(&mut watch).await.unwrap(), Change::Reset(all) if all.is_empty()));
    // The old one ends before the new one is there.
    ask(&kube, "DELETE", "/api/v1/namespaces/default/secrets/first", None).await;
    eventually("the end of the first token", PATIENCE, || async {
        match robot.registry.instances(&query).await {
            Err(error) if error.kind() == ErrorKind::Unauthenticated => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    account.write("token", &token(&kube, "second").await);
    eventually("the second token", PATIENCE, || async {
        robot.registry.instances(&query).await.map(drop)
    })
    .await;
    let here = web("account", "192.0.2.1").build().unwrap();
    let lease = admin(&kube).registry.register(&here).await.unwrap();
    let mut watch = robot.watcher.watch(&query, None);
    assert!(matches!(change(&mut watch).await.unwrap(), Change::Reset(all) if all.len() == 1));
    admin(&kube).registry.deregister(&lease.key).await.unwrap();
}

/// Speaks TLS under an identity that can be replaced, and passes on what it hears.
struct Front {
    addr: std::net::SocketAddr,
    identity: Arc<Mutex<TlsAcceptor>>,
    tasks: TaskGroup,
}

impl Front {
    async fn start(identity: &Identity, upstream: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let identity = Arc::new(Mutex::new(acceptor(identity)));
        let (tasks, now) = (TaskGroup::current().unwrap(), identity.clone());
        let group = tasks.clone();
        tasks.spawn(async move {
            let ended = group.cancelled().clone();
            ended
                .run_until_cancelled(async {
                    while let Ok((stream, _)) = listener.accept().await {
                        let (acceptor, ended) = (now.lock().unwrap().clone(), ended.clone());
                        group.spawn(async move {
                            let pass = async {
                                let mut secure = acceptor.accept(stream).await?;
                                let mut plain = TcpStream::connect(upstream).await?;
                                copy_bidirectional(&mut secure, &mut plain).await
                            };
                            // What breaks here, the client sees.
                            let _ = ended.run_until_cancelled(pass).await;
                        });
                    }
                })
                .await
        });
        Self {
            addr,
            identity,
            tasks,
        }
    }

    fn becomes(&self, identity: &Identity) {
        *self.identity.lock().unwrap() = acceptor(identity);
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

fn acceptor(identity: &Identity) -> TlsAcceptor {
    let chain: Vec<_> = CertificateDer::pem_file_iter(&identity.cert)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// The cluster's authority is replaced under a client that runs: the file changes, the client does not.
pub(crate) async fn a_replaced_authority_is_read_while_running(shared: Shared) {
    let kube = cluster(&shared).await;
    let (old, new) = (Authority::make().await.unwrap(), Authority::make().await.unwrap());
    let bridge = Bridge::start(&kube).await.unwrap();
    let front = Front::start(&old.server("old").await.unwrap(), bridge.addr).await;
    let way = Proxy::start(front.addr).unwrap();
    let account = Account::new(kube.token(), &old.ca());
    let client = discovery_k8s::backend(account.config(way.addr())).unwrap();
    let query = Query::service("authority").unwrap();
    client.registry.instances(&query).await.unwrap();
    front.becomes(&new.server("new").await.unwrap());
    way.cut(Close::Reset).await;
    let error = eventually("the refusal of an authority not known", PATIENCE, || async {
        match client.registry.instances(&query).await {
            Err(error) if error.kind() == ErrorKind::ConfigInvalid => Ok(error),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(error.hint().unwrap().contains("authority"), "{error:?}");
    account.write("ca.crt", &std::fs::read_to_string(new.ca()).unwrap());
    eventually("the new authority", PATIENCE, || async {
        client.registry.instances(&query).await.map(drop)
    })
    .await;
}

fn kubeconfig(kube: &Kube, user: &Value) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let here = json!({ "server": format!("https://{}", kube.api_endpoint()), "certificate-authority": kube.ca_file() });
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "away",
        "clusters": [{ "name": "here", "cluster": here }, { "name": "away", "cluster": { "server": "https://127.0.0.1:1" } }],
        "users": [{ "name": "me", "user": user }, { "name": "nobody", "user": { "token": "unknown" } }],
        "contexts": [
            { "name": "away", "context": { "cluster": "away", "user": "me" } },
            { "name": "mine", "context": { "cluster": "here", "user": "me", "namespace": "kube-system" } },
            { "name": "nobodys", "context": { "cluster": "here", "user": "nobody" } },
        ],
    });
    std::fs::write(file.path(), config.to_string()).unwrap();
    file
}

pub(crate) async fn each_context_of_a_kubeconfig_is_another_client(shared: Shared) {
    let kube = cluster(&shared).await;
    let file = kubeconfig(&kube, &json!({ "token": kube.token() }));
    let query = Query::service("context").unwrap();
    let ask_in = async |context: Option<&str>| {
        let mut config = K8sConfig::default();
        config.cluster_config.kubeconfig = Some(file.path().to_owned());
        config.cluster_config.context = context.map(str::to_owned);
        let backend = discovery_k8s::backend(config).unwrap();
        let found = backend.registry.instances(&query).await;
        found.map(|_| backend)
    };
    let backend = ask_in(Some("mine")).await.unwrap();
    let lease = backend
        .registry
        .register(&web("context", "192.0.2.1").build().unwrap())
        .await
        .unwrap();
    assert_eq!(lease.key.namespace.as_deref(), Some("kube-system"));
    backend.registry.deregister(&lease.key).await.unwrap();
    for (context, kind) in [
        (None, ErrorKind::Unavailable),
        (Some("nobodys"), ErrorKind::Unauthenticated),
        (Some("missing"), ErrorKind::ConfigInvalid),
    ] {
        let error = ask_in(context).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{context:?}: {error:?}");
    }
}

/// A plug-in is run again when the server no longer takes what it gave.
pub(crate) async fn a_plug_in_of_the_kubeconfig_is_asked_again(shared: Shared) {
    let kube = cluster(&shared).await;
    let given = tempfile::NamedTempFile::new().unwrap();
    let answer = |token: &str| {
        let credential = json!({
            "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": { "token": token },
        });
        std::fs::write(given.path(), credential.to_string()).unwrap();
    };
    answer("unknown");
    let exec = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "cat", "interactiveMode": "Never",
        "args": [given.path()],
    } });
    let file = kubeconfig(&kube, &exec);
    let mut config = K8sConfig::default();
    config.cluster_config.kubeconfig = Some(file.path().to_owned());
    config.cluster_config.context = Some("mine".to_owned());
    let backend = discovery_k8s::backend(config).unwrap();
    let query = Query::service("plug-in").unwrap();
    let error = backend.registry.instances(&query).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
    answer(kube.token());
    eventually("the plug-in's new token", PATIENCE, || async {
        backend.registry.instances(&query).await.map(drop)
    })
    .await;
}
