//! Two datacenters behind one agent.

use std::time::Duration;

use discovery_core::{Query, Source};
use discovery_testkit::{eventually, server::Server};

use crate::support::{PATIENCE, Setup, Views, brisk, client, deregister, direct, ports, register, started};

/// What cannot be reached is tried again after half a minute.
const SLOWLY: Duration = Duration::from_secs(60);

pub(crate) async fn one_lost_leaves_the_other(setup: Setup) {
    let here = setup.started().await;
    let there = started(setup.consul().datacenter("dc2").persistent()).await;
    here.join_wan(&there).await.unwrap();
    eventually("the way to the other datacenter", PATIENCE, || async {
        here.get("/v1/catalog/nodes?dc=dc2").await
    })
    .await;
    // Different indexes, so that one taken for the other would show.
    for n in 0..50 {
        there.put("/v1/kv/some/key", &n.into()).await.unwrap();
    }
    register(&direct(&here), "web", &[1]).await;
    register(&direct(&there), "web", &[11, 12]).await;

    let client = client(brisk(here.endpoint()));
    let query = |datacenter: &str| Query::service("web").unwrap().datacenter(datacenter);
    let mut own = Views::of(&client, &query("dc1"), &[1]).await;
    let mut other = Views::of(&client, &query("dc2"), &[11, 12]).await;
    for view in [&own, &other] {
        let (view, asked) = (view.service.instances().await.unwrap(), view.service.query());
        let datacenters: Vec<_> = view
            .instances
            .iter()
            .map(|one| one.key.datacenter.clone())
            .collect();
        assert!(
            datacenters.iter().all(|one| *one == asked.scope.datacenter),
            "{datacenters:?}"
        );
    }
    register(&direct(&here), "web", &[1, 2]).await;
    other.keeps(&[11, 12], own.live(&[1, 2], PATIENCE)).await;
    deregister(&there, "web", 11).await;
    own.keeps(&[1, 2], other.live(&[12], PATIENCE)).await;
    assert_eq!(ports(&own.service.instances().await.unwrap()), [1, 2]);

    there.kill().await.unwrap();
    own.keeps(&[1, 2], other.stale(&[12])).await;
    let changes = async {
        register(&direct(&here), "web", &[1, 2, 3]).await;
        let view = own.live(&[1, 2, 3], PATIENCE).await;
        assert_eq!(view.source, Source::Live);
    };
    other.keeps(&[12], changes).await;

    there.start().await.unwrap();
    here.join_wan(&there).await.unwrap();
    register(&direct(&there), "web", &[12, 13]).await;
    other.live(&[12, 13], SLOWLY).await;
    let view = own.service.instances().await.unwrap();
    assert_eq!((view.source, ports(&view)), (Source::Live, vec![1, 2, 3]));
    client.shutdown(PATIENCE).await.unwrap();
}
