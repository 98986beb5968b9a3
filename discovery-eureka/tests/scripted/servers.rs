//! Several servers, and the way to them.

use discovery_core::{ErrorKind, Evidence};

use super::*;

fn two() -> [HttpProxy; 2] {
    [HttpProxy::stub().unwrap(), HttpProxy::stub().unwrap()]
}

/// A backend whose first choice is the first.
fn near_and_far([near, far]: &[HttpProxy; 2]) -> Backend {
    on(&[far], |config| {
        config.server.zone = Some("z".to_owned());
        let near = near.addr().to_string().as_str().into();
        config.server.zones.insert("z".to_owned(), vec![near]);
    })
}

fn page(ids: &[&str]) -> String {
    let records: Vec<_> = ids.iter().map(|id| record(id)).collect();
    json!({ "application": { "name": "WEB", "instance": records } }).to_string()
}

#[tokio::test]
async fn u_24_another_servers_changes_fit_nobody_elses_state() {
    let servers = two();
    let backend = near_and_far(&servers);
    servers[0].rule(all(&["a", "b", "c"]).times(1));
    servers[0].rule(Rule::any("*").reply(503, ""));
    servers[1].rule(all(&["a", "b", "d"]));
    servers[1].rule(quiet(3));
    let mut watch = backend.watcher.watch(&web(), None);
    assert_eq!(ids(&event(&mut watch).await.change), ["a", "b", "c"]);
    assert_eq!(ids(&change(&mut watch).await.change), ["a", "b", "d"]);
    for _ in 0..3 {
        event(&mut watch).await;
    }
    let asked: Vec<_> = servers[1]
        .requests_matching("*")
        .iter()
        .map(|r| r.path().to_owned())
        .collect();
    assert_eq!(asked[0], APPS);
    assert!(asked[1..].iter().all(|path| path == DELTA), "{asked:?}");
}

#[tokio::test]
async fn u_25_a_second_server_knows_better_or_confirms() {
    for (second, shown) in [(&["a", "b", "c"][..], 3), (&[][..], 0)] {
        let servers = two();
        let backend = near_and_far(&servers);
        servers[0].rule(all(&["a", "b", "c"]).times(1));
        servers[0].rule(Rule::get(DELTA).reply(200, applications(&[], "")));
        servers[0].rule(all(&[]));
        servers[1].rule(all(second));
        servers[1].rule(quiet(second.len()));
        let mut watch = backend.watcher.watch(&web(), None);
        event(&mut watch).await;
        let next = event(&mut watch).await;
        assert_eq!(next.evidence, Evidence::Authoritative);
        assert_eq!(next.change == Change::Confirmed, shown == 3, "{next:?}");
    }
}

#[tokio::test]
async fn u_26_the_next_server_is_asked_while_one_is_not_ready() {
    let servers = two();
    let backend = near_and_far(&servers);
    servers[0].rule(Rule::any("*").reply(403, ""));
    servers[1].rule(Rule::get(WEB).reply(200, page(&["a"])));
    for _ in 0..3 {
        assert_eq!(
            backend.registry.instances(&web()).await.unwrap().instances.len(),
            1
        );
    }
    assert_eq!(
        servers[0].requests_matching("*").len(),
        1,
        "it is left alone then"
    );
}

#[tokio::test]
async fn u_29_what_one_server_fails_at_another_does() {
    for (status, body) in [(500, ""), (503, ""), (200, "<html></html>"), (429, ""), (405, "")] {
        let servers = two();
        let backend = near_and_far(&servers);
        servers[0].rule(Rule::any("*").reply(status, body));
        servers[1].rule(Rule::get(WEB).reply(200, page(&["a"])));
        let read = backend.registry.instances(&web()).await.unwrap();
        assert_eq!(read.instances.len(), 1, "{status} {body}");
    }
    // What all would refuse is asked once; what nobody can is an error with the server's name.
    let servers = two();
    let backend = near_and_far(&servers);
    servers[0].rule(Rule::any("*").reply(401, ""));
    let failed = backend.registry.instances(&web()).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Unauthenticated);
    assert!(servers[1].requests_matching("*").is_empty());
    let servers = two();
    let backend = near_and_far(&servers);
    for server in &servers {
        server.rule(Rule::any("*").reply(503, ""));
    }
    let failed = backend.registry.instances(&web()).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Unavailable);
    assert!(
        failed.to_string().contains(&servers[1].addr().to_string()),
        "{failed}"
    );
}

#[tokio::test]
async fn u_29_changes_may_not_be_told() {
    for status in [403, 404] {
        let (server, backend) = scripted();
        server.rule(all(&["a"]).times(1));
        server.rule(all(&["a", "b"]));
        server.rule(Rule::get(DELTA).reply(status, ""));
        let mut watch = backend.watcher.watch(&web(), None);
        event(&mut watch).await;
        assert_eq!(ids(&change(&mut watch).await.change), ["b"], "{status}");
    }
}

#[tokio::test]
async fn u_31_redirects_are_followed_without_credentials_for_others() {
    let [server, other] = two();
    let backend = on(&[&server], |config| {
        *config = config.clone().basic_auth("user", "hunter2");
    });
    server.rule(Rule::get(WEB).redirect(302, &format!("http://{}{WEB}", other.addr())));
    other.rule(Rule::get(WEB).reply(200, page(&["a"])));
    assert_eq!(
        backend.registry.instances(&web()).await.unwrap().instances.len(),
        1
    );
    assert!(server.requests_matching(WEB)[0].header("authorization").is_some());
    assert!(other.requests_matching(WEB)[0].header("authorization").is_none());
    // On the same server they stay; other ways to redirect are none; nor are endless ones.
    server.clear_rules();
    server.rule(Rule::get(WEB).redirect(302, "/eureka/apps/OTHER"));
    server.rule(Rule::get("/eureka/apps/OTHER").reply(200, page(&["a"])));
    backend.registry.instances(&web()).await.unwrap();
    assert!(
        server.requests_matching("/eureka/apps/OTHER")[0]
            .header("authorization")
            .is_some()
    );
    for status in [301, 302, 307] {
        server.clear_rules();
        server.rule(Rule::get("*").redirect(status, WEB));
        let failed = backend.registry.instances(&web()).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Protocol, "{status}: {failed:?}");
    }
}

#[tokio::test]
async fn u_33_credentials_are_a_header_and_in_no_text() {
    let server = HttpProxy::stub().unwrap();
    let url = format!("http://user:hunter2@{}/eureka/", server.addr());
    let backend = backend(EurekaConfig::at([url])).unwrap();
    server.rule(Rule::any("*").reply(500, "you sent hunter2"));
    let failed = backend.registry.instances(&web()).await.unwrap_err();
    let info = backend.registry.info();
    let shown = format!(
        "{failed} {failed:#} {failed:?} {info:?} {backend:?} {:?}",
        backend.registry
    );
    assert!(!shown.contains("hunter2"), "{shown}");
    let sent = &server.requests_matching(WEB)[0];
    assert_eq!(sent.header("authorization"), Some("Basic dXNlcjpodW50ZXIy"));
}

#[tokio::test]
async fn u_35_a_heartbeat_waits_for_no_fetch_and_silence_ends() {
    let (server, backend) = scripted();
    server.rule(all(&["a"]).delay(PATIENCE));
    server.rule(Rule::on("PUT".parse().unwrap(), OWN).reply(200, ""));
    let mut watch = backend.watcher.watch(&web(), None);
    let fetch = watch.next();
    let beat = async {
        let group = discovery_core::LeaseGroup::new("apps/WEB/web-1");
        let renewal = discovery_core::Renewal::new([(key(), discovery_core::HealthReport::default())]);
        backend.registry.renew(&group, &renewal).await
    };
    let (fetched, beaten) = tokio::join!(timeout(PATIENCE, fetch), timeout(Duration::from_secs(1), beat));
    beaten.expect("a heartbeat at once").unwrap();
    let failed = fetched.expect("an end").unwrap().unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Timeout);
}
