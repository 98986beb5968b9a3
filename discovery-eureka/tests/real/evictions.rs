//! How those leave who say nothing.

use std::time::Duration;

use discovery_testkit::{eventually, server::eureka::EurekaBuilder};
use tokio::time::Instant;

use crate::{
    Setup,
    support::{PATIENCE, raw},
};

pub(crate) async fn u_16_a_renewed_lease_lasts_twice_as_long(setup: Setup) {
    let eureka = setup.started().await;
    eureka.register("WEB", &raw("web-1", 4)).await.unwrap();
    eureka.heartbeat("WEB", "web-1").await.unwrap();
    let renewed = Instant::now();
    eventually("its eviction", PATIENCE, async || {
        eureka.instances("WEB").await.unwrap().is_empty()
    })
    .await;
    let lasted = renewed.elapsed();
    assert!(lasted > Duration::from_secs(7), "twice four seconds: {lasted:?}");
}

pub(crate) async fn u_17_an_eviction_takes_a_few_at_most(setup: Setup) {
    let eureka = setup.started().await;
    for n in 0..10 {
        eureka
            .register("WEB", &raw(&format!("web-{n}"), 1))
            .await
            .unwrap();
    }
    let last = std::cell::Cell::new(10);
    eventually("their eviction, a few at a time", PATIENCE, async || {
        let left = eureka.instances("WEB").await.unwrap().len();
        // The runs are a second apart.
        let before = last.replace(left);
        assert!(before - left <= 4, "{before} to {left} at once");
        left == 0
    })
    .await;
}

pub(crate) async fn u_18_self_preservation_keeps_the_dead(setup: Setup) {
    let eureka = setup.started_with(EurekaBuilder::self_preservation).await;
    for n in 0..10 {
        eureka
            .register("WEB", &raw(&format!("web-{n}"), 1))
            .await
            .unwrap();
    }
    let until = Instant::now() + Duration::from_secs(6);
    eventually("six seconds without a heartbeat", PATIENCE, async || {
        assert_eq!(
            eureka.instances("WEB").await.unwrap().len(),
            10,
            "presence proves little"
        );
        Instant::now() > until
    })
    .await;
}
