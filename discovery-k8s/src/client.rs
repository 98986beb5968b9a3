//! Transport: one request function, over kube's client, which knows kubeconfigs, plug-ins and rotating tokens.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use discovery_core::{Error, ErrorKind, Result};
use http::{Method, Request, Response, header};
use http_body_util::BodyExt as _;
use kube::{
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout_at},
};
use tracing::info;

use crate::{config::K8sConfig, error, error::Asked, wire};

/// How long one request may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// the largest answer, a page of a list.
const LARGEST: usize = 64 << 20;
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// The least time between two readings of the credentials.
const REREAD: Duration = Duration::from_secs(1);

/// A kind of object: where it is served.
#[derive(Debug)]
pub(crate) struct Resource {
    /// The prefix of its group and version.
    api: &'static str,
    /// Its plural, as Roles name it.
    pub(crate) name: &'static str,
}

pub(crate) static SLICES: Resource = Resource {
    api: "/apis/discovery.k8s.io/v1",
    name: "endpointslices",
};
pub(crate) static SERVICES: Resource = Resource {
    api: "/api/v1",
    name: "services",
};
pub(crate) static LEASES: Resource = Resource {
    api: "/apis/coordination.k8s.io/v1",
    name: "leases",
};
pub(crate) static CONFIGMAPS: Resource = Resource {
    api: "/api/v1",
    name: "configmaps",
};
static VERSION: Resource = Resource {
    api: "",
    name: "version",
};

/// The content types of a PATCH (K-12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patch {
    Apply,
    Merge,
    Json,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    method: Method,
    verb: &'static str,
    resource: &'static Resource,
    path: String,
    namespace: Option<String>,
    query: Vec<(&'static str, String)>,
    content: &'static str,
    body: Bytes,
}

impl Call {
    fn new(
        method: Method,
        verb: &'static str,
        resource: &'static Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Self {
        let mut path = resource.api.to_owned();
        if let Some(namespace) = namespace {
            path = format!("{path}/namespaces/{namespace}");
        }
        path = format!("{path}/{}", resource.name);
        if !name.is_empty() {
            path = format!("{path}/{name}");
        }
        Self {
            method,
            verb,
            resource,
            path,
            namespace: namespace.map(str::to_owned),
            query: Vec::new(),
            content: "application/json",
            body: Bytes::new(),
        }
    }

    /// The objects of a namespace, or of all.
    pub(crate) fn list(resource: &'static Resource, namespace: Option<&str>) -> Self {
        Self::new(Method::GET, "list", resource, namespace, "")
    }

    pub(crate) fn watch(resource: &'static Resource, namespace: Option<&str>) -> Self {
        Self::new(Method::GET, "watch", resource, namespace, "").query("watch", "1")
    }

    pub(crate) fn get(resource: &'static Resource, namespace: &str, name: &str) -> Self {
        Self::new(Method::GET, "get", resource, Some(namespace), name)
    }

    pub(crate) fn create(resource: &'static Resource, namespace: &str, body: &serde_json::Value) -> Self {
        Self::new(Method::POST, "create", resource, Some(namespace), "").body(body)
    }

    pub(crate) fn patch(
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        kind: Patch,
        body: &serde_json::Value,
    ) -> Self {
        let mut call = Self::new(Method::PATCH, "patch", resource, Some(namespace), name).body(body);
        call.content = match kind {
            Patch::Apply => "application/apply-patch+yaml",
            Patch::Merge => "application/merge-patch+json",
            Patch::Json => "application/json-patch+json",
        };
        call
    }

    pub(crate) fn delete(
        resource: &'static Resource,
        namespace: &str,
        name: &str,
        preconditions: &serde_json::Value,
    ) -> Self {
        let body = serde_json::json!({ "preconditions": preconditions });
        Self::new(Method::DELETE, "delete", resource, Some(namespace), name).body(&body)
    }

    fn version() -> Self {
        Self::new(Method::GET, "get", &VERSION, None, "")
    }

    pub(crate) fn query(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }

    pub(crate) fn query_opt(self, key: &'static str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(key, value),
            None => self,
        }
    }

    fn body(mut self, body: &serde_json::Value) -> Self {
        self.body = body.to_string().into();
        self
    }

    pub(crate) fn asked(&self) -> Asked<'_> {
        Asked {
            verb: self.verb,
            resource: self.resource.name,
            namespace: self.namespace.as_deref(),
        }
    }

    fn request(&self) -> Result<Request<Body>> {
        let mut uri = self.path.clone();
        if !self.query.is_empty() {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.extend_pairs(&self.query);
            uri = format!("{uri}?{}", form.finish());
        }
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(uri)
            .header(header::ACCEPT, "application/json");
        if !self.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, self.content);
        }
        request.body(Body::from(self.body.to_vec())).map_err(|failed| {
            error::error(ErrorKind::InvalidInput, "the request cannot be written").with_source(failed)
        })
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
    retry_after: Option<Duration>,
}

impl Answer {
    /// What the server says when it says no.
    pub(crate) fn told(&self) -> wire::Status {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| wire::Status {
            message: String::from_utf8_lossy(&self.body).into_owned(),
            ..wire::Status::default()
        })
    }

    /// The answer, if it is a success.
    pub(crate) fn ok(self, call: &Call) -> Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        Err(error::of_status(
            self.status,
            &self.told(),
            self.retry_after,
            call.asked(),
        ))
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, what: &'static str) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|failed| error::of_body(failed, what))
    }
}

/// A client made from its settings, and what they said.
#[derive(Clone)]
struct Made {
    client: kube::Client,
    namespace: Arc<str>,
    at: Instant,
}

/// The way to an apiserver; clones share it.
#[derive(Clone)]
pub(crate) struct Client(Arc<Inner>);

struct Inner {
    config: K8sConfig,
    made: Mutex<Option<Made>>,
    display: OnceLock<String>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.display()).finish()
    }
}

impl Client {
    /// Checks the settings; nothing is read or sent yet.
    pub(crate) fn new(config: K8sConfig) -> Result<Self> {
        config.validate()?;
        let display = OnceLock::new();
        if let Some(server) = &config.cluster_config.server {
            display.get_or_init(|| server.clone());
        }
        Ok(Self(Arc::new(Inner {
            config,
            made: Mutex::default(),
            display,
        })))
    }

    pub(crate) fn config(&self) -> &K8sConfig {
        &self.0.config
    }

    /// The server's address for people, once it is known.
    pub(crate) fn display(&self) -> String {
        let known = self.0.display.get().cloned();
        known.unwrap_or_else(|| "kubeconfig".to_owned())
    }

    /// The namespace of the context or pod.
    pub(crate) async fn own_namespace(&self) -> Result<Arc<str>> {
        Ok(self.made(None).await?.namespace)
    }

    /// The client in use; a new one from settings read again where the one of `stale` has been refused.
    async fn made(&self, stale: Option<Instant>) -> Result<Made> {
        let mut made = self.0.made.lock().await;
        match &*made {
            Some(known) if stale.is_none_or(|at| known.at != at) => Ok(known.clone()),
            Some(known) if known.at.elapsed() < REREAD => Ok(known.clone()),
            known => {
                if known.is_some() {
                    info!("the credentials are read again");
                }
                let settings = settings(&self.0.config).await?;
                let namespace = settings.default_namespace.as_str().into();
                self.0.display.get_or_init(|| settings.cluster_url.to_string());
                let client = kube::Client::try_from(settings).map_err(config_invalid)?;
                let new = Made {
                    client,
                    namespace,
                    at: Instant::now(),
                };
                Ok(made.insert(new).clone())
            }
        }
    }

    /// Sends a request; what is refused for its credentials is sent once more with credentials read again (K-18).
    async fn answer(&self, call: &Call, until: Instant, deadline: Duration) -> Result<Response<Body>> {
        let mut stale = None;
        loop {
            let work = async {
                let made = self.made(stale).await?;
                let answer = made.client.send(call.request()?).await;
                Ok((made.at, answer))
            };
            let (at, answer) = timeout_at(until, work)
                .await
                .unwrap_or_else(|_| Err(error::late(deadline)))?;
            let again = stale.is_none() && at.elapsed() >= REREAD;
            match answer {
                Ok(answer) if answer.status() == 401 && again => stale = Some(at),
                Ok(answer) => return Ok(answer),
                Err(failed) => {
                    let failed = error::of_transport(failed);
                    // The authority may have been replaced as well.
                    let refused = matches!(
                        failed.kind(),
                        ErrorKind::ConfigInvalid | ErrorKind::Unauthenticated
                    );
                    if !(refused && again) {
                        return Err(failed);
                    }
                    stale = Some(at);
                }
            }
        }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Cancel safety
    /// Cancel-safe for reads; a dropped write may or may not have happened.
    pub(crate) async fn send(&self, call: &Call) -> Result<Answer> {
        let until = Instant::now() + DEADLINE;
        let answer = self.answer(call, until, DEADLINE).await?;
        read(answer, until).await
    }

    /// Sends a request that must succeed and reads what it answers.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, call: &Call, what: &'static str) -> Result<T> {
        self.send(call).await?.ok(call)?.json(what)
    }

    /// Opens a watch.
    pub(crate) async fn open(&self, call: &Call) -> Result<Body> {
        let until = Instant::now() + DEADLINE;
        let answer = self.answer(call, until, DEADLINE).await?;
        if answer.status() == 200 {
            return Ok(answer.into_body());
        }
        let answer = read(answer, until).await?;
        let status = answer.status;
        Err(answer.ok(call).err().unwrap_or_else(|| {
            error::error(ErrorKind::Protocol, "a watch that is none")
                .with_context("status", status.to_string())
        }))
    }

    /// What the server says of itself, and how long that took.
    pub(crate) async fn version(&self) -> Result<(String, Duration)> {
        let started = Instant::now();
        let version: wire::Version = self.ask(&Call::version(), "a version").await?;
        Ok((version.git_version, started.elapsed()))
    }
}

async fn read(answer: Response<Body>, until: Instant) -> Result<Answer> {
    let (parts, mut body) = answer.into_parts();
    let retry_after = parts
        .headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let mut whole = BytesMut::new();
    loop {
        let frame = timeout_at(until, body.frame())
            .await
            .map_err(|_| error::late(DEADLINE))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|failed| error::of_transport(kube::Error::Service(failed.into())))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > LARGEST {
            return Err(error::error(ErrorKind::Protocol, "the answer is too large")
                .with_context("limit", format!("{LARGEST} bytes")));
        }
        whole.extend_from_slice(&data);
    }
    Ok(Answer {
        status: parts.status.as_u16(),
        body: whole.freeze(),
        retry_after,
    })
}

fn config_invalid(failed: impl std::error::Error + Send + Sync + 'static) -> Error {
    error::error(ErrorKind::ConfigInvalid, "the cluster's settings cannot be used")
        .with_hint("check `cluster_config`, or the kubeconfig with `kubectl config view`")
        .with_source(failed)
}

/// What the block, a kubeconfig or the pod says.
async fn settings(config: &K8sConfig) -> Result<kube::Config> {
    let cluster = &config.cluster_config;
    let mut settings = if let Some(url) = config.server_url()? {
        let uri = url.parse().map_err(config_invalid)?;
        let mut settings = kube::Config::new(uri);
        if let Some(source) = config.token_source()? {
            settings.auth_info.token = Some(source.read()?.expose().to_owned().into());
        }
        let path = |file: &std::path::PathBuf| file.display().to_string();
        settings.auth_info.client_certificate = cluster.tls.cert_file.as_ref().map(path);
        settings.auth_info.client_key = cluster.tls.key_file.as_ref().map(path);
        settings.root_cert_file.clone_from(&cluster.tls.ca_file);
        settings.accept_invalid_certs = !cluster.tls.verify_ssl;
        settings.tls_server_name.clone_from(&cluster.tls.server_name);
        settings
    } else {
        let options = KubeConfigOptions {
            context: cluster.context.clone(),
            ..KubeConfigOptions::default()
        };
        match &cluster.kubeconfig {
            Some(file) => {
                let file = kubeconfig_path(file);
                let known = Kubeconfig::read_from(&file).map_err(|failed| {
                    config_invalid(failed).with_context("kubeconfig", file.display().to_string())
                })?;
                kube::Config::from_custom_kubeconfig(known, &options).await
            }
            None => kube::Config::from_kubeconfig(&options).await,
        }
        .or_else(|failed| {
            // A kubeconfig that is asked for goes before the pod's account.
            if cluster.kubeconfig.is_some() || cluster.context.is_some() {
                return Err(config_invalid(failed));
            }
            kube::Config::incluster().map_err(|_| {
                config_invalid(failed).with_hint(
                    "name a server or kubeconfig, set KUBECONFIG, or run in a pod with a service account",
                )
            })
        })?
    };
    settings.connect_timeout = Some(CONNECT);
    settings.read_timeout = None;
    // Core decides what is tried again, and when.
    settings.default_retry = false;
    Ok(settings)
}

fn kubeconfig_path(file: &std::path::Path) -> std::path::PathBuf {
    match (file.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => std::path::PathBuf::from(home).join(rest),
        _ => file.to_owned(),
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
