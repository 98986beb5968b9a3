//! A handle while its view changes.

use std::{
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use futures::FutureExt as _;

use super::{Balancing, Prepared, RoundRobin, Service, State, View, fixture::endpoints};
use crate::model::{Query, Snapshot};

/// The first answer may come at any moment; whoever waits for it gets it or goes on waiting.
#[test]
fn the_first_answer_is_never_missed() {
    const ROUNDS: usize = 20_000;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let query = Query::service("api").unwrap();
    let services: Vec<_> = (0..ROUNDS)
        .map(|_| Service::new(Arc::new(View::new(query.clone())), Duration::from_secs(5)))
        .collect();
    let barrier = Barrier::new(2);
    let mut refused = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            for service in &services {
                let endpoints = endpoints(&[1]);
                let snapshot = Snapshot::live(query.target.clone(), endpoints.instances().clone());
                let balancing = Balancing::default();
                let ready = Prepared::new(snapshot, endpoints, &RoundRobin, State::Ready, 0, &balancing);
                barrier.wait();
                service.view().publish(ready);
            }
        });
        for service in &services {
            barrier.wait();
            if let Some(Err(_)) = service.instances().now_or_never() {
                refused += 1;
            }
        }
    });
    assert_eq!(refused, 0);
}
