//! One request, as RBAC calls it: a verb on a resource.

use bytes::Bytes;
use discovery_core::{ErrorKind, Result};
use http::{Method, Request, header};
use kube::client::Body;

use serde_json::json;

use crate::{error, error::Asked, wire};

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

    pub(crate) fn version() -> Self {
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

    /// The same for errors, which then name this verb.
    pub(crate) fn wants(mut self, verb: &'static str) -> Self {
        self.verb = verb;
        self
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

    pub(crate) fn request(&self) -> Result<Request<Body>> {
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

/// The precondition that an object is as it was read or written.
pub(crate) fn as_written(meta: &wire::Meta) -> serde_json::Value {
    json!({ "uid": meta.uid, "resourceVersion": meta.resource_version })
}
