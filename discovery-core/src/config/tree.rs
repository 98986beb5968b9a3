//! Partial configuration as a tree in which every part remembers where it came from.

use std::{
    collections::{BTreeMap, btree_map},
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Number, Value};

use super::text::{MASK, has_credentials, is_secret, is_secret_block, shorten};
use crate::error::{Error, ErrorKind, Result};

/// No configuration nests deeper; what does would cost its reader the stack.
pub(super) const DEEPEST: usize = 16;

/// Where a setting came from, least binding first.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A place in a configuration file.
    File(Position),
    /// The environment variable of this name.
    Env(Arc<str>),
    /// The URI a client was made from.
    Uri,
    /// The program, or a flag on its command line.
    Code,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(position) => position.fmt(f),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Uri => f.write_str("uri"),
            Self::Code => f.write_str("code"),
        }
    }
}

/// A place in a configuration file; prints as `file:line:column`.
#[derive(Clone, PartialEq, Eq)]
pub struct Position {
    pub(super) file: Arc<SourceFile>,
    pub(super) line: usize,
    pub(super) column: usize,
    /// How many characters it spans, at least one.
    pub(super) width: usize,
}

impl Position {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// The line, from one.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The column in characters, from one.
    pub fn column(&self) -> usize {
        self.column
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.path.display(), self.line, self.column)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A file read: its name and text, for snippets.
#[derive(PartialEq, Eq)]
pub(super) struct SourceFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// A part of the tree.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) data: Data,
    pub(super) origin: Origin,
}

/// What a part holds.
#[derive(Clone)]
pub(super) enum Data {
    Null,
    /// With its spelling, which a text field takes as it stands.
    Bool(bool, String),
    /// With its spelling: `version: 2.10` is not `2.1` where text is wanted.
    Number(Number, String),
    Text(String),
    /// Text from outside YAML, where everything is text: it becomes whatever type its field has.
    Loose(String),
    List(Vec<Node>),
    Map(Map),
}

pub(super) type Map = BTreeMap<String, Entry>;

/// A value under a key, with the key's own place.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) origin: Origin,
    pub(super) value: Node,
}

impl Node {
    pub(super) fn new(data: Data, origin: Origin) -> Self {
        Self { data, origin }
    }

    /// An empty mapping.
    pub(super) fn empty(origin: Origin) -> Self {
        Self::new(Data::Map(Map::new()), origin)
    }

    /// A value given by the program.
    pub(super) fn from_json(value: Value, origin: &Origin) -> Self {
        let data = match value {
            Value::Null => Data::Null,
            Value::Bool(value) => Data::Bool(value, value.to_string()),
            Value::Number(value) => {
                let text = value.to_string();
                Data::Number(value, text)
            }
            Value::String(text) => Data::Loose(text),
            Value::Array(items) => {
                Data::List(items.into_iter().map(|v| Self::from_json(v, origin)).collect())
            }
            Value::Object(entries) => Data::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| {
                        let value = Self::from_json(value, origin);
                        let origin = origin.clone();
                        (key, Entry { origin, value })
                    })
                    .collect(),
            ),
        };
        Self::new(data, origin.clone())
    }

    /// What stands under `key`, if this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match &self.data {
            Data::Map(map) => map.get(key).map(|entry| &entry.value),
            _ => None,
        }
    }

    /// As [`get`](Self::get), to be changed.
    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        match &mut self.data {
            Data::Map(map) => map.get_mut(key).map(|entry| &mut entry.value),
            _ => None,
        }
    }

    /// Lays `over` on top: mappings are joined key by key, everything else is replaced whole. A key without a value
    /// counts as not written.
    pub(super) fn merge(&mut self, over: Node) {
        match (&mut self.data, over.data) {
            (_, Data::Null) => return,
            (Data::Map(map), Data::Map(over)) => {
                for (key, entry) in over {
                    match map.entry(key) {
                        btree_map::Entry::Occupied(under) => under.into_mut().value.merge(entry.value),
                        btree_map::Entry::Vacant(free) => {
                            free.insert(entry);
                        }
                    }
                }
                // A mapping stays where it began.
                if self.origin != Origin::Default {
                    return;
                }
            }
            (data, over) => *data = over,
        }
        self.origin = over.origin;
    }

    /// Lays what was written over what it was read as: like [`merge`](Self::merge), but items of a list that are mappings
    /// are joined, too, since they are the same ones.
    pub(super) fn overlay(&mut self, written: Node) {
        match (&mut self.data, written.data) {
            (_, Data::Null) => return,
            (Data::Map(map), Data::Map(over)) => {
                for (key, entry) in over {
                    match map.entry(key) {
                        btree_map::Entry::Occupied(under) => under.into_mut().value.overlay(entry.value),
                        btree_map::Entry::Vacant(free) => {
                            free.insert(entry);
                        }
                    }
                }
            }
            (Data::List(items), Data::List(over)) if items.len() == over.len() => {
                for (item, over) in items.iter_mut().zip(over) {
                    item.overlay(over);
                }
            }
            (data, over) => *data = over,
        }
        self.origin = written.origin;
    }

    /// A tree that holds `self` alone, under `path`.
    pub(super) fn under(self, path: Vec<String>) -> Node {
        path.into_iter().rev().fold(self, |value, key| {
            let origin = value.origin.clone();
            let entry = Entry {
                origin: origin.clone(),
                value,
            };
            Node::new(Data::Map(Map::from([(key, entry)])), origin)
        })
    }

    /// Calls `visit` with the path, value and origin of every leaf below `path`; secrets are masked.
    pub(super) fn leaves(&self, path: &str, secret: bool, visit: &mut impl FnMut(String, Value, &Origin)) {
        match &self.data {
            Data::Map(map) if !map.is_empty() => {
                for (key, entry) in map {
                    entry
                        .value
                        .leaves(&join(path, key), is_secret(key) || is_secret_block(key), visit);
                }
            }
            Data::List(items) if !items.is_empty() => {
                for (i, item) in items.iter().enumerate() {
                    item.leaves(&format!("{path}[{i}]"), secret, visit);
                }
            }
            data => visit(path.to_owned(), data.shown(secret), &self.origin),
        }
    }
}

impl Data {
    fn shown(&self, secret: bool) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::List(_) => Value::Array(Vec::new()),
            Self::Map(_) => Value::Object(serde_json::Map::new()),
            _ if secret => MASK.into(),
            Self::Bool(value, _) => Value::Bool(*value),
            Self::Number(value, _) => Value::Number(value.clone()),
            Self::Text(text) | Self::Loose(text) if has_credentials(text) => MASK.into(),
            Self::Text(text) | Self::Loose(text) => Value::String(text.clone()),
        }
    }
}

/// `path.key`, with the key in quotes where it holds a dot of its own.
pub(super) fn join(path: &str, key: &str) -> String {
    let key = shorten(key, 64);
    let dot = if path.is_empty() { "" } else { "." };
    let plain = !key.is_empty() && !key.contains(['.', '"', '[', '\n']);
    if plain {
        format!("{path}{dot}{key}")
    } else {
        format!("{path}{dot}{key:?}")
    }
}

/// The keys of a dotted path; a key that holds dots stands in double quotes.
pub(super) fn split(path: &str) -> Result<Vec<String>> {
    let bad = |fault: &str| {
        let message = format!("bad setting path {:?}: {fault}", shorten(path, 80));
        Error::new(ErrorKind::ConfigInvalid, message)
            .with_hint(r#"write keys with dots between them, as in `consul.server.address` or `a."b.c".d`"#)
    };
    let mut keys = Vec::new();
    let mut rest = path;
    loop {
        let (key, tail) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted
                .split_once('"')
                .ok_or_else(|| bad("a quote is not closed"))?
        } else {
            rest.split_at(rest.find('.').unwrap_or(rest.len()))
        };
        if key.is_empty() {
            return Err(bad("a key is empty"));
        }
        keys.push(key.to_owned());
        if keys.len() > DEEPEST {
            return Err(bad("it nests too deep"));
        }
        if tail.is_empty() {
            return Ok(keys);
        }
        rest = tail
            .strip_prefix('.')
            .ok_or_else(|| bad("a dot is missing after a quote"))?;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn flat(node: &Node) -> Vec<(String, Value)> {
        let mut leaves = Vec::new();
        node.leaves("", false, &mut |path, value, _| leaves.push((path, value)));
        leaves
    }

    #[test]
    fn mappings_join_and_everything_else_is_replaced() {
        let mut tree = Node::from_json(json!({ "a": { "b": 1, "c": [1, 2] }, "d": {} }), &Origin::Code);
        tree.merge(Node::from_json(
            json!({ "a": { "c": [3], "e": null } }),
            &Origin::Uri,
        ));
        tree.merge(Node::from_json(
            json!({ "a": null, "d": { "f": null } }),
            &Origin::Uri,
        ));
        let expected = [
            ("a.b", json!(1)),
            ("a.c[0]", json!(3)),
            ("a.e", json!(null)),
            ("d.f", json!(null)),
        ];
        assert_eq!(
            flat(&tree),
            expected.map(|(path, value)| (path.to_owned(), value))
        );
    }

    #[test]
    fn paths_survive_keys_with_dots() {
        let keys = split(r#"a."b.c".d"#).unwrap();
        assert_eq!(keys, ["a", "b.c", "d"]);
        let path = keys.iter().fold(String::new(), |path, key| join(&path, key));
        assert_eq!(path, r#"a."b.c".d"#);
        for bad in ["", ".", "a.", "a..b", "\"a", "\"a\"b", "\"\""] {
            assert_eq!(split(bad).unwrap_err().kind(), ErrorKind::ConfigInvalid, "{bad}");
        }
        assert!(split(&"a.".repeat(1000)).is_err());
    }
}
