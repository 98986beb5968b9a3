//! What the cases share: a cluster, and what a test asks of it behind the library's back.

use std::{sync::Arc, time::Duration};

use discovery_core::{Backend, Change, Query, Registration, RegistrationBuilder, WatchStream};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    Shared,
    servers::{ADMIN, Kube},
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
pub(crate) const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

pub(crate) async fn cluster(shared: &Shared) -> Arc<Kube> {
    let mut shared = shared.lock().await;
    match &*shared {
        Some(kube) => kube.clone(),
        None => shared
            .insert(Kube::start(|builder| builder).await.unwrap())
            .clone(),
    }
}

pub(crate) fn admin(kube: &Kube) -> Backend {
    discovery_k8s::backend(kube.config(ADMIN)).unwrap()
}

pub(crate) fn web(service: &str, address: &str) -> RegistrationBuilder {
    Registration::builder(service, address, 8080).ttl(Duration::from_secs(30))
}

/// The addresses a query shows now.
pub(crate) async fn shown(backend: &Backend, service: &str) -> Vec<String> {
    let query = Query::service(service).unwrap();
    let found = backend.registry.instances(&query).await.unwrap();
    found
        .instances
        .iter()
        .map(|instance| instance.host.to_string())
        .collect()
}

/// Asks the apiserver itself.
pub(crate) async fn try_ask(
    kube: &Kube,
    method: &str,
    path: &str,
    kind: &str,
    body: Option<&Value>,
) -> Result<Value, kube::Error> {
    let mut config = kube::Config::new(format!("https://{}", kube.api_endpoint()).parse().unwrap());
    config.root_cert_file = Some(kube.ca_file());
    config.auth_info.token = Some(kube.token().to_owned().into());
    let client = kube::Client::try_from(config).unwrap();
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .body(body.map(|body| body.to_string().into_bytes()).unwrap_or_default())
        .unwrap();
    client.request(request).await
}

pub(crate) async fn ask(kube: &Kube, method: &str, path: &str, body: Option<&Value>) -> Value {
    let kind = if method == "PATCH" {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    try_ask(kube, method, path, kind, body).await.unwrap()
}

/// The next change of a watch that is no confirmation.
pub(crate) async fn change(watch: &mut WatchStream) -> discovery_core::Result<Change> {
    loop {
        let event = timeout(PATIENCE, watch.next())
            .await
            .expect("an event in time")
            .expect("an event")?;
        if event.change != Change::Confirmed {
            return Ok(event.change);
        }
    }
}

/// Makes this Role, under a name of its own, and binds `who` to it.
pub(crate) async fn bind(kube: &Kube, role: &str, name: &str, who: &Value) {
    let role: Value = serde_saphyr::from_str(role).unwrap();
    bind_in(kube, "default", &role, name, who).await;
}

/// The same in another namespace.
pub(crate) async fn bind_in(kube: &Kube, namespace: &str, role: &Value, name: &str, who: &Value) {
    let mut role = role.clone();
    role["metadata"]["name"] = name.into();
    let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}");
    ask(kube, "POST", &format!("{rbac}/roles"), Some(&role)).await;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
        "subjects": [who],
    });
    ask(kube, "POST", &format!("{rbac}/rolebindings"), Some(&binding)).await;
}

/// Makes a namespace.
pub(crate) async fn namespace(kube: &Kube, name: &str) {
    let body = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    ask(kube, "POST", "/api/v1/namespaces", Some(&body)).await;
}
