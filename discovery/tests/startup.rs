//! What a configuration declares is registered when its client starts.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not know as such"
)]

use std::time::Duration;

use discovery::{
    Client, ClientBuilder, ErrorKind, Query, Result, Status, builder_from, config::Loader, loader,
    memory::MemoryStore,
};
use discovery_testkit::{chaos::Chaos, eventually};

const DEFINITION: &str = r#"
service_definition:
  name: "api"
  id: "api-{{ .instance_id }}"
  address: "127.0.0.1"
  port: 8080
  tags: ["{{ .version }}"]
  ttl: "2s"
"#;

fn loaded(text: &str) -> Loader {
    loader().yaml("discovery.yaml", text).unwrap()
}

fn builder(text: &str) -> Result<ClientBuilder> {
    let builder = builder_from(&loaded(text), "memory")?;
    Ok(builder
        .variable("instance_id", "node-1")
        .variable("version", "2.1.0"))
}

async fn ids(client: &Client) -> Vec<String> {
    let snapshot = client
        .registry()
        .instances(&Query::service("api").unwrap())
        .await
        .unwrap();
    snapshot
        .instances
        .iter()
        .map(|one| one.key.id.to_string())
        .collect()
}

#[tokio::test]
async fn auto_register_registers_the_definition_when_the_client_starts() {
    let text = format!("memory: {{}}\nclient: {{ auto_register: true }}\n{DEFINITION}");
    let client = builder(&text).unwrap().build().unwrap();
    assert_eq!(client.declares().unwrap().as_str(), "api-node-1");
    let registered = client.declared().await.unwrap().unwrap();
    assert_eq!(registered.id().as_str(), "api-node-1");
    let instance = client
        .registry()
        .instance(registered.key())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((&*instance.tags[0], instance.status), ("2.1.0", Status::Passing));
    // It is a registration of the client like any other.
    assert_eq!(client.status().await.registrations.len(), 1);
    client.deregister(registered.id()).await.unwrap();
    assert!(ids(&client).await.is_empty());
    client.shutdown(Duration::from_secs(5)).await.unwrap();
    assert_eq!(client.declared().await.unwrap_err().kind(), ErrorKind::Closed);
}

/// One of the blocks must ask for it, none may be against it, and `client:` has the last word.
#[tokio::test]
async fn the_blocks_say_whether_it_is_registered() {
    let on = "{ service_registration: { register_on_startup: true } }";
    let off = "{ service_registration: { register_on_startup: false } }";
    for (blocks, registers) in [
        (String::new(), false),
        (format!("high_availability: {on}"), true),
        // The block counts with all its defaults once anything in it is mentioned.
        (
            "high_availability: { discovery: { circuit_breakers: true } }".to_owned(),
            true,
        ),
        (format!("high_availability: {off}"), false),
        (
            format!("high_availability: {off}\nclient: {{ auto_register: true }}"),
            true,
        ),
        (
            format!("high_availability: {on}\nclient: {{ auto_register: false }}"),
            false,
        ),
    ] {
        let builder = builder(&format!("memory: {{}}\n{blocks}\n{DEFINITION}")).unwrap();
        let client = builder.clone().build().unwrap();
        assert_eq!(client.declared().await.unwrap().is_some(), registers, "{blocks}");
        assert_eq!(ids(&client).await.len(), usize::from(registers), "{blocks}");
        // The program goes before all of them.
        let client = builder.register_on_startup(!registers).build().unwrap();
        assert_eq!(client.declares().is_some(), !registers, "{blocks}");
    }
}

#[tokio::test]
async fn a_shutdown_withdraws_it_unless_the_blocks_say_otherwise() {
    for (keep, left) in [(false, 0), (true, 1)] {
        let store = MemoryStore::new();
        let withdraw = !keep;
        let text = format!(
            "memory: {{}}\nhigh_availability: {{ service_registration: {{ deregister_on_shutdown: {withdraw} }} }}\n{DEFINITION}"
        );
        let backend = store.backend();
        let client = builder(&text).unwrap().map_backend(|_| backend).build().unwrap();
        client.declared().await.unwrap().unwrap();
        client.shutdown(Duration::from_secs(5)).await.unwrap();
        let query = Query::service("api").unwrap();
        let snapshot = store.backend().registry.instances(&query).await.unwrap();
        assert_eq!(snapshot.instances.len(), left, "{keep}");
    }
}

/// A program that starts while the registry is down is registered once it is back.
#[tokio::test(start_paused = true)]
async fn an_outage_at_the_start_is_outlasted() {
    let (backend, chaos) = Chaos::wrap(MemoryStore::new().backend());
    chaos.cut(ErrorKind::Unavailable);
    let text = format!("memory: {{}}\nclient: {{ auto_register: true }}\n{DEFINITION}");
    let client = builder(&text).unwrap().map_backend(|_| backend).build().unwrap();
    let error = client.declared().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(ids_or_none(&client).await.is_empty());
    let tried = chaos.calls("register");
    eventually("further attempts", Duration::from_secs(120), || async {
        chaos.calls("register") > tried + 3
    })
    .await;
    chaos.heal();
    eventually("the registration", Duration::from_secs(60), || async {
        client.declared().await.map(drop)
    })
    .await;
    assert_eq!(ids(&client).await, ["api-node-1"]);
    client.shutdown(Duration::from_secs(5)).await.unwrap();
}

async fn ids_or_none(client: &Client) -> Vec<String> {
    match client.registry().instances(&Query::service("api").unwrap()).await {
        Ok(snapshot) => snapshot
            .instances
            .iter()
            .map(|one| one.key.id.to_string())
            .collect(),
        Err(_) => Vec::new(),
    }
}

/// A shutdown in the middle of an outage ends the attempts.
#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_the_attempts() {
    let (backend, chaos) = Chaos::wrap(MemoryStore::new().backend());
    chaos.cut(ErrorKind::Unavailable);
    let text = format!("memory: {{}}\nclient: {{ auto_register: true }}\n{DEFINITION}");
    let client = builder(&text).unwrap().map_backend(|_| backend).build().unwrap();
    client.declared().await.unwrap_err();
    client.shutdown(Duration::from_secs(5)).await.unwrap();
    let tried = chaos.calls("register");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(chaos.calls("register"), tried);
}

#[tokio::test]
async fn what_makes_no_sense_is_told_when_the_client_is_built_or_declared() {
    let text = format!("memory: {{}}\nclient: {{ auto_register: true }}\n{DEFINITION}");
    let error = builder_from(&loaded(&text), "memory")
        .unwrap()
        .build()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    // The host says what `instance_id` is; nobody says which version this is.
    let expected =
        "discovery.yaml:9:10: service_definition.tags[0]: nothing says what `{{ .version }}` stands for\n";
    assert!(error.to_string().starts_with(expected), "{error}");
    assert!(
        error.hint().unwrap().contains("environment variable VERSION"),
        "{error:?}"
    );

    let no_port = text.replace("8080", "0");
    let error = builder(&no_port).unwrap().build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("block: service_definition"), "{error}");

    // What only a registry can look at, no client of this backend can register, however often it tries.
    let script = format!("{text}  health_checks: [{{ name: a, script: [\"true\"] }}]\n");
    let client = builder(&script).unwrap().build().unwrap();
    assert_eq!(
        client.declared().await.unwrap_err().kind(),
        ErrorKind::Unsupported
    );
}
