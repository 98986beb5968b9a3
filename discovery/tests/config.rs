//! What a user gets for what they configure: a client, or an error that says where and what to do.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not know as such"
)]

use std::{
    collections::BTreeMap,
    env,
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

use discovery::{
    Check, Client, ClientConfig, Error, ErrorKind, Query, Registration, Source, builder_for,
    builder_from_configs,
    config::{HighAvailability, Loader},
    explain, loader,
    memory::MemoryStore,
    pick::{Balancing, FailurePercentage, Locality, Outlier, SlowStart, Subset, SuccessRate, Verdict},
    resilience::CircuitState,
};
use discovery_testkit::chaos::Chaos;
use tempfile::TempDir;

/// The `high_availability:` block of the specification, and a registry.
const SPECIFICATION: &str = r#"memory: {}

# Best practices configuration
high_availability:
  service_registration:
    retry_attempts: 3
    retry_delay: "5s"
    register_on_startup: true
    deregister_on_shutdown: true

  health_checks:
    multiple_checks: true
    check_intervals:
      critical_services: "10s"
      standard_services: "30s"
    timeout_configuration:
      http_checks: "5s"
      tcp_checks: "3s"
      script_checks: "10s"

  discovery:
    cache_configuration: true
    failover_mechanisms: true
    load_balancing: "weighted_round_robin"
    circuit_breakers: true
"#;

/// A file with this text, in a directory that goes when dropped.
fn file(text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("discovery.yaml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

/// Message and hint, as a program shows them; the directory of the file is left out.
fn told(error: &Error, dir: &TempDir) -> String {
    let place = format!("{}/", dir.path().display());
    let text = match error.hint() {
        Some(hint) => format!("{error}\nhint: {hint}"),
        None => error.to_string(),
    };
    text.replace(&place, "")
}

/// Kind, message and hint of what is wrong with a file of this text.
fn fault(text: &str) -> (ErrorKind, String) {
    let (dir, path) = file(text);
    let error = Client::from_config(&path).unwrap_err();
    (error.kind(), told(&error, &dir))
}

fn block(yaml: &str) -> HighAvailability {
    let text = format!("high_availability: {yaml}");
    let loader = Loader::new(&[HighAvailability::BLOCK])
        .yaml("test.yaml", &text)
        .unwrap();
    loader.block("high_availability").unwrap()
}

#[tokio::test]
async fn a_backend_that_is_not_built_in_names_its_feature() {
    let absent: &[(&str, &str)] = &[
        #[cfg(not(feature = "consul"))]
        ("consul", "consul"),
        #[cfg(not(feature = "etcd"))]
        ("etcd", "etcd"),
        #[cfg(not(feature = "k8s"))]
        ("kubernetes_discovery", "k8s"),
        #[cfg(not(feature = "eureka"))]
        ("eureka", "eureka"),
        #[cfg(not(feature = "dns"))]
        ("dns_discovery", "dns"),
        #[cfg(not(feature = "local"))]
        ("local", "local"),
    ];
    for (block, feature) in absent {
        let error = Client::from_uri(&format!("{feature}://host:1234?dc=dc1")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert_eq!(
            error.to_string(),
            format!("scheme `{feature}`: built without feature `{feature}`")
        );
        let hint = format!("rebuild with `--features {feature}`, or remove it");
        assert_eq!(error.hint(), Some(hint.as_str()));

        let (kind, text) = fault(&format!("client: {{}}\n{block}:\n  address: \"h:1\"\n"));
        assert_eq!(kind, ErrorKind::Unsupported, "{text}");
        let carets = "^".repeat(block.len());
        assert_eq!(
            text,
            format!(
                "discovery.yaml:2:1: {block}: built without feature `{feature}`\n2 | {block}:\n  | {carets}\nhint: {hint}"
            )
        );
    }
}

#[tokio::test]
async fn a_uri_that_makes_no_sense_says_why() {
    for (uri, message, hint) in [
        (
            "memry://",
            "unknown scheme `memry`",
            Some("did you mean `memory`?"),
        ),
        (
            "localhost:8500",
            "not a URI: `://` is missing",
            Some("write it as `scheme://host:port?key=value`, or `memory://`"),
        ),
        (
            "memory:///path",
            "memory: a URI of this scheme takes no path",
            None,
        ),
    ] {
        let error = Client::from_uri(uri).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{uri}: {error}");
        assert_eq!((error.to_string().as_str(), error.hint()), (message, hint));
    }
    let error = Client::from_uri("memory://u:hunter2@host").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    let error = Client::from_uri("memory://x?tll=5s").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert_eq!(error.hint(), Some("did you mean `ttl`?"), "{error}");
}

#[tokio::test]
async fn an_unknown_key_is_shown_with_its_place_and_what_was_meant() {
    let (kind, text) = fault("memory: {}\nclient:\n  timeuot: \"2s\"\n");
    assert_eq!(kind, ErrorKind::ConfigInvalid);
    assert_eq!(
        text,
        "discovery.yaml:3:3: client.timeuot: unknown key\n3 |   timeuot: \"2s\"\n  |   ^^^^^^^\nhint: did you mean `timeout`?"
    );
    let (kind, text) = fault("memory: {}\nhigh_availabilty: {}\n");
    assert_eq!(kind, ErrorKind::ConfigInvalid);
    assert_eq!(
        text,
        "discovery.yaml:2:1: high_availabilty: unknown block\n2 | high_availabilty: {}\n  | ^^^^^^^^^^^^^^^^\nhint: did you mean `high_availability`?"
    );
}

#[tokio::test]
async fn a_bad_value_is_shown_with_its_place() {
    let (kind, text) = fault("memory: {}\nclient:\n  timeout: \"2 parsecs\"\n");
    assert_eq!(kind, ErrorKind::ConfigInvalid);
    assert_eq!(
        text,
        "discovery.yaml:3:12: client.timeout: bad duration \"2 parsecs\": write whole numbers with units, largest first, \
         as in \"500ms\", \"10s\", \"1h30m\" or \"2d\"\n3 |   timeout: \"2 parsecs\"\n  |            ^^^^^^^^^^^"
    );
    for (text, says) in [
        (
            "memory: {}\nclient: { load_balancing: fastest }\n",
            "unknown balancing strategy",
        ),
        (
            "memory: { ttl: 10ms }\n",
            "invalid settings of the memory backend",
        ),
        ("memory: { log_capacity: many }\n", "memory.log_capacity"),
        ("memory: {}\nclient: { linger: 0s }\n", "client.linger"),
        ("memory: [\n", "discovery.yaml:"),
        ("- memory\n", "expected a mapping of blocks"),
    ] {
        let (kind, told) = fault(text);
        assert_eq!(kind, ErrorKind::ConfigInvalid, "{told}");
        assert!(told.contains(says), "{told}");
    }
}

#[tokio::test]
async fn a_file_must_name_a_backend() {
    for text in ["", "client: { timeout: 1s }\n"] {
        let (kind, told) = fault(text);
        assert_eq!(kind, ErrorKind::ConfigInvalid, "{told}");
        assert!(told.starts_with("no backend is configured"), "{text:?}: {told}");
        assert!(told.contains("hint: add a block for one of: memory"), "{told}");
    }
    // Its name alone is enough.
    let (_dir, path) = file("memory:\n");
    assert_eq!(Client::from_config(&path).unwrap().info().scheme, "memory");
    let dir = tempfile::tempdir().unwrap();
    let error = Client::from_config(dir.path().join("none.yaml")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert!(
        told(&error, &dir).starts_with("configuration file none.yaml cannot be read: "),
        "{error}"
    );
}

#[tokio::test]
async fn a_max_stale_below_what_the_backend_confirms_is_refused() {
    // The memory registry confirms every five seconds unless told otherwise.
    let text = "memory: {}\nclient: { max_stale: 1s }\n";
    let (kind, told) = fault(text);
    assert_eq!(kind, ErrorKind::ConfigInvalid);
    assert_eq!(
        told,
        "memory: `max_stale` is shorter than the backend confirms its answers (max_stale: 1s)\nhint: use 5s or more"
    );

    let client = Client::from_uri("memory://").unwrap();
    let query = Query::service("api").unwrap().max_stale(Duration::from_secs(4));
    for error in [
        client.query(&query).unwrap_err(),
        client.lookup(&query).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error}");
        assert_eq!(error.hint(), Some("use 5s or more"));
    }
    let query = query.max_stale(Duration::from_secs(5));
    assert!(client.query(&query).is_ok());
}

#[tokio::test]
async fn names_that_registries_could_confuse_are_refused() {
    let client = Client::from_uri("memory://").unwrap();
    for bad in ["a/b", "", "..", "a\nb", "a\u{0}b", " a"] {
        let errors = [
            client.service(bad).unwrap_err(),
            client.health(bad).await.unwrap_err(),
            Registration::builder(bad, "127.0.0.1", 80).build().unwrap_err(),
            Registration::builder("api", "127.0.0.1", 80)
                .id(bad)
                .build()
                .unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad:?}: {error}");
            assert!(error.hint().is_some(), "{bad:?}: {error}");
            assert!(!error.to_string().contains(char::is_control), "{error}");
        }
    }
}

#[tokio::test]
async fn the_block_of_the_specification_is_accepted_and_balances_by_weight() {
    let (_dir, path) = file(SPECIFICATION);
    let client = Client::from_config(&path).unwrap();
    for (port, weight) in [(8001, 3), (8002, 1)] {
        let registration = Registration::builder("api", "127.0.0.1", port)
            .weight(weight)
            .build()
            .unwrap();
        client.register(registration).await.unwrap();
    }
    let api = client.service("api").unwrap();
    // The watch may show the two one after the other.
    let mut changes = api.subscribe();
    while changes.next().await.unwrap().instances.len() < 2 {}
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    for _ in 0..400 {
        *counts.entry(api.acquire().unwrap().port).or_default() += 1;
    }
    assert_eq!(counts, BTreeMap::from([(8001, 300), (8002, 100)]));
    client.shutdown(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test]
async fn a_client_balances_one_after_the_other_where_nobody_says_otherwise() {
    let (_dir, path) = file("memory: {}\n");
    let client = Client::from_config(&path).unwrap();
    for (port, weight) in [(8001, 3), (8002, 1)] {
        let registration = Registration::builder("api", "127.0.0.1", port)
            .weight(weight)
            .build()
            .unwrap();
        client.register(registration).await.unwrap();
    }
    let api = client.service("api").unwrap();
    let mut changes = api.subscribe();
    while changes.next().await.unwrap().instances.len() < 2 {}
    let first: Vec<_> = (0..100).map(|_| api.acquire().unwrap().port).collect();
    assert_eq!(first.iter().filter(|port| **port == 8001).count(), 50);
}

#[tokio::test(start_paused = true)]
async fn the_block_says_how_often_a_first_registration_is_tried() {
    for (attempts, yaml) in [
        (3, "{}"),
        (
            5,
            "{ service_registration: { retry_attempts: 5, retry_delay: 1s } }",
        ),
    ] {
        let (backend, chaos) = Chaos::wrap(MemoryStore::new().backend());
        let client = Client::builder(backend)
            .high_availability(&block(yaml))
            .unwrap()
            .build()
            .unwrap();
        chaos.cut(ErrorKind::Unavailable);
        let registration = Registration::builder("api", "127.0.0.1", 80).build().unwrap();
        let error = client.register(registration).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(chaos.calls("register"), attempts, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_block_switches_cache_circuit_checks_and_withdrawal() {
    let store = MemoryStore::new();
    let (backend, chaos) = Chaos::wrap(store.backend());
    let yaml = "{ service_registration: { deregister_on_shutdown: false }, health_checks: { multiple_checks: false }, \
                discovery: { cache_configuration: false, circuit_breakers: false } }";
    let client = Client::builder(backend)
        .high_availability(&block(yaml))
        .unwrap()
        .build()
        .unwrap();
    let base = || Registration::builder("api", "127.0.0.1", 80);

    let two = base()
        .check(Check::tcp("127.0.0.1:80"))
        .check(Check::tcp("127.0.0.1:81").named("other"));
    let error = client.register(two.build().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(
        error
            .hint()
            .unwrap()
            .contains("high_availability.health_checks.multiple_checks")
    );

    client.register(base().build().unwrap()).await.unwrap();
    let query = Query::service("api").unwrap();
    for _ in 0..2 {
        assert_eq!(client.lookup(&query).await.unwrap().source, Source::Live);
    }
    assert_eq!(chaos.calls("instances"), 2);

    chaos.cut(ErrorKind::Unavailable);
    for _ in 0..20 {
        client.lookup(&query).await.unwrap_err();
    }
    assert_eq!(client.status().await.circuit, CircuitState::Closed);
    chaos.heal();

    client.shutdown(Duration::from_secs(1)).await.unwrap();
    assert_eq!(chaos.calls("deregister"), 0);
    let left = store.backend().registry.instances(&query).await.unwrap();
    assert_eq!(left.instances.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_goes_around_a_strategy_is_set_by_name() {
    let (_dir, path) = file(
        r#"memory:
client:
  load_balancing: "peak_ewma"
  balancing:
    tags: ["v2"]
    meta: { shard: "1" }
    subset: { client: "host-1", size: 10 }
    locality: { datacenter: "dc1", zone: "a" }
    slow_start: { window: "30s" }
    outlier:
      consecutive_failures: 3
      base_ejection: "10s"
      failure_percentage: {}
      success_rate: { deviations: 0 }
    panic_below: 30
    max_in_flight: 100
"#,
    );
    let read: ClientConfig = loader().file(&path).unwrap().block("client").unwrap();
    let mut outlier = Outlier::default();
    outlier.consecutive_failures = 3;
    outlier.base_ejection = Duration::from_secs(10);
    outlier.failure_percentage = Some(FailurePercentage::default());
    outlier.success_rate = Some(SuccessRate {
        deviations: 0.0,
        ..SuccessRate::default()
    });
    let wanted = Balancing::default()
        .tag("v2")
        .meta("shard", "1")
        .subset(Subset::new("host-1", 10))
        .locality(Locality::new(Some("dc1"), Some("a")))
        .slow_start(SlowStart::new(Duration::from_secs(30)))
        .outlier(outlier)
        .panic_below(30)
        .max_in_flight(100);
    assert_eq!(read.balancing, wanted);

    let client = Client::from_config(&path).unwrap();
    for (port, shard) in [(8001, "1"), (8002, "2")] {
        let registration = Registration::builder("api", "127.0.0.1", port)
            .tag("v2")
            .meta("shard", shard);
        client.register(registration.build().unwrap()).await.unwrap();
    }
    let mut changes = client.service("api").unwrap().subscribe();
    while changes.next().await.unwrap().instances.len() < 2 {}
    let explained = client.explain("api").await.unwrap();
    let verdict = |port: u16| {
        explained
            .iter()
            .find(|one| one.instance.port == port)
            .unwrap()
            .verdict
    };
    assert_eq!((verdict(8001), verdict(8002)), (Verdict::Used, Verdict::Filtered));
    client.shutdown(Duration::from_secs(5)).await.unwrap();

    for (text, says) in [
        ("outlier: { consecutive: 3 }", "consecutive_failures"),
        ("subset: { size: 3 }", "client"),
        ("slow_start: { window: 0s }", "client.balancing.slow_start.window"),
        ("panic_below: 300", "client.balancing.panic_below"),
    ] {
        let (kind, told) = fault(&format!("memory:\nclient:\n  balancing:\n    {text}\n"));
        assert_eq!(kind, ErrorKind::ConfigInvalid, "{told}");
        assert!(told.contains(says), "{told}");
    }
}

#[test]
fn explain_tells_every_setting_and_its_origin() {
    let (_dir, path) = file("memory:\n  name: \"explained\"\nclient:\n  timeout: \"2s\"\n");
    let lines: Vec<_> = explain(&path).unwrap().iter().map(ToString::to_string).collect();
    let place = path.display();
    for line in [
        format!("client.timeout = \"2s\"  ({place}:4:12)"),
        format!("memory.name = \"explained\"  ({place}:2:9)"),
        "client.linger = \"30s\"  (default)".to_owned(),
    ] {
        assert!(lines.contains(&line), "no {line} in {lines:#?}");
    }
    // Blocks that nothing mentions are not in force.
    assert!(
        !lines
            .iter()
            .any(|line| line.starts_with("high_availability") || line.starts_with("consul"))
    );
}

/// What a block leaves out counts as well, in lists and below names too.
#[test]
fn explain_tells_what_every_block_leaves_out() {
    let text = r#"memory:
service_definition:
  name: "api"
  address: "{{ .host_ip }}"
  port: 8080
  health_checks:
    - { name: "a", tcp: "127.0.0.1:1" }
health_checks:
  api:
    checks:
      - { name: "b", type: "http", url: "http://{{ .address }}/" }
datacenter_federation:
  datacenters: { dc1: { consul_address: "h:8500" } }
dynamic_configuration: { consul_kv: { enabled: true } }
acl_policies: { read: { rules: "" } }
"#;
    let (_dir, path) = file(text);
    let lines: Vec<_> = explain(&path).unwrap().iter().map(ToString::to_string).collect();
    let place = path.display();
    for line in [
        "memory.ttl = \"30s\"  (default)".to_owned(),
        format!("service_definition.address = \"{{{{ .host_ip }}}}\"  ({place}:4:12)"),
        format!("service_definition.health_checks[0].tcp = \"127.0.0.1:1\"  ({place}:7:25)"),
        format!("health_checks.api.checks[0].type = \"http\"  ({place}:11:28)"),
        "health_checks.api.checks[0].interval = \"10s\"  (default)".to_owned(),
        "health_checks.api.failure_threshold = 3  (default)".to_owned(),
        "datacenter_federation.datacenters.dc1.primary = false  (default)".to_owned(),
        "dynamic_configuration.consul_kv.polling.interval = \"30s\"  (default)".to_owned(),
        "acl_policies.read.description = \"\"  (default)".to_owned(),
    ] {
        assert!(lines.contains(&line), "no {line} in {lines:#?}");
    }
}

#[tokio::test]
async fn of_several_files_the_later_wins_and_each_setting_names_its_own() {
    let (_one, base) = file("memory: { name: base, ttl: 20s }\nclient: { timeout: 2s, linger: 3s }\n");
    let (_two, over) = file("memory:\n  name: over\nclient:\n  linger: 4s\n");
    let builder = builder_from_configs([&base, &over]).unwrap();
    assert_eq!(builder.build().unwrap().info().address, "over");
    let builder = builder_from_configs([&over, &base]).unwrap();
    assert_eq!(builder.build().unwrap().info().address, "base");

    let settings = discovery::loaded([&base, &over]).unwrap().explain();
    let lines: Vec<_> = settings.iter().map(ToString::to_string).collect();
    for line in [
        format!("memory.name = \"over\"  ({}:2:9)", over.display()),
        format!("memory.ttl = \"20s\"  ({}:1:28)", base.display()),
        format!("client.timeout = \"2s\"  ({}:2:20)", base.display()),
        format!("client.linger = \"4s\"  ({}:4:11)", over.display()),
    ] {
        assert!(lines.contains(&line), "no {line} in {lines:#?}");
    }
    // A mistake names the file it is in; what a second file adds may make two backends.
    let (_three, bad) = file("client: { linger: soon }\n");
    let error = builder_from_configs([&base, &bad]).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("{}:1:19: ", bad.display())),
        "{error}"
    );
    assert_eq!(
        builder_from_configs([] as [&str; 0]).unwrap_err().kind(),
        ErrorKind::ConfigInvalid
    );
}

#[test]
fn a_client_needs_a_runtime_and_says_so() {
    let error = Client::from_uri("memory://").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert_eq!(
        error.hint(),
        Some("build the client inside `#[tokio::main]` or `Runtime::block_on`")
    );
}

// === the environment: read by a process of its own, since a test cannot change its own safely ===

/// What `from_env` answers, on stdout; run by `in_environment` only.
#[tokio::test]
async fn child() {
    if env::var_os("CHILD_OF_CONFIG_TEST").is_none() {
        return;
    }
    match Client::from_env() {
        Ok(client) => println!("client of {} ({})", client.info().scheme, client.info().address),
        Err(error) => println!("{}: {error}; {}", error.kind(), error.hint().unwrap_or("-")),
    }
}

/// What `from_env` answers in a fresh directory with these variables and this `discovery.yaml`.
fn in_environment(vars: &[(&str, &str)], yaml: Option<&str>) -> String {
    let dir = tempfile::tempdir().unwrap();
    if let Some(text) = yaml {
        std::fs::write(dir.path().join("discovery.yaml"), text).unwrap();
    }
    let Output { stdout, stderr, .. } = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .current_dir(dir.path())
        .env_clear()
        .env("XDG_CONFIG_DIRS", dir.path())
        .env("CHILD_OF_CONFIG_TEST", "1")
        .envs(vars.iter().copied())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&stdout);
    let line = stdout
        .lines()
        .find(|line| line.contains("client of ") || line.contains(": "));
    line.unwrap_or_else(|| panic!("{stdout}{}", String::from_utf8_lossy(&stderr)))
        .to_owned()
}

#[test]
fn the_environment_names_the_backend_else_the_file_here_does() {
    let uri = ("DISCOVERY_URI", "memory://shared");
    assert!(in_environment(&[uri], None).ends_with("client of memory (shared)"));
    let yaml = Some("memory: { name: here }\n");
    assert!(in_environment(&[], yaml).ends_with("client of memory (here)"));
    // The environment goes before the file, and the URI before both.
    let name = ("DISCOVERY_MEMORY_NAME", "there");
    assert!(in_environment(&[name], yaml).ends_with("client of memory (there)"));
    assert!(in_environment(&[name, uri], yaml).ends_with("client of memory (shared)"));
}

/// `CONSUL_HTTP_ADDR` is often there for other programs: a file that names another backend is not ambiguous.
#[cfg(feature = "consul")]
#[test]
fn consul_is_named_by_uri_file_or_its_own_environment() {
    let address = ("CONSUL_HTTP_ADDR", "agent:18500");
    assert!(
        in_environment(&[address], Some("memory: { name: here }\n")).ends_with("client of memory (here)")
    );
    assert!(in_environment(&[address], Some("consul:\n")).ends_with("client of consul (agent:18500)"));
    let uri = ("DISCOVERY_URI", "consul://other:8500?dc=dc1&token_env=NONE");
    assert!(in_environment(&[address, uri], None).ends_with("client of consul (other:8500)"));
    let token = ("CONSUL_HTTP_TOKEN", "hunter2");
    let answer = in_environment(&[("DISCOVERY_URI", "consul://h?dcc=x"), token], None);
    assert!(
        answer.contains("config_invalid: ") && !answer.contains("hunter2"),
        "{answer}"
    );
}

#[cfg(feature = "local")]
#[test]
fn a_local_file_is_named_by_uri_file_or_environment() {
    let state = ("XDG_STATE_HOME", "/nowhere/state");
    let own = "client of local (/nowhere/state/system-control/discovery/local.db)";
    for uri in ["local://", "local:///", "local://?lifetime=detached"] {
        assert!(
            in_environment(&[("DISCOVERY_URI", uri), state], None).ends_with(own),
            "{uri}"
        );
    }
    let uri = ("DISCOVERY_URI", "local:///nowhere/x%20y.db");
    assert!(in_environment(&[uri, state], None).ends_with("client of local (/nowhere/x y.db)"));
    let path = ("DISCOVERY_LOCAL_PATH", "/nowhere/z.db");
    assert!(in_environment(&[path, state], Some("local:\n")).ends_with("client of local (/nowhere/z.db)"));
    for mistake in [
        "local://host/x.db",
        "local:///nowhere/",
        "local:///x.db?lifetime=eternal",
    ] {
        let answer = in_environment(&[("DISCOVERY_URI", mistake)], None);
        assert!(answer.contains("config_invalid: "), "{mistake}: {answer}");
    }
}

/// The variables of etcdctl work, and yield to what is given explicitly.
#[cfg(feature = "etcd")]
#[test]
fn etcd_is_named_by_uri_file_or_its_own_environment() {
    let endpoints = ("ETCDCTL_ENDPOINTS", "a:2379,b:2379");
    assert!(in_environment(&[endpoints], Some("etcd:\n")).ends_with("client of etcd (a:2379,b:2379)"));
    let uri = ("DISCOVERY_URI", "etcd://other:2379");
    assert!(in_environment(&[endpoints, uri], None).ends_with("client of etcd (other:2379)"));
    let user = ("ETCDCTL_USER", "root:hunter2");
    let answer = in_environment(&[("DISCOVERY_URI", "etcd://h?nope=x"), user], None);
    assert!(
        answer.contains("config_invalid: ") && !answer.contains("hunter2"),
        "{answer}"
    );
}

#[test]
fn mistakes_in_the_environment_are_named() {
    assert!(in_environment(&[], None).ends_with(
        "config_invalid: nothing names a backend; set DISCOVERY_URI, for example to memory://, or write a discovery.yaml"
    ));
    let uri = ("DISCOVERY_URI", "memory://");
    assert!(in_environment(&[uri, ("DISCOVERY_CLIENT_TIMEUOT", "1s")], None).ends_with(
        "config_invalid: unknown environment variable DISCOVERY_CLIENT_TIMEUOT; did you mean DISCOVERY_CLIENT_TIMEOUT?"
    ));
    let answer = in_environment(&[uri, ("DISCOVERY_CLIENT_TIMEOUT", "soon")], None);
    assert!(answer.contains("DISCOVERY_CLIENT_TIMEOUT"), "{answer}");
    assert!(answer.contains("bad duration \"soon\""), "{answer}");
    #[cfg(not(feature = "eureka"))]
    {
        let answer = in_environment(&[uri, ("DISCOVERY_EUREKA_TOKEN", "hunter2")], None);
        assert!(answer.contains("unsupported: "), "{answer}");
        assert!(!answer.contains("hunter2"), "{answer}");
    }
    // Variables of our own tests are no mistake.
    assert!(
        in_environment(&[uri, ("DISCOVERY_TEST_TIER", "slow")], None).ends_with("client of memory (private)")
    );
}

#[tokio::test]
async fn code_alone_names_backend_servers_and_settings() {
    let client = builder_for(
        "memory",
        "by-code",
        [("client.timeout", "2s".into()), (".ttl", "9s".into())],
    )
    .unwrap()
    .build()
    .unwrap();
    assert_eq!(client.info().address, "by-code");

    let failing = [
        ("consull", "", ""),
        ("memory", "", ".tll"),
        ("memory", "", "client.tiemout"),
        #[cfg(not(feature = "eureka"))]
        ("eureka", "", ""),
    ];
    for (backend, servers, path) in failing {
        let settings = (!path.is_empty()).then(|| (path, "1s".into()));
        let error = builder_for(backend, servers, settings).unwrap_err();
        assert!(error.hint().is_some(), "{error:?}");
    }
}
