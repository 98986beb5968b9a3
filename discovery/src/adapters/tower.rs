//! tower: [`Instances`] are what tower's own balancers discover; [`Balanced`] is a service that balances as the view says.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use discovery_core::{
    ErrorKind, Instance, InstanceKey,
    pick::{Outcome, Service, Subscription},
};
use futures::stream::{self, BoxStream, Stream, StreamExt};
use tower::{BoxError, ServiceExt, discover::Change};

use super::{
    ATTEMPTS, Rule,
    made::{Made, at_same_place},
};

/// The instances of a service as [`tower::discover::Discover`] wants them, for balancers such as `tower::balance::p2c`.
///
/// Those that take part in picks now, as [`Service::chosen`] has it: an instance that drains or is ejected is removed, and
/// inserted again when it is back. An outage of the registry removes nothing. One whose host and ports stay is not inserted
/// again when something else about it changes. Outcomes stay with tower's balancer: for ejection use [`Balanced`], or report
/// them yourself.
pub struct Instances<S>(BoxStream<'static, Result<Change<InstanceKey, S>, Infallible>>);

impl<S> fmt::Debug for Instances<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Instances").finish_non_exhaustive()
    }
}

impl<S: Send + 'static> Instances<S> {
    /// Follows `service`; `make` is called once for each instance, with what it is then.
    pub fn new(service: &Service, make: impl FnMut(&Arc<Instance>) -> S + Send + 'static) -> Self {
        let following = Following {
            changes: service.subscribe(),
            service: service.clone(),
            known: HashMap::new(),
            due: VecDeque::new(),
            closed: false,
            make,
        };
        Self(stream::unfold(following, Following::next).boxed())
    }
}

impl<S> Stream for Instances<S> {
    type Item = Result<Change<InstanceKey, S>, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

struct Following<S, M> {
    changes: Subscription,
    service: Service,
    known: HashMap<InstanceKey, Arc<Instance>>,
    due: VecDeque<Change<InstanceKey, S>>,
    closed: bool,
    make: M,
}

impl<S, M: FnMut(&Arc<Instance>) -> S> Following<S, M> {
    async fn next(mut self) -> Option<(Result<Change<InstanceKey, S>, Infallible>, Self)> {
        loop {
            if let Some(change) = self.due.pop_front() {
                return Some((Ok(change), self));
            }
            if self.closed {
                return None;
            }
            let seen = self.changes.next().await;
            self.closed = seen.is_err_and(|error| error.kind() == ErrorKind::Closed);
            // A view that must not be used has none.
            self.compare(self.service.chosen().unwrap_or_default());
        }
    }

    fn compare(&mut self, now: Vec<Arc<Instance>>) {
        let here: HashSet<&InstanceKey> = now.iter().map(|instance| &instance.key).collect();
        let due = &mut self.due;
        self.known.retain(|key, _| {
            let stays = here.contains(key);
            if !stays {
                due.push_back(Change::Remove(key.clone()));
            }
            stays
        });
        for instance in now {
            let known = self.known.insert(instance.key.clone(), instance.clone());
            if !known.is_some_and(|known| at_same_place(&known, &instance)) {
                due.push_back(Change::Insert(instance.key.clone(), (self.make)(&instance)));
            }
        }
    }
}

/// A [`tower::Service`] that sends each request to an instance: picks as the view balances, counts the call as in flight,
/// and reports how it went. An `Err` of the instance's service is a failure.
///
/// The service of an instance is made once, cloned for each request, and dropped when the instance leaves or moves. Its
/// readiness is awaited after the pick; `Balanced` itself is always ready, and its first request waits for the first view.
/// Put a timeout around the service of an instance, not around `Balanced`: a call that is dropped from outside has no
/// outcome. Clones share everything.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower::BoxError> {
/// use discovery::{Client, Registration, adapters::tower::Balanced};
/// use tower::{ServiceExt, service_fn};
///
/// let client = Client::from_uri("memory://")?;
/// client.register(Registration::builder("api", "127.0.0.1", 8080).build()?).await?;
///
/// let api = Balanced::new(client.service("api")?, |instance| {
///     let address = instance.address();
///     service_fn(move |path: &'static str| {
///         let answer = format!("{path} of {address}");
///         async move { Ok::<_, std::io::Error>(answer) }
///     })
/// });
/// assert_eq!(api.oneshot("/health").await?, "/health of 127.0.0.1:8080");
/// # Ok(client.shutdown(std::time::Duration::from_secs(5)).await?)
/// # }
/// ```
pub struct Balanced<S, Request>
where
    S: tower::Service<Request>,
{
    service: Arc<Service>,
    make: Rule<Arc<Instance>, S>,
    made: Arc<Made<S>>,
    failed: Rule<S::Response, bool>,
    again: Rule<Request, Option<Request>>,
    attempts: u32,
}

impl<S: tower::Service<Request>, Request> Clone for Balanced<S, Request> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            make: self.make.clone(),
            made: self.made.clone(),
            failed: self.failed.clone(),
            again: self.again.clone(),
            attempts: self.attempts,
        }
    }
}

impl<S: tower::Service<Request>, Request> fmt::Debug for Balanced<S, Request> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balanced")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

impl<S: tower::Service<Request>, Request> Balanced<S, Request> {
    /// Sends to the instances of `service`, each through what `make` makes of it; repeats nothing.
    pub fn new(service: Service, make: impl Fn(&Arc<Instance>) -> S + Send + Sync + 'static) -> Self {
        Self {
            service: Arc::new(service),
            make: Arc::new(make),
            made: Arc::default(),
            failed: Arc::new(|_| false),
            again: Arc::new(|_| None),
            attempts: ATTEMPTS,
        }
    }

    /// Which answers are failures of the instance too, such as an HTTP status of 500.
    #[must_use]
    pub fn failed_when(mut self, failed: impl Fn(&S::Response) -> bool + Send + Sync + 'static) -> Self {
        self.failed = Arc::new(failed);
        self
    }

    /// Repeats what fails on another instance, up to so many attempts in all and within the retry budget of the view: the
    /// requests that `again` makes a copy of. It must answer `None` for what may not be done twice.
    #[must_use]
    pub fn repeat(
        mut self,
        attempts: u32,
        again: impl Fn(&Request) -> Option<Request> + Send + Sync + 'static,
    ) -> Self {
        self.attempts = attempts;
        self.again = Arc::new(again);
        self
    }
}

impl<S, Request> Balanced<S, Request>
where
    S: tower::Service<Request> + Clone,
    S::Error: Into<BoxError>,
{
    async fn send(self, mut request: Request) -> Result<S::Response, BoxError> {
        self.service.instances().await?;
        let mut attempts = self.service.attempts(self.attempts);
        let mut picked = attempts.first()?;
        loop {
            let copy = (self.again)(&request);
            let made = self.made.of(&self.service, picked.instance(), |instance| {
                Ok::<_, Infallible>((self.make)(instance))
            });
            let answer = match made {
                Ok(service) => service.oneshot(request).await,
                Err(never) => match never {},
            };
            if answer.as_ref().is_ok_and(|answer| !(self.failed)(answer)) {
                picked.report(Outcome::Success);
                return answer.map_err(Into::into);
            }
            picked.report(Outcome::Failure);
            match copy.and_then(|copy| Some((copy, attempts.another()?))) {
                Some(next) => (request, picked) = next,
                None => return answer.map_err(Into::into),
            }
        }
    }
}

impl<S, Request> tower::Service<Request> for Balanced<S, Request>
where
    S: tower::Service<Request> + Clone + Send + 'static,
    S::Response: Send,
    S::Error: Into<BoxError> + Send,
    S::Future: Send,
    Request: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}
