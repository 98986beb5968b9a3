//! YAML text into a tree, and the lines of it that messages point at.

use std::{fmt, path::Path, sync::Arc};

use serde::{Deserialize, Deserializer, de};
use serde_json::Number;
use serde_saphyr::{Location, MessageFormatter, Spanned, UserMessageFormatter};

use super::{
    de::Fault,
    text::{MASK, has_credentials, is_secret, is_secret_block, shorten},
    tree::{DEEPEST, Data, Entry, Map, Node, Origin, Position, SourceFile},
};
use crate::error::{Error, ErrorKind, Result};

/// The largest file read, in bytes.
const LARGEST: usize = 1 << 20;

/// Reads one document; an empty one is an empty mapping.
pub(super) fn parse(path: &Path, text: &str) -> Result<Node> {
    if text.len() > LARGEST {
        let message = format!("{}: configuration is larger than 1 MiB", path.display());
        return Err(Error::new(ErrorKind::ConfigInvalid, message));
    }
    let file = Arc::new(SourceFile {
        path: path.to_owned(),
        text: text.to_owned(),
    });
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: DEEPEST, max_nodes: 100_000 },
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(Spanned { value: Raw::Null, .. }) => Ok(Node::empty(Origin::File(start(&file)))),
        Ok(raw) => Ok(node(raw, &file)),
        Err(error) => Err(syntax(&error, &file)),
    }
}

fn syntax(error: &serde_saphyr::Error, file: &Arc<SourceFile>) -> Error {
    let error = error.without_snippet();
    let fault = match error {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
            Fault::new(format!("duplicate key `{}`", shorten(key, 64))).hint("keep one of the two")
        }
        serde_saphyr::Error::MultipleDocuments { .. } => {
            Fault::new("more than one YAML document").hint("remove the `---`, or split the file")
        }
        other => Fault::new(UserMessageFormatter.format_message(other).into_owned()),
    };
    let position = error
        .location()
        .map_or_else(|| start(file), |location| position(location, file));
    fault.at(&Origin::File(position)).into_error("")
}

fn start(file: &Arc<SourceFile>) -> Position {
    Position {
        file: file.clone(),
        line: 1,
        column: 1,
        width: 1,
    }
}

fn position(location: Location, file: &Arc<SourceFile>) -> Position {
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    Position {
        file: file.clone(),
        line: number(location.line()).max(1),
        column: number(location.column()).max(1),
        width: number(location.span().len()).max(1),
    }
}

/// The tree as the parser hands it over.
enum Raw {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn node(raw: Spanned<Raw>, file: &Arc<SourceFile>) -> Node {
    let Spanned {
        value,
        referenced,
        defined,
    } = raw;
    let data = match value {
        Raw::Null => Data::Null,
        Raw::Bool(value) => Data::Bool(
            value,
            spelling(defined, file).unwrap_or_else(|| value.to_string()),
        ),
        Raw::Number(value) => {
            let text = spelling(defined, file).unwrap_or_else(|| value.to_string());
            Data::Number(value, text)
        }
        Raw::Text(text) => Data::Text(text),
        Raw::List(items) => Data::List(items.into_iter().map(|item| node(item, file)).collect()),
        Raw::Map(entries) => Data::Map(
            entries
                .into_iter()
                .map(|(key, value)| {
                    let origin = Origin::File(position(key.referenced, file));
                    (
                        key.value,
                        Entry {
                            origin,
                            value: node(value, file),
                        },
                    )
                })
                .collect::<Map>(),
        ),
    };
    Node::new(data, Origin::File(position(referenced, file)))
}

/// A plain scalar as it is written in the file.
fn spelling(location: Location, file: &SourceFile) -> Option<String> {
    let start = usize::try_from(location.span().byte_offset()?).ok()?;
    let length = usize::try_from(location.span().byte_len()?).ok()?;
    let text = file.text.get(start..start.checked_add(length)?)?.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c);
    (!text.is_empty() && text.chars().all(plain)).then(|| text.to_owned())
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> de::Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Raw, E> {
        Number::from_f64(value)
            .map(Raw::Number)
            .ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

/// The line a position is on with a caret under it; a value that may be a secret is masked.
pub(super) fn snippet(position: &Position) -> Option<String> {
    const WIDEST: usize = 100;
    let lines: Vec<_> = position.file.text.lines().take(position.line).collect();
    let (line, above) = lines.split_last().filter(|_| lines.len() == position.line)?;
    let shown = masked(line, above);
    let length = shown.chars().count();
    // A caret past the end points at what is missing there.
    let column = (position.column - 1).min(length);
    let first = if length > WIDEST {
        column.saturating_sub(WIDEST / 2)
    } else {
        0
    };
    let window: String = shown
        .chars()
        .skip(first)
        .take(WIDEST)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let width = position
        .width
        .min(window.chars().count().saturating_sub(column - first))
        .max(1);
    let number = position.line.to_string();
    let gutter = " ".repeat(number.len());
    let indent = " ".repeat(column - first);
    Some(format!(
        "{number} | {}\n{gutter} | {indent}{}",
        window.trim_end(),
        "^".repeat(width)
    ))
}

/// `line` without the values of its secret keys; `above` are the lines before it.
fn masked(line: &str, above: &[&str]) -> String {
    if has_credentials(line) {
        return format!("{}{MASK}", &line[..line.len() - line.trim_start().len()]);
    }
    for (colon, _) in line.match_indices(':') {
        let (before, value) = line.split_at(colon + 1);
        let key = last_word(&line[..colon]);
        if (is_secret(key) || is_secret_block(key)) && !value.trim().is_empty() {
            return format!("{before} {MASK}");
        }
    }
    // The value, or a part of it, of a key on a line above.
    let indent = |line: &str| line.len() - line.trim_start().len();
    let item = |line: &str| line.trim_start().starts_with('-');
    let encloses = |other: &&&str| {
        indent(other) < indent(line) || (indent(other) == indent(line) && item(line) && !item(other))
    };
    let parent = above
        .iter()
        .rev()
        .filter(|other| !other.trim().is_empty())
        .find(encloses)
        .and_then(|parent| parent.split_once(':'))
        .map_or("", |(key, _)| last_word(key));
    if is_secret(parent) || (is_secret_block(parent) && !line.contains(':')) {
        return format!("{}{MASK}", &line[..indent(line)]);
    }
    line.to_owned()
}

/// The key that `text` ends with, without its quotes.
fn last_word(text: &str) -> &str {
    let text = text.trim_end_matches(['"', '\'', ' ']);
    text.rsplit(|c: char| !(c.is_alphanumeric() || "_-.".contains(c)))
        .next()
        .unwrap_or(text)
}
