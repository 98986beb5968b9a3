//! What is read.

use discovery_core::{ErrorKind, Evidence, Suspicion};
use discovery_testkit::eventually;
use futures::future::try_join_all;

use super::*;

fn is_suspect(evidence: Evidence) -> bool {
    evidence == Evidence::Suspect(Suspicion::IndexRegressed)
}

#[tokio::test]
async fn u_21_changes_follow_a_full_answer() {
    let (server, backend) = scripted();
    server.rule(all(&["a", "b"]));
    let (mut gone, mut down) = (record("a"), record("b"));
    gone["actionType"] = json!("DELETED");
    down["status"] = json!("DOWN");
    let changes = applications(&[gone, down, record("c")], "DOWN_1_UP_1_");
    server.rule(Rule::get(DELTA).reply(200, changes));
    let mut watch = backend.watcher.watch(&web(), None);
    assert_eq!(ids(&event(&mut watch).await.change), ["a", "b"]);
    let removed = change(&mut watch).await;
    assert!(
        matches!(removed.change, Change::Remove(_)),
        "nobody doubts it: {removed:?}"
    );
    assert_eq!(
        (ids(&removed.change), removed.evidence),
        (vec!["a".to_owned()], Evidence::Authoritative)
    );
    assert_eq!(ids(&change(&mut watch).await.change), ["b", "c"]);
    // Told again and again, it is told once.
    for _ in 0..5 {
        assert_eq!(event(&mut watch).await.change, Change::Confirmed);
    }
    assert_eq!(server.requests_matching(APPS).len(), 1);
}

#[tokio::test]
async fn u_22_issue_eureka_1528_a_hash_that_does_not_fit_reads_everything_once() {
    let (server, backend) = scripted();
    server.rule(all(&["a", "b"]).times(1));
    server.rule(all(&["a", "b", "c"]));
    let missed = Rule::get(DELTA).reply(200, applications(&[], "UP_3_"));
    server.rule(missed);
    let mut watch = backend.watcher.watch(&web(), None);
    event(&mut watch).await;
    assert_eq!(ids(&change(&mut watch).await.change), ["c"]);
    for _ in 0..3 {
        event(&mut watch).await;
    }
    assert_eq!(
        server.requests_matching(APPS).len(),
        2,
        "no surge of full fetches"
    );
}

#[tokio::test]
async fn u_23_an_equal_hash_is_not_trusted_for_ever() {
    let server = HttpProxy::stub().unwrap();
    let backend = on(&[&server], |config| {
        config.discovery.full_refresh = Duration::from_millis(500);
    });
    server.rule(all(&["a", "b", "c"]).times(1));
    server.rule(all(&["a", "b", "d"]));
    server.rule(quiet(3));
    let mut watch = backend.watcher.watch(&web(), None);
    event(&mut watch).await;
    let found = change(&mut watch).await;
    assert!(
        matches!(found.change, Change::Reset(_)),
        "nobody saw why: {found:?}"
    );
    assert_eq!(ids(&found.change), ["a", "b", "d"]);
}

#[tokio::test]
async fn u_25_issue_eureka_1120_a_server_restarted_empty_is_in_doubt_for_a_while() {
    let (server, backend) = scripted();
    let before = server.rule(all(&["a", "b", "c"]));
    let quiet = server.rule(quiet(3));
    let mut watch = backend.watcher.watch(&web(), None);
    event(&mut watch).await;
    before.remove();
    quiet.remove();
    server.rule(Rule::get(DELTA).reply(200, applications(&[], "")));
    server.rule(all(&[]));
    server.rule(Rule::get(WEB).reply(404, ""));
    let doubted = change(&mut watch).await;
    assert_eq!(doubted.change, Change::Reset(Vec::new()));
    assert!(is_suspect(doubted.evidence), "{doubted:?}");
    // Reads say so, too: they would confirm it.
    let read = backend.registry.instances(&web()).await.unwrap();
    assert!(read.instances.is_empty() && is_suspect(read.evidence), "{read:?}");
    // Nobody registers again: it is true after all.
    let believed = change(&mut watch).await;
    assert_eq!(
        (believed.change, believed.evidence),
        (Change::Reset(Vec::new()), Evidence::Authoritative)
    );
    let read = backend.registry.instances(&web()).await.unwrap();
    assert_eq!(read.evidence, Evidence::Authoritative);
}

#[tokio::test]
async fn u_25_a_first_answer_without_anything_is_an_answer() {
    let (server, backend) = scripted();
    server.rule(all(&[]));
    let first = event(&mut backend.watcher.watch(&web(), None)).await;
    assert_eq!(
        (first.change, first.evidence),
        (Change::Reset(Vec::new()), Evidence::Authoritative)
    );
}

#[tokio::test]
async fn u_26_a_server_that_is_not_ready_says_nothing() {
    let (server, backend) = scripted();
    server.rule(Rule::any("*").reply(403, ""));
    let failed = backend.registry.instances(&web()).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Unavailable, "{failed:?}");
    let watched = backend
        .watcher
        .watch(&web(), None)
        .next()
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(watched.kind(), ErrorKind::Unavailable, "{watched:?}");
}

#[tokio::test]
async fn u_27_only_what_is_up_gets_traffic() {
    let (server, backend) = scripted();
    let statuses = ["UP", "DOWN", "STARTING", "OUT_OF_SERVICE", "UNKNOWN", "NEW"];
    let records: Vec<_> = statuses
        .iter()
        .map(|status| {
            let mut record = record(status);
            record["status"] = json!(status);
            record["metadata"]["zone"] = json!("z1");
            record
        })
        .collect();
    let body = json!({ "application": { "name": "WEB", "instance": records } });
    server.rule(Rule::get(WEB).reply(200, body.to_string()));
    let read = backend.registry.instances(&web()).await.unwrap();
    assert_eq!(read.instances.len(), statuses.len());
    let healthy: Vec<_> = read.instances.iter().filter(|i| web().accepts(i)).collect();
    assert_eq!(healthy.len(), 1);
    assert_eq!(healthy[0].locality.zone.as_deref(), Some("z1"));
}

#[tokio::test]
async fn u_28_all_who_watch_share_one_question_at_a_time() {
    let (server, backend) = scripted();
    server.rule(all(&["a"]).delay(Duration::from_millis(50)));
    server.rule(quiet(1));
    let mut watches: Vec<_> = (0..200)
        .map(|n| {
            let query = Query::service(if n % 2 == 0 {
                "web".to_owned()
            } else {
                format!("s{n}")
            });
            backend.watcher.watch(&query.unwrap(), None)
        })
        .collect();
    let firsts = try_join_all(
        watches
            .iter_mut()
            .map(|watch| async { Ok::<_, ()>(event(watch).await) }),
    );
    assert_eq!(firsts.await.unwrap().len(), 200);
    assert_eq!(server.requests_matching(APPS).len(), 1);
    // One that nobody looks at holds up nobody.
    let mut last = watches.pop().unwrap();
    for _ in 0..5 {
        event(&mut last).await;
    }
    let asked = server.requests_matching(DELTA).len();
    assert!((5..=7).contains(&asked), "{asked} questions");
    drop((watches, last));
    // Nobody watches: nobody asks.
    let asked = server.requests_matching("*").len();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(server.requests_matching("*").len() <= asked + 1);
}

#[tokio::test]
async fn u_32_a_page_is_no_answer() {
    for page in [
        "<!DOCTYPE html><html><body>Sign in</body></html>",
        "",
        "null",
        "OK",
    ] {
        for path in [APPS, WEB] {
            let (server, backend) = scripted();
            server.rule(Rule::get(path).reply(200, page));
            let query = if path == APPS { Query::all() } else { web() };
            let failed = backend.registry.instances(&query).await.unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::Protocol, "{page:?}: {failed:?}");
        }
    }
    let (server, backend) = scripted();
    server.rule(Rule::get(WEB).reply(404, "<html>no such page</html>"));
    let failed = backend.registry.instances(&web()).await.unwrap_err();
    assert_eq!(
        failed.kind(),
        ErrorKind::Protocol,
        "a proxy's 404 is no empty service"
    );
}

#[tokio::test]
async fn xml_is_read_where_a_proxy_drops_what_was_asked_for() {
    let (server, backend) = scripted();
    let xml = r#"<applications><versions__delta>1</versions__delta><apps__hashcode>UP_1_</apps__hashcode><application>
        <name>WEB</name><instance><instanceId>a</instanceId><app>WEB</app><hostName>h1</hostName><status>UP</status>
        <port enabled="true">80</port><metadata><k>v</k></metadata></instance></application></applications>"#;
    server.rule(
        Rule::get(APPS)
            .reply(200, xml)
            .set_header("content-type", "application/xml"),
    );
    let read = backend.registry.instances(&Query::all()).await.unwrap();
    let found: Vec<_> = read.instances.iter().collect();
    assert_eq!((found.len(), found[0].address()), (1, "h1:80".to_owned()));
    assert_eq!(found[0].meta["k"], "v");
}

#[tokio::test]
async fn a_1_an_outage_is_an_error_and_asks_ever_more_seldom() {
    let (server, backend) = scripted();
    let good = server.rule(all(&["a"]));
    let quiet_rule = server.rule(quiet(1));
    let mut watch = backend.watcher.watch(&web(), None);
    event(&mut watch).await;
    good.remove();
    quiet_rule.remove();
    let bad = server.rule(Rule::any("*").reply(503, ""));
    let failed = loop {
        if let Err(failed) = watch.next().await.unwrap() {
            break failed;
        }
    };
    assert_eq!(failed.kind(), ErrorKind::Unavailable);
    // Fifty who come back at once are one question.
    let again = (0..50).map(|_| {
        let mut watch = backend.watcher.watch(&web(), None);
        async move { watch.next().await.unwrap().unwrap_err() }
    });
    let asked = server.requests_matching("*").len();
    futures::future::join_all(again).await;
    assert_eq!(server.requests_matching("*").len(), asked + 1);
    bad.remove();
    server.rule(all(&["a"]));
    eventually("an answer", PATIENCE, async || {
        backend.watcher.watch(&web(), None).next().await.unwrap().is_ok()
    })
    .await;
}
