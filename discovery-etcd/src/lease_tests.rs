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
            members: HashMap::new(),
            unsure: HashSet::new(),
            retired: false,
        },
    );
}

#[test]
fn e_8_e_39_ids_keep_their_64_bits() {
    for id in [1, (1 << 53) + 1, i64::MAX] {
        assert_eq!(id_of(&group(id)), Some(id));
    }
    assert_eq!(id_of(&LeaseGroup::new("nonsense")), None);
    // As `etcdctl lease list` has it, all digits of it.
    assert_eq!(group(0x0e32_a221_5b6c_6006).as_str(), "0e32a2215b6c6006");
}

#[tokio::test]
async fn e_2_e_9_no_time_left_is_a_lost_lease_and_no_error_of_the_server() {
    for none in [0, -1] {
        let leases = leases();
        grant(&leases, 7);
        leases.answered(7, 12).unwrap();
        assert_eq!(leases.ttl(7), Some(Duration::from_secs(12)), "E-1");
        assert_eq!(leases.answered(7, none).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(leases.ttl(7), None);
        assert!(lock(&leases.state).shared.is_empty(), "the next gets another");
    }
}

#[tokio::test]
async fn a_withdrawn_member_leaves_the_lease_to_its_siblings() {
    let leases = leases();
    grant(&leases, 7);
    for key in ["a", "b"] {
        leases.writing(7, key);
        leases.wrote(7, key, true);
    }
    leases.withdrawn("a");
    assert!(leases.holds(7, ["b"].into_iter()));
    assert!(!leases.holds(7, ["a", "b"].into_iter()));
    assert_eq!((leases.of("a"), leases.of("b")), (None, Some(7)));
}

/// a write whose end is unknown may arrive after the withdrawal; its lease must not be kept alive then.
#[tokio::test]
async fn a_9_a_late_write_does_not_outlive_its_withdrawal() {
    let leases = leases();
    grant(&leases, 7);
    leases.writing(7, "b");
    leases.wrote(7, "b", true);
    leases.writing(7, "a");
    leases.withdrawn("a");
    assert!(
        !leases.holds(7, ["b"].into_iter()),
        "`b` is to be registered again"
    );
    assert_eq!(leases.beat(7).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(lock(&leases.state).shared.is_empty(), "by a lease of its own");
}

#[tokio::test]
async fn a_record_lives_by_one_lease() {
    let leases = leases();
    grant(&leases, 7);
    leases.wrote(7, "a", true);
    grant(&leases, 8);
    leases.wrote(8, "a", true);
    assert_eq!(leases.of("a"), Some(8));
}

#[tokio::test]
async fn health_that_shows_is_not_written_again() {
    let leases = leases();
    grant(&leases, 7);
    leases.wrote(7, "a", true);
    let report = HealthReport::default();
    let records = [("a".to_owned(), &report), ("b".to_owned(), &report)];
    assert_eq!(leases.unlike(7, &records), [0, 1], "nobody has looked yet");
    leases.shown(7, "a", &report);
    assert_eq!(leases.unlike(7, &records), [1]);
    leases.wrote(7, "a", true);
    assert_eq!(
        leases.unlike(7, &records),
        [0, 1],
        "registering may have changed it"
    );
}
