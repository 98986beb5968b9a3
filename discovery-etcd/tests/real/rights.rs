//! Who may do what: users, tokens and their end, certificates.

use std::time::Duration;

use discovery_core::{Change, ConfigKey, ErrorKind, PutMode, Query, Scope, Source};
use discovery_etcd::{EtcdConfig, backend};
use discovery_testkit::{
    eventually,
    proxy::{Close, Proxy},
    server::{
        Authority, Server,
        etcd::{Etcd, Permission},
    },
};
use futures::StreamExt;
use tokio::time::{Instant, timeout};

use crate::support::{
    PATIENCE, Setup, TTL, api, client, config, lasting, ports, query, shows, started, view_shows,
    view_shows_within,
};

const PASSWORD: &str = "s3ntinel";

/// Users from now on: root, and one that may write `/services/` and nothing else.
async fn protect(etcd: &Etcd) {
    etcd.add_user("app", PASSWORD, Permission::ReadWrite, "/services/")
        .await
        .unwrap();
    etcd.enable_auth(PASSWORD).await.unwrap();
}

fn as_app(etcd: &Etcd) -> EtcdConfig {
    config([etcd.url()]).user("app", PASSWORD)
}

/// Of unary calls and of open streams.
pub(crate) async fn e_31_e_32_expired_tokens_are_replaced(setup: Setup) {
    let token_ttl = Duration::from_secs(3);
    let etcd = started(setup.etcd().token_ttl(token_ttl)).await;
    protect(&etcd).await;
    let [watched, direct, idle] = [(); 3].map(|()| backend(as_app(&etcd)).unwrap());
    let watched = client(watched);
    watched.register(api(1)).await.unwrap();
    view_shows(&watched, 1).await;
    assert_eq!(ports(&idle).await.unwrap(), [1]);
    let until = Instant::now() + 3 * token_ttl;
    while Instant::now() < until {
        assert_eq!(ports(&direct).await.unwrap(), [1]);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(ports(&idle).await.unwrap(), [1]);
    let lease = direct.registry.register(&lasting(2)).await.unwrap();
    view_shows(&watched, 2).await;
    direct.registry.deregister(&lease.key).await.unwrap();
    view_shows(&watched, 1).await;
    // Tokens live in a member's memory: restarted, it knows none.
    etcd.restart().await.unwrap();
    shows(&direct, &[1]).await;
    let lease = direct.registry.register(&lasting(2)).await.unwrap();
    view_shows(&watched, 2).await;
    direct.registry.deregister(&lease.key).await.unwrap();
    view_shows(&watched, 1).await;
    watched.shutdown(PATIENCE).await.unwrap();
}

pub(crate) async fn e_22_e_34_a_missing_right_is_an_error_not_emptiness(setup: Setup) {
    let etcd = setup.started().await;
    protect(&etcd).await;
    let app = backend(as_app(&etcd)).unwrap();
    app.registry.register(&api(1)).await.unwrap();
    let store = app.config.clone().unwrap();
    let key = ConfigKey::new("a").unwrap();
    let failed = store.put(&key, b"x", PutMode::Upsert).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::PermissionDenied);
    // From a place in history, the refusal comes within the stream.
    let listed = app.registry.instances(&Query::all()).await.unwrap();
    for since in [None, listed.cursor] {
        let refused = timeout(PATIENCE, store.watch("", since).next()).await.unwrap();
        assert_eq!(refused.unwrap().unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
    // A wider range than the right covers.
    let mut wide = as_app(&etcd);
    "/".clone_into(&mut wide.service_registration.key_prefix);
    "config/".clone_into(&mut wide.config.prefix);
    let wide = backend(wide).unwrap();
    let failed = wide.registry.services(&Scope::default()).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::PermissionDenied);
    // Wrong or no credentials.
    for wrong in [config([etcd.url()]).user("app", "wrong"), config([etcd.url()])] {
        let failed = ports(&backend(wrong).unwrap()).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Unauthenticated, "{failed:?}");
        assert!(!format!("{failed:?}").contains(PASSWORD));
    }
}

pub(crate) async fn e_34_a_right_lost_during_a_watch_wipes_nothing(setup: Setup) {
    let etcd = setup.started().await;
    protect(&etcd).await;
    let way = Proxy::start(etcd.endpoint()).unwrap();
    let direct = backend(as_app(&etcd)).unwrap();
    direct.registry.register(&lasting(1)).await.unwrap();
    let watched = client(backend(config([way.addr()]).user("app", PASSWORD)).unwrap());
    view_shows(&watched, 1).await;
    let right = ["--prefix=true", "app", "/services/"];
    let revoke = [&["role", "revoke-permission"], &right[..]].concat();
    etcd.ctl(&revoke).await.unwrap();
    way.cut(Close::Reset).await;
    let view = watched.query(&query()).unwrap();
    eventually("a view that knows it is cut off", PATIENCE, || async {
        let found = view.instances().await.map_err(|failed| failed.to_string())?;
        assert_eq!(found.instances.len(), 1, "{found:?}");
        match found.source {
            Source::Stale => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let grant = [
        "role",
        "grant-permission",
        "--prefix=true",
        "app",
        "readwrite",
        "/services/",
    ];
    etcd.ctl(&grant).await.unwrap();
    direct.registry.register(&lasting(2)).await.unwrap();
    // What is denied is asked for again every 30 s at the latest.
    view_shows_within(&watched, 2, 3 * PATIENCE).await;
    watched.shutdown(PATIENCE).await.unwrap();
}

pub(crate) async fn e_33_authentication_may_come_and_go(setup: Setup) {
    let etcd = setup.started().await;
    let backend = backend(as_app(&etcd)).unwrap();
    // Off: a user is no obstacle.
    backend.registry.register(&lasting(1)).await.unwrap();
    protect(&etcd).await;
    assert_eq!(ports(&backend).await.unwrap(), [1]);
    etcd.disable_auth().await.unwrap();
    // 3.4 refuses the token we hold.
    assert_eq!(ports(&backend).await.unwrap(), [1]);
    backend.registry.register(&lasting(1)).await.unwrap();
}

/// Settings for TLS with the certificate of its client, whose name is `root`.
fn secured(etcd: &Etcd) -> EtcdConfig {
    let (authority, client) = (etcd.authority().unwrap(), etcd.client_identity().unwrap());
    let mut config = config([etcd.url()]);
    config.tls.ca_file = Some(authority.ca());
    config.tls.cert_file = Some(client.cert.clone());
    config.tls.key_file = Some(client.key.clone());
    config
}

pub(crate) async fn e_38_a_certificate_names_the_user_and_nobody_authenticates(setup: Setup) {
    let etcd = started(setup.etcd().mutual_tls()).await;
    etcd.enable_auth(PASSWORD).await.unwrap();
    let watched = client(backend(secured(&etcd)).unwrap());
    watched.register(api(1)).await.unwrap();
    view_shows(&watched, 1).await;
    let asked = etcd.metrics().await.unwrap();
    let asked = asked
        .lines()
        .find(|line| line.starts_with("grpc_server_started_total") && line.contains("\"Authenticate\""));
    // Those of etcdctl, which goes by a password, are counted as well; it ran before there were users.
    assert!(asked.is_none_or(|line| line.ends_with(" 0")), "{asked:?}");
    tokio::time::sleep(TTL).await;
    view_shows(&watched, 1).await;
    watched.shutdown(PATIENCE).await.unwrap();
}

pub(crate) async fn tls_and_client_certificates(setup: Setup) {
    let etcd = started(setup.etcd().mutual_tls()).await;
    let good = secured(&etcd);
    assert_eq!(ports(&backend(good.clone()).unwrap()).await.unwrap(), [0_u16; 0]);

    let authority = Authority::make().await.unwrap();
    let stranger = authority.client("root", &[]).await.unwrap();
    let mut other_authority = good.clone();
    other_authority.tls.ca_file = Some(authority.ca());
    let mut no_certificate = good.clone();
    (no_certificate.tls.cert_file, no_certificate.tls.key_file) = (None, None);
    let mut strange_certificate = good;
    strange_certificate.tls.cert_file = Some(stranger.cert.clone());
    strange_certificate.tls.key_file = Some(stranger.key.clone());
    let refused = async |config: EtcdConfig| ports(&backend(config).unwrap()).await.unwrap_err();
    let failed = refused(other_authority).await;
    assert_eq!(failed.kind(), ErrorKind::ConfigInvalid, "{failed:?}");
    // With TLS 1.3 the server objects after the handshake, and its alert may be lost when it resets the connection.
    for config in [no_certificate, strange_certificate] {
        let failed = refused(config).await;
        let kind = failed.kind();
        assert!(
            matches!(kind, ErrorKind::ConfigInvalid | ErrorKind::Unavailable),
            "{failed:?}"
        );
    }
}

pub(crate) async fn tls_and_a_password(setup: Setup) {
    let etcd = started(setup.etcd().tls()).await;
    protect(&etcd).await;
    let mut config = as_app(&etcd);
    config.tls.ca_file = Some(etcd.authority().unwrap().ca());
    let watched = client(backend(config).unwrap());
    watched.register(api(1)).await.unwrap();
    view_shows(&watched, 1).await;
    let unencrypted = etcd.url().replace("https://", "http://");
    let failed = ports(&backend(self::config([unencrypted])).unwrap())
        .await
        .unwrap_err();
    assert!(
        matches!(failed.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
        "{failed:?}"
    );
    watched.shutdown(PATIENCE).await.unwrap();
}

pub(crate) async fn namespaces_keep_tenants_apart(setup: Setup) {
    let etcd = setup.started().await;
    let [one, two] = ["/one", "/two"].map(|namespace| {
        let mut config = config([etcd.url()]);
        namespace.clone_into(&mut config.namespace);
        backend(config).unwrap()
    });
    let mut watch = two.watcher.watch(&Query::all(), None);
    let listed = timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(listed.change, Change::Reset(Vec::new()));
    let kept = one.registry.register(&lasting(1)).await.unwrap();
    let same = two.registry.register(&lasting(1)).await.unwrap();
    assert_eq!(kept.key, same.key, "the namespace is no part of it");
    two.registry.register(&lasting(2)).await.unwrap();
    assert_eq!(
        (ports(&one).await.unwrap(), ports(&two).await.unwrap()),
        (vec![1], vec![1, 2])
    );
    let mut told = Vec::new();
    while told.len() < 2 {
        let event = timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
        match event.change {
            Change::Upsert(all) => told.extend(all.iter().map(|instance| instance.port)),
            other => assert_eq!(other, Change::Confirmed),
        }
    }
    assert_eq!(told, [1, 2], "of its own and nobody else's");
    let key = ConfigKey::new("a").unwrap();
    let (values, others) = (one.config.clone().unwrap(), two.config.clone().unwrap());
    values.put(&key, b"1", PutMode::Create).await.unwrap();
    assert!(others.get(&key).await.unwrap().is_none());
    two.registry.deregister(&same.key).await.unwrap();
    assert_eq!(
        (ports(&one).await.unwrap(), ports(&two).await.unwrap()),
        (vec![1], vec![2])
    );
    let keys = etcd.ctl(&["get", "--prefix", "--keys-only", "/"]).await.unwrap();
    let keys: Vec<_> = keys.split_whitespace().collect();
    let wanted = [
        "/one/config/a",
        "/one/services/api/api-192.0.2.1-1",
        "/two/services/api/api-192.0.2.1-2",
    ];
    assert_eq!(keys, wanted);
}
