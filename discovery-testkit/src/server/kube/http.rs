//! HTTPS to the server; no part of what is tested.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use discovery_core::{
    Error, ErrorKind, Result,
    config::{Secret, TlsConfig},
    tls,
};
use hyper::Method;
use reqwest::{
    Client,
    header::{CONTENT_TYPE, HeaderValue},
    redirect,
};
use serde_json::Value;

use crate::server::Reply;

/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// A client that trusts the server's authority, under admin's token where no other is given.
#[derive(Debug, Clone)]
pub(super) struct Http {
    client: Client,
    admin: Secret,
}

impl Http {
    pub(super) fn new(ca: PathBuf, admin: Secret) -> Result<Self> {
        let mut config = TlsConfig::default();
        config.ca_file = Some(ca);
        let client = Client::builder()
            .tls_backend_preconfigured(tls::client_config(&config)?)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .timeout(DEADLINE)
            // A connection would outlive the runtime of the test that made it.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|source| Error::new(ErrorKind::Unexpected, "no HTTPS client").with_source(source))?;
        Ok(Self { client, admin })
    }

    /// As admin, without a body.
    pub(super) async fn send(
        &self,
        addr: SocketAddr,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Reply> {
        self.send_as(Some(&self.admin), addr, method, path, body).await
    }

    pub(super) async fn send_as(
        &self,
        token: Option<&Secret>,
        addr: SocketAddr,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Reply> {
        let content = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let mut request = self.client.request(method, format!("https://{addr}{path}"));
        if let Some(token) = token {
            request = request.bearer_auth(token.expose());
        }
        if let Some(body) = body {
            request = request
                .header(CONTENT_TYPE, HeaderValue::from_static(content))
                .body(body.to_string());
        }
        let failed = |source: reqwest::Error| {
            Error::new(ErrorKind::Unavailable, "no answer")
                .with_operation("test request")
                .with_context("path", path)
                .with_source(source)
        };
        let response = request.send().await.map_err(failed)?;
        Ok(Reply {
            status: response.status(),
            headers: response.headers().clone(),
            body: response.bytes().await.map_err(failed)?,
        })
    }
}
