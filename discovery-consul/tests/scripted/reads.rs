//! Reads and watches.

use std::time::Duration;

use discovery_core::{Change, ErrorKind, Query, Result, Source, WatchEvent, WatchStream};
use discovery_testkit::{eventually, proxy::http::Rule};
use futures::{StreamExt, future::join_all};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{PATIENCE, WEB, asked, beyond, client, entry, quiet, scripted, scripted_with, web};

fn ids<'a>(instances: impl IntoIterator<Item = &'a std::sync::Arc<discovery_core::Instance>>) -> Vec<String> {
    instances.into_iter().map(|one| one.key.id.to_string()).collect()
}

async fn next(stream: &mut WatchStream) -> Result<WatchEvent> {
    timeout(PATIENCE, stream.next())
        .await
        .expect("an event in time")
        .expect("the watch goes on")
}

#[tokio::test]
async fn c_7_a_refused_index_is_not_asked_again() {
    for (status, text) in [
        (400, "Invalid index"),
        (500, "strconv.ParseUint: parsing \"-1\": invalid syntax"),
    ] {
        let (server, backend) = scripted();
        server.rule(Rule::get(WEB).reply(status, text));
        let query = Query::service("web").unwrap();
        let error = backend.registry.instances(&query).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.is_retryable()),
            (ErrorKind::InvalidInput, false),
            "{text}"
        );
    }
}

/// Successes follow each other at once, here every 200 ms as the server answers; failures ever more seldom.
#[tokio::test]
async fn c_8_a_failure_costs_a_pause_and_a_success_none() {
    const ANSWER: Duration = Duration::from_millis(200);
    const SUCCESSES: usize = 11;
    join_all([500, 503, 429].map(|status| async move {
        let (server, backend) = scripted();
        server.rule(web(beyond(None).times(1), 1, &["a"]));
        for index in 2..=11 {
            server.rule(web(Rule::get(WEB).times(1).delay(ANSWER), index, &["a"]));
        }
        server.rule(Rule::get(WEB).reply(status, "not now"));
        let client = client(backend);
        let service = client.service("web").unwrap();
        service.ready().await.unwrap();
        eventually("a failure", PATIENCE, || async {
            asked(&server).len() > SUCCESSES
        })
        .await;
        let at: Vec<_> = server
            .requests_matching(WEB)
            .iter()
            .map(|request| request.at)
            .collect();
        let mut gaps: Vec<_> = at[1..=SUCCESSES]
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .collect();
        gaps.sort_unstable();
        // The calmest of them: on a busy machine others take longer.
        let calm = gaps[gaps.len() / 4];
        assert!(calm < ANSWER + Duration::from_millis(100), "{status}: {gaps:?}");
        sleep(Duration::from_secs(3)).await;
        let failed = || asked(&server).len() - SUCCESSES;
        assert!(failed() <= 12, "{status}: {} in 3 s", failed());
        eventually("another try", PATIENCE, || async { failed() >= 2 }).await;
        assert_eq!(service.instances().await.unwrap().instances.len(), 1);
    }))
    .await;
}

/// As the streaming backend has answered for services that are there.
#[tokio::test]
async fn c_10_an_empty_answer_with_an_older_index_empties_no_view() {
    let (server, backend) = scripted();
    server.rule(web(beyond(None).times(1), 9000, &["a"]));
    let soon = Duration::from_millis(200);
    server.rule(web(beyond(Some("9000")).times(1).delay(soon), 1, &[]));
    server.rule(web(beyond(None), 9001, &["a"]));
    quiet(&server);
    let client = client(backend);
    let service = client.service("web").unwrap();
    let mut changes = service.subscribe();
    let all_good = async {
        loop {
            let view = changes.next().await.unwrap();
            if view.source == Source::Live {
                assert_eq!(ids(view.instances.iter()), ["a"]);
            }
        }
    };
    let over = eventually("it waits again", PATIENCE, || async {
        asked(&server).contains(&Some("9001".to_owned()))
    });
    tokio::select! {
        () = all_good => {}
        () = over => {}
    }
    assert_eq!(ids(service.instances().await.unwrap().instances.iter()), ["a"]);
}

#[tokio::test]
async fn c_19_the_order_of_near_is_kept_and_told_and_any_other_is_ours() {
    for near in [true, false] {
        let (server, backend) = scripted_with(|config| {
            config.discovery.near = near.then(|| "_agent".to_owned());
        });
        server.rule(web(beyond(None).times(1), 1, &["b", "a"]));
        server.rule(web(beyond(Some("1")).times(1), 2, &["a", "b"]));
        quiet(&server);
        let mut stream = backend.watcher.watch(&Query::service("web").unwrap(), None);
        let (first, second) = (
            next(&mut stream).await.unwrap().change,
            next(&mut stream).await.unwrap().change,
        );
        let Change::Reset(first) = first else {
            panic!("{first:?}");
        };
        if near {
            assert_eq!(ids(&first), ["b", "a"]);
            assert!(
                matches!(&second, Change::Reset(all) if ids(all) == ["a", "b"]),
                "{second:?}"
            );
        } else {
            assert_eq!(ids(&first), ["a", "b"]);
            assert_eq!(second, Change::Confirmed, "the order alone is no change");
        }
        let request = server.requests_matching(WEB).swap_remove(0);
        assert_eq!(request.query("near").is_some(), near);
    }
}

/// An agent elsewhere is asked for packed answers, see `address.rs`; a neighbour is not.
#[tokio::test]
async fn c_20_only_what_is_decoded_is_asked_for() {
    const PACKED: &[u8] = include_bytes!("../fixtures/health-service.json.gz");
    let query = Query::service("web").unwrap();
    let (server, backend) = scripted();
    // What was not asked for is an error and not an empty answer.
    for (encoding, body) in [
        ("br", PACKED),
        ("gzip", PACKED),
        ("gzip", &PACKED[..PACKED.len() / 2]),
    ] {
        server.clear_rules();
        server.rule(
            Rule::get(WEB)
                .reply(200, body)
                .set_header("content-encoding", encoding),
        );
        let error = backend.registry.instances(&query).await.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Unavailable),
            "{encoding}: {error:?}"
        );
        let mut stream = backend.watcher.watch(&query, None);
        assert!(next(&mut stream).await.is_err(), "{encoding}");
    }
    for request in server.requests_matching("*") {
        assert_eq!(request.header("accept-encoding"), None, "{request:?}");
    }
    // Nothing is: for an agent nearby, packing takes longer than sending.
    for request in server.requests_matching("*") {
        assert_eq!(request.header("accept-encoding"), None, "{request:?}");
    }
}

/// A newer agent before older servers may answer so to a question for what passes. That is never asked, and looked at here.
#[tokio::test]
async fn c_37_what_is_critical_is_dropped_here_whatever_the_server_filters() {
    let (server, backend) = scripted();
    let mut drained = entry("drained", "passing", "passing");
    drained["Checks"][0] = json!({ "CheckID": "_service_maintenance:drained", "Status": "critical" });
    let all: Value = [
        entry("well", "passing", "passing"),
        entry("ill", "critical", "passing"),
        entry("down", "passing", "critical"),
        drained,
    ]
    .into_iter()
    .collect();
    server.rule(
        beyond(None)
            .reply(200, all.to_string())
            .set_header("x-consul-index", "3"),
    );
    quiet(&server);
    let client = client(backend);
    let service = client.service("web").unwrap();
    let view = service.ready().await.unwrap();
    let usable: Vec<_> = view.instances.iter().filter(|one| one.is_available()).collect();
    assert_eq!(ids(usable), ["well"]);
    for _ in 0..20 {
        assert_eq!(service.acquire().unwrap().key.id.as_str(), "well");
    }
    let requests = server.requests_matching(WEB);
    assert!(
        requests.iter().all(|request| request.query("passing").is_none()),
        "{requests:?}"
    );
}

#[tokio::test]
async fn c_40_a_token_that_became_invalid_empties_no_view() {
    let (server, backend) = scripted_with(|config| *config = config.clone().token("t"));
    server.rule(web(beyond(None).times(1), 5, &["a"]));
    let refused = server.rule(
        Rule::get(WEB)
            .delay(Duration::from_millis(100))
            .reply(403, "ACL not found"),
    );
    let client = client(backend);
    let service = client.service("web").unwrap();
    service.ready().await.unwrap();
    eventually("a stale view", PATIENCE, || async {
        let view = service.instances().await.unwrap();
        assert_eq!(ids(view.instances.iter()), ["a"]);
        view.source == Source::Stale
    })
    .await;
    sleep(Duration::from_secs(2)).await;
    let view = service.instances().await.unwrap();
    assert_eq!(
        (view.source, ids(view.instances.iter())),
        (Source::Stale, vec!["a".to_owned()])
    );
    assert!(service.acquire().is_ok(), "picks go on");
    assert_eq!(
        refused.uses(),
        1,
        "agents remember a token for 30 s: it is not asked again before"
    );
}
