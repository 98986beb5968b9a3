//! reqwest, by way of `reqwest-middleware`: [`ByName`] sends `http://api/…` to an instance of `api`.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use discovery_core::{
    Instance,
    pick::{Outcome, Service},
};
use http::Extensions;
use reqwest_middleware::{
    Error, Middleware, Next, Result,
    reqwest::{
        Request, Response, StatusCode, Url,
        header::{HOST, HeaderValue},
    },
};

use super::ATTEMPTS;
use crate::Client;

/// So many services are kept open; more are opened again and again.
const OPEN: usize = 1000;

/// A middleware that takes the host of a URL for the name of a service, and sends the request to an instance as the client
/// balances that service.
///
/// A host is such a name when it is one label, as in `http://api/users`: no dot, no port, neither `localhost` nor an address.
/// Other requests pass. URLs have their hosts in lower case, so services must too.
///
/// - **Host**: the server is told the name of the service, unless the request has a `Host` of its own. For `https`, it is the
///   instance's host that the certificate must carry.
/// - **Outcome**: failures of the instance are those to connect, to answer in time, or to answer at all, and any status from
///   500 on. A timeout belongs to the request or the client: one around it leaves no outcome.
/// - **Next instance**: a request that was never sent, since nobody could be connected to; and, where its method may be
///   repeated (RFC 9110: `GET`, `HEAD`, `OPTIONS`, `TRACE`, `PUT`, `DELETE`), one that failed otherwise or was answered with
///   502, 503 or 504. A body that is a stream cannot be sent twice. Retries keep the budget of the service.
///
/// reqwest follows redirects beneath it, and tells the next server the same `Host`: give it `redirect::Policy::none()` where
/// services redirect elsewhere.
///
/// ```no_run
/// use discovery::{Client, adapters::reqwest_middleware::ByName};
/// use reqwest_middleware::ClientBuilder;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::from_env()?;
/// let http = ClientBuilder::new(reqwest::Client::new()).with(ByName::new(&client)).build();
/// let users = http.get("http://api/users").send().await?.error_for_status()?.text().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ByName {
    client: Client,
    attempts: u32,
    services: Mutex<HashMap<String, Arc<Service>>>,
}

impl ByName {
    /// Resolves by this client, with up to two attempts.
    pub fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            attempts: ATTEMPTS,
            services: Mutex::default(),
        }
    }

    /// The same with so many attempts in all; one means no retry.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// The service called `name`: one handle for all requests, so that they take turns.
    fn service(&self, name: &str) -> discovery_core::Result<Arc<Service>> {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(service) = services.get(name) {
            return Ok(service.clone());
        }
        let service = Arc::new(self.client.service(name)?);
        if services.len() >= OPEN {
            services.clear();
        }
        services.insert(name.to_owned(), service.clone());
        Ok(service)
    }
}

#[async_trait]
impl Middleware for ByName {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> Result<Response> {
        let Some(name) = service_name(request.url()).map(str::to_owned) else {
            return next.run(request, extensions).await;
        };
        let service = self.service(&name).map_err(Error::middleware)?;
        service.instances().await.map_err(Error::middleware)?;
        let mut request = request;
        if let Ok(host) = HeaderValue::try_from(name) {
            request.headers_mut().entry(HOST).or_insert(host);
        }
        let mut attempts = service.attempts(self.attempts);
        let mut picked = attempts.first().map_err(Error::middleware)?;
        loop {
            let copy = request.try_clone();
            let repeatable = request.method().is_idempotent();
            aim(request.url_mut(), picked.instance()).map_err(Error::middleware)?;
            let answer = next.clone().run(request, extensions).await;
            let safe = match judge(&answer) {
                Judged::Well => {
                    picked.report(Outcome::Success);
                    return answer;
                }
                // The instance had no part in it.
                Judged::Elsewhere => return answer,
                Judged::Failed { safe } => safe || repeatable && may_pass(&answer),
            };
            picked.report(Outcome::Failure);
            match copy
                .filter(|_| safe)
                .and_then(|copy| Some((copy, attempts.another()?)))
            {
                Some(next) => (request, picked) = next,
                None => return answer,
            }
        }
    }
}

/// The service a URL means.
fn service_name(url: &Url) -> Option<&str> {
    let name = url.domain()?;
    (url.port().is_none() && !name.contains('.') && name != "localhost").then_some(name)
}

/// Turns a URL to an instance.
fn aim(url: &mut Url, instance: &Instance) -> discovery_core::Result<()> {
    let set = match instance.host.parse::<IpAddr>() {
        Ok(address) => url.set_ip_host(address).is_ok(),
        Err(_) => url.set_host(Some(&instance.host)).is_ok(),
    };
    if set && url.set_port(Some(instance.port)).is_ok() {
        return Ok(());
    }
    Err(discovery_core::Error::new(
        discovery_core::ErrorKind::InvalidInput,
        "no URL can be made of the instance's address",
    )
    .with_context("address", instance.address()))
}

enum Judged {
    Well,
    /// It failed elsewhere than at the instance.
    Elsewhere,
    /// `safe`: nothing was sent.
    Failed {
        safe: bool,
    },
}

fn judge(answer: &Result<Response>) -> Judged {
    match answer {
        Ok(response) if response.status().is_server_error() => Judged::Failed { safe: false },
        Ok(_) => Judged::Well,
        Err(Error::Reqwest(error)) if error.is_connect() => Judged::Failed { safe: true },
        Err(Error::Reqwest(error)) if error.is_timeout() || error.is_request() => {
            Judged::Failed { safe: false }
        }
        Err(_) => Judged::Elsewhere,
    }
}

/// Whether another instance may do better.
fn may_pass(answer: &Result<Response>) -> bool {
    answer.as_ref().map_or(true, |response| {
        matches!(
            response.status(),
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_label_is_a_service() {
        let name = |url: &str| service_name(&Url::parse(url).unwrap()).map(str::to_owned);
        for url in ["http://api/x?y=z", "https://api", "http://user:pass@api:80/"] {
            assert_eq!(name(url).as_deref(), Some("api"), "{url}");
        }
        for url in [
            "http://api:8080/",
            "http://api.example/",
            "http://localhost/",
            "http://127.0.0.1/",
            "http://[::1]/",
        ] {
            assert_eq!(name(url), None, "{url}");
        }
    }

    #[test]
    fn a_url_is_turned_to_an_instance() {
        let key = discovery_core::InstanceKey::new(
            "memory",
            discovery_core::ServiceName::observed("api"),
            discovery_core::InstanceId::observed("1"),
        );
        for (host, url) in [
            ("10.0.0.1", "http://u@10.0.0.1:8080/a?b=c"),
            ("::1", "http://u@[::1]:8080/a?b=c"),
            ("api-1.example", "http://u@api-1.example:8080/a?b=c"),
        ] {
            let mut given = Url::parse("http://u@api/a?b=c").unwrap();
            aim(&mut given, &Instance::builder(key.clone(), host, 8080).build()).unwrap();
            assert_eq!(given.as_str(), url);
        }
        let mut given = Url::parse("http://api/").unwrap();
        assert!(aim(&mut given, &Instance::builder(key, "no host", 8080).build()).is_err());
    }
}
