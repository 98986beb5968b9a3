use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use tokio::{
    sync::broadcast,
    time::{Instant, advance, sleep},
};

use super::*;
use crate::{
    model::{
        Cursor, Evidence, HealthReport, Instance, InstanceId, InstanceKey, Lease, LeaseGroup, MetaChange,
        Registration, Renewal, Scope, ServiceName, ServiceSummary, Snapshot, Source, Status, Suspicion,
    },
    pick::{Outcome, RoundRobin, Service},
    spi::{BackendInfo, BackendStatus, Change, ServiceRegistry, WatchEvent, WatchStream, Watcher},
};

/// A registry whose truth, evidence and faults the test sets.
#[derive(Debug)]
pub(super) struct Fake {
    truth: Mutex<BTreeMap<String, Arc<Instance>>>,
    /// What reads answer with, beside the truth.
    reading: Mutex<Evidence>,
    events: broadcast::Sender<Result<WatchEvent>>,
    /// Why watches cannot be opened now.
    down: Mutex<Option<ErrorKind>>,
    /// What the first answer of a watch is worth.
    opening: Mutex<Evidence>,
    opened: AtomicUsize,
    open: Arc<AtomicUsize>,
    reads: AtomicUsize,
}

/// Counts one open watch.
struct OpenWatch(Arc<AtomicUsize>);

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(super) fn instance(id: &str, port: u16) -> Instance {
    let key = InstanceKey::new("fake", ServiceName::observed("api"), InstanceId::observed(id));
    Instance::builder(key, "127.0.0.1", port).build()
}

impl Fake {
    pub(super) fn new(ids: impl IntoIterator<Item = usize>) -> Arc<Self> {
        let truth = ids.into_iter().map(|i| {
            (
                format!("api-{i:03}"),
                Arc::new(instance(&format!("api-{i:03}"), 8000)),
            )
        });
        Arc::new(Self {
            truth: Mutex::new(truth.collect()),
            reading: Mutex::default(),
            events: broadcast::Sender::new(64),
            down: Mutex::default(),
            opening: Mutex::default(),
            opened: AtomicUsize::new(0),
            open: Arc::default(),
            reads: AtomicUsize::new(0),
        })
    }

    fn all(&self) -> Vec<Arc<Instance>> {
        self.truth.lock().unwrap().values().cloned().collect()
    }

    fn event(&self, change: Change) {
        let _ = self.events.send(Ok(WatchEvent::new(change)));
    }

    fn suspect(&self, change: Change, why: Suspicion) {
        let _ = self
            .events
            .send(Ok(WatchEvent::new(change).with_evidence(Evidence::Suspect(why))));
    }

    fn cut(&self) {
        let _ = self.events.send(Err(Error::new(ErrorKind::Unavailable, "cut")));
    }

    fn down(&self, kind: Option<ErrorKind>) {
        *self.down.lock().unwrap() = kind;
        if kind.is_some() {
            self.cut();
        }
    }

    fn put(&self, instance: Instance) {
        let instance = Arc::new(instance);
        self.truth
            .lock()
            .unwrap()
            .insert(instance.key.id.to_string(), instance.clone());
        self.event(Change::Upsert(vec![instance]));
    }

    fn take(&self, id: &str) {
        let gone = self.truth.lock().unwrap().remove(id).unwrap();
        self.event(Change::Remove(vec![gone.key.clone()]));
    }
}

impl Watcher for Fake {
    fn watch(&self, _: &Query, _: Option<Cursor>) -> WatchStream {
        self.opened.fetch_add(1, Ordering::SeqCst);
        self.open.fetch_add(1, Ordering::SeqCst);
        let guard = OpenWatch(self.open.clone());
        if let Some(kind) = *self.down.lock().unwrap() {
            return stream::once(async move { Err(Error::new(kind, "down")) }).boxed();
        }
        let first = WatchEvent::new(Change::Reset(self.all())).with_evidence(*self.opening.lock().unwrap());
        let events = self.events.subscribe();
        let later = stream::unfold((events, guard), |(mut events, guard)| async {
            let event = events.recv().await.ok()?;
            Some((event, (events, guard)))
        });
        stream::once(async move { Ok(first) }).chain(later).boxed()
    }
}

#[async_trait]
impl ServiceRegistry for Fake {
    fn info(&self) -> BackendInfo {
        BackendInfo::new("fake", "nowhere")
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities::read_only(Duration::from_secs(60))
    }
    async fn register(&self, _: &Registration) -> Result<Lease> {
        unreachable!("the resolver only reads")
    }
    async fn renew(&self, _: &LeaseGroup, _: &Renewal) -> Result<()> {
        unreachable!("the resolver only reads")
    }
    async fn deregister(&self, _: &InstanceKey) -> Result<()> {
        unreachable!("the resolver only reads")
    }
    async fn release(&self, _: &LeaseGroup) -> Result<()> {
        unreachable!("the resolver only reads")
    }
    async fn update_meta(&self, _: &InstanceKey, _: &MetaChange) -> Result<()> {
        unreachable!("the resolver only reads")
    }
    async fn report_health(&self, _: &InstanceKey, _: &HealthReport) -> Result<()> {
        unreachable!("the resolver only reads")
    }
    async fn instance(&self, _: &InstanceKey) -> Result<Option<Instance>> {
        unreachable!("the resolver reads whole answers")
    }
    async fn instances(&self, query: &Query) -> Result<Snapshot> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        Ok(Snapshot::live(query.target.clone(), self.all()).with_evidence(*self.reading.lock().unwrap()))
    }
    async fn services(&self, _: &Scope) -> Result<Vec<ServiceSummary>> {
        unreachable!("the resolver asks for instances")
    }
    async fn status(&self) -> Result<BackendStatus> {
        unreachable!("the resolver asks for instances")
    }
}

fn resolver(fake: &Arc<Fake>, options: ResolverOptions) -> Resolver {
    Resolver::new(
        Backend::new(fake.clone(), fake.clone()),
        TaskGroup::current().unwrap(),
        options,
    )
}

pub(super) fn service(resolver: &Resolver, query: &Query) -> Service {
    let strategy: Arc<dyn Strategy> = Arc::new(RoundRobin);
    Service::new(resolver.view(query, &strategy).unwrap(), Duration::from_secs(5))
}

pub(super) fn api() -> Query {
    Query::service("api").unwrap()
}

/// Lets every task run that can, without moving time.
pub(super) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn ids(snapshot: &Snapshot) -> Vec<String> {
    let mut ids: Vec<_> = snapshot
        .instances
        .iter()
        .map(|instance| instance.key.id.to_string())
        .collect();
    ids.sort();
    ids
}

#[tokio::test(start_paused = true)]
async fn follows_additions_changes_and_removals() {
    let fake = Fake::new(0..2);
    let api = service(&resolver(&fake, ResolverOptions::default()), &api());
    assert_eq!(ids(&api.ready().await.unwrap()), ["api-000", "api-001"]);
    fake.put(instance("api-002", 8002));
    fake.put(instance("api-000", 9000));
    fake.take("api-001");
    settle().await;
    let now = api.instances().await.unwrap();
    assert_eq!(ids(&now), ["api-000", "api-002"]);
    assert_eq!(now.source, Source::Live);
    assert!(now.instances.iter().any(|instance| instance.port == 9000));
}

/// many views of one service are one upstream watch; it ends when they have been unused for a while.
#[tokio::test(start_paused = true)]
async fn a_16_views_share_one_watch_that_stops_when_unused() {
    let fake = Fake::new(0..3);
    let resolver = resolver(&fake, ResolverOptions::default());
    let handles: Vec<_> = (0..500)
        .map(|i| service(&resolver, &api().tag(format!("t{}", i % 5))))
        .collect();
    let all = service(&resolver, &api().include_unhealthy());
    all.ready().await.unwrap();
    assert_eq!((fake.open.load(Ordering::SeqCst), resolver.upstreams()), (1, 1));
    drop(handles);
    advance(Duration::from_secs(60)).await;
    settle().await;
    assert_eq!(fake.open.load(Ordering::SeqCst), 1, "one user is left");
    drop(all);
    for _ in 0..60 {
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((fake.open.load(Ordering::SeqCst), resolver.upstreams()), (0, 0));
    assert_eq!(
        ids(&service(&resolver, &api()).ready().await.unwrap()).len(),
        3,
        "it can start again"
    );
}

/// an outage removes nothing, shows as stale with a growing age, and heals.
#[tokio::test(start_paused = true)]
async fn a_1_an_outage_keeps_the_last_good_view_and_says_so() {
    let fake = Fake::new(0..3);
    let api = service(&resolver(&fake, ResolverOptions::default()), &api());
    api.ready().await.unwrap();
    let mut reader = api.reader();
    for kind in [
        ErrorKind::Unavailable,
        ErrorKind::PermissionDenied,
        ErrorKind::Protocol,
        ErrorKind::Timeout,
    ] {
        fake.down(Some(kind));
        settle().await;
        sleep(Duration::from_secs(60)).await;
        let now = api.instances().await.unwrap();
        assert_eq!((now.instances.len(), now.source), (3, Source::Stale), "{kind}");
        assert!(now.age() >= Duration::from_secs(60), "{kind}: {:?}", now.age());
        assert!(reader.pick().is_some());
        fake.down(None);
        sleep(Duration::from_secs(60)).await;
        let now = api.instances().await.unwrap();
        assert_eq!((now.instances.len(), now.source), (3, Source::Live), "{kind}");
    }
}

/// what vanished while the watch was away is removed, what appeared is added, nothing else changes.
#[tokio::test(start_paused = true)]
async fn a_3_a_relist_synthesises_removals_and_keeps_identity() {
    let fake = Fake::new(0..4);
    let api = service(&resolver(&fake, ResolverOptions::default()), &api());
    let before = api.ready().await.unwrap();
    fake.down(Some(ErrorKind::Unavailable));
    settle().await;
    fake.truth.lock().unwrap().remove("api-001");
    fake.truth
        .lock()
        .unwrap()
        .insert("api-009".into(), Arc::new(instance("api-009", 1)));
    fake.down(None);
    sleep(Duration::from_secs(30)).await;
    let after = api.instances().await.unwrap();
    assert_eq!(ids(&after), ["api-000", "api-002", "api-003", "api-009"]);
    let kept = before
        .instances
        .iter()
        .filter(|old| after.instances.iter().any(|new| Arc::ptr_eq(old, new)));
    assert_eq!(kept.count(), 3);
}

/// the end of the last instance is told promptly and once.
#[tokio::test(start_paused = true)]
async fn a_2_the_last_instance_leaves_at_once() {
    let fake = Fake::new(0..1);
    let api = service(&resolver(&fake, ResolverOptions::default()), &api());
    let mut changes = api.subscribe();
    assert_eq!(changes.next().await.unwrap().instances.len(), 1);
    let before = Instant::now();
    fake.truth.lock().unwrap().clear();
    fake.event(Change::Reset(Vec::new()));
    assert!(changes.next().await.unwrap().instances.is_empty());
    assert!(before.elapsed() < Duration::from_millis(10));
    fake.event(Change::Reset(Vec::new()));
    fake.event(Change::Confirmed);
    let again = tokio::time::timeout(Duration::from_secs(50), changes.next()).await;
    assert!(again.is_err(), "the same answer again wakes nobody");
}

#[tokio::test(start_paused = true)]
async fn a_mass_removal_is_held_until_a_second_read_agrees() {
    let fake = Fake::new(0..10);
    let api = service(&resolver(&fake, ResolverOptions::default()), &api());
    api.ready().await.unwrap();
    fake.truth.lock().unwrap().retain(|id, _| id == "api-000");
    fake.event(Change::Reset(fake.all()));
    settle().await;
    let held = api.instances().await.unwrap();
    assert_eq!(held.instances.len(), 10);
    assert_eq!(held.held.unwrap().instances, 9);
    sleep(Duration::from_secs(2)).await;
    let believed = api.instances().await.unwrap();
    assert_eq!(
        (ids(&believed), believed.held),
        (vec!["api-000".to_owned()], None)
    );
    assert_eq!(
        fake.reads.load(Ordering::SeqCst),
        1,
        "the event itself was the first read"
    );
}

#[tokio::test(start_paused = true)]
async fn a_mass_removal_that_was_a_glitch_removes_nothing() {
    let fake = Fake::new(0..10);
    let api = service(&resolver(&fake, ResolverOptions::default()), &api());
    api.ready().await.unwrap();
    fake.event(Change::Reset(Vec::new()));
    for _ in 0..100 {
        sleep(Duration::from_millis(100)).await;
        assert_eq!(api.instances().await.unwrap().instances.len(), 10);
    }
    assert_eq!(api.instances().await.unwrap().held, None);
}

/// Twenty watches that lost their registry together are back together, however long each would have waited.
#[tokio::test(start_paused = true)]
async fn when_one_watch_is_back_the_others_follow_soon() {
    let fake = Fake::new(0..1);
    let resolver = resolver(&fake, ResolverOptions::default());
    let query = |i: usize| Query::service(format!("s{i}")).unwrap();
    let services: Vec<_> = (0..20).map(|i| service(&resolver, &query(i))).collect();
    for service in &services {
        service.ready().await.unwrap();
    }
    fake.down(Some(ErrorKind::Unavailable));
    sleep(Duration::from_secs(300)).await;
    fake.down(None);
    let mut first = None;
    let live = |service: &Service| {
        service
            .view()
            .snapshot()
            .is_ok_and(|now| now.source == Source::Live)
    };
    while !services.iter().all(live) {
        sleep(Duration::from_millis(50)).await;
        if services.iter().any(live) {
            first.get_or_insert(Instant::now());
        }
        let late = first.is_some_and(|first| first.elapsed() > Duration::from_secs(2));
        assert!(
            !late,
            "{} of 20 are back",
            services.iter().filter(|service| live(service)).count()
        );
    }
}

/// A read that succeeds says nothing of the watch: the view stays stale until the watch itself is back.
#[tokio::test(start_paused = true)]
async fn a_confirmation_read_does_not_make_a_broken_watch_live() {
    let fake = Fake::new(0..10);
    let api = service(&resolver(&fake, ResolverOptions::default()), &api());
    api.ready().await.unwrap();
    fake.truth.lock().unwrap().clear();
    fake.event(Change::Reset(Vec::new()));
    settle().await;
    fake.down(Some(ErrorKind::Unavailable));
    sleep(Duration::from_secs(3)).await;
    let now = api.instances().await.unwrap();
    assert_eq!(
        (now.instances.len(), now.held, now.source),
        (0, None, Source::Stale)
    );
}

#[tokio::test(start_paused = true)]
async fn lost_access_holds_the_view_until_access_returns() {
    let fake = Fake::new(0..3);
    let api = service(&resolver(&fake, ResolverOptions::default()), &api());
    api.ready().await.unwrap();
    *fake.reading.lock().unwrap() = Evidence::Suspect(Suspicion::AccessLost);
    *fake.opening.lock().unwrap() = Evidence::Suspect(Suspicion::AccessLost);
    let truth = fake.all();
    fake.truth.lock().unwrap().clear();
    fake.suspect(Change::Reset(Vec::new()), Suspicion::AccessLost);
    sleep(Duration::from_secs(300)).await;
    let now = api.instances().await.unwrap();
    assert_eq!(
        (now.instances.len(), now.held.unwrap().reason),
        (3, Suspicion::AccessLost)
    );
    *fake.reading.lock().unwrap() = Evidence::Authoritative;
    fake.event(Change::Reset(truth[..2].to_vec()));
    settle().await;
    let now = api.instances().await.unwrap();
    assert_eq!((now.instances.len(), now.held), (2, None));
}

#[tokio::test(start_paused = true)]
async fn a_first_answer_the_server_hides_is_no_empty_service() {
    let fake = Fake::new([]);
    *fake.opening.lock().unwrap() = Evidence::Suspect(Suspicion::AccessLost);
    let api = service(&resolver(&fake, ResolverOptions::default()), &api());
    let error = api.ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.hint().is_some());
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_dead_registry_ends_with_its_error() {
    let fake = Fake::new(0..1);
    fake.down(Some(ErrorKind::Unavailable));
    let api = service(&resolver(&fake, ResolverOptions::default()), &api());
    let before = Instant::now();
    let error = api.instances().await.unwrap_err();
    assert_eq!(
        (error.kind(), before.elapsed()),
        (ErrorKind::Timeout, Duration::from_secs(5))
    );
    assert!(format!("{error:#}").contains("down"), "{error:#}");
    fake.down(Some(ErrorKind::Unauthenticated));
    let other = service(
        &resolver(&fake, ResolverOptions::default()),
        &Query::service("api").unwrap(),
    );
    let before = Instant::now();
    assert_eq!(
        other.instances().await.unwrap_err().kind(),
        ErrorKind::Unauthenticated
    );
    assert!(
        before.elapsed() < Duration::from_secs(1),
        "what time cannot heal is told at once"
    );
}

#[tokio::test(start_paused = true)]
async fn max_stale_ends_picks_and_a_confirmation_revives_them() {
    let fake = Fake::new(0..3);
    let resolver = resolver(&fake, ResolverOptions::default());
    let strict = service(&resolver, &api().max_stale(Duration::from_secs(60)));
    let loose = service(&resolver, &api());
    strict.ready().await.unwrap();
    let mut reader = strict.reader();
    for _ in 0..10 {
        sleep(Duration::from_secs(30)).await;
        fake.event(Change::Confirmed);
        settle().await;
        assert!(reader.pick().is_some(), "confirmed often enough");
    }
    fake.down(Some(ErrorKind::Unavailable));
    sleep(Duration::from_secs(61)).await;
    assert!(reader.pick().is_none());
    assert_eq!(strict.acquire().unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(
        strict
            .instances()
            .await
            .unwrap_err()
            .to_string()
            .contains("max_stale")
    );
    assert_eq!(loose.instances().await.unwrap().instances.len(), 3);
    fake.down(None);
    sleep(Duration::from_secs(60)).await;
    assert!(reader.pick().is_some());
}

#[test]
fn queries_the_backend_cannot_answer_are_refused_up_front() {
    let can = Capabilities::read_only(Duration::from_secs(10));
    let unsupported = [Query::all(), api().datacenter("dc2"), api().namespace("prod")];
    for query in unsupported {
        assert_eq!(
            check_query(&query, &can).unwrap_err().kind(),
            ErrorKind::Unsupported
        );
    }
    let error = check_query(&api().max_stale(Duration::from_secs(9)), &can).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert!(error.hint().unwrap().contains("10s"));
    assert!(check_query(&api().max_stale(Duration::from_secs(10)), &can).is_ok());
}

#[tokio::test(start_paused = true)]
async fn filters_work_on_the_views_side_and_follow_changes() {
    let fake = Fake::new(0..1);
    let resolver = resolver(&fake, ResolverOptions::default());
    let healthy = service(&resolver, &api());
    let every = service(&resolver, &api().include_unhealthy());
    let tagged = service(&resolver, &api().tag("v2"));
    healthy.ready().await.unwrap();
    let mut sick = instance("api-000", 8000);
    sick.status = Status::Critical;
    fake.put(sick);
    let mut blue = instance("api-001", 8001);
    blue.tags = vec!["v2".into()];
    fake.put(blue);
    settle().await;
    assert_eq!(ids(&healthy.instances().await.unwrap()), ["api-001"]);
    assert_eq!(ids(&every.instances().await.unwrap()).len(), 2);
    assert_eq!(ids(&tagged.instances().await.unwrap()), ["api-001"]);
    fake.put(instance("api-000", 8000));
    fake.take("api-001");
    settle().await;
    assert_eq!(ids(&healthy.instances().await.unwrap()), ["api-000"]);
    assert!(tagged.instances().await.unwrap().instances.is_empty());
    assert!(tagged.acquire().unwrap_err().hint().is_some());
}

/// pingora#821, ribbon: load belongs to the instance and survives changes of the view.
#[tokio::test(start_paused = true)]
async fn issue_pingora_821_load_is_carried_over_and_in_flight_picks_outlive_removal() {
    let fake = Fake::new(0..1);
    let api = service(&resolver(&fake, ResolverOptions::default()), &api());
    api.ready().await.unwrap();
    let first = api.acquire().unwrap();
    fake.put(instance("api-000", 9000));
    settle().await;
    let second = api.acquire().unwrap();
    assert_eq!((second.instance().port, second.load().in_flight()), (9000, 2));
    fake.take("api-000");
    settle().await;
    assert!(api.acquire().is_err());
    assert_eq!(first.instance().port, 8000);
    second.report(Outcome::Failure);
    assert_eq!((first.load().in_flight(), first.load().failed()), (1, 1));
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn a_reader_counts_by_the_snapshot_it_last_looked_at() {
    let fake = Fake::new(0..3);
    let tasks = TaskGroup::current().unwrap();
    let backend = Backend::new(fake.clone(), fake.clone());
    let resolver = Resolver::new(backend, tasks.clone(), ResolverOptions::default());
    let api = service(&resolver, &api());
    let mut reader = api.reader();
    assert_eq!(reader.refresh().unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(reader.pick_index(), None);
    api.ready().await.unwrap();
    assert!(reader.is_outdated());
    let before = reader.refresh().unwrap();
    assert!(!reader.is_outdated());
    fake.put(instance("more", 9));
    settle().await;
    assert!(reader.is_outdated());
    let picks: Vec<_> = (0..6).filter_map(|_| reader.pick_index()).collect();
    assert!(
        picks.iter().all(|index| *index < before.instances.len()),
        "{picks:?}"
    );
    assert_eq!(reader.refresh().unwrap().instances.len(), 4);
    tasks.join(Duration::from_secs(1)).await.unwrap();
    assert_eq!(reader.refresh().unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn shutdown_closes_views_and_ends_every_task() {
    let fake = Fake::new(0..1);
    let tasks = TaskGroup::current().unwrap();
    let options = ResolverOptions::default();
    let resolver = Resolver::new(Backend::new(fake.clone(), fake.clone()), tasks.clone(), options);
    let api = service(&resolver, &api());
    let mut changes = api.subscribe();
    changes.next().await.unwrap();
    tasks.join(Duration::from_secs(1)).await.unwrap();
    assert_eq!(fake.open.load(Ordering::SeqCst), 0);
    assert_eq!(changes.next().await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(api.instances().await.unwrap_err().kind(), ErrorKind::Closed);
    assert!(api.reader().pick().is_none());
}
