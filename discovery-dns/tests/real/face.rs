//! The DNS face, asked by our own look-up: what one registry holds, found as another's.

use std::{net::Ipv4Addr, time::Duration};

use discovery::Client;
use discovery_core::{Query, Source, memory::MemoryStore};
use discovery_dns::{FaceConfig, Rfc2782, Transport, backend, serve};
use discovery_testkit::{server::Server, try_eventually};
use futures::future::try_join_all;

use crate::support::{PATIENCE, Setup, config, instances, ports, shows, view, web, writer};

const DEADLINE: Duration = Duration::from_secs(5);

/// What is registered in BIND or Knot is served on; from `memory`, hundreds are.
pub(crate) async fn any_registry_is_served(setup: Setup) {
    let server = setup.started("").await;
    let behind = writer(&server, server.endpoint());
    let lease = behind.registry.register(&web(80)).await.unwrap();
    let client = Client::builder(behind.clone()).build().unwrap();
    let listen = (Ipv4Addr::LOCALHOST, 0).into();
    let all = client.query(&Query::all()).unwrap();
    let face = serve(&all, FaceConfig::at(listen).zone("svc.example"))
        .await
        .unwrap();

    let asking = |transport| {
        let mut config = config(face.addr()).transport(transport);
        config.caching.ttl = Duration::from_secs(1);
        backend(config).unwrap()
    };
    let found = async |name: &str, wanted: &[u16]| {
        for transport in [Transport::Udp, Transport::Tcp] {
            let asking = asking(transport);
            try_eventually(name, PATIENCE, || async {
                let query = Query::service(name).unwrap();
                match asking.registry.instances(&query).await {
                    Ok(found)
                        if found
                            .instances
                            .iter()
                            .map(|one| one.port)
                            .eq(wanted.iter().copied()) =>
                    {
                        Ok(())
                    }
                    other => Err(format!("{other:?}")),
                }
            })
            .await
            .unwrap();
        }
    };
    found("web.service.svc.example", &[80]).await;
    found("_web._tcp.service.svc.example", &[80]).await;
    assert_eq!(
        instances(&asking(Transport::Udp), "web.service.svc.example").await[0].address(),
        "127.0.0.1:80"
    );
    behind.registry.deregister(&lease.key).await.unwrap();
    found("web.service.svc.example", &[]).await;
    face.shutdown().await.unwrap();
    client.shutdown(DEADLINE).await.unwrap();
    server.stop().await.unwrap();

    many().await;
}

async fn many() {
    let store = MemoryStore::new();
    let registry = store.backend().registry;
    try_join_all((1..=300).map(|port| {
        let (registry, one) = (&registry, web(port));
        async move { registry.register(&one).await }
    }))
    .await
    .unwrap();
    let client = Client::builder(store.backend()).build().unwrap();
    let all = client.query(&Query::all()).unwrap();
    all.ready().await.unwrap();
    let face = serve(&all, FaceConfig::at((Ipv4Addr::LOCALHOST, 0).into()))
        .await
        .unwrap();
    // Cut over UDP, and whole over TCP.
    let backend = backend(config(face.addr()).transport(Transport::Udp)).unwrap();
    try_eventually("300", PATIENCE, || async {
        let query = Query::service("web.service.discovery").unwrap();
        match backend.registry.instances(&query).await {
            Ok(found) if found.instances.len() == 300 => Ok(()),
            other => Err(format!("{:?}", other.map(|found| found.instances.len()))),
        }
    })
    .await
    .unwrap();
    assert_eq!(ports(&backend, "nobody.service.discovery").await, [0; 0]);
    // Without a view there is no answer, which empties nobody's view.
    let (asking, service) = view(backend, "web.service.discovery");
    shows(&service, "300", |view| view.instances.len() == 300).await;
    let strategy: std::sync::Arc<dyn discovery_core::pick::Strategy> = std::sync::Arc::new(Rfc2782);
    let query = Query::service("web.service.discovery").unwrap();
    let picked = asking.balanced(&query, &strategy).unwrap();
    shows(&picked, "300", |view| view.instances.len() == 300).await;
    assert!(picked.acquire().is_ok());
    client.shutdown(DEADLINE).await.unwrap();
    let view = shows(&service, "a stale view", |view| view.source == Source::Stale).await;
    assert_eq!(view.instances.len(), 300);
    asking.shutdown(DEADLINE).await.unwrap();
    face.shutdown().await.unwrap();
}
