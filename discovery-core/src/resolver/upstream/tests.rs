use std::sync::Mutex;

use futures::{StreamExt, channel::mpsc, stream};

use super::*;
use crate::{
    model::Instance,
    pick::Service,
    resolver::{
        Resolver, ResolverOptions,
        tests::{Fake, api, instance, service, settle},
    },
    spi::{Backend, Change, WatchStream, Watcher},
    task::TaskGroup,
};

type Said = Result<WatchEvent>;

/// A watch that says once what the test sends, and then nothing.
#[derive(Debug)]
struct Script(Mutex<Option<mpsc::UnboundedReceiver<Said>>>);

impl Watcher for Script {
    fn watch(&self, _: &Query, _: Option<Cursor>) -> WatchStream {
        match self.0.lock().unwrap().take() {
            Some(said) => said.boxed(),
            None => stream::pending().boxed(),
        }
    }
}

/// A service whose watch says what is sent, of which it has told the first.
async fn scripted() -> (mpsc::UnboundedSender<Said>, Service, Resolver) {
    let (say, said) = mpsc::unbounded();
    let backend = Backend::new(Fake::new([]), Arc::new(Script(Mutex::new(Some(said)))));
    let tasks = TaskGroup::current().unwrap();
    let resolver = Resolver::new(backend, tasks, ResolverOptions::default());
    let api = service(&resolver, &api());
    say.unbounded_send(Ok(WatchEvent::new(Change::Reset(vec![one(1)]))))
        .unwrap();
    api.ready().await.unwrap();
    settle().await;
    (say, api, resolver)
}

fn one(port: u16) -> Arc<Instance> {
    Arc::new(instance("api-000", port))
}

fn changed(port: u16) -> WatchEvent {
    WatchEvent::new(Change::Upsert(vec![one(port)]))
}

/// The ports that a subscriber sees while these events come, all at once.
async fn seen(events: impl IntoIterator<Item = WatchEvent>) -> Vec<u16> {
    let (say, api, _resolver) = scripted().await;
    let mut subscription = api.subscribe();
    // What there is by now.
    subscription.next().await.unwrap();
    for event in events {
        say.unbounded_send(Ok(event)).unwrap();
    }
    let mut ports = Vec::new();
    while let Ok(snapshot) = timeout(Duration::from_millis(10), subscription.next()).await {
        ports.push(snapshot.unwrap().instances.iter().next().unwrap().port);
    }
    ports
}

#[tokio::test(start_paused = true)]
async fn the_first_change_after_a_rest_is_told_before_more_is_looked_for() {
    let place = |port: u16| changed(port).with_cursor(Cursor::new(port.to_string()));
    assert_eq!(seen((2..9).map(place)).await, [2, 8], "the others come together");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_state_of_its_own_is_told_with_what_follows() {
    let half = [changed(2), changed(3).with_cursor(Cursor::new("3"))];
    assert_eq!(seen(half).await, [3]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_behind_many_events_is_not_lost() {
    let (say, api, _resolver) = scripted().await;
    for n in 0..COALESCE {
        let port = u16::try_from(n + 2).unwrap();
        say.unbounded_send(Ok(changed(port))).unwrap();
    }
    let cut = Error::new(ErrorKind::Unavailable, "cut");
    say.unbounded_send(Err(cut)).unwrap();
    settle().await;
    let now = api.instances().await.unwrap();
    assert_eq!(now.source, Source::Stale);
    let last = u16::try_from(COALESCE + 1).unwrap();
    assert_eq!(now.instances.iter().next().unwrap().port, last);
}

/// A watch that is never short of events.
#[derive(Debug)]
struct Flood;

impl Watcher for Flood {
    fn watch(&self, _: &Query, _: Option<Cursor>) -> WatchStream {
        let first = WatchEvent::new(Change::Reset(vec![Arc::new(instance("api-000", 1))]));
        let later = || {
            Some(Ok(WatchEvent::new(Change::Upsert(vec![Arc::new(instance(
                "api-000", 2,
            ))]))))
        };
        stream::iter([Ok(first)])
            .chain(stream::iter(std::iter::from_fn(later)))
            .boxed()
    }
}

#[tokio::test]
async fn a_flood_of_events_starves_nobody() {
    let tasks = TaskGroup::current().unwrap();
    let backend = Backend::new(Fake::new(0..1), Arc::new(Flood));
    let resolver = Resolver::new(backend, tasks.clone(), ResolverOptions::default());
    let api = service(&resolver, &api());
    assert_eq!(
        api.ready().await.unwrap().instances.len(),
        1,
        "the only thread is shared"
    );
    tasks.join(Duration::from_secs(60)).await.unwrap();
}
