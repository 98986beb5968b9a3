//! tonic: [`Channel`] is a channel for generated clients that balances as the view says.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use discovery_core::{
    Instance,
    pick::{Outcome, Picked, Service},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Frame, SizeHint};
use tonic::{
    Code, ConnectError, Status,
    body::Body,
    codegen::{BoxFuture, Bytes, http},
    transport::{self, Endpoint},
};
use tower::ServiceExt;

use super::{ATTEMPTS, Rule, made::Made};

type Request = http::Request<Body>;
type Response = http::Response<Body>;

/// What is kept of a request that may be repeated: tonic's own limit for a message.
const LONGEST: usize = 4 << 20;
/// For connections, unless the endpoint says.
const CONNECT: Duration = Duration::from_secs(5);

/// A channel over the instances of a service: each call goes to the instance that the view picks.
///
/// - **In flight** is a call until its stream of answers ends.
/// - **Outcome**: `UNKNOWN`, `DEADLINE_EXCEEDED`, `INTERNAL`, `UNAVAILABLE` and `DATA_LOSS`, and failures of the connection, are
///   failures of the instance; other codes are answers. A deadline belongs to the endpoint or the request (`grpc-timeout`): one
///   around the call leaves no outcome.
/// - **Next instance**: a call that was never sent, since nobody could be connected to; and, of the methods given to
///   [`repeat`](Self::repeat), one that failed before it was answered. Retries keep the budget of the service.
///
/// There is one connection to each instance, made with its first call; it ends when the instance leaves. Clones share
/// everything.
///
/// ```no_run
/// use discovery::{Client, adapters::tonic::Channel};
/// # mod greeter {
/// #     pub struct GreeterClient<T>(pub T);
/// #     impl<T> GreeterClient<T> { pub fn new(channel: T) -> Self { Self(channel) } }
/// # }
/// # use greeter::GreeterClient;
///
/// # fn run() -> discovery::Result<()> {
/// let client = Client::from_env()?;
/// let channel = Channel::new(client.service("greeter")?).repeat(|method| method == "/hello.Greeter/SayHello");
/// let greeter = GreeterClient::new(channel);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Channel {
    service: Arc<Service>,
    endpoint: Rule<Instance, Result<Endpoint, transport::Error>>,
    made: Arc<Made<transport::Channel>>,
    repeatable: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    attempts: u32,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

impl Channel {
    /// A channel without TLS, with up to two attempts, that repeats only what was never sent.
    pub fn new(service: Service) -> Self {
        Self {
            service: Arc::new(service),
            endpoint: Arc::new(|instance| {
                let endpoint = Endpoint::from_shared(format!("http://{}", instance.address()))?;
                Ok(endpoint.connect_timeout(CONNECT))
            }),
            made: Arc::default(),
            repeatable: Arc::new(|_| false),
            attempts: ATTEMPTS,
        }
    }

    /// How an instance is connected to: TLS, deadlines, windows.
    #[must_use]
    pub fn endpoint(
        mut self,
        endpoint: impl Fn(&Instance) -> Result<Endpoint, transport::Error> + Send + Sync + 'static,
    ) -> Self {
        self.endpoint = Arc::new(endpoint);
        self
    }

    /// Which methods, such as `/hello.Greeter/SayHello`, may be called twice: their calls go on to another instance whatever
    /// they failed by. Only for methods that take one message, of 4 MiB at most: it is kept until the call is answered.
    #[must_use]
    pub fn repeat(mut self, methods: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.repeatable = Arc::new(methods);
        self
    }

    /// How many instances are tried in all; one means no retry.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    async fn send(self, request: Request) -> Result<Response, Status> {
        self.service.instances().await.map_err(unavailable)?;
        let (head, body) = request.into_parts();
        let repeatable = (self.repeatable)(head.uri.path());
        let mut body = if repeatable {
            Kept::all_of(body).await?
        } else {
            Kept::Lent(Lent::new(body))
        };
        let mut attempts = self.service.attempts(self.attempts);
        let mut picked = attempts.first().map_err(unavailable)?;
        loop {
            let request = Request::from_parts(head.clone(), body.lend());
            let (failure, safe) = match self.attempt(picked.instance(), request).await {
                Ok(response) => match code_in(response.headers()) {
                    Some(Code::Unavailable) if repeatable => (Ok(response), true),
                    _ => return Ok(counted(response, picked)),
                },
                Err(error) => {
                    let safe = repeatable || never_sent(&*error);
                    (Err(Status::from_error(error)), safe)
                }
            };
            picked.report(Outcome::Failure);
            let next = if safe && body.can_be_lent() {
                attempts.another()
            } else {
                None
            };
            match next {
                Some(next) => picked = next,
                None => return failure,
            }
        }
    }

    async fn attempt(&self, instance: &Arc<Instance>, request: Request) -> Result<Response, tower::BoxError> {
        let channel = self.made.of(&self.service, instance, |instance| {
            (self.endpoint)(instance).map(|endpoint| endpoint.connect_lazy())
        })?;
        Ok(channel.oneshot(request).await?)
    }
}

impl tower::Service<Request> for Channel {
    type Response = Response;
    type Error = Status;
    type Future = BoxFuture<Response, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

fn unavailable(error: discovery_core::Error) -> Status {
    let mut status = Status::unavailable(error.to_string());
    status.set_source(Arc::new(error));
    status
}

/// Whether it failed while connecting, with nothing sent yet.
fn never_sent(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The code in headers or trailers, if there is one.
fn code_in(headers: &http::HeaderMap) -> Option<Code> {
    Some(Code::from_bytes(headers.get("grpc-status")?.as_bytes()))
}

fn outcome(code: Code) -> Outcome {
    match code {
        Code::Unknown | Code::DeadlineExceeded | Code::Internal | Code::Unavailable | Code::DataLoss => {
            Outcome::Failure
        }
        _ => Outcome::Success,
    }
}

/// The answer, whose end reports how the call went.
fn counted(response: Response, picked: Picked) -> Response {
    match code_in(response.headers()) {
        Some(code) => picked.report(outcome(code)),
        None if response.status().is_server_error() => picked.report(Outcome::Failure),
        None => {
            return response.map(|body| {
                Body::new(Counted {
                    body,
                    picked: Some(picked),
                })
            });
        }
    }
    response
}

/// The body of an answer; dropped before its end, the call has no outcome.
struct Counted {
    body: Body,
    picked: Option<Picked>,
}

impl Counted {
    fn end(&mut self, outcome: Outcome) {
        if let Some(picked) = self.picked.take() {
            picked.report(outcome);
        }
    }
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(code) = frame.trailers_ref().map(code_in) {
                    self.end(code.map_or(Outcome::Failure, outcome));
                }
            }
            // An end without a status is the end of a connection.
            Some(Err(_)) | None => self.end(Outcome::Failure),
        }
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a request, between attempts.
enum Kept {
    All(Bytes),
    Lent(Lent),
}

impl Kept {
    async fn all_of(body: Body) -> Result<Self, Status> {
        let all = Limited::new(body, LONGEST).collect().await;
        all.map(|all| Self::All(all.to_bytes()))
            .map_err(Status::from_error)
    }

    fn lend(&mut self) -> Body {
        match self {
            Self::All(bytes) => Body::new(Full::new(bytes.clone())),
            Self::Lent(lent) => Body::new(lent.clone()),
        }
    }

    fn can_be_lent(&self) -> bool {
        match self {
            Self::All(_) => true,
            Self::Lent(lent) => !lent.lock().touched,
        }
    }
}

/// A body that is taken as long as nobody has asked for any of it.
#[derive(Clone)]
struct Lent(Arc<Mutex<Once>>);

struct Once {
    body: Body,
    touched: bool,
}

impl Lent {
    fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Once { body, touched: false })))
    }

    fn lock(&self) -> MutexGuard<'_, Once> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl hyper::body::Body for Lent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut once = self.lock();
        once.touched = true;
        Pin::new(&mut once.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().body.size_hint()
    }
}
