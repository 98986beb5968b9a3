//! DNS over TLS (RFC 7858), of a real server.

use discovery_core::{ErrorKind, Query};
use discovery_dns::{DnsConfig, Transport, backend};
use discovery_testkit::server::{Authority, Server, dns::Dns};

use crate::support::{Setup, big, config, ports, web, writing, zone};

pub(crate) async fn look_up_and_registration_over_tls(setup: Setup) {
    let authority = Authority::make().await.unwrap();
    let server = Dns::of(setup.software, &setup.binary)
        .zone("svc.test", zone(&big()))
        .updates()
        .tls(authority.server("dns").await.unwrap())
        .build()
        .unwrap();
    server.start().await.unwrap();
    let (at, key) = (server.tls().unwrap(), server.key().unwrap());
    let secured = |config: DnsConfig, authority: &Authority| {
        let mut config = config.transport(Transport::Tls);
        config.tls.ca_file = Some(authority.ca());
        backend(config).unwrap()
    };

    let wanted: Vec<_> = (8001..=8100).collect();
    assert_eq!(
        ports(&secured(config(at), &authority), "_big._tcp.svc.test").await,
        wanted
    );
    let trusting = secured(writing(at, key), &authority);
    let lease = trusting.registry.register(&web(80)).await.unwrap();
    assert_eq!(ports(&trusting, "web").await, [80]);
    trusting.registry.deregister(&lease.key).await.unwrap();
    assert_eq!(ports(&trusting, "web").await, [0; 0]);

    // One whose certificate is another authority's is not believed.
    let stranger = Authority::make().await.unwrap();
    let wary = secured(writing(at, key), &stranger);
    let found = wary.registry.instances(&Query::service("web").unwrap()).await;
    assert_eq!(found.unwrap_err().kind(), ErrorKind::ConfigInvalid);
    // Nor does one who speaks plainly get an answer there.
    let plain = backend(config(at).transport(Transport::Tcp)).unwrap();
    let found = plain
        .registry
        .instances(&Query::service("_big._tcp.svc.test").unwrap())
        .await;
    assert!(found.is_err(), "{found:?}");
    server.stop().await.unwrap();
}
