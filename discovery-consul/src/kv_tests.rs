use std::time::Duration;

use discovery_core::Backend;
use discovery_testkit::proxy::http::{HttpProxy, Rule};
use serde_json::json;
use tokio::time::timeout;

use super::*;
use crate::testing::scripted;

const PATIENCE: Duration = Duration::from_secs(10);

fn key(text: &str) -> ConfigKey {
    ConfigKey::new(text).unwrap()
}

fn store(backend: &Backend) -> Arc<dyn ConfigStore> {
    backend.config.clone().unwrap()
}

async fn next(stream: &mut ConfigStream) -> ConfigEvent {
    timeout(PATIENCE, stream.next())
        .await
        .expect("in time")
        .expect("an event")
        .unwrap()
}

fn listing(rule: Rule, index: u64, pairs: &[(&str, u64)]) -> Rule {
    let body: serde_json::Value = pairs
        .iter()
        .map(|(key, index)| json!({ "Key": key, "Value": "dg==", "ModifyIndex": index }))
        .collect();
    let rule = if pairs.is_empty() {
        rule.reply(404, "")
    } else {
        rule.reply(200, body.to_string())
    };
    rule.set_header("x-consul-index", &index.to_string())
}

/// C-9: 404 is an answer to block on, with no pause.
#[tokio::test]
async fn c_9_an_absent_key_is_watched_like_any_other() {
    let (server, backend) = scripted();
    let path = "/v1/kv/app/";
    server.rule(listing(Rule::get(path).times(1), 3, &[]));
    server.rule(listing(
        Rule::get(path).times(1),
        5,
        &[("app/b", 5), ("app/a", 4)],
    ));
    server.rule(listing(Rule::get(path).times(1), 6, &[("app/a", 4)]));
    let mut stream = store(&backend).watch("app/", None);
    assert_eq!(next(&mut stream).await.change, ConfigChange::Reset(Vec::new()));
    for name in ["app/a", "app/b"] {
        let ConfigChange::Put(entry) = next(&mut stream).await.change else {
            panic!("{name} was written");
        };
        assert_eq!(
            (entry.key, &*entry.value),
            (key(name), &b"v"[..]),
            "in the order of writing"
        );
    }
    let gone = next(&mut stream).await;
    assert_eq!(
        (gone.change, gone.cursor),
        (ConfigChange::Delete(key("app/b")), Some(Cursor::new("6")))
    );
    let asked: Vec<_> = server
        .requests_matching(path)
        .iter()
        .map(|r| r.query("index"))
        .collect();
    assert_eq!(asked[..3], [None, Some("3".to_owned()), Some("5".to_owned())]);
}

/// C-14
#[tokio::test]
async fn c_14_keys_that_servers_take_for_others_are_refused_unsent() {
    let (server, backend) = scripted();
    for bad in ["a//b", "/a", "a/../b", "./a", " a", "a ", "a\nb"] {
        let odd = ConfigKey::observed(bad);
        let store = store(&backend);
        let kinds = [
            store.get(&odd).await.unwrap_err().kind(),
            store.put(&odd, b"", PutMode::Upsert).await.unwrap_err().kind(),
            store.delete(&odd, None).await.unwrap_err().kind(),
            store.list(bad).await.unwrap_err().kind(),
            store.watch(bad, None).next().await.unwrap().unwrap_err().kind(),
        ];
        assert!(
            kinds.iter().all(|kind| *kind == ErrorKind::InvalidInput),
            "{bad:?} {kinds:?}"
        );
    }
    assert!(server.requests_matching("*").is_empty());
}

fn txn(server: &HttpProxy, status: u16, body: &serde_json::Value) {
    server.clear_rules();
    server.rule(Rule::any("/v1/txn").reply(status, body.to_string()));
}

#[tokio::test]
async fn conflicts_and_missing_rights_of_a_transaction_are_told_apart() {
    let (server, backend) = scripted();
    let (store, key) = (store(&backend), key("a/b"));
    txn(
        &server,
        200,
        &json!({ "Results": [{ "KV": { "Key": "a/b", "Value": null, "ModifyIndex": 9 } }], "Errors": null }),
    );
    assert_eq!(
        store.put(&key, b"v", PutMode::Create).await.unwrap(),
        Version::new("9")
    );
    let body: serde_json::Value =
        serde_json::from_slice(&server.requests_matching("/v1/txn")[0].body).unwrap();
    assert_eq!(
        body,
        json!([{ "KV": { "Verb": "cas", "Key": "a/b", "Value": "dg==", "Index": 0 } }])
    );

    let failed =
        |index: u64, what: &str| json!({ "Results": null, "Errors": [{ "OpIndex": index, "What": what }] });
    txn(
        &server,
        409,
        &failed(0, "failed to set key \"a/b\", index is stale"),
    );
    let stale = PutMode::IfVersion(Version::new("7"));
    assert_eq!(
        store.put(&key, b"v", stale).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    txn(&server, 409, &failed(0, "Permission denied"));
    let denied = store.put(&key, b"v", PutMode::Upsert).await.unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
    txn(&server, 409, &failed(0, "key \"a/b\" doesn't exist"));
    assert!(!store.delete(&key, None).await.unwrap());
    txn(
        &server,
        409,
        &failed(1, "failed to delete key \"a/b\", index is stale"),
    );
    let conflict = store.delete(&key, Some(Version::new("7"))).await.unwrap_err();
    assert_eq!(conflict.kind(), ErrorKind::Conflict);
    let alien = store.delete(&key, Some(Version::new("x"))).await.unwrap_err();
    assert_eq!(alien.kind(), ErrorKind::Conflict);
}
