//! tower's own balancer over a view, and a service that balances as the view does.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use discovery::{
    ErrorKind, HealthReport, Instance,
    adapters::tower::{Balanced, Instances},
};
use futures::{StreamExt, future::BoxFuture};
use tower::{
    ServiceExt,
    balance::p2c::Balance,
    discover::Change,
    load::{CompleteOnResponse, PendingRequestsDiscover},
};

use super::{api, end, load, register};

const BROKEN: u16 = 8001;

/// Answers with its port; the broken one fails.
#[derive(Clone)]
struct Port(u16);

impl tower::Service<u32> for Port {
    type Response = u16;
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<u16, io::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), io::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u32) -> Self::Future {
        let port = self.0;
        Box::pin(async move {
            if port == BROKEN {
                Err(io::ErrorKind::ConnectionRefused.into())
            } else {
                Ok(port)
            }
        })
    }
}

fn port(instance: &Arc<Instance>) -> Port {
    Port(instance.port)
}

#[tokio::test]
async fn requests_take_turns_and_are_reported() {
    let (client, service) = api(&[8002, 8003, 8004]).await;
    let balanced = Balanced::new(client.service("api").unwrap(), port);
    for _ in 0..30 {
        balanced.clone().oneshot(1).await.unwrap();
    }
    for port in 8002..=8004 {
        assert_eq!(load(&service, port), (0, 10, 0));
    }
    end(client).await;
}

#[tokio::test]
async fn a_failed_request_is_repeated_elsewhere_only_where_a_copy_is_made() {
    let (client, service) = api(&[BROKEN, 8002, 8003]).await;
    // Even requests may be repeated.
    let balanced =
        Balanced::new(service.clone(), port).repeat(2, |request| (request % 2 == 0).then_some(*request));
    for request in 0..30 {
        let answer = balanced.clone().oneshot(2 * request).await;
        assert_ne!(answer.unwrap(), BROKEN);
    }
    let (_, _, failed) = load(&service, BROKEN);
    assert!((10..=30).contains(&failed), "{failed}");
    let mut errors = 0;
    for _ in 0..30 {
        errors += usize::from(balanced.clone().oneshot(1).await.is_err());
    }
    assert_eq!(errors, 10, "a third of them");
    end(client).await;
}

#[tokio::test]
async fn an_answer_can_be_a_failure_and_the_last_one_is_the_answer() {
    let (client, service) = api(&[8002, 8003]).await;
    let balanced = Balanced::new(service.clone(), port)
        .failed_when(|port| *port == 8002)
        .repeat(2, |request| Some(*request));
    for _ in 0..10 {
        assert_eq!(balanced.clone().oneshot(1).await.unwrap(), 8003);
    }
    assert_eq!(load(&service, 8003), (0, 10, 0));
    let (_, good, bad) = load(&service, 8002);
    assert!(good == 0 && bad > 0, "{bad}");
    let none = Balanced::new(service.clone(), port)
        .failed_when(|_| true)
        .repeat(2, |request| Some(*request));
    assert!(none.oneshot(1).await.is_ok());
    end(client).await;
}

#[tokio::test]
async fn nobody_to_send_to_is_an_error_that_says_why() {
    let (client, service) = api(&[]).await;
    let error = Balanced::new(service, port).oneshot(1).await.unwrap_err();
    let error = error.downcast_ref::<discovery::Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    end(client).await;
}

#[tokio::test]
async fn what_is_made_of_an_instance_is_made_once_and_leaves_with_it() {
    let (client, service) = api(&[8002, 8003]).await;
    let made = Arc::new(AtomicUsize::new(0));
    let alive = Arc::new(());
    let balanced = Balanced::new(service.clone(), {
        let (made, alive) = (made.clone(), alive.clone());
        move |instance: &Arc<Instance>| {
            made.fetch_add(1, SeqCst);
            let (port, alive) = (instance.port, alive.clone());
            tower::service_fn(move |_: u32| {
                let alive = alive.clone();
                async move {
                    drop(alive);
                    Ok::<_, io::Error>(port)
                }
            })
        }
    });
    for _ in 0..10 {
        balanced.clone().oneshot(1).await.unwrap();
    }
    assert_eq!(made.load(SeqCst), 2);
    let id = discovery::InstanceId::new("api-127.0.0.1-8003").unwrap();
    client.deregister(&id).await.unwrap();
    super::shows(&service, 1).await;
    register(&client, 8004).await;
    super::shows(&service, 2).await;
    for _ in 0..10 {
        balanced.clone().oneshot(1).await.unwrap();
    }
    assert_eq!(made.load(SeqCst), 3);
    // This one, the maker's, and one for each instance that is there.
    assert_eq!(Arc::strong_count(&alive), 4);
    end(client).await;
}

/// The next change, as a sign and a port.
async fn change(instances: &mut Instances<Port>) -> Option<(char, String)> {
    let next = tokio::time::timeout(super::PATIENCE, instances.next()).await;
    match next.unwrap()? {
        Ok(Change::Insert(key, _)) => Some(('+', key.id.to_string())),
        Ok(Change::Remove(key)) => Some(('-', key.id.to_string())),
        Err(never) => match never {},
    }
}

#[tokio::test]
async fn a_view_is_discovered_as_it_changes_and_drained_instances_leave() {
    let (client, service) = api(&[8002]).await;
    let mut instances = Instances::new(&service, port);
    let (second, third) = ("api-127.0.0.1-8002".to_owned(), "api-127.0.0.1-8003".to_owned());
    assert_eq!(change(&mut instances).await, Some(('+', second.clone())));
    let registered = register(&client, 8003).await;
    assert_eq!(change(&mut instances).await, Some(('+', third.clone())));
    // Metadata moves nobody.
    registered
        .update_meta(discovery::MetaChange::default().set("colour", "blue"))
        .await
        .unwrap();
    registered
        .report_health(HealthReport::default().with_draining(true))
        .await
        .unwrap();
    assert_eq!(change(&mut instances).await, Some(('-', third.clone())));
    registered.report_health(HealthReport::default()).await.unwrap();
    assert_eq!(change(&mut instances).await, Some(('+', third.clone())));
    end(client).await;
    let mut last = [
        change(&mut instances).await.unwrap(),
        change(&mut instances).await.unwrap(),
    ];
    last.sort();
    assert_eq!(last, [('-', second), ('-', third)]);
    assert_eq!(change(&mut instances).await, None);
}

#[tokio::test]
async fn towers_own_balancer_runs_on_a_view() {
    let (client, service) = api(&[8002, 8003]).await;
    let instances =
        PendingRequestsDiscover::new(Instances::new(&service, port), CompleteOnResponse::default());
    let mut balance = Balance::new(instances);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let ready = tokio::time::timeout(super::PATIENCE, balance.ready())
            .await
            .unwrap()
            .unwrap();
        seen.insert(tower::Service::call(ready, 1).await.unwrap());
    }
    assert!(
        seen.iter().all(|port| [8002, 8003].contains(port)) && !seen.is_empty(),
        "{seen:?}"
    );
    tokio::time::timeout(Duration::from_secs(60), end(client))
        .await
        .unwrap();
}
