//! A server that forgets everything.

use std::time::Duration;

use discovery::Client;
use discovery_core::{ErrorKind, Query, Source};
use discovery_eureka::backend;
use discovery_testkit::{
    eventually,
    proxy::http::{HttpProxy, LoggedRequest},
    server::{Server, eureka::Eureka},
};
use tokio::time::Instant;

use crate::{
    Setup,
    support::{PATIENCE, on, quick, shows, web},
};

/// Programs that beat register again; a view keeps them meanwhile, and loses the one whose program is gone.
pub(crate) async fn u_10_u_25_a_server_restarted_empty(setup: Setup) {
    let eureka = setup.started().await;
    let (provider, consumer) = (
        Client::builder(on(&eureka)).build().unwrap(),
        Client::builder(on(&eureka)).build().unwrap(),
    );
    for port in 1..=3 {
        let registration = web(port).ttl(Duration::from_secs(9)).build().unwrap();
        provider.register(registration).await.unwrap();
    }
    let lost = web(4).ttl(Duration::from_secs(90)).build().unwrap();
    on(&eureka).registry.register(&lost).await.unwrap();
    let service = consumer.service("web").unwrap();
    let ports = async || {
        let view = service.instances().await.unwrap();
        let mut ports: Vec<_> = view.instances.iter().map(|i| i.port).collect();
        ports.sort_unstable();
        (view.source, ports)
    };
    eventually("all four", PATIENCE, async || ports().await.1 == [1, 2, 3, 4]).await;
    eureka.restart().await.unwrap();
    let truth = on(&eureka);
    eventually("those that live, again", PATIENCE, async || {
        assert_eq!(ports().await.1, [1, 2, 3, 4], "nobody withdrew them");
        let read = truth
            .registry
            .instances(&discovery_core::Query::service("web").unwrap())
            .await;
        read.is_ok_and(|read| read.instances.len() == 3)
    })
    .await;
    eventually("a view without the one that is gone", PATIENCE * 2, async || {
        let (source, ports) = ports().await;
        assert!(ports.starts_with(&[1, 2, 3]), "{ports:?}");
        (source, ports.len()) == (Source::Live, 3)
    })
    .await;
    provider.shutdown(PATIENCE).await.unwrap();
    shows(&truth, "web", &[]).await;
    consumer.shutdown(PATIENCE).await.unwrap();
}

/// How many programs there are.
const FLEET: u16 = 50;

/// Each registers itself and watches: when their server comes back empty, they come back one after the other.
pub(crate) async fn fifty_clients_of_a_restarted_server_do_not_come_back_in_step(setup: Setup) {
    let eureka = setup.started().await;
    let mut fleet = Vec::new();
    for n in 1..=FLEET {
        let way = HttpProxy::start(eureka.endpoint()).unwrap();
        let mut config = quick([format!("http://{}/eureka/", way.addr())]);
        config.discovery.refresh_interval = Duration::from_secs(2);
        let client = Client::builder(backend(config).unwrap()).build().unwrap();
        let registration = web(n).ttl(Duration::from_secs(15)).build().unwrap();
        client.register(registration).await.unwrap();
        let service = client.service("web").unwrap();
        fleet.push((way, client, service));
    }
    let all = async |wanted: Source| {
        let mut there = 0;
        for (_, _, service) in &fleet {
            let view = service.instances().await.unwrap();
            there += usize::from(view.source == wanted && view.instances.len() == usize::from(FLEET));
        }
        if there == fleet.len() {
            Ok(())
        } else {
            Err(format!("{there} of {FLEET}"))
        }
    };
    eventually("everybody, seen by everybody", PATIENCE * 2, async || {
        all(Source::Live).await
    })
    .await;
    let down = Instant::now();
    eureka.kill().await.unwrap();
    eventually("everybody to notice, and lose nothing", PATIENCE, async || {
        all(Source::Stale).await
    })
    .await;
    eureka.start().await.unwrap();
    let up = Instant::now();
    eventually("everybody, seen by everybody again", PATIENCE * 3, async || {
        all(Source::Live).await
    })
    .await;

    let (mut tries, mut full, mut posts, mut returns) = (0_usize, 0_usize, 0_usize, Vec::new());
    for (way, ..) in &fleet {
        let after: Vec<_> = way.requests_matching("/eureka/apps*");
        let after: Vec<_> = after.into_iter().filter(|request| request.at > down).collect();
        let registers = |request: &&LoggedRequest| request.method == "POST";
        posts += after.iter().filter(registers).count();
        // While questions fail, everything is asked for; after the first answer, what changed.
        let is_delta = |request: &&LoggedRequest| request.path() == "/eureka/apps/delta";
        let everything = |request: &&LoggedRequest| request.path() == "/eureka/apps";
        let reads: Vec<_> = after.iter().filter(|r| is_delta(r) || everything(r)).collect();
        let first = reads.iter().position(everything).expect("a question");
        let answered = reads[first..]
            .iter()
            .position(is_delta)
            .map_or(reads.len(), |n| first + n);
        tries += answered;
        returns.push(reads[answered - 1].at);
        full += reads[answered..].iter().filter(|r| everything(r)).count();
    }
    let outage = (up - down).as_secs_f64();
    let told = format!("{tries} tries in {outage:.1} s, then {full} full fetches, {posts} registrations");
    assert!(
        f64::from(u32::try_from(tries).unwrap()) < f64::from(FLEET) * (5.0 + 2.0 * outage),
        "{told}"
    );
    assert!(full <= 5 * fleet.len() && posts <= 5 * fleet.len(), "{told}");
    let busiest = returns.iter().map(|start| {
        let second = *start..*start + Duration::from_secs(1);
        returns.iter().filter(|at| second.contains(at)).count()
    });
    let busiest = busiest.max().unwrap();
    assert!(
        busiest <= fleet.len() / 2,
        "{busiest} came back within a second; {told}"
    );
    #[expect(clippy::print_stdout, reason = "figures for whoever looks")]
    {
        println!("{told}; {busiest} of {FLEET} came back within a second");
    }
    for (_, client, _) in &fleet {
        client.shutdown(PATIENCE).await.unwrap();
    }
}

/// Without anything from its peers, and nobody registered, it serves no lists for a while: that is no empty registry.
pub(crate) async fn u_26_a_server_that_warms_up_says_nothing(setup: Setup) {
    let ready = setup.started().await;
    let warming = Eureka::dev(&setup.jar)
        .property("eureka.instance.registry.default-open-for-traffic-count", "0")
        .property("eureka.server.wait-time-in-ms-when-sync-empty", "25000")
        .build()
        .unwrap();
    let mut config = quick([ready.url()]);
    config.server.zone = Some("z".to_owned());
    config
        .server
        .zones
        .insert("z".to_owned(), vec![warming.url().into()]);
    let (both, alone) = (backend(config).unwrap(), on(&warming));
    on(&ready)
        .registry
        .register(&web(80).build().unwrap())
        .await
        .unwrap();
    shows(&both, "web", &[80]).await;
    let query = Query::service("web").unwrap();
    let answer = eventually("an answer while it warms up", PATIENCE * 3, async || match alone
        .registry
        .instances(&query)
        .await
    {
        Err(told) if told.to_string().contains("not ready") => Ok(told),
        other => Err(format!("{other:?}")),
    });
    // It has started once it serves.
    let (started, seen) = tokio::join!(warming.start(), answer);
    started.unwrap();
    assert_eq!(seen.kind(), ErrorKind::Unavailable, "{seen:?}");
    // Whoever knew better meanwhile goes on with that.
    shows(&both, "web", &[80]).await;
    shows(&alone, "web", &[]).await;
}
