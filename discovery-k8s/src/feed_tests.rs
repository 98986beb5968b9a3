use discovery_core::ErrorKind;
use serde_json::json;

use super::*;
use crate::{
    call::SLICES,
    client::Client,
    testing::{Part, Reply, Server, event, line, list, refusal, slice},
    wire::EndpointSlice,
};

const PATIENCE: Duration = Duration::from_secs(20);

type Slices = BoxStream<'static, Result<Step<EndpointSlice>>>;

fn feed(server: &Server) -> Slices {
    let client = Client::new(server.config()).unwrap();
    let scope = Scope {
        resource: &SLICES,
        namespace: Some("default".to_owned()),
        labels: Some("kubernetes.io/service-name=web".to_owned()),
        fields: None,
    };
    follow(client, scope, Duration::from_secs(1))
}

async fn step(feed: &mut Slices) -> Result<Step<EndpointSlice>> {
    tokio::time::timeout(PATIENCE, feed.next())
        .await
        .expect("a step in time")
        .expect("an error before the end")
}

/// The next step that is no confirmation.
async fn change(feed: &mut Slices) -> Result<Step<EndpointSlice>> {
    loop {
        match step(feed).await {
            Ok(Step::Confirmed) => {}
            other => return other,
        }
    }
}

fn name(step: Result<Step<EndpointSlice>>) -> String {
    match step.unwrap() {
        Step::All(all) => format!("all {}", all.len()),
        Step::Put(slice) => format!("put {}@{}", slice.metadata.name, slice.metadata.resource_version),
        Step::Gone(slice) => format!("gone {}", slice.metadata.name),
        Step::Confirmed => "confirmed".to_owned(),
    }
}

fn open() -> Part {
    Part::Wait(Duration::from_secs(60))
}

#[tokio::test]
async fn k_19_k_27_k_28_k_29_it_lists_from_a_quorum_and_watches_from_the_version_of_the_list() {
    let server = Server::start(|asked| {
        if asked.is("watch=1") {
            Reply::parts(vec![open()])
        } else {
            Reply::json(200, &list("version-x", &[slice("a", "7", &["192.0.2.1"])]))
        }
    })
    .await;
    let mut feed = feed(&server);
    assert!(server.asked("").is_empty(), "nothing before it is polled");
    assert_eq!(name(step(&mut feed).await), "all 1");
    let _ = tokio::time::timeout(Duration::from_millis(300), feed.next()).await;
    let asked = server.asked("");
    assert!(!asked[0].is("resourceVersion"), "{}", asked[0].line);
    for wanted in [
        "resourceVersion=version-x",
        "allowWatchBookmarks=true",
        "timeoutSeconds=1",
        "labelSelector=kubernetes.io%2Fservice-name%3Dweb",
    ] {
        assert!(asked[1].is(wanted), "{wanted}: {}", asked[1].line);
    }
    assert!(server.asked("sendInitialEvents").is_empty());
}

#[tokio::test]
async fn k_20_a_version_that_is_gone_is_told_in_both_shapes_and_never_tried_again() {
    for in_stream in [true, false] {
        let server = Server::start(move |asked| match (asked.is("watch=1"), in_stream) {
            (false, _) => Reply::json(200, &list("5", &[])),
            (true, true) => Reply::events(&[event("ERROR", &refusal(410, "Expired", ""))]),
            (true, false) => Reply::refuse(410, "Expired", ""),
        })
        .await;
        let mut feed = feed(&server);
        step(&mut feed).await.unwrap();
        let error = change(&mut feed).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WatchExpired, "{error:?}");
        assert!(feed.next().await.is_none(), "the end of this watch");
        assert_eq!(server.asked("watch=1").len(), 1);
    }
}

#[tokio::test]
async fn k_21_an_error_event_that_may_heal_costs_a_pause_and_the_watch_goes_on_where_it_was() {
    let server = Server::start(|asked| match asked.nth {
        0 => Reply::json(200, &list("5", &[])),
        1 => Reply::events(&[
            event("ADDED", &slice("a", "6", &["192.0.2.1"])),
            event("ERROR", &refusal(500, "InternalError", "")),
        ]),
        2 => Reply::events(&[event("ERROR", &refusal(504, "Timeout", ""))]),
        _ => Reply::parts(vec![
            line(&event("ADDED", &slice("b", "7", &["192.0.2.2"]))),
            open(),
        ]),
    })
    .await;
    let mut feed = feed(&server);
    step(&mut feed).await.unwrap();
    assert_eq!(name(change(&mut feed).await), "put a@6");
    assert_eq!(name(change(&mut feed).await), "put b@7");
    assert_eq!(server.asked("limit=").len(), 1, "no list in between");
    for again in &server.asked("watch=1")[1..] {
        assert!(again.is("resourceVersion=6"), "{}", again.line);
    }
}

#[tokio::test]
async fn k_21_an_error_event_that_stays_or_cannot_heal_ends_the_watch_with_its_kind() {
    for (code, reason, kind, watches) in [
        (500, "InternalError", ErrorKind::Unavailable, 6),
        (403, "Forbidden", ErrorKind::PermissionDenied, 1),
        (429, "TooManyRequests", ErrorKind::RateLimited, 1),
    ] {
        let server = Server::start(move |asked| {
            if asked.is("watch=1") {
                Reply::events(&[event("ERROR", &refusal(code, reason, ""))])
            } else {
                Reply::json(200, &list("5", &[]))
            }
        })
        .await;
        let mut feed = feed(&server);
        step(&mut feed).await.unwrap();
        assert_eq!(change(&mut feed).await.unwrap_err().kind(), kind);
        assert_eq!(server.asked("watch=1").len(), watches, "{code}");
    }
}

#[tokio::test]
async fn k_22_k_23_bookmarks_are_skeletons_that_move_the_version_and_unknown_events_are_ignored() {
    let bookmark = json!({
        "kind": "EndpointSlice", "addressType": "", "endpoints": null, "ports": null,
        "metadata": { "resourceVersion": "99", "creationTimestamp": null },
    });
    let server = Server::start(move |asked| {
        if !asked.is("watch=1") {
            return Reply::json(200, &list("5", &[]));
        }
        if asked.is("resourceVersion=99") {
            return Reply::parts(vec![open()]);
        }
        Reply::events(&[
            event("SOMETHING", &json!({ "odd": true })),
            event("BOOKMARK", &bookmark),
        ])
    })
    .await;
    let mut feed = feed(&server);
    assert_eq!(name(step(&mut feed).await), "all 0");
    assert_eq!(name(step(&mut feed).await), "confirmed");
    let _ = tokio::time::timeout(Duration::from_millis(500), change(&mut feed)).await;
    assert!(!server.asked("resourceVersion=99").is_empty());
}

#[tokio::test]
async fn k_24_what_leaves_the_selector_is_gone_and_comes_back() {
    let server = Server::start(|asked| {
        if !asked.is("watch=1") {
            return Reply::json(200, &list("5", &[slice("a", "5", &["192.0.2.1"])]));
        }
        Reply::parts(vec![
            line(&event("DELETED", &slice("a", "6", &["192.0.2.1"]))),
            line(&event("ADDED", &slice("a", "7", &["192.0.2.1"]))),
            open(),
        ])
    })
    .await;
    let mut feed = feed(&server);
    assert_eq!(name(step(&mut feed).await), "all 1");
    assert_eq!(name(change(&mut feed).await), "gone a");
    assert_eq!(name(change(&mut feed).await), "put a@7");
}

#[tokio::test]
async fn k_25_a_server_that_ends_every_watch_at_once_is_not_asked_without_end() {
    let server = Server::start(|asked| {
        if asked.is("watch=1") {
            Reply::events(&[])
        } else {
            Reply::json(200, &list("5", &[]))
        }
    })
    .await;
    let mut feed = feed(&server);
    step(&mut feed).await.unwrap();
    let error = change(&mut feed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(server.asked("watch=1").len() <= 7);
}

#[tokio::test]
async fn k_25_a_watch_that_lived_is_opened_again_at_once_and_where_it_was() {
    let server = Server::start(|asked| {
        if !asked.is("watch=1") {
            return Reply::json(200, &list("5", &[]));
        }
        if asked.is("resourceVersion=6") {
            return Reply::parts(vec![line(&event("MODIFIED", &slice("a", "8", &[]))), open()]);
        }
        Reply::events(&[event("ADDED", &slice("a", "6", &[]))])
    })
    .await;
    let mut feed = feed(&server);
    step(&mut feed).await.unwrap();
    assert_eq!(name(change(&mut feed).await), "put a@6");
    assert_eq!(name(change(&mut feed).await), "put a@8");
    // One that is of no use is looked into by a list, and waits.
    assert_eq!(server.asked("limit=").len(), 1, "no list in between");
}

#[tokio::test]
async fn k_26_a_version_the_server_has_yet_to_reach_is_noticed() {
    let server = Server::start(|asked| {
        if asked.is("watch=1") {
            return Reply::parts(vec![Part::Wait(Duration::from_millis(800))]);
        }
        if asked.is("resourceVersionMatch=NotOlderThan") {
            return Reply::refuse(504, "Timeout", "ResourceVersionTooLarge");
        }
        Reply::json(200, &list("1000000", &[]))
    })
    .await;
    let mut feed = feed(&server);
    step(&mut feed).await.unwrap();
    assert_eq!(
        change(&mut feed).await.unwrap_err().kind(),
        ErrorKind::WatchExpired
    );
    let probe = &server.asked("NotOlderThan")[0];
    assert!(
        probe.is("resourceVersion=1000000") && probe.is("limit=1"),
        "{}",
        probe.line
    );
}

#[tokio::test]
async fn k_30_pages_are_of_one_moment_or_of_none() {
    let server = Server::start(|asked| {
        let page = |name: &str, more: &str| {
            let body = json!({
                "metadata": { "resourceVersion": "5", "continue": more }, "items": [slice(name, "5", &[])],
            });
            Reply::json(200, &body)
        };
        match asked.nth {
            0 | 2 => page("a", "token one"),
            1 => {
                let mut body = refusal(410, "Expired", "");
                body["metadata"] = json!({ "continue": "an inconsistent rest" });
                Reply::json(410, &body)
            }
            3 => page("b", ""),
            _ => Reply::parts(vec![open()]),
        }
    })
    .await;
    let mut feed = feed(&server);
    assert_eq!(name(step(&mut feed).await), "all 2");
    assert!(server.asked("inconsistent").is_empty());
    for page in server.asked("continue=token+one") {
        assert!(page.is("labelSelector=") && page.is("limit="), "{}", page.line);
    }
}

#[tokio::test]
async fn k_31_lines_may_be_cut_and_joined_anyhow() {
    let events = format!(
        "{}\n\n{}\r\n{}\n",
        event("ADDED", &slice("a", "6", &["192.0.2.1"])),
        event("ADDED", &slice("b", "7", &["192.0.2.2"])),
        event("DELETED", &slice("a", "8", &["192.0.2.1"])),
    );
    for size in [1, 7, 100_000] {
        let events = events.clone();
        let server = Server::start(move |asked| {
            if !asked.is("watch=1") {
                return Reply::json(200, &list("5", &[]));
            }
            let pieces = events.as_bytes().chunks(size);
            Reply::parts(
                pieces
                    .map(|piece| Part::Data(piece.to_vec()))
                    .chain([open()])
                    .collect(),
            )
        })
        .await;
        let mut feed = feed(&server);
        step(&mut feed).await.unwrap();
        for wanted in ["put a@6", "put b@7", "gone a"] {
            assert_eq!(name(change(&mut feed).await), wanted, "in pieces of {size}");
        }
    }
}

#[tokio::test]
async fn k_31_a_line_of_more_than_a_mebibyte_is_read() {
    let addresses: Vec<_> = (0..60_000).map(|n| format!("192.0.2.{}", n % 250)).collect();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let big = event("ADDED", &slice("big", "6", &addresses));
    assert!(big.to_string().len() > 1 << 20);
    let server = Server::start(move |asked| {
        if asked.is("watch=1") {
            Reply::parts(vec![line(&big), open()])
        } else {
            Reply::json(200, &list("5", &[]))
        }
    })
    .await;
    let mut feed = feed(&server);
    step(&mut feed).await.unwrap();
    assert_eq!(name(change(&mut feed).await), "put big@6");
}

#[tokio::test]
async fn k_31_half_a_line_is_discarded_and_asked_for_again() {
    let server = Server::start(|asked| {
        if !asked.is("watch=1") {
            return Reply::json(200, &list("5", &[]));
        }
        if asked.is("resourceVersion=6") {
            return Reply::parts(vec![line(&event("ADDED", &slice("b", "7", &[]))), open()]);
        }
        let half = event("ADDED", &slice("b", "7", &[])).to_string().into_bytes();
        let half = half[..40].to_vec();
        Reply::parts(vec![
            line(&event("ADDED", &slice("a", "6", &[]))),
            Part::Data(half),
            // Longer than the client takes to read what came before.
            Part::Wait(Duration::from_millis(100)),
            Part::Cut,
        ])
    })
    .await;
    let mut feed = feed(&server);
    step(&mut feed).await.unwrap();
    assert_eq!(name(change(&mut feed).await), "put a@6");
    assert_eq!(name(change(&mut feed).await), "put b@7");
    assert_eq!(server.asked("limit=").len(), 1);
}

#[tokio::test]
async fn k_31_a_watch_that_broke_before_it_told_anything_is_opened_again_where_it_was() {
    let server = Server::start(|asked| match asked.nth {
        0 => Reply::json(200, &list("5", &[])),
        1 => Reply::parts(vec![Part::Wait(Duration::from_millis(100)), Part::Cut]),
        _ => Reply::parts(vec![line(&event("ADDED", &slice("a", "6", &[]))), open()]),
    })
    .await;
    let mut feed = feed(&server);
    step(&mut feed).await.unwrap();
    assert_eq!(name(change(&mut feed).await), "put a@6");
    assert_eq!(server.asked("limit=").len(), 1, "no list in between");
    for watch in &server.asked("watch=1") {
        assert!(watch.is("resourceVersion=5"), "{}", watch.line);
    }
}

/// kubernetes-client/python#1148, kube#1316, kube#1791: a dead connection says nothing for ever.
#[tokio::test]
async fn issue_kube_1316_a_silent_watch_is_cut() {
    let server = Server::start(|asked| {
        if asked.is("watch=1") {
            Reply::parts(vec![open()])
        } else {
            Reply::json(200, &list("5", &[]))
        }
    })
    .await;
    let mut feed = feed(&server);
    step(&mut feed).await.unwrap();
    let error = change(&mut feed).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
}

#[test]
fn a_15_a_line_without_end_is_an_error() {
    let mut lines = Lines::default();
    let piece = vec![b' '; 1 << 20];
    let failed = (0..20).find_map(|_| lines.push(&piece).err()).expect("an error");
    assert_eq!(failed.kind(), ErrorKind::Protocol);
}
