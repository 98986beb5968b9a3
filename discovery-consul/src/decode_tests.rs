use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn element(id: &str, revision: u32) -> String {
    let node = format!("n-{id}");
    let meta = json!({ "revision": format!("{revision} \"}}],\\") });
    json!({
        "Node": { "Node": node, "Address": "192.0.2.1", "Datacenter": "dc1" },
        "Service": { "ID": id, "Service": "web", "Port": 80, "Tags": ["a", "ü\u{2028}"], "Meta": meta },
        "Checks": [{ "CheckID": "c", "Status": "passing" }],
    })
    .to_string()
}

fn body(elements: &[(String, u32)]) -> Bytes {
    let all: Vec<_> = elements
        .iter()
        .map(|(id, revision)| element(id, *revision))
        .collect();
    format!("[{}]\n", all.join(",")).into()
}

fn of(all: &[(&str, u32)]) -> Bytes {
    body(
        &all.iter()
            .map(|(id, n)| ((*id).to_owned(), *n))
            .collect::<Vec<_>>(),
    )
}

fn ids(all: &[Arc<Instance>]) -> Vec<&str> {
    all.iter().map(|one| one.key.id.as_str()).collect()
}

#[test]
fn c_19_order_is_kept_where_the_server_sorts() {
    let answer = of(&[("b", 1), ("a", 1)]);
    for (keep, expected) in [(true, ["b", "a"]), (false, ["a", "b"])] {
        let all = Decoder::new(false).read(&answer, keep).unwrap();
        assert_eq!(ids(&all), expected);
    }
}

#[test]
fn only_what_changed_is_read_again() {
    let mut decoder = Decoder::new(false);
    let before = decoder.read(&of(&[("a", 1), ("b", 1), ("c", 1)]), false).unwrap();
    let after = decoder
        .read(&of(&[("a", 1), ("b", 2), ("bb", 1), ("c", 1)]), false)
        .unwrap();
    assert_eq!(ids(&after), ["a", "b", "bb", "c"]);
    assert!(Arc::ptr_eq(&before[0], &after[0]) && Arc::ptr_eq(&before[2], &after[3]));
    assert_eq!(after[1].meta["revision"], "2 \"}],\\");
    assert!(Arc::ptr_eq(
        before[1].key.node.as_ref().unwrap(),
        after[1].key.node.as_ref().unwrap()
    ));
    let last = decoder.read(&of(&[("c", 1)]), false).unwrap();
    assert!(last.len() == 1 && Arc::ptr_eq(&after[3], &last[0]));
}

#[test]
fn what_is_no_answer_is_an_error_and_what_was_known_stays_known() {
    let mut decoder = Decoder::new(false);
    let good = of(&[("a", 1), ("b", 1)]);
    let before = decoder.read(&good, false).unwrap();
    let mut broken: Vec<Bytes> = (0..good.len() - 1)
        .map(|end| good.slice(..end))
        .filter(|cut| *cut != "null")
        .collect();
    for text in [
        "{}",
        "[null]",
        "[[]]",
        "[{},]",
        "[,{}]",
        "[{}{}]",
        "[{}]x",
        "No cluster leader",
        "nul",
        "nullnull",
    ] {
        broken.push(text.into());
    }
    broken.push([b"[{\"New\":\"\xff\"}]".as_slice()].concat().into());
    for answer in broken {
        let error = decoder.read(&answer, false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{answer:?}");
    }
    let after = decoder.read(&good, false).unwrap();
    assert!(before.iter().zip(&after).all(|(a, b)| Arc::ptr_eq(a, b)));
}

#[test]
fn an_empty_answer_is_empty_however_it_is_written() {
    for text in ["null", " null\n", "[]", " [ ]\n"] {
        assert!(
            Decoder::new(false).read(&text.into(), false).unwrap().is_empty(),
            "{text}"
        );
    }
}

proptest! {
    /// Whatever came before, an answer means what it means to one who never saw another.
    #[test]
    fn what_is_remembered_changes_nothing(
        answers in prop::collection::vec(prop::collection::btree_map("[a-f]{1,2}", 0_u32..3, 0..12), 1..8),
        ordered: bool,
    ) {
        let mut decoder = Decoder::new(true);
        for answer in answers {
            let answer: BTreeMap<String, u32> = answer;
            let answer = body(&answer.into_iter().collect::<Vec<_>>());
            let known = decoder.read(&answer, ordered).unwrap();
            let fresh = Decoder::new(true).read(&answer, ordered).unwrap();
            prop_assert_eq!(known, fresh);
        }
    }
}
