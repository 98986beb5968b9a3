//! The last good view outlives every outage, says how old it is, and heals.

use std::time::Duration;

use discovery::Client;
use discovery_core::{
    Backend, Error, ErrorKind, Lease, Query, Result, Snapshot, Source, WatchMode,
    pick::{Service, Subscription},
};
use tokio::time::{Instant, timeout};

use crate::{
    suite::{
        Case, Env, Fault, Flag, Tool,
        case::case,
        env::{kind, ports},
    },
    try_eventually,
};

const G: &str = "recover";
const NEEDS: &[Flag] = &[Flag::Register];
const DOWN: &[Fault] = &[Fault::Refuse];
/// How long something may take that is done at once: never an assertion about speed.
const DEADLINE: Duration = Duration::from_secs(30);
/// How finely ages are told.
const TICK: Duration = Duration::from_millis(1);
/// What a watch that was down may wait for its next try early in an outage, and some requests that fail.
const HEALING: Duration = Duration::from_secs(45);

pub(super) const CASES: &[Case] = &[
    case!(G, the_last_good_view_is_served_while_down)
        .needs(NEEDS)
        .faults(DOWN),
    case!(G, what_vanished_meanwhile_is_removed_on_return)
        .needs(NEEDS)
        .faults(DOWN),
    case!(G, silence_is_noticed_and_heals)
        .needs(NEEDS)
        .faults(&[Fault::Stall]),
    case!(G, a_lost_right_wipes_nothing)
        .needs(NEEDS)
        .faults(&[Fault::Error(ErrorKind::PermissionDenied)]),
    case!(G, started_while_down_it_is_ready_later)
        .needs(NEEDS)
        .faults(DOWN),
    case!(G, a_cold_start_uses_the_snapshot_on_disk)
        .needs(NEEDS)
        .faults(DOWN),
    case!(G, too_old_a_view_is_refused).needs(NEEDS).faults(DOWN),
    case!(G, cuts_lose_no_change).needs(NEEDS).faults(&[Fault::Cut]),
    case!(G, a_long_outage_of_many_causes_no_storm)
        .needs(NEEDS)
        .faults(DOWN)
        .tools(&[Tool::Requests])
        .slow(),
    case!(G, an_outage_causes_no_storm)
        .needs(NEEDS)
        .faults(DOWN)
        .tools(&[Tool::Requests]),
];

/// Registers at these ports, over the way that faults leave alone.
async fn instances(env: &Env, truth: &Backend, service: &str, ports: &[u16]) -> Result<Vec<Lease>> {
    let mut leases = Vec::new();
    for port in ports {
        let registration = env.registration(service, *port).build()?;
        leases.push(truth.registry.register(&registration).await?);
    }
    env.sees_ports(truth, &Query::service(service)?, ports).await?;
    Ok(leases)
}

fn shown(view: &Snapshot) -> Vec<u16> {
    ports(&view.instances)
}

/// Waits for a view that is as it should be.
async fn until(changes: &mut Subscription, what: &str, good: impl Fn(&Snapshot) -> bool) -> Result<Snapshot> {
    let mut last = None;
    let wait = async {
        loop {
            let view = changes.next().await?;
            if good(&view) {
                return Ok(view);
            }
            last = Some(view);
        }
    };
    let Ok(view) = timeout(HEALING, wait).await else {
        panic!("waited in vain for {what}; last seen: {last:?}");
    };
    view
}

/// A view of these ports, seen live once.
async fn good_view(client: &Client, service: &str, ports: &[u16]) -> Result<(Service, Subscription)> {
    let service = client.service(service)?;
    let mut changes = service.subscribe();
    until(&mut changes, "a first view", |view| {
        view.source == Source::Live && shown(view) == ports
    })
    .await?;
    Ok((service, changes))
}

async fn the_last_good_view_is_served_while_down(env: Env) -> Result<()> {
    let (api, truth, client) = (env.name("api"), env.subject.direct().await?, env.client().await?);
    instances(&env, &truth, &api, &[1, 2, 3]).await?;
    let (service, mut changes) = good_view(&client, &api, &[1, 2, 3]).await?;
    env.subject.break_way(Fault::Refuse).await?;
    until(&mut changes, "a stale view", |view| view.source == Source::Stale).await?;
    let reader = std::cell::RefCell::new(service.reader());
    let first = service.instances().await?.age();
    try_eventually("age", DEADLINE, || async {
        let view = service.instances().await.map_err(|error| error.to_string())?;
        assert_eq!((view.source, shown(&view)), (Source::Stale, vec![1, 2, 3]));
        assert!(
            reader.borrow_mut().pick().is_some() && service.acquire().is_ok(),
            "picks go on"
        );
        let aged = view.age() > first + Duration::from_millis(300);
        if aged {
            Ok(())
        } else {
            Err(format!("{:?}", view.age()))
        }
    })
    .await?;
    let healing = Instant::now();
    env.subject.heal().await?;
    let view = until(&mut changes, "a live view", |view| view.source == Source::Live).await?;
    assert_eq!(shown(&view), [1, 2, 3]);
    let age = view.age();
    assert!(
        age <= healing.elapsed() + TICK,
        "confirmed {age:?} ago, before it healed"
    );
    client.shutdown(DEADLINE).await
}

async fn what_vanished_meanwhile_is_removed_on_return(env: Env) -> Result<()> {
    let (api, truth, client) = (env.name("api"), env.subject.direct().await?, env.client().await?);
    let leases = instances(&env, &truth, &api, &[1, 2, 3]).await?;
    let (service, mut changes) = good_view(&client, &api, &[1, 2, 3]).await?;
    env.subject.break_way(Fault::Refuse).await?;
    until(&mut changes, "a stale view", |view| view.source == Source::Stale).await?;
    truth.registry.deregister(&leases[0].key).await?;
    truth
        .registry
        .register(&env.registration(&api, 4).build()?)
        .await?;
    env.sees_ports(&truth, &Query::service(&api)?, &[2, 3, 4]).await?;
    assert_eq!(shown(&service.instances().await?), [1, 2, 3]);
    env.subject.heal().await?;
    let back = |view: &Snapshot| view.source == Source::Live && shown(view) == [2, 3, 4];
    until(&mut changes, "what is there now", back).await?;
    client.shutdown(DEADLINE).await
}

/// a black hole is noticed within twice the time in which a healthy watch confirms.
async fn silence_is_noticed_and_heals(env: Env) -> Result<()> {
    let (api, truth, client) = (env.name("api"), env.subject.direct().await?, env.client().await?);
    instances(&env, &truth, &api, &[1, 2]).await?;
    let (_service, mut changes) = good_view(&client, &api, &[1, 2]).await?;
    env.subject.break_way(Fault::Stall).await?;
    let stalled = Instant::now();
    let view = until(&mut changes, "a stale view", |view| view.source == Source::Stale).await?;
    let bound = client.capabilities().confirm_every * 2 + env.patience();
    assert!(stalled.elapsed() < bound, "noticed after {:?}", stalled.elapsed());
    assert_eq!(shown(&view), [1, 2]);
    env.subject.heal().await?;
    until(&mut changes, "a live view", |view| {
        view.source == Source::Live && shown(view) == [1, 2]
    })
    .await?;
    client.shutdown(DEADLINE).await
}

/// an error is not an empty answer, whatever the error.
async fn a_lost_right_wipes_nothing(env: Env) -> Result<()> {
    let (api, truth, client) = (env.name("api"), env.subject.direct().await?, env.client().await?);
    instances(&env, &truth, &api, &[1, 2]).await?;
    let (service, mut changes) = good_view(&client, &api, &[1, 2]).await?;
    env.subject
        .break_way(Fault::Error(ErrorKind::PermissionDenied))
        .await?;
    until(&mut changes, "a stale view", |view| view.source == Source::Stale).await?;
    let until = Instant::now() + Duration::from_secs(1);
    try_eventually("the end of a second", DEADLINE, || async {
        let view = service.instances().await.expect("the last good view");
        assert_eq!(shown(&view), [1, 2]);
        Instant::now() > until
    })
    .await?;
    client.shutdown(DEADLINE).await
}

async fn started_while_down_it_is_ready_later(env: Env) -> Result<()> {
    let (api, truth) = (env.name("api"), env.subject.direct().await?);
    instances(&env, &truth, &api, &[1]).await?;
    env.subject.break_way(Fault::Refuse).await?;
    let client = env
        .client_with(|builder| builder.timeout(Duration::from_millis(300)))
        .await?;
    let service = client.service(&api)?;
    let ready = timeout(env.patience(), service.ready())
        .await
        .expect("an error in time");
    assert!(
        matches!(kind(&ready), Some(ErrorKind::Timeout | ErrorKind::Unavailable)),
        "{ready:?}"
    );
    let picked = service.acquire();
    assert_eq!(kind(&picked), Some(ErrorKind::Unavailable), "{picked:?}");
    let mut changes = service.subscribe();
    env.subject.heal().await?;
    until(&mut changes, "a live view", |view| {
        view.source == Source::Live && shown(view) == [1]
    })
    .await?;
    assert_eq!(service.acquire()?.port, 1);
    client.shutdown(DEADLINE).await
}

async fn a_cold_start_uses_the_snapshot_on_disk(env: Env) -> Result<()> {
    let (api, truth) = (env.name("api"), env.subject.direct().await?);
    let disk = tempfile::tempdir().map_err(|error| Error::new(ErrorKind::Unexpected, error.to_string()))?;
    instances(&env, &truth, &api, &[1, 2]).await?;
    let client = env
        .client_with(|builder| builder.snapshot_dir(disk.path()))
        .await?;
    good_view(&client, &api, &[1, 2]).await?;
    client.shutdown(DEADLINE).await?;
    env.subject.break_way(Fault::Refuse).await?;
    let client = env
        .client_with(|builder| builder.snapshot_dir(disk.path()).timeout(HEALING))
        .await?;
    let service = client.service(&api)?;
    let view = service.ready().await?;
    assert_eq!((view.source, shown(&view)), (Source::Disk, vec![1, 2]));
    assert_eq!(view.cursor, None, "a cursor never outlives its process");
    service.acquire()?;
    let mut changes = service.subscribe();
    env.subject.heal().await?;
    until(&mut changes, "a live view", |view| {
        view.source == Source::Live && shown(view) == [1, 2]
    })
    .await?;
    client.shutdown(DEADLINE).await
}

async fn too_old_a_view_is_refused(env: Env) -> Result<()> {
    let (api, truth, client) = (env.name("api"), env.subject.direct().await?, env.client().await?);
    instances(&env, &truth, &api, &[1]).await?;
    let max_stale = client.capabilities().confirm_every * 2 + Duration::from_secs(1);
    let too_short = Query::service(&api)?.max_stale(client.capabilities().confirm_every / 2);
    assert_eq!(kind(&client.query(&too_short)), Some(ErrorKind::ConfigInvalid));

    let service = client.query(&Query::service(&api)?.max_stale(max_stale))?;
    service.ready().await?;
    env.subject.break_way(Fault::Refuse).await?;
    let broken = Instant::now();
    try_eventually("a refusal", max_stale + env.patience(), || async {
        match service.instances().await {
            Ok(view) => Err(format!("{:?} old", view.age())),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                Ok(())
            }
        }
    })
    .await?;
    assert!(
        broken.elapsed() > max_stale / 2,
        "refused after {:?}",
        broken.elapsed()
    );
    assert_eq!(kind(&service.acquire()), Some(ErrorKind::Unavailable));
    env.subject.heal().await?;
    try_eventually("picks again", HEALING, || async { service.acquire().map(drop) }).await?;
    client.shutdown(DEADLINE).await
}

async fn cuts_lose_no_change(env: Env) -> Result<()> {
    let (api, truth, client) = (env.name("api"), env.subject.direct().await?, env.client().await?);
    let leases = instances(&env, &truth, &api, &[1, 2]).await?;
    let (_service, mut changes) = good_view(&client, &api, &[1, 2]).await?;
    env.subject.break_way(Fault::Cut).await?;
    truth.registry.deregister(&leases[0].key).await?;
    truth
        .registry
        .register(&env.registration(&api, 3).build()?)
        .await?;
    let back = |view: &Snapshot| view.source == Source::Live && shown(view) == [2, 3];
    until(&mut changes, "what is there now", back).await?;
    client.shutdown(DEADLINE).await
}

async fn an_outage_causes_no_storm(env: Env) -> Result<()> {
    storm(env, 8, Duration::from_secs(1), HEALING).await
}

async fn a_long_outage_of_many_causes_no_storm(env: Env) -> Result<()> {
    storm(env, 100, Duration::from_secs(20), Duration::from_secs(120)).await
}

/// a dead registry is asked ever less often, and not by everybody at once when it is back.
async fn storm(env: Env, services: usize, outage: Duration, healing: Duration) -> Result<()> {
    let (truth, client) = (env.subject.direct().await?, env.client().await?);
    // One that is polled is not missed before the next poll.
    let outage = match client.capabilities().watch {
        WatchMode::Poll => outage.max(env.subject.visible_within()),
        _ => outage,
    };
    let mut views = Vec::new();
    for n in 0..services {
        let service = env.name(&format!("api-{n}"));
        instances(&env, &truth, &service, &[1]).await?;
        views.push(good_view(&client, &service, &[1]).await?);
    }
    let requests = || {
        env.subject
            .requests()
            .expect("the provider said that it counts requests")
    };
    let before = requests();
    env.subject.break_way(Fault::Refuse).await?;
    let over = Instant::now() + outage;
    try_eventually("the end of the outage", outage * 2, || async {
        Instant::now() > over
    })
    .await?;
    let during = requests() - before;
    // Delays under 0.5, 1, 2 s and so on with full jitter: few tries each, however long it takes.
    assert!(
        during <= services * 10,
        "{during} requests for {services} watches in {outage:?}"
    );
    // Watches may share one upstream.
    assert!(during >= 1, "nobody tried");
    let polls = client.capabilities().watch == WatchMode::Poll;
    env.subject.heal().await?;
    let (before, healed) = (requests(), Instant::now());
    timeout(healing, async {
        for (service, _) in &views {
            try_eventually("a live view", healing, || async {
                service
                    .instances()
                    .await
                    .is_ok_and(|view| view.source == Source::Live)
            })
            .await?;
        }
        Ok::<_, Error>(())
    })
    .await
    .map_err(|_| Error::new(ErrorKind::Timeout, "not every view healed"))??;
    let after = requests() - before;
    // Those that polls are over with meanwhile poll again, hardly more than once a second.
    let rounds = if polls { 1 + healed.elapsed().as_secs() } else { 1 };
    // A watch may be of several things, each listed and then watched: three of them on Kubernetes.
    assert!(
        after <= services * 6 * usize::try_from(rounds).unwrap_or(usize::MAX),
        "{after} requests for {services} watches after the outage"
    );
    client.shutdown(DEADLINE).await
}
