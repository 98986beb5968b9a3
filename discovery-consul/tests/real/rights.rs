//! Tokens: the least rights, what is hidden, and tokens that end.

use std::{net::SocketAddr, time::Duration};

use discovery_consul::{ConsulConfig, backend};
use discovery_core::{
    Change, ConfigKey, ErrorKind, Evidence, HealthReport, MetaChange, PutMode, Query, Renewal, Scope, Source,
    Status, Suspicion, registrar::RegistrationPhase,
};
use discovery_testkit::{eventually, server::Server};
use futures::StreamExt;
use tokio::time::{Instant, timeout};

use crate::support::{
    PATIENCE, Setup, TTL, Views, brisk, client, numbered, ports, register, root, sees, token, turns, web,
    with_token,
};

/// The policies of docs/guides/consul.md, each exactly as it stands there.
const READ: &str = include_str!("../../policies/read.hcl");
const REGISTER: &str = include_str!("../../policies/register.hcl");
const CONFIG: &str = include_str!("../../policies/config.hcl");

/// What is denied is tried again after half a minute.
const SLOWLY: Duration = Duration::from_secs(100);

pub(crate) async fn the_least_policies_are_enough(setup: Setup) {
    let consul = setup.guarded().await;
    let made = async |name, rules| token(&consul, name, rules).await.secret;
    let reader = with_token(&consul, made("read", READ).await.expose());
    let writer = with_token(&consul, made("register", REGISTER).await.expose());

    let lease = writer.registry.register(&web("web-1")).await.unwrap();
    assert_eq!(lease.key.node.as_deref(), Some(consul.node()));
    assert_eq!(lease.key.datacenter.as_deref(), Some("dc1"));
    let renewal = Renewal::new([(lease.key.clone(), HealthReport::new(Status::Warning))]);
    writer.registry.renew(&lease.group, &renewal).await.unwrap();
    let meta = MetaChange::new().set("version", "2");
    writer.registry.update_meta(&lease.key, &meta).await.unwrap();
    let own = writer.registry.instance(&lease.key).await.unwrap().unwrap();
    assert_eq!((own.status, own.meta["version"].as_str()), (Status::Warning, "2"));

    sees(&reader, "web", &[8080]).await;
    let names = reader.registry.services(&Scope::default()).await.unwrap();
    assert!(names.iter().any(|service| service.name.as_str() == "web"));
    let query = Query::service("web").unwrap();
    let first = reader.watcher.watch(&query, None).next().await.unwrap().unwrap();
    assert!(
        matches!(&first.change, Change::Reset(all) if all.len() == 1),
        "{first:?}"
    );
    let error = reader.registry.register(&web("web-2")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    writer.registry.deregister(&lease.key).await.unwrap();
    sees(&reader, "web", &[]).await;

    let values = with_token(&consul, made("config", CONFIG).await.expose())
        .config
        .unwrap();
    let (key, other) = (
        ConfigKey::new("app/db").unwrap(),
        ConfigKey::new("other").unwrap(),
    );
    let version = values.put(&key, b"x", PutMode::Create).await.unwrap();
    assert_eq!(values.get(&key).await.unwrap().unwrap().version, version);
    assert_eq!(values.list("app/").await.unwrap().entries.len(), 1);
    assert!(values.delete(&key, Some(version)).await.unwrap());
    let denied = values.put(&other, b"x", PutMode::Upsert).await.unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied, "{denied:?}");
}

pub(crate) async fn c_39_hidden_instances_are_never_plainly_none(setup: Setup) {
    let consul = setup.guarded().await;
    register(&root(&consul), "web", &[1]).await;
    let rules = "agent_prefix \"\" { policy = \"read\" }";
    let blind = with_token(&consul, token(&consul, "blind", rules).await.secret.expose());
    let query = Query::service("web").unwrap();
    let snapshot = blind.registry.instances(&query).await.unwrap();
    assert!(snapshot.instances.is_empty());
    let expected = if setup.is_old() {
        Suspicion::UnverifiedEmpty
    } else {
        Suspicion::AccessLost
    };
    assert_eq!(snapshot.evidence, Evidence::Suspect(expected));
}

pub(crate) async fn c_40_a_token_revoked_during_a_watch(setup: Setup) {
    let consul = setup.guarded().await;
    register(&root(&consul), "web", &[1]).await;
    let token = token(&consul, "read", READ).await;
    let config = brisk(consul.endpoint()).token(token.secret.expose());
    let query = Query::service("web").unwrap();
    let mut stream = backend(config).unwrap().watcher.watch(&query, None);
    let first = stream.next().await.unwrap().unwrap();
    assert!(matches!(&first.change, Change::Reset(all) if all.len() == 1));
    consul.revoke_token(&token).await.unwrap();
    let end = timeout(SLOWLY, async {
        loop {
            match stream.next().await.expect("an event or an error") {
                Ok(event) => {
                    let harmless =
                        event.change == Change::Confirmed || event.evidence != Evidence::Authoritative;
                    assert!(harmless, "a token that is gone removes nothing: {event:?}");
                }
                Err(error) => return error,
            }
        }
    });
    let error = end.await.expect("the watch ends");
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
}

/// A file that holds a token, as a program is given it.
struct TokenFile(tempfile::NamedTempFile);

impl TokenFile {
    fn holding(token: &str) -> Self {
        let file = Self(tempfile::NamedTempFile::new().unwrap());
        file.write(token);
        file
    }

    fn write(&self, token: &str) {
        std::fs::write(self.0.path(), token).unwrap();
    }

    fn config(&self, address: SocketAddr) -> ConsulConfig {
        brisk(address).token_file(self.0.path())
    }
}

/// The view stays as it is, and lives again under the token that takes the revoked one's place.
pub(crate) async fn c_40_a_view_under_a_revoked_token(setup: Setup) {
    let consul = setup.guarded().await;
    let truth = root(&consul);
    register(&truth, "db", &[1, 2]).await;
    let first = token(&consul, "read", READ).await;
    let file = TokenFile::holding(first.secret.expose());
    let client = client(file.config(consul.endpoint()));
    let mut db = Views::of(&client, &Query::service("db").unwrap(), &[1, 2]).await;
    consul.revoke_token(&first).await.unwrap();
    // Agents may remember it for 30 s; while results are hidden the view holds on to them, live.
    let view = db
        .while_all(&[1, 2], "a stale view", SLOWLY, |view| {
            view.source == Source::Stale
        })
        .await;
    assert_eq!(ports(&view), [1, 2]);
    file.write(consul.create_token(&["read"]).await.unwrap().secret.expose());
    db.keeps(&[1, 2], register(&truth, "db", &[1, 2, 3])).await;
    db.live(&[1, 2, 3], SLOWLY).await;
    client.shutdown(PATIENCE).await.unwrap();
}

pub(crate) async fn a_token_revoked_during_a_heartbeat(setup: Setup) {
    let consul = setup.guarded().await;
    let truth = root(&consul);
    let first = token(&consul, "register", REGISTER).await;
    let file = TokenFile::holding(first.secret.expose());
    let client = client(file.config(consul.endpoint()));
    let web = client.register(numbered("web", 80, TTL)).await.unwrap();
    turns(&truth, "web", Status::Passing, PATIENCE).await;
    consul.revoke_token(&first).await.unwrap();
    eventually("a heartbeat that is denied", SLOWLY, || async {
        let state = client.status().await.registrations.remove(0);
        if state.phase == RegistrationPhase::Denied {
            assert_eq!(state.last_error.unwrap().kind(), ErrorKind::Unauthenticated);
            Ok(())
        } else {
            Err(format!("{state:?}"))
        }
    })
    .await;
    // The agent takes it out of service, and cannot tell the catalogue under a token that is gone.
    let query = Query::service("web").unwrap().include_unhealthy();
    eventually("its end at the agent", PATIENCE, || async {
        let key = &truth.registry.instances(&query).await.unwrap().instances[0]
            .key
            .clone();
        match truth.registry.instance(key).await.unwrap() {
            Some(own) if own.status == Status::Critical => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    file.write(consul.create_token(&["register"]).await.unwrap().secret.expose());
    eventually("a heartbeat under the other token", SLOWLY, || async {
        let state = client.status().await.registrations.remove(0);
        if state.phase == RegistrationPhase::Registered {
            Ok(())
        } else {
            Err(format!("{state:?}"))
        }
    })
    .await;
    // And what it reports reaches the catalogue.
    web.report_health(HealthReport::new(Status::Warning))
        .await
        .unwrap();
    turns(&truth, "web", Status::Warning, PATIENCE).await;
    client.shutdown(PATIENCE).await.unwrap();
    sees(&truth, "web", &[]).await;
}

/// The agent writes to the catalogue under the token of the registration, so that is made again under the new one.
pub(crate) async fn c_41_a_token_rotated_before_it_is_revoked(setup: Setup) {
    let consul = setup.guarded().await;
    let truth = root(&consul);
    let first = token(&consul, "register", REGISTER).await;
    let file = TokenFile::holding(first.secret.expose());
    let client = client(file.config(consul.endpoint()));
    let web = client.register(numbered("web", 80, TTL)).await.unwrap();
    turns(&truth, "web", Status::Passing, PATIENCE).await;
    file.write(consul.create_token(&["register"]).await.unwrap().secret.expose());
    let rotated = Instant::now();
    eventually("two heartbeats", PATIENCE, || async { rotated.elapsed() > TTL }).await;
    consul.revoke_token(&first).await.unwrap();
    web.report_health(HealthReport::new(Status::Warning))
        .await
        .unwrap();
    turns(&truth, "web", Status::Warning, PATIENCE).await;
    client.shutdown(PATIENCE).await.unwrap();
    sees(&truth, "web", &[]).await;
}
