use discovery_core::{InstanceId, ServiceName};

use super::*;
use crate::config::EtcdConfig;

fn leases() -> Leases {
    Leases::new(Client::new(EtcdConfig::default()).unwrap())
}

fn grant(leases: &Leases, id: i64) {
    let mut state = lock(&leases.state);
    state.shared.insert(30, id);
    state.held.insert(
        id,
        Held {
            ttl: Duration::from_secs(30),
            confirmed: Instant::now(),
            members: IndexMap::default(),
            unsure: HashSet::new(),
            retired: false,
        },
    );
}

fn key(id: &str) -> InstanceKey {
    InstanceKey::new("etcd", ServiceName::observed("web"), InstanceId::observed(id))
}

fn name(id: &str) -> Name {
    Name::from(&key(id))
}

/// Those of these records that lease 7 does not show as they are by default.
fn unlike(leases: &Leases, ids: &[&str]) -> Option<Vec<usize>> {
    let records: Vec<_> = ids.iter().map(|id| (key(id), HealthReport::default())).collect();
    leases.unlike(7, &records)
}

#[test]
fn e_8_e_39_ids_keep_their_64_bits() {
    for id in [1, (1 << 53) + 1, i64::MAX, -1] {
        assert_eq!(id_of(&group(id)), Some(id));
    }
    for other in ["", "nonsense", "+1", "0e32a2215b6c60060"] {
        assert_eq!(id_of(&LeaseGroup::new(other)), None, "{other}");
    }
    // As `etcdctl lease list` has it, all digits of it.
    assert_eq!(group(0x0e32_a221_5b6c_6006).as_str(), "0e32a2215b6c6006");
}

#[tokio::test]
async fn e_2_e_9_no_time_left_is_a_lost_lease_and_no_error_of_the_server() {
    for none in [0, -1] {
        let leases = leases();
        grant(&leases, 7);
        leases.answered(7, Instant::now(), 12).unwrap();
        assert_eq!(leases.ttl(7), Some(Duration::from_secs(12)), "E-1");
        let lost = leases.answered(7, Instant::now(), none).unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::NotFound);
        assert_eq!(leases.ttl(7), None);
        assert!(lock(&leases.state).shared.is_empty(), "the next gets another");
    }
}

#[tokio::test]
async fn a_withdrawn_member_leaves_the_lease_to_its_siblings() {
    let leases = leases();
    grant(&leases, 7);
    for id in ["a", "b"] {
        leases.writing(7, &name(id));
        leases.wrote(7, &name(id), true);
    }
    leases.withdrawn(&name("a"));
    assert!(unlike(&leases, &["b"]).is_some());
    assert_eq!(unlike(&leases, &["a", "b"]), None);
    assert_eq!((leases.of(&name("a")), leases.of(&name("b"))), (None, Some(7)));
}

/// a write whose end is unknown may arrive after the withdrawal; its lease must not be kept alive then.
#[tokio::test]
async fn a_9_a_late_write_does_not_outlive_its_withdrawal() {
    let leases = leases();
    grant(&leases, 7);
    leases.writing(7, &name("b"));
    leases.wrote(7, &name("b"), true);
    leases.writing(7, &name("a"));
    leases.withdrawn(&name("a"));
    assert_eq!(unlike(&leases, &["b"]), None, "`b` is to be registered again");
    assert_eq!(leases.beat(7).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(lock(&leases.state).shared.is_empty(), "by a lease of its own");
}

#[tokio::test]
async fn a_record_lives_by_one_lease() {
    let leases = leases();
    grant(&leases, 7);
    leases.wrote(7, &name("a"), true);
    grant(&leases, 8);
    leases.wrote(8, &name("a"), true);
    assert_eq!(leases.of(&name("a")), Some(8));
    assert_eq!(unlike(&leases, &["a"]), None, "not by the one before");
}

#[tokio::test]
async fn records_may_come_in_any_order() {
    let leases = leases();
    grant(&leases, 7);
    for id in ["a", "b", "c"] {
        leases.wrote(7, &name(id), true);
        leases.shown(7, &name(id), &HealthReport::default());
    }
    leases.wrote(7, &name("b"), true);
    for (order, changed) in [(["a", "b", "c"], 1), (["c", "a", "b"], 2), (["b", "a", "c"], 0)] {
        assert_eq!(unlike(&leases, &order), Some(vec![changed]), "{order:?}");
    }
}

#[tokio::test]
async fn health_that_shows_is_not_written_again() {
    let leases = leases();
    grant(&leases, 7);
    leases.wrote(7, &name("a"), true);
    leases.wrote(7, &name("b"), true);
    assert_eq!(
        unlike(&leases, &["a", "b"]).unwrap(),
        [0, 1],
        "nobody has looked yet"
    );
    leases.shown(7, &name("a"), &HealthReport::default());
    assert_eq!(unlike(&leases, &["a", "b"]).unwrap(), [1]);
    leases.wrote(7, &name("a"), true);
    assert_eq!(
        unlike(&leases, &["a", "b"]).unwrap(),
        [0, 1],
        "registering may have changed it"
    );
}
