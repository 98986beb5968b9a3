use super::*;
use crate::{
    memory::MemoryStore,
    model::{Evidence, Instance, InstanceId, InstanceKey, Registration, Renewal, ServiceName, Suspicion},
    spi::Change,
};

fn instance(source: &str, port: u16) -> Instance {
    let key = InstanceKey::new(
        source,
        ServiceName::observed("api"),
        InstanceId::observed(port.to_string()),
    );
    Instance::builder(key, "127.0.0.1", port).build()
}

#[tokio::test(start_paused = true)]
async fn several_answers_are_no_fresher_and_no_surer_than_the_worst() {
    let query = Query::service("api").unwrap();
    let one = Snapshot::live(query.target.clone(), vec![instance("a", 1)]);
    let mut other = Snapshot::live(query.target.clone(), vec![instance("b", 2)])
        .with_source(Source::Stale)
        .with_evidence(Evidence::Suspect(Suspicion::AccessLost));
    other.freshness = crate::model::Freshness::aged(Duration::from_secs(9));
    let both = merge::snapshots(&query.target, &[&one, &other]);
    assert_eq!((both.instances.len(), both.source), (2, Source::Stale));
    assert_eq!(both.evidence.suspicion(), Some(Suspicion::AccessLost));
    assert!(both.age() >= Duration::from_secs(9));
    other.freshness.confirm();
    assert!(both.age() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_name_of_its_own_goes_out_and_never_reaches_the_registry() {
    use futures::StreamExt as _;

    let store = MemoryStore::new();
    let (plain, named) = (store.backend(), store.backend().named("dc2"));
    assert_eq!(
        (&*named.registry.info().source, named.registry.info().scheme),
        ("dc2", "memory")
    );
    let query = Query::service("api").unwrap();
    let mut events = named.watcher.watch(&query, None);
    // Lazy: it sees what happens after it was first asked.
    assert_eq!(
        events.next().await.unwrap().unwrap().change,
        Change::Reset(Vec::new())
    );
    let registration = Registration::builder("api", "127.0.0.1", 1).build().unwrap();
    let lease = named.registry.register(&registration).await.unwrap();
    assert_eq!(&*lease.key.source, "dc2");
    assert_eq!(
        &*plain.registry.instances(&query).await.unwrap().instances[0]
            .key
            .source,
        "memory"
    );
    let found = named.registry.instances(&query).await.unwrap();
    assert_eq!(found.instances[0].key, lease.key);
    assert_eq!(
        named.registry.instance(&lease.key).await.unwrap().unwrap().key,
        lease.key
    );
    let renewal = Renewal::new([(lease.key.clone(), registration.health.clone())]);
    named.registry.renew(&lease.group, &renewal).await.unwrap();
    named.registry.deregister(&lease.key).await.unwrap();
    assert!(
        plain
            .registry
            .instances(&query)
            .await
            .unwrap()
            .instances
            .is_empty()
    );

    let mut sources = Vec::new();
    while sources.len() < 2 {
        match events.next().await.unwrap().unwrap().change {
            Change::Reset(all) | Change::Upsert(all) => {
                sources.extend(all.iter().map(|one| one.key.source.to_string()));
            }
            Change::Remove(keys) => sources.extend(keys.iter().map(|key| key.source.to_string())),
            Change::Confirmed => {}
        }
    }
    assert_eq!(sources, ["dc2", "dc2"]);
    // Asked for a datacenter it has none of, it says so itself.
    let elsewhere = store.backend().in_datacenter("dc2");
    let error = elsewhere.registry.instances(&query).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
