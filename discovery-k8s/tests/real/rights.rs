//! The Roles of `examples/kubernetes`, each just enough.

use std::ops::Range;

use discovery_core::{
    Backend, ConfigKey, ErrorKind, HealthReport, InstanceKey, MetaChange, PutMode, Query, Renewal, Result,
    Scope, Status,
};
use discovery_testkit::eventually;
use futures::{StreamExt as _, future::BoxFuture, stream};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    Shared,
    servers::{ADMIN, Kube},
    support::{PATIENCE, SLICES, ask, bind, bind_in, change, cluster, namespace, shown, web},
};

pub(crate) const READ: &str = include_str!("../../../examples/kubernetes/role-read.yaml");
const REGISTER: &str = include_str!("../../../examples/kubernetes/role-register.yaml");
const CONFIG: &str = include_str!("../../../examples/kubernetes/role-config.yaml");
const IN_CLUSTER: &str = include_str!("../../../examples/kubernetes/in-cluster.yaml");

/// A backend of `user`, who has this Role and nothing else.
async fn under(kube: &Kube, role: &str, user: &str) -> Backend {
    let who = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user });
    bind(kube, role, user, &who).await;
    let backend = discovery_k8s::backend(kube.config(user)).unwrap();
    // Rights take a moment to arrive.
    let probe = ConfigKey::new("probe").unwrap();
    eventually("the rights", PATIENCE, || async {
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
}

/// What somebody who was given a Role does, in a namespace of this name.
type Work = for<'a> fn(&'a Backend, &'a str) -> BoxFuture<'a, Result<()>>;

/// A Role as it stands, and without each of its rights in turn: the verb and resource that are missing.
fn one_less(role: &str) -> Vec<(Value, Option<(String, String)>)> {
    let role: Value = serde_saphyr::from_str(role).unwrap();
    let mut all = vec![(role.clone(), None)];
    for (i, rule) in role["rules"].as_array().unwrap().iter().enumerate() {
        for (j, verb) in rule["verbs"].as_array().unwrap().iter().enumerate() {
            let mut less = role.clone();
            less["rules"][i]["verbs"].as_array_mut().unwrap().remove(j);
            let rules = less["rules"].as_array_mut().unwrap();
            rules.retain(|rule| !rule["verbs"].as_array().unwrap().is_empty());
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            all.push((less, Some((text(verb), text(&rule["resources"][0])))));
        }
    }
    all
}

/// The Role lets all of `work` be done, and without any of its rights some is refused, for want of that right.
async fn is_the_least(kube: &Kube, role: &str, users: Range<usize>, work: Work) {
    let cases = one_less(role);
    assert_eq!(users.len(), cases.len(), "one user for each");
    let each = users.zip(cases).map(|(n, (role, missing))| async move {
        let (user, place) = (format!("user-{n}"), format!("place-{n}"));
        let who = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user });
        bind_in(kube, &place, &role, &user, &who).await;
        let mut config = kube.config(&user).namespace(&place);
        config.configmap.namespace = Some(place.clone());
        let backend = discovery_k8s::backend(config).unwrap();
        // Rights take a moment to arrive.
        eventually(format!("{user}, without {missing:?}"), PATIENCE * 3, || async {
            let told = match (work(&backend, &place).await, &missing) {
                (Ok(()), None) => return Ok(()),
                (Ok(()), Some(right)) => panic!("a right too many: {right:?}"),
                (Err(told), _) => told,
            };
            assert_eq!(told.kind(), ErrorKind::PermissionDenied, "{told:?}");
            let (shown, hint) = (told.to_string(), told.hint().unwrap_or_default().to_owned());
            let named = missing.as_ref().is_some_and(|(verb, resource)| {
                shown.contains(&format!("verb: {verb},"))
                    && shown.contains(&format!("resource: {resource}"))
                    && hint.contains(&format!("`{verb}` on `{resource}`"))
            });
            if named {
                Ok(())
            } else {
                Err(format!("{shown}; {hint}"))
            }
        })
        .await;
    });
    stream::iter(each).buffer_unordered(4).collect::<()>().await;
}

/// A registration of somebody else's, alive for long.
async fn companion(kube: &Kube, place: &str, service: &str) -> InstanceKey {
    let backend = discovery_k8s::backend(kube.config(ADMIN).namespace(place)).unwrap();
    let long = std::time::Duration::from_secs(600);
    let registration = web(service, "192.0.2.9").ttl(long).build().unwrap();
    backend.registry.register(&registration).await.unwrap().key
}

async fn reads(backend: &Backend, key: &InstanceKey) -> Result<()> {
    let registry = &backend.registry;
    registry.instance(key).await?;
    registry.services(&Scope::default()).await?;
    for service in ["pods", "ours"] {
        let query = Query::service(service)?;
        registry.instances(&query).await?;
        let mut watch = backend.watcher.watch(&query, None);
        // All there is, and then that nothing has changed since.
        for _ in 0..2 {
            let event = timeout(PATIENCE, watch.next()).await.expect("an event in time");
            event.expect("an event")?;
        }
    }
    Ok(())
}

pub(crate) async fn the_role_to_read_is_the_least(shared: Shared) {
    let kube = cluster(&shared).await;
    let work: Work = |backend, place| {
        Box::pin(async move {
            let key = discovery_core::ServiceName::new("ours")?;
            let id = discovery_core::InstanceId::new("ours-192.0.2.9-8080")?;
            reads(backend, &InstanceKey::new("k8s", key, id).with_namespace(place)).await
        })
    };
    let users = 0..8;
    for n in users.clone() {
        let place = format!("place-{n}");
        namespace(&kube, &place).await;
        companion(&kube, &place, "ours").await;
        let pods = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": "pods-1", "labels": { "kubernetes.io/service-name": "pods" } },
            "addressType": "IPv4", "ports": [{ "port": 80 }], "endpoints": [{ "addresses": ["192.0.2.1"] }],
        });
        let path = SLICES.replace("/default/", &format!("/{place}/"));
        ask(&kube, "POST", &path, Some(&pods)).await;
    }
    is_the_least(&kube, READ, users, work).await;
}

async fn registers(backend: &Backend, service: &str) -> Result<()> {
    let registry = &backend.registry;
    let registration = web(service, "192.0.2.1").build()?;
    let lease = registry.register(&registration).await?;
    registry.register(&registration).await?;
    let renewal = Renewal::new([(lease.key.clone(), HealthReport::new(Status::Warning))]);
    registry.renew(&lease.group, &renewal).await?;
    registry
        .update_meta(&lease.key, &MetaChange::new().set("a", "b"))
        .await?;
    assert!(registry.instance(&lease.key).await?.is_some());
    registry.deregister(&lease.key).await?;
    assert_eq!(registry.instance(&lease.key).await?, None);
    Ok(())
}

pub(crate) async fn the_role_to_register_is_the_least(shared: Shared) {
    let kube = cluster(&shared).await;
    let work: Work = |backend, _| {
        Box::pin(async move {
            registers(backend, "alone").await?;
            registers(backend, "beside-others").await
        })
    };
    let users = 8..22;
    for n in users.clone() {
        let place = format!("place-{n}");
        namespace(&kube, &place).await;
        companion(&kube, &place, "beside-others").await;
    }
    is_the_least(&kube, REGISTER, users, work).await;
}

pub(crate) async fn the_role_to_configure_is_the_least(shared: Shared) {
    let kube = cluster(&shared).await;
    let work: Work = |backend, _| {
        Box::pin(async move {
            let (values, key) = (backend.config.as_ref().unwrap(), ConfigKey::new("lean")?);
            assert_eq!(values.get(&key).await?, None);
            let version = values.put(&key, b"1", PutMode::Create).await?;
            values.put(&key, b"2", PutMode::IfVersion(version)).await?;
            let mut watch = values.watch("", None);
            for _ in 0..2 {
                let event = timeout(PATIENCE, watch.next()).await.expect("an event in time");
                event.expect("an event")?;
            }
            values.delete(&key, None).await.map(drop)
        })
    };
    let users = 22..28;
    for n in users.clone() {
        namespace(&kube, &format!("place-{n}")).await;
    }
    is_the_least(&kube, CONFIG, users, work).await;
}

/// All of `examples/kubernetes` is applied as it stands, and its account can do what the program of its Deployment does.
pub(crate) async fn the_manifests_are_what_a_server_takes(shared: Shared) {
    let kube = cluster(&shared).await;
    namespace(&kube, "deployed").await;
    for document in [READ, REGISTER, CONFIG, IN_CLUSTER]
        .iter()
        .flat_map(|text| text.split("\n---\n"))
    {
        let object: Value = serde_saphyr::from_str(document).unwrap();
        let (group, resource) = match object["kind"].as_str().unwrap() {
            "ServiceAccount" => ("/api/v1", "serviceaccounts"),
            "Role" => ("/apis/rbac.authorization.k8s.io/v1", "roles"),
            "RoleBinding" => ("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
            "Deployment" => ("/apis/apps/v1", "deployments"),
            other => panic!("where is a {other} served?"),
        };
        let path = format!("{group}/namespaces/deployed/{resource}?fieldValidation=Strict");
        ask(&kube, "POST", &path, Some(&object)).await;
    }
    let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": { "expirationSeconds": 3600 } });
    let path = "/api/v1/namespaces/deployed/serviceaccounts/discovery/token";
    let token = ask(&kube, "POST", path, Some(&request)).await;
    let mut config = kube.config(ADMIN).namespace("deployed");
    config = config.token(token["status"]["token"].as_str().unwrap());
    let pod = discovery_k8s::backend(config).unwrap();
    let registration = web("billing", "192.0.2.1").build().unwrap();
    let lease = eventually("the rights", PATIENCE, || pod.registry.register(&registration)).await;
    assert_eq!(shown(&pod, "billing").await, ["192.0.2.1"]);
    let mut watch = pod.watcher.watch(&Query::service("billing").unwrap(), None);
    change(&mut watch).await.unwrap();
    pod.registry.deregister(&lease.key).await.unwrap();
}
