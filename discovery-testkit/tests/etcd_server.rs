//! The launcher on real etcd, old and new; `scripts/test` gets them. What cannot run is shown as ignored.
#![expect(
    clippy::unwrap_used,
    reason = "these are tests, without the harness that would say so"
)]

mod support;

use std::{path::PathBuf, time::Duration};

use discovery_core::{ErrorKind, Result};
use discovery_testkit::{
    eventually,
    server::{
        Authority, Server,
        etcd::{Age, Etcd, Permission},
    },
};
use libtest_mimic::Failed;
use tokio::{process::Command, time::timeout};

const DEADLINE: Duration = Duration::from_secs(90);

type Case = (&'static str, fn(Age, PathBuf) -> Result<(), Failed>);

macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        [$((stringify!($name), |age, binary| support::run($name(age, binary)))),+]
    };
}

fn main() {
    let cases: [Case; 9] = cases![
        serves_and_says_its_version,
        restarted_in_place_it_remembers_and_empty_it_forgets,
        frozen_it_answers_nothing,
        restored_its_revisions_go_back,
        compacted_it_forgets_revisions,
        users_may_do_what_their_role_allows,
        tls_asks_for_a_certificate,
        a_cluster_survives_the_loss_of_its_leader,
        a_member_without_data_learns_it_anew,
    ];
    let trials = Age::ALL.into_iter().flat_map(|age| {
        cases.map(|(name, case)| {
            support::trial(age.name(), age.variable(), age.binary(), name, move |binary| {
                case(age, binary)
            })
        })
    });
    support::conclude(trials.collect());
}

/// The value of a key, an empty text where there is none.
async fn get(etcd: &Etcd, key: &str) -> Result<String> {
    let said = etcd.ctl(&["get", "--print-value-only", key]).await?;
    Ok(said.trim_end().to_owned())
}

async fn put(etcd: &Etcd, key: &str, value: &str) {
    etcd.ctl(&["put", key, value]).await.unwrap();
}

async fn serves_and_says_its_version(age: Age, binary: PathBuf) {
    let etcd = Etcd::dev(binary).build().await.unwrap();
    let down = etcd.version().await.unwrap_err();
    assert_eq!(down.kind(), ErrorKind::Unavailable, "{down}");
    etcd.start().await.unwrap();
    let version = etcd.version().await.unwrap();
    assert_eq!(version.starts_with("3.4."), age == Age::Old, "{version}");
    assert_eq!(etcd.url(), format!("http://{}", etcd.endpoint()));
    assert!(etcd.leads().await.unwrap());
    put(&etcd, "a", "1").await;
    assert_eq!(get(&etcd, "a").await.unwrap(), "1");

    // The shortest lease is one and a half elections.
    let lease = etcd.ctl(&["lease", "grant", "1"]).await.unwrap();
    assert!(lease.contains("TTL(2s)"), "{lease}");
    let lease = lease.split(' ').nth(1).unwrap();
    etcd.ctl(&["put", "b", "2", "--lease", lease]).await.unwrap();
    eventually("the lease's end", DEADLINE, async || {
        get(&etcd, "b").await.unwrap().is_empty()
    })
    .await;

    support::ends(&etcd, etcd.pid()).await;
}

async fn restarted_in_place_it_remembers_and_empty_it_forgets(_: Age, binary: PathBuf) {
    let etcd = Etcd::dev(binary).build().await.unwrap();
    etcd.start().await.unwrap();
    put(&etcd, "a", "1").await;
    etcd.kill().await.unwrap();
    etcd.start().await.unwrap();
    assert_eq!(get(&etcd, "a").await.unwrap(), "1");
    etcd.restart().await.unwrap();
    assert_eq!(get(&etcd, "a").await.unwrap(), "1");
    etcd.restart_empty().await.unwrap();
    assert_eq!(get(&etcd, "a").await.unwrap(), "");
    assert_eq!(etcd.revision().await.unwrap(), 1);
}

async fn frozen_it_answers_nothing(_: Age, binary: PathBuf) {
    let etcd = Etcd::dev(binary).build().await.unwrap();
    etcd.start().await.unwrap();
    put(&etcd, "a", "1").await;
    etcd.pause().await.unwrap();
    let quiet = Duration::from_secs(1);
    assert!(timeout(quiet, get(&etcd, "a")).await.is_err());
    etcd.resume().unwrap();
    assert_eq!(get(&etcd, "a").await.unwrap(), "1");
}

async fn restored_its_revisions_go_back(_: Age, binary: PathBuf) {
    let etcd = Etcd::dev(binary).build().await.unwrap();
    etcd.start().await.unwrap();
    put(&etcd, "a", "before").await;
    let before = etcd.revision().await.unwrap();
    let backup = etcd.dir().join("backup");
    etcd.save(&backup).await.unwrap();
    put(&etcd, "a", "after").await;
    assert!(etcd.revision().await.unwrap() > before);
    etcd.restore(&backup).await.unwrap();
    assert_eq!(get(&etcd, "a").await.unwrap(), "before");
    assert_eq!(etcd.revision().await.unwrap(), before);
}

async fn compacted_it_forgets_revisions(_: Age, binary: PathBuf) {
    let etcd = Etcd::dev(binary).build().await.unwrap();
    etcd.start().await.unwrap();
    for value in ["1", "2", "3"] {
        put(&etcd, "a", value).await;
    }
    let revision = etcd.revision().await.unwrap();
    etcd.compact(revision).await.unwrap();
    let old = (revision - 1).to_string();
    let gone = etcd.ctl(&["get", "a", "--rev", &old]).await.unwrap_err();
    assert!(format!("{gone:#}").contains("compacted"), "{gone:#}");
}

async fn users_may_do_what_their_role_allows(_: Age, binary: PathBuf) {
    let builder = Etcd::dev(binary).token_ttl(Duration::from_secs(3));
    let etcd = builder.build().await.unwrap();
    etcd.start().await.unwrap();
    etcd.add_user("web", "w", Permission::ReadWrite, "/web/")
        .await
        .unwrap();
    etcd.enable_auth("very secret").await.unwrap();
    assert!(!format!("{etcd:?}").contains("very secret"));
    put(&etcd, "/db/1", "root may").await;

    let as_web = async |arguments: &[&str]| etcd.ctl_as("web", "w", arguments).await;
    as_web(&["put", "/web/1", "x"]).await.unwrap();
    let denied = as_web(&["put", "/db/1", "x"]).await.unwrap_err();
    assert!(format!("{denied:#}").contains("permission denied"), "{denied:#}");

    etcd.restart().await.unwrap();
    assert_eq!(get(&etcd, "/db/1").await.unwrap(), "root may");
    etcd.disable_auth().await.unwrap();
    put(&etcd, "/db/1", "anyone may").await;
}

async fn tls_asks_for_a_certificate(_: Age, binary: PathBuf) {
    let plain = Etcd::dev(&binary).tls().build().await.unwrap();
    plain.start().await.unwrap();
    assert!(plain.url().starts_with("https://"));
    put(&plain, "a", "1").await;

    let etcd = Etcd::dev(&binary).mutual_tls().build().await.unwrap();
    etcd.start().await.unwrap();
    put(&etcd, "a", "1").await;
    let ca = etcd.authority().unwrap().ca();
    let stranger = Authority::make()
        .await
        .unwrap()
        .client("root", &[])
        .await
        .unwrap();
    for identity in [Some(etcd.client_identity().unwrap()), Some(&stranger), None] {
        let mut command = Command::new(binary.with_file_name("etcdctl"));
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", etcd.url(), "--command-timeout", "2s"]);
        command.arg("--cacert").arg(&ca);
        if let Some(identity) = identity {
            command
                .arg("--cert")
                .arg(&identity.cert)
                .arg("--key")
                .arg(&identity.key);
        }
        let answer = command.args(["get", "a"]).output().await.unwrap();
        let own = identity.is_some_and(|identity| *identity != stranger);
        assert_eq!(answer.status.success(), own, "{identity:?}: {answer:?}");
    }
}

async fn a_cluster_survives_the_loss_of_its_leader(_: Age, binary: PathBuf) {
    let cluster = Etcd::dev(binary).cluster().await.unwrap();
    cluster.start().await.unwrap();
    let first = eventually("a leader", DEADLINE, || cluster.leader()).await;
    put(first, "a", "1").await;
    first.kill().await.unwrap();
    let second = eventually("another leader", DEADLINE, || cluster.leader()).await;
    assert_ne!(second.name(), first.name());
    eventually("a write", DEADLINE, || second.ctl(&["put", "a", "2"])).await;

    // Two of three frozen: the third reads no more, and does not hang.
    let third = cluster
        .members()
        .iter()
        .find(|one| one.pid().is_some() && one.name() != second.name());
    second.pause().await.unwrap();
    get(third.unwrap(), "a").await.unwrap_err();
    second.resume().unwrap();
    cluster.start().await.unwrap();
    for member in cluster.members() {
        eventually("the last write", DEADLINE, async || {
            get(member, "a").await.unwrap_or_default() == "2"
        })
        .await;
    }
    cluster.stop().await.unwrap();
    assert!(cluster.members().iter().all(|member| member.pid().is_none()));
}

async fn a_member_without_data_learns_it_anew(_: Age, binary: PathBuf) {
    let cluster = Etcd::dev(binary).cluster().await.unwrap();
    cluster.start().await.unwrap();
    let [first, second, _] = cluster.members();
    put(first, "a", "1").await;
    first.enable_auth("secret").await.unwrap();
    assert_eq!(get(second, "a").await.unwrap(), "1", "all know the password");
    cluster.replace(0).await.unwrap();
    eventually("what it was told", DEADLINE, async || {
        get(first, "a").await.unwrap_or_default() == "1"
    })
    .await;
    let members = second.ctl_json(&["member", "list"]).await.unwrap();
    assert_eq!(members["members"].as_array().unwrap().len(), 3);
    assert_eq!(cluster.replace(3).await.unwrap_err().kind(), ErrorKind::NotFound);
}
