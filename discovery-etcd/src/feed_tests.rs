use super::*;

const CLUSTER: u64 = 0xCAFE;

fn place(revision: i64) -> Place {
    Place {
        cluster: CLUSTER,
        revision,
    }
}

/// An answer of our watch, which has the id 0.
fn answer(revision: i64, events: &[(&str, i64)]) -> WatchResponse {
    WatchResponse {
        header: Some(Header {
            cluster_id: CLUSTER,
            member_id: 1,
            revision,
        }),
        events: events.iter().map(|(key, revision)| put(key, *revision)).collect(),
        ..WatchResponse::default()
    }
}

fn put(key: &str, mod_revision: i64) -> Event {
    Event {
        kv: Some(KeyValue {
            key: key.as_bytes().to_vec(),
            mod_revision,
            ..KeyValue::default()
        }),
        ..Event::default()
    }
}

/// A watch after revision 5 that the server has created.
fn created(trusted: bool) -> Tracker {
    let mut tracker = Tracker::new(place(5), trusted);
    let told = tracker.take(WatchResponse {
        created: true,
        ..answer(9, &[])
    });
    assert_eq!(told.unwrap(), None);
    tracker
}

fn keys(told: Result<Option<Told>, (Fault, Error)>) -> (Vec<String>, i64) {
    match told.unwrap().unwrap() {
        Told::Changed(events, place) => {
            let key = |event: Event| String::from_utf8(event.kv.unwrap().key).unwrap();
            (events.into_iter().map(key).collect(), place.revision)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn e_13_e_14_the_place_is_after_the_last_event_and_never_a_created_header() {
    let mut tracker = created(true);
    assert_eq!(
        tracker.place,
        place(5),
        "the header said 9: events up to 9 are yet to come"
    );
    assert_eq!(
        keys(tracker.take(answer(9, &[("a", 6), ("b", 8)]))),
        (vec!["a".into(), "b".into()], 8)
    );
}

#[test]
fn e_15_compaction_has_revision_zero_and_no_reason() {
    let mut tracker = created(true);
    let (_, failed) = tracker
        .take(WatchResponse {
            canceled: true,
            compact_revision: 7,
            ..WatchResponse::default()
        })
        .unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::WatchExpired);
    assert_eq!(tracker.place, place(5));
}

#[test]
fn issue_etcd_22_created_and_canceled_at_once_is_no_success() {
    let mut tracker = Tracker::new(place(5), true);
    let (_, failed) = tracker
        .take(WatchResponse {
            created: true,
            canceled: true,
            watch_id: -1,
            ..WatchResponse::default()
        })
        .unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Unavailable);
}

#[test]
fn e_17_another_cluster_or_an_older_revision_is_read_anew() {
    let mut restored = Tracker::new(place(5), true);
    let (_, failed) = restored
        .take(WatchResponse {
            created: true,
            ..answer(4, &[])
        })
        .unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::WatchExpired);
    let mut other = created(true);
    let mut foreign = answer(50, &[]);
    foreign.header.as_mut().unwrap().cluster_id = 1;
    let (_, failed) = other.take(foreign).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::WatchExpired);
}

#[test]
fn e_20_progress_moves_the_place_only_where_it_can_be_trusted() {
    for (trusted, revision) in [(true, 12), (false, 5)] {
        let mut tracker = created(trusted);
        let told = tracker.take(answer(12, &[])).unwrap();
        assert_eq!(told, Some(Told::Confirmed(place(revision))));
    }
    for (version, trusted) in [
        ("3.4.23", false),
        ("3.4.31", true),
        ("3.5.12", false),
        ("3.5.16", true),
        ("3.6.0-rc.1", true),
        ("4.0.0", true),
        ("3.3.27", false),
        ("", false),
    ] {
        assert_eq!(tells_progress(version), trusted, "{version}");
    }
}

#[test]
fn e_21_e_26_progress_is_about_all_watches_and_events_are_about_one() {
    let mut tracker = created(true);
    let all = WatchResponse {
        watch_id: -1,
        ..answer(12, &[])
    };
    assert_eq!(tracker.take(all).unwrap(), Some(Told::Confirmed(place(12))));
    let other = WatchResponse {
        watch_id: 3,
        ..answer(13, &[("x", 13)])
    };
    assert_eq!(tracker.take(other).unwrap(), None);
}

#[test]
fn e_23_fragments_are_told_together() {
    let mut tracker = created(true);
    let part = WatchResponse {
        fragment: true,
        ..answer(9, &[("a", 9)])
    };
    assert_eq!(tracker.take(part).unwrap(), None);
    assert_eq!(tracker.place, place(5), "half a revision is no place");
    assert_eq!(
        keys(tracker.take(answer(9, &[("b", 9)]))),
        (vec!["a".into(), "b".into()], 9)
    );
}

#[test]
fn e_25_order_is_kept_and_e_27_what_was_told_is_not_told_again() {
    let mut tracker = created(true);
    assert_eq!(
        keys(tracker.take(answer(9, &[("a", 7), ("a", 8), ("b", 8)]))).0,
        ["a", "a", "b"]
    );
    assert_eq!(tracker.take(answer(9, &[("a", 7), ("b", 8)])).unwrap(), None);
    assert_eq!(
        keys(tracker.take(answer(9, &[("b", 8), ("c", 9)]))),
        (vec!["c".into()], 9)
    );
}

#[test]
fn cursors_name_a_cluster_and_nothing_else_is_one() {
    assert_eq!(Place::read(&place(7).cursor()), Some(place(7)));
    for other in ["", "7", "x:7", "cafe:", "cafe:0", "cafe:-1", "cafe:x"] {
        assert_eq!(Place::read(&Cursor::new(other)), None, "{other:?}");
    }
}

#[test]
fn confirmations_are_asked_for_more_often_than_promised() {
    assert!(confirm_every(Duration::from_secs(10)) < Duration::from_secs(9));
}
