use discovery_core::ErrorKind;
use proptest::prelude::*;

use super::*;

fn content(meta: &[(&str, &str)]) -> Content {
    Content {
        meta: meta
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        ..Content::default()
    }
}

fn read(strings: &[Vec<u8>]) -> Content {
    Content::read(strings.iter().map(Vec::as_slice))
}

#[test]
fn what_is_plain_is_written_plainly() {
    let strings = content(&[("version", "2.0"), ("empty", "")]).strings().unwrap();
    assert_eq!(strings, [b"empty=".to_vec(), b"version=2.0".to_vec()]);
    assert_eq!(
        Content::default().strings().unwrap(),
        [b""],
        "an empty record is one empty string (D-21)"
    );
}

#[test]
fn what_is_not_plain_comes_back_whole() {
    let mut content = content(&[
        ("größe", "服务"),
        ("a=b", "c"),
        ("sd-0", "mine"),
        ("Key", "1"),
        ("key", "2"),
        ("", "nameless"),
        ("long", &"ä".repeat(900)),
    ]);
    content.more.tags = vec!["v2".to_owned(), "a,b".to_owned()];
    content.more.status = Status::Warning;
    content.more.draining = true;
    content.more.weight = Some(7);
    let strings = content.strings().unwrap();
    assert!(strings.iter().all(|string| string.len() <= STRING));
    assert_eq!(read(&strings), content);
}

#[test]
fn what_looks_like_ours_and_is_not_is_shown() {
    let content = read(&[b"sd-0=hello".to_vec(), b"SD-x=1".to_vec()]);
    assert_eq!(content.meta.len(), 2, "{content:?}");
    assert_eq!(content.meta["sd-0"], "hello");
}

#[test]
fn more_than_a_message_holds_is_refused() {
    let error = content(&[("a", &"x".repeat(MOST))]).strings().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.hint().is_some());
}

proptest! {
    #[test]
    fn any_metadata_comes_back(meta in prop::collection::btree_map(".{0,40}", ".{0,300}", 0..12), tags in prop::collection::vec(".{0,40}", 0..4)) {
        let mut content = Content { meta, ..Content::default() };
        content.more.tags = tags;
        prop_assert_eq!(read(&content.strings().unwrap()), content);
    }
}
