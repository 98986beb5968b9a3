use super::*;
use crate::config::EtcdConfig;

const ONE: &str = r#"{"address":"a","port":1}"#;
const TWO: &str = r#"{"address":"a","port":1,"meta":{"x":"y"}}"#;

fn kv(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.as_bytes().to_vec(),
        value: value.as_bytes().to_vec(),
        ..KeyValue::default()
    }
}

fn event(key: &str, value: Option<&str>, before: Option<&str>) -> Event {
    Event {
        kind: i32::from(value.is_none()),
        kv: Some(kv(key, value.unwrap_or_default())),
        before: before.map(|value| kv(key, value)),
    }
}

/// What a watch tells of these events that has resumed before them.
fn shown(events: &[Event]) -> Vec<String> {
    changes(&mut resumed(), events)
}

fn resumed() -> Shown {
    Shown::new(Keys::services(&EtcdConfig::default()))
}

fn changes(shown: &mut Shown, events: &[Event]) -> Vec<String> {
    shown
        .changes_of(events)
        .iter()
        .map(|(change, _)| match change {
            Change::Upsert(all) => format!("+{}", all.len()),
            Change::Remove(all) => format!("-{}", all.len()),
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn e_25_changes_come_in_their_order() {
    let (a, b) = ("/services/api/a", "/services/api/b");
    let events = [
        event(a, Some(ONE), None),
        event(b, Some(ONE), None),
        event(a, None, Some(ONE)),
        event(a, Some(TWO), None),
    ];
    assert_eq!(shown(&events), ["+2", "-1", "+1"]);
}

#[test]
fn a_3_what_does_not_show_is_not_told() {
    let a = "/services/api/a";
    assert!(shown(&[event(a, Some(ONE), Some(ONE))]).is_empty());
    assert_eq!(shown(&[event(a, Some(TWO), Some(ONE))]), ["+1"]);
}

/// So the server need not be asked what was there before, which it would read for every event.
#[test]
fn a_3_a_watch_that_began_with_all_there_was_knows_what_it_told() {
    let (a, b) = ("/services/api/a", "/services/api/b");
    let mut whole = resumed();
    whole.events_of(Told::All(
        vec![kv(a, ONE)],
        Place {
            cluster: 1,
            revision: 9,
        },
    ));
    for (key, value, told) in [
        (a, Some(ONE), None),
        (a, Some(TWO), Some("+1")),
        (a, Some(TWO), None),
        (b, Some(ONE), Some("+1")),
        (a, Some("nonsense"), Some("-1")),
        (a, None, None),
        (b, None, Some("-1")),
        (b, None, None),
        (b, Some(ONE), Some("+1")),
    ] {
        let changes = changes(&mut whole, &[event(key, value, None)]);
        let told: Vec<_> = told.into_iter().collect();
        assert_eq!(changes, told, "{key}: {value:?}");
    }
}

#[test]
fn what_is_no_instance_any_more_is_gone() {
    let a = "/services/api/a";
    assert_eq!(shown(&[event(a, Some("nonsense"), Some(ONE))]), ["-1"]);
    assert!(shown(&[event("/services/api", Some(ONE), None)]).is_empty());
}

#[test]
fn half_a_revision_is_no_place_to_resume_from() {
    let place = Place {
        cluster: 1,
        revision: 9,
    };
    for (first, cursors) in [(9, [false, true]), (8, [true, true])] {
        let mut events = vec![
            event("/services/api/a", Some(ONE), None),
            event("/services/api/b", None, None),
        ];
        for (event, revision) in events.iter_mut().zip([first, 9]) {
            event.kv.as_mut().unwrap().mod_revision = revision;
        }
        let told = resumed().events_of(Told::Changed(events, place));
        let found: Vec<_> = told.iter().map(|event| event.cursor.is_some()).collect();
        assert_eq!(found, cursors, "revisions {first} and 9");
    }
    let nothing = resumed().events_of(Told::Changed(Vec::new(), place));
    assert_eq!((nothing.len(), &nothing[0].change), (1, &Change::Confirmed));
}

#[test]
fn a_cursor_of_another_make_has_expired() {
    let failed = place_of(Some(&Cursor::new("17"))).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::WatchExpired);
}

#[test]
fn e_8_a_cursor_names_its_place_to_the_last_bit() {
    let place = Place {
        cluster: u64::MAX,
        revision: i64::MAX,
    };
    assert_eq!(place_of(Some(&place.cursor())).unwrap(), Some(place));
}
