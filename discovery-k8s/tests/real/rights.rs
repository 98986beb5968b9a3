//! The Roles of `examples/kubernetes`, each just enough.

use discovery_core::{
    Backend, ConfigKey, ErrorKind, HealthReport, MetaChange, PutMode, Query, Renewal, Scope, Status,
};
use futures::StreamExt as _;
use serde_json::json;

use crate::{
    Shared,
    servers::Kube,
    support::{admin, bind, change, cluster, web},
};

pub(crate) const READ: &str = include_str!("../../../examples/kubernetes/role-read.yaml");
const REGISTER: &str = include_str!("../../../examples/kubernetes/role-register.yaml");
const CONFIG: &str = include_str!("../../../examples/kubernetes/role-config.yaml");

/// A backend of `user`, who has this Role and nothing else.
async fn under(kube: &Kube, role: &str, user: &str) -> Backend {
    let who = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user });
    bind(kube, role, user, &who).await;
    let backend = discovery_k8s::backend(kube.config(user)).unwrap();
    // Rights take a moment to arrive.
    let probe = ConfigKey::new("probe").unwrap();
    discovery_testkit::eventually("the rights", crate::support::PATIENCE, || async {
        let found = backend.registry.services(&Scope::default()).await.map(drop);
        let value = backend.config.as_ref().unwrap().get(&probe).await.map(drop);
        found.or(value).map_err(|error| format!("{error:?}"))
    })
    .await;
    backend
}

pub(crate) async fn the_least_roles_are_enough(shared: Shared) {
    let kube = cluster(&shared).await;
    let (reader, registrant) = (
        under(&kube, READ, "reader").await,
        under(&kube, REGISTER, "registrant").await,
    );
    let registration = web("rights", "192.0.2.1").build().unwrap();
    let query = Query::service("rights").unwrap();

    let lease = registrant.registry.register(&registration).await.unwrap();
    let mut watch = reader.watcher.watch(&query, None);
    change(&mut watch).await.unwrap();
    assert!(reader.registry.instance(&lease.key).await.unwrap().is_some());
    assert_eq!(
        reader.registry.instances(&query).await.unwrap().instances.len(),
        1
    );
    let refused = reader.registry.deregister(&lease.key).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused:?}");

    let renewal = Renewal::new([(lease.key.clone(), HealthReport::new(Status::Warning))]);
    registrant.registry.renew(&lease.group, &renewal).await.unwrap();
    registrant
        .registry
        .update_meta(&lease.key, &MetaChange::new().set("a", "b"))
        .await
        .unwrap();
    registrant
        .registry
        .report_health(&lease.key, &HealthReport::default())
        .await
        .unwrap();
    assert!(registrant.registry.instance(&lease.key).await.unwrap().is_some());
    registrant.registry.register(&registration).await.unwrap();
    registrant.registry.deregister(&lease.key).await.unwrap();
    assert_eq!(registrant.registry.instance(&lease.key).await.unwrap(), None);

    let configurer = under(&kube, CONFIG, "configurer").await;
    let (values, key) = (configurer.config.unwrap(), ConfigKey::new("rights/key").unwrap());
    let mut watch = values.watch("rights/", None);
    watch.next().await.unwrap().unwrap();
    let version = values.put(&key, b"one", PutMode::Create).await.unwrap();
    values
        .put(&key, b"two", PutMode::IfVersion(version))
        .await
        .unwrap();
    assert_eq!(values.list("rights/").await.unwrap().entries.len(), 1);
    assert!(values.delete(&key, None).await.unwrap());
    let refused = configurer.registry.instances(&query).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
}

pub(crate) async fn k_18_a_client_without_rights_is_told_verb_and_resource(shared: Shared) {
    let kube = cluster(&shared).await;
    let nobody = discovery_k8s::backend(kube.config("nobody")).unwrap();
    let query = Query::service("web").unwrap();
    let told = |error: discovery_core::Error, verb: &str, resource: &str| {
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
        let shown = error.to_string();
        assert!(
            shown.contains(&format!("verb: {verb}")) && shown.contains(&format!("resource: {resource}")),
            "{shown}"
        );
    };
    told(
        nobody.registry.instances(&query).await.unwrap_err(),
        "list",
        "endpointslices",
    );
    let mut watch = nobody.watcher.watch(&query, None);
    told(change(&mut watch).await.unwrap_err(), "list", "endpointslices");
    let registration = web("web", "192.0.2.1").build().unwrap();
    told(
        nobody.registry.register(&registration).await.unwrap_err(),
        "get",
        "services",
    );
    let key = ConfigKey::new("a").unwrap();
    told(
        nobody.config.unwrap().get(&key).await.unwrap_err(),
        "get",
        "configmaps",
    );
    let unknown = discovery_k8s::backend(kube.config("no-such-token")).unwrap();
    let error = unknown.registry.instances(&query).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    drop(admin(&kube));
}
