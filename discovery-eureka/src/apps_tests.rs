use serde_json::{Value, json};

use super::*;
use crate::client::parse;

fn one(id: &str, app: &str, status: &str, action: &str) -> Value {
    json!({
        "instanceId": id, "app": app, "hostName": "h", "ipAddr": "192.0.2.1", "status": status, "actionType": action,
        "port": { "$": 80, "@enabled": "true" }, "vipAddress": "web,www", "secureVipAddress": "sec",
    })
}

/// Applications of `(app, instances)`.
fn with<T>(apps: &[(&str, &[Value])], take: impl FnOnce(&[wire::Application<'_>]) -> T) -> T {
    let apps: Vec<_> = apps
        .iter()
        .map(|(name, instances)| json!({ "name": name, "instance": instances }))
        .collect();
    let text = json!({ "applications": { "application": apps } }).to_string();
    let root: wire::Root<'_> = parse(text.as_bytes(), "x").unwrap();
    take(&root.applications.application.0)
}

fn read(apps: &[(&str, &[Value])], before: &Apps) -> Apps {
    with(apps, |all| Apps::read(all, &EurekaConfig::default(), before))
}

fn ids(apps: &Apps, which: &Which) -> Vec<String> {
    let mut ids: Vec<_> = apps.select(which).map(|i| i.key.id.to_string()).collect();
    ids.sort();
    ids
}

#[test]
fn u_21_changes_are_taken_in_once_in_their_order() {
    let mut apps = read(
        &[(
            "WEB",
            &[one("a", "WEB", "UP", "ADDED"), one("b", "WEB", "UP", "ADDED")],
        )],
        &Apps::default(),
    );
    let changes = [
        one("c", "WEB", "UP", "ADDED"),
        one("a", "WEB", "UP", "DELETED"),
        one("b", "WEB", "DOWN", "MODIFIED"),
        one("never", "WEB", "UP", "DELETED"),
        // The last one of an id counts.
        one("d", "WEB", "UP", "DELETED"),
        one("d", "WEB", "UP", "ADDED"),
    ];
    let before = apps.clone();
    for round in 0..3 {
        let last = apps.clone();
        with(&[("WEB", &changes)], |changes| {
            apps.apply(changes, &EurekaConfig::default());
        });
        assert_eq!(ids(&apps, &Which::All), ["b", "c", "d"], "round {round}");
        assert_eq!(
            round == 0,
            !apps.since(&last, &Which::All).is_empty(),
            "round {round}"
        );
    }
    let difference = apps.since(&before, &Which::App("WEB".to_owned()));
    assert_eq!((difference.upserts.len(), difference.removals.len()), (3, 1));
    // An application without instances is gone.
    let gone = ["b", "c", "d"].map(|id| one(id, "WEB", "UP", "DELETED"));
    with(&[("WEB", &gone)], |changes| {
        apps.apply(changes, &EurekaConfig::default());
    });
    assert_eq!((apps.len(), apps.hashcode()), (0, String::new()));
}

#[test]
fn u_22_the_hash_counts_every_status_in_the_order_of_the_alphabet() {
    let all = ["UP", "DOWN", "UP", "STARTING", "OUT_OF_SERVICE", "UP", "odd"];
    let all: Vec<_> = all
        .iter()
        .enumerate()
        .map(|(n, status)| one(&n.to_string(), "WEB", status, "ADDED"))
        .collect();
    let apps = read(
        &[("WEB", &all), ("API", &[one("x", "API", "DOWN", "ADDED")])],
        &Apps::default(),
    );
    assert_eq!(
        apps.hashcode(),
        "DOWN_2_OUT_OF_SERVICE_1_STARTING_1_UNKNOWN_1_UP_3_"
    );
    assert_eq!(Apps::default().hashcode(), "");
}

#[test]
fn what_did_not_change_is_shared() {
    let all = [one("a", "WEB", "UP", "ADDED"), one("b", "WEB", "UP", "ADDED")];
    let before = read(&[("WEB", &all)], &Apps::default());
    let after = read(
        &[("WEB", &all), ("API", &[one("x", "API", "UP", "ADDED")])],
        &before,
    );
    assert!(Arc::ptr_eq(&before.0["WEB"], &after.0["WEB"]));
    assert!(after.since(&before, &Which::App("WEB".to_owned())).is_empty());
    assert_eq!((before.missing_in(&after), after.missing_in(&before)), (0, 1));
}

#[test]
fn vip_addresses_are_looked_up_as_they_are_written() {
    let apps = read(&[("WEB", &[one("a", "WEB", "UP", "ADDED")])], &Apps::default());
    for (look_up, name, found) in [
        (LookUp::App, "Web", 1),
        (LookUp::App, "we", 0),
        (LookUp::Vip, "www", 1),
        (LookUp::Vip, "WWW", 0),
        (LookUp::Vip, "sec", 0),
        (LookUp::SecureVip, "sec", 1),
    ] {
        assert_eq!(
            ids(&apps, &Which::new(look_up, name)).len(),
            found,
            "{look_up:?} {name}"
        );
    }
}
