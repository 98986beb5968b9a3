use discovery_core::{Backend, Error, ErrorKind};
use discovery_testkit::{
    eventually,
    proxy::{
        Proxy,
        http::{HttpProxy, Rule},
    },
};
use tokio::time::timeout;

use super::*;
use crate::testing::{PATIENCE, WEB, agent_self, instances, scripted, scripted_with, web};

fn watch(backend: &Backend, since: Option<u64>) -> WatchStream {
    let query = Query::service("web").unwrap();
    let since = since.map(|index| Cursor::new(index.to_string()));
    backend.watcher.watch(&query, since)
}

async fn next(stream: &mut WatchStream) -> Result<WatchEvent> {
    timeout(PATIENCE, stream.next())
        .await
        .expect("an event in time")
        .expect("the watch goes on")
}

/// Has it ask on, and checks that it waits for the answer.
async fn waits(stream: &mut WatchStream) {
    let early = timeout(Duration::from_millis(300), stream.next()).await;
    assert!(early.is_err(), "{early:?}");
}

fn ids(change: &Change) -> Vec<String> {
    match change {
        Change::Reset(all) | Change::Upsert(all) => all.iter().map(|i| i.key.id.to_string()).collect(),
        Change::Remove(keys) => keys.iter().map(|key| key.id.to_string()).collect(),
        Change::Confirmed => Vec::new(),
    }
}

/// The questions that wait beyond an index are never answered.
fn quiet(server: &HttpProxy) {
    server.rule(
        Rule::get("*")
            .when(|request| request.query("index").is_some())
            .delay(Duration::from_secs(600))
            .reply(200, "[]"),
    );
}

fn asked(server: &HttpProxy) -> Vec<Option<String>> {
    server
        .requests_matching(WEB)
        .iter()
        .map(|request| request.query("index"))
        .collect()
}

#[tokio::test]
async fn c_1_an_index_that_went_backwards_starts_over() {
    let (server, backend) = scripted();
    for index in [100, 105, 40] {
        server.rule(web(Rule::get(WEB).times(1), index, &["a"]));
    }
    server.rule(web(Rule::get(WEB).times(1), 41, &["a"]));
    quiet(&server);
    let mut stream = watch(&backend, None);
    let first = next(&mut stream).await.unwrap();
    assert_eq!(first.cursor, Some(Cursor::new("100")));
    assert_eq!(next(&mut stream).await.unwrap().change, Change::Confirmed);
    let back = next(&mut stream).await.unwrap();
    assert_eq!(back.evidence, Evidence::Suspect(Suspicion::IndexRegressed));
    assert_eq!(ids(&back.change), ["a"], "its body counts all the same");
    let confirmed = next(&mut stream).await.unwrap();
    assert_eq!(confirmed.evidence, Evidence::Authoritative);
    let index = |text: &str| Some(text.to_owned());
    assert_eq!(asked(&server), [None, index("100"), index("105"), None]);
}

#[tokio::test]
async fn c_3_index_only_from_success() {
    let (server, backend) = scripted();
    server.rule(web(Rule::get(WEB).times(1), 50, &["a"]));
    server.rule(
        Rule::get(WEB)
            .times(1)
            .reply(500, "No cluster leader")
            .set_header("x-consul-index", "1"),
    );
    let mut stream = watch(&backend, None);
    let cursor = next(&mut stream).await.unwrap().cursor;
    let error = next(&mut stream).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.operation()),
        (ErrorKind::Unavailable, Some("watch"))
    );

    // What comes next, as recovery opens it again: no rewound index, and a history that goes on is not suspect.
    assert_eq!(cursor, Some(Cursor::new("50")));
    server.rule(web(Rule::get(WEB).times(1), 50, &["a"]));
    quiet(&server);
    let mut stream = watch(&backend, Some(50));
    assert_eq!(next(&mut stream).await.unwrap().evidence, Evidence::Authoritative);
    waits(&mut stream).await;
    eventually("the next question", PATIENCE, || async {
        asked(&server).last().cloned().flatten().as_deref() == Some("50")
    })
    .await;
}

#[tokio::test]
async fn c_4_a_return_is_not_a_change() {
    let (server, backend) = scripted();
    for index in 1..=3 {
        server.rule(web(Rule::get(WEB).times(1), index, &["a", "b"]));
    }
    server.rule(web(Rule::get(WEB).times(1), 4, &["b", "c"]));
    quiet(&server);
    let mut stream = watch(&backend, None);
    assert_eq!(ids(&next(&mut stream).await.unwrap().change), ["a", "b"]);
    for _ in 0..2 {
        assert_eq!(next(&mut stream).await.unwrap().change, Change::Confirmed);
    }
    let (added, gone) = (next(&mut stream).await.unwrap(), next(&mut stream).await.unwrap());
    assert!(matches!(added.change, Change::Upsert(_)) && ids(&added.change) == ["c"]);
    assert!(matches!(gone.change, Change::Remove(_)) && ids(&gone.change) == ["a"]);
}

#[tokio::test]
async fn c_6_the_wait_has_a_unit() {
    let (server, backend) = scripted();
    server.rule(web(Rule::get(WEB).times(1), 7, &["a"]));
    quiet(&server);
    let mut stream = watch(&backend, None);
    next(&mut stream).await.unwrap();
    waits(&mut stream).await;
    let question = eventually("a question that waits", PATIENCE, || async {
        let request = server.requests_matching(WEB).pop()?;
        request.query("wait")
    });
    assert_eq!(question.await, "55000ms");
}

/// The streaming backend has answered so for services that are there.
#[tokio::test]
async fn c_10_an_empty_answer_with_an_index_that_went_backwards_is_suspect() {
    let (server, backend) = scripted();
    server.rule(web(Rule::get(WEB).times(1), 9000, &["a"]));
    server.rule(web(Rule::get(WEB).times(1), 1, &[]));
    server.rule(web(Rule::get(WEB).times(1), 9001, &["a"]));
    quiet(&server);
    let mut stream = watch(&backend, None);
    next(&mut stream).await.unwrap();
    let empty = next(&mut stream).await.unwrap();
    assert_eq!(empty.evidence, Evidence::Suspect(Suspicion::IndexRegressed));
    let back = next(&mut stream).await.unwrap();
    assert_eq!(
        (ids(&back.change), back.evidence),
        (vec!["a".to_owned()], Evidence::Authoritative)
    );
}

#[tokio::test]
async fn c_10_a_history_lost_between_two_watches_is_suspect() {
    let (server, backend) = scripted();
    server.rule(web(Rule::get(WEB).times(1), 12, &[]));
    quiet(&server);
    let first = next(&mut watch(&backend, Some(5000))).await.unwrap();
    assert_eq!(first.change, Change::Reset(Vec::new()));
    assert_eq!(first.evidence, Evidence::Suspect(Suspicion::IndexRegressed));
}

#[tokio::test]
async fn c_39_hidden_results_are_access_lost_where_there_was_more() {
    let (server, backend) = scripted_with(|config| config.token("t"));
    agent_self(&server, "1.22.6");
    server.rule(web(Rule::get(WEB).times(1), 1, &["a", "b"]));
    let filtered = "x-consul-results-filtered-by-acls";
    server.rule(web(Rule::get(WEB).times(1), 2, &["a"]).set_header(filtered, "true"));
    server.rule(web(Rule::get(WEB).times(1), 3, &[]));
    quiet(&server);
    let mut stream = watch(&backend, None);
    assert_eq!(next(&mut stream).await.unwrap().evidence, Evidence::Authoritative);
    let hidden = next(&mut stream).await.unwrap();
    assert_eq!(hidden.evidence, Evidence::Suspect(Suspicion::AccessLost));
    let empty = next(&mut stream).await.unwrap();
    assert_eq!(
        (ids(&empty.change).len(), empty.evidence),
        (0, Evidence::Authoritative)
    );
}

/// A token that never saw all sees its part, and removals from that are removals.
#[tokio::test]
async fn c_39_a_part_that_was_always_a_part_is_believed() {
    let (server, backend) = scripted_with(|config| config.token("t"));
    let filtered = "x-consul-results-filtered-by-acls";
    for (index, ids) in [(1, &["a", "b"][..]), (2, &["a"]), (3, &[])] {
        server.rule(web(Rule::get(WEB).times(1), index, ids).set_header(filtered, "true"));
    }
    quiet(&server);
    let mut stream = watch(&backend, None);
    assert_eq!(next(&mut stream).await.unwrap().evidence, Evidence::Authoritative);
    let removed = next(&mut stream).await.unwrap();
    assert_eq!(
        (ids(&removed.change), removed.evidence),
        (vec!["b".to_owned()], Evidence::Authoritative)
    );
    let all = next(&mut stream).await.unwrap();
    assert_eq!(
        all.evidence,
        Evidence::Suspect(Suspicion::AccessLost),
        "all hidden is never believed"
    );
}

#[tokio::test]
async fn c_39_before_1_11_an_empty_answer_under_a_token_is_unverified() {
    for (version, token, evidence) in [
        ("1.8.7", true, Evidence::Suspect(Suspicion::UnverifiedEmpty)),
        ("1.11.0", true, Evidence::Authoritative),
        ("1.8.7", false, Evidence::Authoritative),
    ] {
        let (server, backend) = scripted_with(|config| if token { config.token("t") } else { config });
        agent_self(&server, version);
        server.rule(web(Rule::get(WEB).times(1), 1, &[]));
        let first = next(&mut watch(&backend, None)).await.unwrap();
        assert_eq!(first.evidence, evidence, "{version} {token}");
    }
}

#[tokio::test]
async fn c_40_a_token_that_became_invalid_ends_the_watch_and_shows_nothing() {
    let (server, backend) = scripted_with(|config| config.token("s3ntinel"));
    server.rule(web(Rule::get(WEB).times(1), 1, &["a"]));
    server.rule(Rule::get(WEB).reply(403, "ACL not found: s3ntinel"));
    let mut stream = watch(&backend, None);
    next(&mut stream).await.unwrap();
    let error = next(&mut stream).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(!format!("{error:?} {error:#}").contains("s3ntinel"), "{error:?}");
}

#[tokio::test]
async fn c_11_what_the_streaming_backend_repeats_is_read_again() {
    let (server, backend) = scripted();
    let repeats = Rule::get(WEB).when(|request| request.query("index").is_some());
    server.rule(
        web(repeats, 7, &["web-1"])
            .set_header("x-consul-query-backend", "streaming")
            .set_header("x-consul-knownleader", "false"),
    );
    // Its own index is another, and moves nothing.
    server.rule(web(Rule::get(WEB), 7, &["web-1"]).times(1));
    server.rule(web(Rule::get(WEB), 5, &["web-1"]).times(1));
    server.rule(Rule::get(WEB).reply(500, "No cluster leader"));
    let mut stream = watch(&backend, None);
    assert_eq!(ids(&next(&mut stream).await.unwrap().change), ["web-1"]);
    let event = next(&mut stream).await.unwrap();
    assert_eq!(
        (event.change, event.evidence),
        (Change::Confirmed, Evidence::Authoritative)
    );
    let error = next(&mut stream).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Unavailable,
        "a copy without leader confirms nothing"
    );
    let index = || Some("7".to_owned());
    assert_eq!(asked(&server), [None, index(), None, index(), None]);
}

/// C-18: dropping a watch closes its connection, which is never used again.
#[tokio::test]
async fn c_18_a_dropped_watch_closes_its_connection() {
    let server = HttpProxy::stub().unwrap();
    let way = Proxy::start(server.addr()).unwrap();
    server.rule(web(Rule::get(WEB).times(1), 1, &["a"]));
    quiet(&server);
    let backend = crate::backend(crate::ConsulConfig::at(way.addr().to_string())).unwrap();
    let mut stream = watch(&backend, None);
    assert_eq!(way.counters().accepted, 0, "nothing before it is polled");
    next(&mut stream).await.unwrap();
    waits(&mut stream).await;
    eventually("a question that waits", PATIENCE, || async {
        asked(&server).len() == 2
    })
    .await;
    // That of the first question, which did not wait, is kept for look-ups.
    assert_eq!(way.counters().open, 2);
    drop(stream);
    eventually("the end of its connection", PATIENCE, || async {
        way.counters().open == 1
    })
    .await;
}

/// C-16, C-17: watches that have to take turns still all get their answers, and writes have connections of their own.
#[tokio::test]
async fn c_16_c_17_many_watches_share_their_connections_and_spare_the_others() {
    let server = HttpProxy::stub().unwrap();
    let way = Proxy::start(server.addr()).unwrap();
    server.rule(
        Rule::get("/v1/health/service/*")
            .when(|request| request.query("index").is_none())
            .reply(200, instances(&["a"]).to_string())
            .set_header("x-consul-index", "5"),
    );
    quiet(&server);
    server.rule(Rule::any("/v1/agent/check/update/*").reply(200, ""));
    let mut config = crate::ConsulConfig::at(way.addr().to_string());
    config.discovery.max_watches = 4;
    let backend = crate::backend(config).unwrap();
    let mut streams: Vec<_> = (0..40)
        .map(|n| {
            backend
                .watcher
                .watch(&Query::service(format!("s{n}")).unwrap(), None)
        })
        .collect();
    for stream in &mut streams {
        next(stream).await.unwrap();
    }
    let mut asking: futures::stream::FuturesUnordered<_> = streams.iter_mut().map(waits).collect();
    while asking.next().await.is_some() {}
    drop(asking);
    eventually("the pool is full", PATIENCE, || async {
        let waiting = server.requests_matching("/v1/health/service/*");
        waiting
            .iter()
            .filter(|request| request.query("index").is_some())
            .count()
            >= 4
    })
    .await;
    let key = discovery_core::InstanceKey::new(
        "consul",
        ServiceName::new("web").unwrap(),
        discovery_core::InstanceId::new("a").unwrap(),
    );
    let renewal = discovery_core::Renewal::new([(key, discovery_core::HealthReport::default())]);
    let group = discovery_core::LeaseGroup::new("a");
    let beat = backend.registry.renew(&group, &renewal);
    timeout(Duration::from_secs(2), beat)
        .await
        .expect("at once")
        .unwrap();
    // Reads before their first index have the short lane; the watches never have more than their own.
    let peak = way.counters().peak;
    assert!(peak <= 4 + 24 + 16, "{peak} connections");
    let wait = server
        .requests_matching("/v1/health/service/*")
        .iter()
        .find_map(|request| request.query("wait"));
    assert_eq!(wait.as_deref(), Some("5500ms"), "each has its turn within 55 s");
}

#[tokio::test]
async fn a_redirect_is_an_error_and_carries_no_token_anywhere() {
    let elsewhere = HttpProxy::stub().unwrap();
    let (server, backend) = scripted_with(|config| config.token("s3ntinel"));
    server.rule(Rule::get(WEB).redirect(307, &format!("http://{}/", elsewhere.addr())));
    let error: Error = next(&mut watch(&backend, None)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(elsewhere.requests_matching("*").is_empty());
}

#[tokio::test]
async fn all_services_are_read_again_when_names_or_checks_move() {
    let (server, backend) = scripted();
    for path in ["/v1/catalog/services", "/v1/health/state/any"] {
        let body = if path.ends_with("any") {
            "[]"
        } else {
            r#"{"web":[]}"#
        };
        for waits in [false, true] {
            let index = if waits { "6" } else { "5" };
            let rule = Rule::get(path)
                .when(move |request| request.query("index").as_deref() == waits.then_some("5"));
            server.rule(rule.reply(200, body).set_header("x-consul-index", index));
        }
    }
    quiet(&server);
    server.rule(web(Rule::get(WEB).times(1), 5, &["a"]));
    server.rule(web(Rule::get(WEB), 6, &["a", "b"]));
    let mut stream = backend.watcher.watch(&Query::all(), None);
    assert_eq!(ids(&next(&mut stream).await.unwrap().change), ["a"]);
    loop {
        let event = next(&mut stream).await.unwrap();
        if event.change != Change::Confirmed {
            assert_eq!(ids(&event.change), ["b"]);
            return;
        }
    }
}
