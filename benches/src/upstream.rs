//! What races on real servers share.

use std::{sync::Arc, time::Duration};

use discovery_core::{
    Backend, Query, TaskGroup,
    pick::{RoundRobin, Service, Strategy},
    resolver::{Resolver, ResolverOptions},
};
use tokio::runtime::Runtime;

/// A runtime of one thread, on which whoever blocks does all the work.
pub(crate) fn quiet() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

/// One of two threads, as a small service has them.
pub(crate) fn busy() -> Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime")
}

/// A service handle over a backend, kept up to date by tasks of `runtime`, whose view is ready.
pub(crate) fn service(runtime: &Runtime, backend: Backend, name: &str) -> Service {
    let strategy: Arc<dyn Strategy> = Arc::new(RoundRobin);
    runtime.block_on(async {
        let tasks = TaskGroup::current().expect("inside a runtime");
        let resolver = Resolver::new(backend, tasks, ResolverOptions::default());
        let query = Query::service(name).expect("a valid name");
        let view = resolver.view(&query, &strategy).expect("a view");
        let service = Service::new(view, Duration::from_secs(10));
        service.ready().await.expect("a first answer");
        service
    })
}
