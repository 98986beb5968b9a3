use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use discovery_core::{ErrorKind, TaskGroup};
use discovery_testkit::capture::Capture;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Notify,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::client::{Call, Client};

/// An authority and what it signs, made for one test.
struct Authority(CertifiedIssuer<'static, KeyPair>);

struct Signed {
    pem: String,
    key: String,
    der: CertificateDer<'static>,
    private: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self) -> Signed {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let signed = params.signed_by(&key, &self.0).unwrap();
        Signed {
            pem: signed.pem(),
            key: key.serialize_pem(),
            der: signed.der().clone(),
            private: key.serialize_der(),
        }
    }

    /// A server of this authority that wants client certificates of it.
    fn serves(&self) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let own = self.sign();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(vec![own.der], PrivateKeyDer::Pkcs8(own.private.into()))
            .unwrap();
        Arc::new(config)
    }
}

/// A server that answers with the certificate it was shown, one request a connection; `/slow` when told to.
struct Server {
    addr: SocketAddr,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    slow: Arc<Notify>,
    asked: Arc<Notify>,
    _tasks: TaskGroup,
}

impl Server {
    async fn start(config: Arc<ServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tasks = TaskGroup::current().unwrap();
        let server = Self {
            addr: listener.local_addr().unwrap(),
            config: Arc::new(Mutex::new(config)),
            slow: Arc::default(),
            asked: Arc::default(),
            _tasks: tasks.clone(),
        };
        let (config, slow, asked) = (server.config.clone(), server.slow.clone(), server.asked.clone());
        let inner = tasks.clone();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::from(config.lock().unwrap().clone());
                let (slow, asked) = (slow.clone(), asked.clone());
                inner.spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
                    let mut head = [0; 1024];
                    let read = stream.read(&mut head).await.unwrap_or_default();
                    if head[..read].starts_with(b"GET /slow") {
                        asked.notify_one();
                        slow.notified().await;
                    }
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                        shown.len()
                    );
                    let _ = stream.write_all(&[answer.as_bytes(), &shown].concat()).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        server
    }
}

fn write(dir: &Path, signed: &Signed) {
    fs::write(dir.join("client.pem"), &signed.pem).unwrap();
    fs::write(dir.join("client-key.pem"), &signed.key).unwrap();
}

fn client(server: &Server, dir: &Path) -> Client {
    let mut config = ConsulConfig::at(format!("https://{}", server.addr));
    config.tls.ca_file = Some(dir.join("ca.pem"));
    config.tls.cert_file = Some(dir.join("client.pem"));
    config.tls.key_file = Some(dir.join("client-key.pem"));
    Client::new(config).unwrap()
}

async fn shown(client: &Client) -> Result<Vec<u8>> {
    client
        .send(&Call::get("/x".to_owned()))
        .await
        .map(|answer| answer.body.to_vec())
}

#[tokio::test]
async fn a_replaced_certificate_is_shown_by_new_connections_and_breaks_none() {
    let authority = Authority::new();
    let (dir, server) = (
        tempfile::tempdir().unwrap(),
        Server::start(authority.serves()).await,
    );
    let (one, two) = (authority.sign(), authority.sign());
    fs::write(dir.path().join("ca.pem"), authority.0.pem()).unwrap();
    write(dir.path(), &one);
    let client = client(&server, dir.path());
    assert_eq!(shown(&client).await.unwrap(), one.der.to_vec());

    let call = Call::get("/slow".to_owned());
    let (slow, ()) = tokio::join!(client.send(&call), async {
        server.asked.notified().await;
        assert!(!client.pools().renew(true), "nothing was replaced");
        write(dir.path(), &two);
        assert!(!client.pools().renew(false), "not before it is time");
        assert!(client.pools().renew(true));
        assert_eq!(shown(&client).await.unwrap(), two.der.to_vec());
        server.slow.notify_one();
    });
    assert_eq!(
        slow.unwrap().body,
        one.der.to_vec(),
        "what was under way ends as it began"
    );
}

#[tokio::test]
async fn certificates_that_are_no_good_leave_the_last_ones_and_one_warning() {
    let authority = Authority::new();
    let (dir, server) = (
        tempfile::tempdir().unwrap(),
        Server::start(authority.serves()).await,
    );
    let (one, two) = (authority.sign(), authority.sign());
    fs::write(dir.path().join("ca.pem"), authority.0.pem()).unwrap();
    write(dir.path(), &one);
    let client = client(&server, dir.path());
    let (logs, _guard) = Capture::scoped();
    // Half of a replacement, then nonsense, then nothing at all: each is looked at several times.
    let breaks: [fn(&Path, &Signed); 3] = [
        |dir, two| fs::write(dir.join("client.pem"), &two.pem).unwrap(),
        |dir, _| fs::write(dir.join("client.pem"), "nonsense").unwrap(),
        |dir, _| fs::remove_file(dir.join("client.pem")).unwrap(),
    ];
    for (n, break_it) in breaks.into_iter().enumerate() {
        break_it(dir.path(), &two);
        for _ in 0..3 {
            assert!(!client.pools().renew(true));
            assert_eq!(shown(&client).await.unwrap(), one.der.to_vec());
        }
        assert_eq!(logs.text().matches("are no good").count(), n + 1);
    }
    write(dir.path(), &two);
    assert!(client.pools().renew(true));
    assert_eq!(shown(&client).await.unwrap(), two.der.to_vec());
}

/// The server has a new authority: a failed handshake looks at the files at once.
#[tokio::test]
async fn a_handshake_that_fails_looks_for_other_certificates_at_once() {
    let (old, new) = (Authority::new(), Authority::new());
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start(old.serves()).await);
    fs::write(dir.path().join("ca.pem"), old.0.pem()).unwrap();
    write(dir.path(), &old.sign());
    let client = client(&server, dir.path());
    shown(&client).await.unwrap();
    *server.config.lock().unwrap() = new.serves();
    let error = shown(&client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error:?}");
    let signed = new.sign();
    fs::write(dir.path().join("ca.pem"), new.0.pem()).unwrap();
    write(dir.path(), &signed);
    assert_eq!(shown(&client).await.unwrap(), signed.der.to_vec());
}
