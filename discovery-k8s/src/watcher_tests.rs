use discovery_core::{Backend, ErrorKind, Query};
use serde_json::json;
use tokio::time::timeout;

use super::*;
use crate::{
    backend,
    testing::{Part, Reply, Server, event, line, list, slice},
};

const PATIENCE: Duration = Duration::from_secs(20);

fn start(backend: &Backend) -> WatchStream {
    backend.watcher.watch(&Query::service("web").unwrap(), None)
}

async fn next(watch: &mut WatchStream) -> Result<WatchEvent> {
    timeout(PATIENCE, watch.next())
        .await
        .expect("an event in time")
        .expect("an event")
}

async fn change(watch: &mut WatchStream) -> Change {
    loop {
        let event = next(watch).await.unwrap();
        if event.change != Change::Confirmed {
            return event.change;
        }
    }
}

fn hosts(change: &Change) -> String {
    match change {
        Change::Reset(all) | Change::Upsert(all) => {
            let hosts: Vec<_> = all.iter().map(|instance| instance.host.as_ref()).collect();
            let what = if matches!(change, Change::Reset(_)) {
                "all"
            } else {
                "put"
            };
            format!("{what} {}", hosts.join(" "))
        }
        Change::Remove(keys) => format!("gone {}", keys.len()),
        Change::Confirmed => "confirmed".to_owned(),
    }
}

fn open() -> Part {
    Part::Wait(Duration::from_secs(60))
}

#[tokio::test]
async fn k_32_what_is_told_twice_changes_nothing_and_a_new_uid_is_another_slice() {
    let again = {
        let mut again = slice("a", "8", &["192.0.2.2"]);
        again["metadata"]["uid"] = json!("another");
        again
    };
    let server = Server::start(move |asked| {
        if asked.is("/services") || asked.is("/leases") {
            return if asked.is("watch=1") {
                Reply::parts(vec![open()])
            } else {
                Reply::json(200, &list("5", &[]))
            };
        }
        if !asked.is("watch=1") {
            return Reply::json(200, &list("5", &[slice("a", "5", &["192.0.2.1"])]));
        }
        let same = event("MODIFIED", &slice("a", "5", &["192.0.2.1"]));
        Reply::parts(vec![
            line(&same),
            line(&same),
            line(&event("ADDED", &again)),
            open(),
        ])
    })
    .await;
    let backend = backend(server.config()).unwrap();
    let mut watch = start(&backend);
    assert_eq!(hosts(&change(&mut watch).await), "all 192.0.2.1");
    assert_eq!(hosts(&change(&mut watch).await), "put 192.0.2.2", "told once");
    assert_eq!(hosts(&change(&mut watch).await), "gone 1");
}

#[tokio::test]
async fn nothing_is_confirmed_while_one_of_the_feeds_is_silent() {
    let server = Server::start(|asked| {
        if !asked.is("watch=1") {
            return Reply::json(200, &list("5", &[]));
        }
        if asked.is("/services") {
            return Reply::parts(vec![open()]);
        }
        let mark = event("BOOKMARK", &json!({ "metadata": { "resourceVersion": "5" } }));
        Reply::parts(vec![
            line(&mark),
            Part::Wait(Duration::from_millis(200)),
            line(&mark),
        ])
    })
    .await;
    let backend = backend(server.config()).unwrap();
    let mut watch = start(&backend);
    assert_eq!(hosts(&change(&mut watch).await), "all ");
    let end = next(&mut watch).await.unwrap_err();
    assert_eq!(end.kind(), ErrorKind::Timeout, "{end:?}");
}

#[tokio::test]
async fn pods_need_no_leases_and_what_we_registered_does() {
    for managed in [false, true] {
        let server = Server::start(move |asked| {
            if asked.is("watch=1") {
                return Reply::parts(vec![open()]);
            }
            if !asked.is("endpointslices") {
                return Reply::json(200, &list("5", &[]));
            }
            let mut pod = slice("a", "5", &["192.0.2.1"]);
            if managed {
                pod["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] =
                    json!(crate::record::MANAGER);
                let record = json!({ "id": "one", "port": 80, "weight": 1, "status": "passing", "ttl": 10 });
                pod["metadata"]["annotations"] =
                    json!({ "discovery.system-control.io/instance": record.to_string() });
            }
            Reply::json(200, &list("5", &[pod]))
        })
        .await;
        let backend = backend(server.config()).unwrap();
        let mut watch = start(&backend);
        assert_eq!(hosts(&change(&mut watch).await), "all 192.0.2.1");
        assert_eq!(!server.asked("/leases").is_empty(), managed);
    }
}

#[tokio::test]
async fn k_33_a_failure_is_an_error_and_never_an_empty_view() {
    for status in [401, 403, 429, 500, 503] {
        let server = Server::start(move |_| Reply::refuse(status, "No", "")).await;
        let backend = backend(server.config()).unwrap();
        assert!(next(&mut start(&backend)).await.is_err(), "{status}");
        let query = Query::service("web").unwrap();
        assert!(backend.registry.instances(&query).await.is_err(), "{status}");
    }
}

#[tokio::test]
async fn what_is_no_service_name_never_becomes_a_selector() {
    let server = Server::start(|_| Reply::json(200, &list("5", &[]))).await;
    let backend = backend(server.config()).unwrap();
    for bad in ["a,b", "a=b", "größe", "A", "a b", "*"] {
        let query = Query::service(bad).unwrap();
        let error = backend.registry.instances(&query).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad}");
        assert_eq!(
            next(&mut backend.watcher.watch(&query, None))
                .await
                .unwrap_err()
                .kind(),
            ErrorKind::InvalidInput
        );
    }
    assert!(server.asked("").is_empty());
}
