//! What only Consul needs, on real servers, the oldest and the newest supported: rights, TLS, sockets, its checks, its
//! limits. `DISCOVERY_CONSUL_OLD` and `DISCOVERY_CONSUL_NEW` name the programs.

#![expect(
    clippy::unwrap_used,
    reason = "a test program: what is unexpected ends the case"
)]

use std::{process::ExitCode, sync::Arc, time::Duration};

use discovery_consul::{ConsulConfig, backend};
use discovery_core::{
    Backend, Change, ConfigKey, ErrorKind, Evidence, HealthReport, PutMode, Query, Registration, Renewal,
    Result, Scope, Status, Suspicion,
};
use discovery_testkit::{
    eventually,
    server::{ChildServer, Server},
};
use futures::{FutureExt, StreamExt, future::BoxFuture};
use libtest_mimic::{Arguments, Trial};
use serde_json::{Value, json};
use tokio::time::timeout;

mod servers;

use servers::Dev;

const PATIENCE: Duration = Duration::from_secs(15);
const ROOT: &str = "11111111-2222-3333-4444-555555555555";

type Case = (&'static str, fn(Dev) -> BoxFuture<'static, ()>);

const CASES: &[Case] = &[
    ("the_least_policies_are_enough", |dev| least_policies(dev).boxed()),
    ("c_39_hidden_instances_are_never_plainly_none", |dev| {
        hidden(dev).boxed()
    }),
    ("c_40_a_revoked_token_ends_the_watch_and_shows_nothing", |dev| {
        revoked(dev).boxed()
    }),
    ("c_23_an_agent_restarted_empty_is_registered_at_again", |dev| {
        amnesia(dev).boxed()
    }),
    ("c_25_c_33_registering_again_changes_nothing", |dev| {
        again(dev).boxed()
    }),
    ("c_26_a_check_that_is_gone_leaves_no_orphan", |dev| {
        orphan(dev).boxed()
    }),
    ("c_16_300_watches_and_heartbeats", |dev| many_watches(dev).boxed()),
    ("a_registration_made_draining_is_never_in_service", |dev| {
        draining(dev).boxed()
    }),
    ("two_hundred_cycles_leave_nothing", |dev| cycles(dev).boxed()),
    ("c_12_c_30_a_lost_quorum_removes_nothing", |dev| {
        quorum(dev).boxed()
    }),
    ("c_42_tls_and_client_certificates", |dev| tls(dev).boxed()),
    ("c_43_unix_socket", |dev| socket(dev).boxed()),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut trials = Vec::new();
    let named = servers::named();
    for name in ["consul-old", "consul-new"] {
        let program = named
            .iter()
            .find(|(other, _)| *other == name)
            .map(|(_, program)| program.clone());
        for (case, run) in CASES {
            let (handle, dev) = (
                runtime.handle().clone(),
                program.as_deref().map(|program| Dev::new(name, program)),
            );
            let missing = dev.is_none();
            let trial = Trial::test(format!("{name}::{case}"), move || {
                let Some(dev) = dev else {
                    return Err("not run: no program is named".into());
                };
                let limit = Duration::from_secs(90);
                let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    handle.block_on(async { timeout(limit, run(dev)).await.expect("an end in time") });
                }));
                ended.map_err(|_| "see above".into())
            });
            trials.push(trial.with_ignored_flag(missing));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

// === a server, and what a test asks of it behind the library's back ===

struct Consul {
    server: ChildServer<Dev>,
    http: reqwest::Client,
}

impl Consul {
    async fn start(dev: Dev) -> Self {
        let server = ChildServer::new(dev).unwrap();
        server.start().await.unwrap();
        let http =
            reqwest::Client::builder().tls_backend_preconfigured(discovery_core::tls::unused().unwrap());
        Self {
            server,
            http: http.build().unwrap(),
        }
    }

    async fn guarded(mut dev: Dev) -> Self {
        let initial = if dev.is_old() {
            "master"
        } else {
            "initial_management"
        };
        dev.more = format!(
            "acl {{ enabled = true default_policy = \"deny\" tokens {{ {initial} = \"{ROOT}\" agent = \"{ROOT}\" }} }}"
        );
        let consul = Self::start(dev).await;
        // The root token comes some time after the leader.
        eventually("the root token", PATIENCE, || async {
            consul.try_ask("GET", "/v1/acl/token/self", None).await.map(drop)
        })
        .await;
        consul
    }

    fn config(&self) -> ConsulConfig {
        ConsulConfig::at(self.server.endpoint().to_string())
    }

    fn backend(&self) -> Backend {
        backend(self.config()).unwrap()
    }

    fn with_token(&self, token: &str) -> Backend {
        backend(self.config().token(token)).unwrap()
    }

    async fn try_ask(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, String> {
        let url = format!("http://{}{path}", self.server.endpoint());
        let mut request = self
            .http
            .request(method.parse().unwrap(), url)
            .header("x-consul-token", ROOT);
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("{status} {text}"));
        }
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        self.try_ask(method, path, body).await.unwrap()
    }

    /// A token with these rules and no others.
    async fn token(&self, name: &str, rules: &str) -> Token {
        self.ask(
            "PUT",
            "/v1/acl/policy",
            Some(json!({ "Name": name, "Rules": rules })),
        )
        .await;
        let made = self
            .ask(
                "PUT",
                "/v1/acl/token",
                Some(json!({ "Policies": [{ "Name": name }] })),
            )
            .await;
        Token {
            secret: made["SecretID"].as_str().unwrap().to_owned(),
            accessor: made["AccessorID"].as_str().unwrap().to_owned(),
        }
    }
}

struct Token {
    secret: String,
    accessor: String,
}

fn web(id: &str) -> Registration {
    Registration::builder("web", "10.0.0.5", 8080)
        .id(id)
        .ttl(Duration::from_secs(30))
        .build()
        .unwrap()
}

async fn ids(backend: &Backend) -> Vec<String> {
    let query = Query::service("web").unwrap().include_unhealthy();
    let snapshot = backend.registry.instances(&query).await.unwrap();
    snapshot.instances.iter().map(|i| i.key.id.to_string()).collect()
}

async fn sees(backend: &Backend, expected: &[&str]) {
    eventually(format!("{expected:?}"), PATIENCE, || async {
        let seen = ids(backend).await;
        if seen == expected {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .await;
}

// === rights ===

/// The policies of docs/guides/consul.md, each exactly as it stands there.
const READ: &str = include_str!("../policies/read.hcl");
const REGISTER: &str = include_str!("../policies/register.hcl");
const CONFIG: &str = include_str!("../policies/config.hcl");

async fn least_policies(dev: Dev) {
    let consul = Consul::guarded(dev).await;
    let reader = consul.with_token(&consul.token("read", READ).await.secret);
    let writer = consul.with_token(&consul.token("register", REGISTER).await.secret);

    let lease = writer.registry.register(&web("web-1")).await.unwrap();
    assert_eq!(lease.key.node.as_deref(), Some("n1"));
    assert_eq!(lease.key.datacenter.as_deref(), Some("dc1"));
    let renewal = Renewal::new([(lease.key.clone(), HealthReport::new(Status::Warning))]);
    writer.registry.renew(&lease.group, &renewal).await.unwrap();
    let meta = discovery_core::MetaChange::new().set("version", "2");
    writer.registry.update_meta(&lease.key, &meta).await.unwrap();
    let own = writer.registry.instance(&lease.key).await.unwrap().unwrap();
    assert_eq!((own.status, own.meta["version"].as_str()), (Status::Warning, "2"));

    sees(&reader, &["web-1"]).await;
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
    sees(&reader, &[]).await;

    let values = consul
        .with_token(&consul.token("config", CONFIG).await.secret)
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

async fn hidden(dev: Dev) {
    let old = dev.is_old();
    let consul = Consul::guarded(dev).await;
    consul
        .with_token(ROOT)
        .registry
        .register(&web("web-1"))
        .await
        .unwrap();
    sees(&consul.with_token(ROOT), &["web-1"]).await;
    let blind = consul.with_token(
        &consul
            .token("blind", "agent_prefix \"\" { policy = \"read\" }")
            .await
            .secret,
    );
    let snapshot = blind
        .registry
        .instances(&Query::service("web").unwrap())
        .await
        .unwrap();
    assert!(snapshot.instances.is_empty());
    let expected = if old {
        Suspicion::UnverifiedEmpty
    } else {
        Suspicion::AccessLost
    };
    assert_eq!(snapshot.evidence, Evidence::Suspect(expected));
}

async fn revoked(dev: Dev) {
    let consul = Consul::guarded(dev).await;
    let root = consul.with_token(ROOT);
    root.registry.register(&web("web-1")).await.unwrap();
    sees(&root, &["web-1"]).await;
    let token = consul.token("read", READ).await;
    let mut config = consul.config().token(&token.secret);
    config.discovery.wait = Duration::from_secs(2);
    let mut stream = backend(config)
        .unwrap()
        .watcher
        .watch(&Query::service("web").unwrap(), None);
    let first = stream.next().await.unwrap().unwrap();
    assert!(matches!(&first.change, Change::Reset(all) if all.len() == 1));
    consul
        .ask("DELETE", &format!("/v1/acl/token/{}", token.accessor), None)
        .await;
    let end = timeout(Duration::from_secs(60), async {
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

// === registrations ===

async fn amnesia(dev: Dev) {
    let consul = Consul::start(dev).await;
    let backend = consul.backend();
    let lease = backend.registry.register(&web("web-1")).await.unwrap();
    consul.server.kill().await.unwrap();
    consul.server.start().await.unwrap();
    let renewal = Renewal::new([(lease.key.clone(), HealthReport::default())]);
    let error = backend.registry.renew(&lease.group, &renewal).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert_eq!(backend.registry.register(&web("web-1")).await.unwrap(), lease);
    sees(&backend, &["web-1"]).await;
}

async fn again(dev: Dev) {
    let consul = Consul::start(dev).await;
    let backend = consul.backend();
    let lease = backend.registry.register(&web("web-1")).await.unwrap();
    sees(&backend, &["web-1"]).await;
    let index = || async {
        consul.ask("GET", "/v1/health/service/web", None).await[0]["Service"]["ModifyIndex"].clone()
    };
    let before = index().await;
    let critical = HealthReport::new(Status::Critical);
    backend
        .registry
        .report_health(&lease.key, &critical)
        .await
        .unwrap();
    for _ in 0..20 {
        let mut registration = web("web-1");
        registration.health = critical.clone();
        backend.registry.register(&registration).await.unwrap();
        let own = backend.registry.instance(&lease.key).await.unwrap().unwrap();
        assert_eq!(own.status, Status::Critical, "it never looks healthy in between");
    }
    assert_eq!(index().await, before);
    backend.registry.register(&web("web-1")).await.unwrap();
    let own = backend.registry.instance(&lease.key).await.unwrap().unwrap();
    assert_eq!(
        own.status,
        Status::Passing,
        "the wanted status is shown, not the kept one"
    );
}

async fn orphan(dev: Dev) {
    let consul = Consul::start(dev).await;
    let backend = consul.backend();
    let mut registration = web("web-1");
    registration
        .checks
        .push(discovery_core::Check::tcp("127.0.0.1:1"));
    backend.registry.register(&registration).await.unwrap();
    backend.registry.register(&web("web-1")).await.unwrap();
    let checks = consul.ask("GET", "/v1/agent/checks", None).await;
    let names: Vec<_> = checks.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["web-1:ttl"]);
}

async fn draining(dev: Dev) {
    let consul = Consul::start(dev).await;
    let backend = consul.backend();
    let mut registration = web("web-1");
    registration.health = HealthReport::default().with_draining(true).with_output("upgrade");
    let lease = backend.registry.register(&registration).await.unwrap();
    for _ in 0..10 {
        let own = backend.registry.instance(&lease.key).await.unwrap().unwrap();
        assert!(own.draining && own.status == Status::Passing, "{own:?}");
        backend.registry.register(&registration).await.unwrap();
    }
    let ready = HealthReport::default();
    backend.registry.report_health(&lease.key, &ready).await.unwrap();
    let own = backend.registry.instance(&lease.key).await.unwrap().unwrap();
    assert!(own.is_available(), "{own:?}");
    backend
        .registry
        .report_health(&lease.key, &ready.clone().with_draining(true))
        .await
        .unwrap();
    backend.registry.register(&web("web-1")).await.unwrap();
    let own = backend.registry.instance(&lease.key).await.unwrap().unwrap();
    assert!(
        own.is_available(),
        "a registration that is not draining ends it: {own:?}"
    );
}

async fn cycles(dev: Dev) {
    let consul = Consul::start(dev).await;
    let backend = consul.backend();
    for n in 0..200 {
        let lease = backend
            .registry
            .register(&web(&format!("web-{n}")))
            .await
            .unwrap();
        backend.registry.deregister(&lease.key).await.unwrap();
    }
    sees(&backend, &[]).await;
    assert_eq!(consul.ask("GET", "/v1/agent/services", None).await, json!({}));
    assert_eq!(consul.ask("GET", "/v1/agent/checks", None).await, json!({}));
}

async fn many_watches(dev: Dev) {
    let consul = Consul::start(dev).await;
    let backend = consul.backend();
    let lease = backend.registry.register(&web("web-1")).await.unwrap();
    let mut streams: Vec<_> = (0..300)
        .map(|n| {
            backend
                .watcher
                .watch(&Query::service(format!("s{n}")).unwrap(), None)
        })
        .collect();
    for stream in &mut streams {
        stream.next().await.unwrap().unwrap();
    }
    let mut all = futures::stream::select_all(streams);
    let beats = async {
        for _ in 0..50 {
            let renewal = Renewal::new([(lease.key.clone(), HealthReport::default())]);
            let beat = backend.registry.renew(&lease.group, &renewal);
            timeout(Duration::from_secs(1), beat)
                .await
                .expect("at once")
                .unwrap();
            tokio::task::yield_now().await;
        }
        // While the watches are open for good.
        eventually("the end", PATIENCE, || async { ids(&backend).await == ["web-1"] }).await;
    };
    tokio::select! {
        () = beats => {}
        () = async { while let Some(event) = all.next().await { event.unwrap(); } } => panic!("the watches ended"),
    }
}

// === an outage ===

async fn quorum(dev: Dev) {
    let cluster = discovery_testkit::server::consul::Consul::dev(&dev.program)
        .cluster()
        .await
        .unwrap();
    cluster.start().await.unwrap();
    let [survivor, others @ ..] = cluster.members();
    let at = |change: fn(&mut ConsulConfig)| {
        let mut config = ConsulConfig::at(survivor.endpoint().to_string());
        change(&mut config);
        backend(config).unwrap()
    };
    let plain = at(|_| {});
    let lease = plain.registry.register(&web("web-1")).await.unwrap();
    sees(&plain, &["web-1"]).await;
    let stale = at(|config| {
        config.discovery.consistency = discovery_consul::Consistency::Stale;
        config.discovery.max_staleness = Duration::from_secs(1);
    });
    sees(&stale, &["web-1"]).await;
    for other in others {
        other.kill().await.unwrap();
    }
    // Default reads fail, in time and as what may heal; heartbeats go to the agent alone and go on.
    let query = Query::service("web").unwrap();
    eventually("the loss", PATIENCE, || async {
        match plain.registry.instances(&query).await {
            Ok(found) => Err(format!("{found:?}")),
            Err(error) => {
                assert!(error.is_retryable(), "{error:?}");
                Ok(())
            }
        }
    })
    .await;
    let renewal = Renewal::new([(lease.key.clone(), HealthReport::default())]);
    plain.registry.renew(&lease.group, &renewal).await.unwrap();
    // Stale reads go on, and say what they are.
    eventually("an answer that says how old it is", PATIENCE, || async {
        let found = stale.registry.instances(&query).await.unwrap();
        assert_eq!(found.instances.len(), 1, "whatever it says, it hides nothing");
        match found.evidence {
            Evidence::Suspect(Suspicion::NoLeader) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    cluster.start().await.unwrap();
    sees(&plain, &["web-1"]).await;
}

// === ways to the agent ===

async fn tls(mut dev: Dev) {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let make = |arguments: &'static [&'static str]| {
        let (program, dir) = (dev.program.clone(), dir.clone());
        async move {
            let made = tokio::process::Command::new(program)
                .arg("tls")
                .args(arguments)
                .current_dir(dir.path())
                .output()
                .await
                .unwrap();
            assert!(made.status.success(), "{made:?}");
        }
    };
    make(&["ca", "create"]).await;
    make(&["cert", "create", "-server"]).await;
    make(&["cert", "create", "-client"]).await;
    let path = |name: &str| dir.path().join(name);
    let files = format!(
        "ca_file = \"{}\"\ncert_file = \"{}\"\nkey_file = \"{}\"\nverify_incoming = true\n",
        path("consul-agent-ca.pem").display(),
        path("dc1-server-consul-0.pem").display(),
        path("dc1-server-consul-0-key.pem").display(),
    );
    dev.more = if dev.is_old() {
        files
    } else {
        format!("tls {{ defaults {{ {files} }} }}")
    };
    let consul = Consul::start(dev).await;
    let port = consul.server.place().endpoints()[4].port();

    let mut config = ConsulConfig::at(format!("https://127.0.0.1:{port}"));
    config.tls.ca_file = Some(path("consul-agent-ca.pem"));
    config.tls.cert_file = Some(path("dc1-client-consul-0.pem"));
    config.tls.key_file = Some(path("dc1-client-consul-0-key.pem"));
    config.tls.server_name = Some("server.dc1.consul".to_owned());
    let query = Query::service("consul").unwrap();
    let found = backend(config.clone())
        .unwrap()
        .registry
        .instances(&query)
        .await
        .unwrap();
    assert_eq!(found.instances.len(), 1);

    let refused = |change: fn(&mut ConsulConfig)| {
        let (mut config, query) = (config.clone(), query.clone());
        change(&mut config);
        async move { backend(config)?.registry.instances(&query).await.map(drop) }
    };
    let wrong_name = refused(|config| config.tls.server_name = Some("server.dc2.consul".to_owned())).await;
    assert_eq!(wrong_name.unwrap_err().kind(), ErrorKind::ConfigInvalid);
    let other_authority = refused(|config| {
        config.tls.ca_file.clone_from(&config.tls.cert_file);
    });
    assert_eq!(
        other_authority.await.unwrap_err().kind(),
        ErrorKind::ConfigInvalid
    );
    let no_certificate = refused(|config| (config.tls.cert_file, config.tls.key_file) = (None, None)).await;
    assert_eq!(no_certificate.unwrap_err().kind(), ErrorKind::ConfigInvalid);
}

async fn socket(mut dev: Dev) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("consul.sock");
    dev.more = format!("addresses {{ http = \"127.0.0.1 unix://{}\" }}", path.display());
    let consul = Consul::start(dev).await;
    let backend = backend(ConsulConfig::at(format!("unix://{}", path.display()))).unwrap();
    backend.registry.register(&web("web-1")).await.unwrap();
    sees(&consul.backend(), &["web-1"]).await;
}
