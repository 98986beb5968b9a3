//! A tree into a struct, with errors that know their place.

use std::{collections::btree_map, fmt};

use serde::{
    Deserializer,
    de::{self, IntoDeserializer, Unexpected, Visitor, value::StrDeserializer},
    forward_to_deserialize_any,
};

use super::{
    text::{shorten, suggestion},
    tree::{Data, Entry, Map, Node, Origin, join},
    yaml::snippet,
};
use crate::error::{Error, ErrorKind};

/// What is wrong with a tree, and where.
#[derive(Debug)]
pub(super) struct Fault(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    /// The keys that lead there, innermost first.
    path: Vec<Segment>,
    origin: Option<Origin>,
}

#[derive(Debug)]
enum Segment {
    Key(String),
    Index(usize),
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind: ErrorKind::ConfigInvalid,
            message: message.into(),
            hint: None,
            path: Vec::new(),
            origin: None,
        }))
    }

    pub(super) fn kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The same fault at this place, unless a place further in is known already.
    pub(super) fn at(mut self, origin: &Origin) -> Self {
        self.0.origin.get_or_insert_with(|| origin.clone());
        self
    }

    fn inside(mut self, segment: Segment) -> Self {
        self.0.path.push(segment);
        self
    }

    pub(super) fn inside_key(self, key: &str) -> Self {
        self.inside(Segment::Key(key.to_owned()))
    }

    pub(super) fn inside_index(self, index: usize) -> Self {
        self.inside(Segment::Index(index))
    }

    /// `place: path: message`, the line with its caret, and the hint; `root` is the path of the tree itself.
    pub(super) fn into_error(self, root: &str) -> Error {
        let Inner {
            kind,
            message,
            hint,
            path,
            origin,
        } = *self.0;
        let path = path
            .into_iter()
            .rev()
            .fold(root.to_owned(), |path, segment| match segment {
                Segment::Key(key) => join(&path, &key),
                Segment::Index(i) => format!("{path}[{i}]"),
            });
        let mut text = String::new();
        let origin = origin.filter(|origin| *origin != Origin::Default);
        if let Some(origin) = &origin {
            text = format!("{origin}: ");
        }
        if !path.is_empty() {
            text = format!("{text}{path}: ");
        }
        text.extend(message.chars().map(|c| if c.is_control() { ' ' } else { c }));
        if let Some(Origin::File(position)) = &origin
            && let Some(snippet) = snippet(position)
        {
            text = format!("{text}\n{snippet}");
        }
        let error = Error::new(kind, text);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::new(format!("expected {}, found {}", plainly(expected), kind(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match found {
            Unexpected::Unsigned(n) => n.to_string(),
            Unexpected::Signed(n) => n.to_string(),
            Unexpected::Float(n) => n.to_string(),
            other => kind(other).to_owned(),
        };
        Self::new(format!("expected {}, found {found}", plainly(expected)))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let fault = Self::new("unknown key");
        match suggestion(field, expected, "keys here") {
            Some(hint) => fault.hint(hint),
            None => fault,
        }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let fault = Self::new(format!("unknown choice `{}`", shorten(variant, 40)));
        match suggestion(variant, expected, "choices") {
            Some(hint) => fault.hint(hint),
            None => fault,
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("key `{field}` is missing"))
    }
}

/// What serde expected, in words of somebody who writes YAML.
fn plainly(expected: &dyn de::Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "a string" | "string" | "a borrowed string" => "text".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a map" => "a mapping".to_owned(),
        "a sequence" => "a list".to_owned(),
        "u8" => "a whole number from 0 to 255".to_owned(),
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" => "a whole number from 0 to 4294967295".to_owned(),
        "u64" | "usize" => "a whole number from 0 up".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a nonzero u8" | "a nonzero u16" | "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => {
            "a whole number from 1 up".to_owned()
        }
        other if other.starts_with("struct ") => "a mapping".to_owned(),
        _ => text,
    }
}

/// What was found, without its value, which may be a secret in the wrong place.
fn kind(found: Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(true) => "true",
        Unexpected::Bool(false) => "false",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
        Unexpected::Char(_) | Unexpected::Str(_) | Unexpected::Bytes(_) => "text",
        Unexpected::Unit | Unexpected::Option => "nothing",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a mapping",
        _ => "something else",
    }
}

impl Node {
    fn with_place<T>(&self, result: Result<T, Fault>) -> Result<T, Fault> {
        result.map_err(|fault| fault.at(&self.origin))
    }

    /// The value as its own type says.
    fn any<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        match &self.data {
            Data::Null => visitor.visit_unit(),
            Data::Bool(value, _) => visitor.visit_bool(*value),
            Data::Number(value, _) => {
                if let Some(n) = value.as_u64() {
                    visitor.visit_u64(n)
                } else if let Some(n) = value.as_i64() {
                    visitor.visit_i64(n)
                } else {
                    visitor.visit_f64(value.as_f64().unwrap_or(f64::NAN))
                }
            }
            Data::Text(text) | Data::Loose(text) => visitor.visit_str(text),
            Data::List(items) => visitor.visit_seq(Items(items.iter().enumerate())),
            Data::Map(map) => visitor.visit_map(Entries::all(map)),
        }
    }

    /// Loose text read as a number.
    fn number<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, Fault> {
        match &self.data {
            Data::Loose(text) => {
                let text = text.trim();
                if let Ok(n) = text.parse::<u64>() {
                    visitor.visit_u64(n)
                } else if let Ok(n) = text.parse::<i64>() {
                    visitor.visit_i64(n)
                } else if let Some(n) = text.parse::<f64>().ok().filter(|n| n.is_finite()) {
                    visitor.visit_f64(n)
                } else {
                    Err(wrong_text(text, &visitor))
                }
            }
            _ => self.any(visitor),
        }
    }
}

fn wrong_text<'de>(text: &str, visitor: &impl Visitor<'de>) -> Fault {
    let expected = plainly(visitor as &dyn de::Expected);
    Fault::new(format!("expected {expected}, found {:?}", shorten(text, 40)))
}

macro_rules! numbers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.with_place(self.number(visitor))
        })*
    };
}

macro_rules! texts {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.with_place(match &self.data {
                Data::Bool(_, text) | Data::Number(_, text) => visitor.visit_str(text),
                _ => self.any(visitor),
            })
        })*
    };
}

impl<'de> Deserializer<'de> for &Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.with_place(self.any(visitor))
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    texts! { deserialize_char deserialize_str deserialize_string }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.with_place(match &self.data {
            Data::Loose(text) => match text.trim().to_ascii_lowercase().as_str() {
                "true" | "1" => visitor.visit_bool(true),
                "false" | "0" => visitor.visit_bool(false),
                _ => Err(wrong_text(text, &visitor)),
            },
            _ => self.any(visitor),
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.with_place(match &self.data {
            Data::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.with_place(visitor.visit_newtype_struct(self))
    }

    /// Loose text is a list with commas between its items.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.with_place(match &self.data {
            Data::Loose(text) => {
                let items: Vec<_> = text
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(|item| Node::new(Data::Loose(item.to_owned()), self.origin.clone()))
                    .collect();
                visitor.visit_seq(Items(items.iter().enumerate()))
            }
            _ => self.any(visitor),
        })
    }

    /// A known key without a value counts as not written, so that a block may be commented out below its key.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.with_place(match &self.data {
            Data::Map(map) => visitor.visit_map(Entries::without_blanks(map, fields)),
            // Derived visitors would take a list for the fields in their order.
            Data::List(_) => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.any(visitor),
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.with_place(match &self.data {
            Data::Text(text) | Data::Loose(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            Data::Map(map) => visitor.visit_enum(de::value::MapAccessDeserializer::new(Entries::all(map))),
            _ => self.any(visitor),
        })
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bytes byte_buf unit unit_struct tuple tuple_struct map identifier
    }
}

impl IntoDeserializer<'_, Fault> for &Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

struct Items<I>(I);

impl<'de, 'n, I: Iterator<Item = (usize, &'n Node)>> de::SeqAccess<'de> for Items<I> {
    type Error = Fault;

    fn next_element_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some((i, node)) = self.0.next() else {
            return Ok(None);
        };
        seed.deserialize(node)
            .map(Some)
            .map_err(|fault| fault.inside(Segment::Index(i)))
    }
}

struct Entries<'n> {
    rest: btree_map::Iter<'n, String, Entry>,
    /// The keys that are left out when they have no value.
    optional: &'static [&'static str],
    current: Option<(&'n str, &'n Entry)>,
}

impl<'n> Entries<'n> {
    fn all(map: &'n Map) -> Self {
        Self::without_blanks(map, &[])
    }

    fn without_blanks(map: &'n Map, optional: &'static [&'static str]) -> Self {
        Self {
            rest: map.iter(),
            optional,
            current: None,
        }
    }
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let optional = self.optional;
        let blank =
            |key: &str, entry: &Entry| matches!(entry.value.data, Data::Null) && optional.contains(&key);
        let Some((key, entry)) = self.rest.find(|(key, entry)| !blank(key, entry)) else {
            return Ok(None);
        };
        self.current = Some((key, entry));
        let deserializer: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
        seed.deserialize(deserializer)
            .map(Some)
            .map_err(|fault| fault.at(&entry.origin).inside_key(key))
    }

    fn next_value_seed<T: de::DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        let Some((key, entry)) = self.current else {
            return Err(Fault::new("a value was asked for before its key"));
        };
        seed.deserialize(&entry.value)
            .map_err(|fault| fault.inside_key(key))
    }
}
