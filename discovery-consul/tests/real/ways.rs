//! Ways to the agent: TLS with client certificates, and a socket in the file system.

use discovery_consul::{ConsulConfig, backend};
use discovery_core::{ErrorKind, Query};
use discovery_testkit::server::consul::Certificates;

use crate::support::{Setup, direct, sees, started, web};

pub(crate) async fn c_42_tls_and_client_certificates(setup: Setup) {
    let consul = started(setup.consul().mutual_tls()).await;
    let files = consul.certificates().unwrap();
    let mut config = ConsulConfig::at(format!("https://{}", consul.https().unwrap()));
    config.tls.ca_file = Some(files.ca());
    config.tls.cert_file = Some(files.client_cert());
    config.tls.key_file = Some(files.client_key());
    config.tls.server_name = Some("server.dc1.consul".to_owned());
    let query = Query::service("consul").unwrap();
    let ask = |change: &dyn Fn(&mut ConsulConfig)| {
        let (mut config, query) = (config.clone(), query.clone());
        change(&mut config);
        async move {
            let found = backend(config)?.registry.instances(&query).await?;
            Ok::<_, discovery_core::Error>(found.instances.len())
        }
    };
    assert_eq!(ask(&|_| {}).await.unwrap(), 1);
    let by_address = ask(&|config| config.tls.server_name = None).await;
    assert_eq!(by_address.unwrap(), 1, "the address is in its certificate");

    let stranger = Certificates::make(&setup.binary, "dc1").await.unwrap();
    let wrong_name = ask(&|config| config.tls.server_name = Some("server.dc2.consul".to_owned())).await;
    let other_authority = ask(&|config| config.tls.ca_file = Some(stranger.ca())).await;
    let no_certificate = ask(&|config| (config.tls.cert_file, config.tls.key_file) = (None, None)).await;
    let strange_certificate = ask(&|config| {
        config.tls.cert_file = Some(stranger.client_cert());
        config.tls.key_file = Some(stranger.client_key());
    })
    .await;
    for refused in [wrong_name, other_authority] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConfigInvalid);
    }
    // With TLS 1.3 the server objects after the handshake, and its alert may be lost when it resets the connection.
    for refused in [no_certificate, strange_certificate] {
        let kind = refused.unwrap_err().kind();
        assert!(
            matches!(kind, ErrorKind::ConfigInvalid | ErrorKind::Unavailable),
            "{kind}"
        );
    }
}

pub(crate) async fn c_43_unix_socket(setup: Setup) {
    let consul = started(setup.consul().unix_socket()).await;
    let socket = consul.socket().unwrap();
    let backend = backend(ConsulConfig::at(format!("unix://{}", socket.display()))).unwrap();
    backend.registry.register(&web("web-1")).await.unwrap();
    sees(&direct(&consul), "web", &[8080]).await;
}
