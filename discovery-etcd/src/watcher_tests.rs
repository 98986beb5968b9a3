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

fn shown(events: &[Event]) -> Vec<String> {
    let keys = Keys::services(&EtcdConfig::default());
    changes_of(&keys, events)
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

#[test]
fn what_is_no_instance_any_more_is_gone() {
    let a = "/services/api/a";
    assert_eq!(shown(&[event(a, Some("nonsense"), Some(ONE))]), ["-1"]);
    assert!(shown(&[event("/services/api", Some(ONE), None)]).is_empty());
}

#[test]
fn half_a_revision_is_no_place_to_resume_from() {
    let keys = Keys::services(&EtcdConfig::default());
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
        let told = events_of(&keys, Told::Changed(events, place));
        let found: Vec<_> = told.iter().map(|event| event.cursor.is_some()).collect();
        assert_eq!(found, cursors, "revisions {first} and 9");
    }
    let nothing = events_of(&keys, Told::Changed(Vec::new(), place));
    assert_eq!((nothing.len(), &nothing[0].change), (1, &Change::Confirmed));
}

#[test]
fn a_cursor_of_another_make_has_expired() {
    let failed = place_of(Some(&Cursor::new("17"))).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::WatchExpired);
}
