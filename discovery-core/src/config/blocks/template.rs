//! `{{ .name }}` in values.

use std::{borrow::Cow, collections::BTreeMap};

use crate::error::{Error, ErrorKind, Result};

/// What `{{ .name }}` stands for.
///
/// ```
/// use discovery_core::config::Variables;
///
/// let variables = Variables::new([("host_ip", "10.0.0.5")]);
/// assert_eq!(variables.fill("http://{{ .host_ip }}:8080/health")?, "http://10.0.0.5:8080/health");
/// assert!(variables.fill("{{ .host_up }}").is_err());
/// # Ok::<(), discovery_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Names and what they stand for.
    pub fn new<K: Into<String>, V: Into<String>>(all: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(
            all.into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }

    /// The same with one more, which goes before an older one of that name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// What `name` stands for.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The names that `text` uses, in their order.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] for braces that hold no name.
    pub fn used(text: &str) -> Result<Vec<&str>> {
        parts(text)?
            .into_iter()
            .filter_map(|(_, name)| name)
            .map(Ok)
            .collect()
    }

    /// The text with every name replaced by what it stands for.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] for a name that stands for nothing, and for braces that hold none.
    pub fn fill<'a>(&self, text: &'a str) -> Result<Cow<'a, str>> {
        if !text.contains("{{") {
            return Ok(text.into());
        }
        let mut filled = String::new();
        for (before, name) in parts(text)? {
            filled.push_str(before);
            let Some(name) = name else { continue };
            filled.push_str(self.0.get(name).ok_or_else(|| self.unknown(name))?);
        }
        Ok(filled.into())
    }

    fn unknown(&self, name: &str) -> Error {
        let known: Vec<_> = self.0.keys().map(String::as_str).collect();
        Error::new(
            ErrorKind::ConfigInvalid,
            "nothing says what a variable stands for",
        )
        .with_context("variable", format!("{{{{ .{name} }}}}"))
        .with_hint(format!("give it a value; these have one: {}", known.join(", ")))
    }
}

/// Pieces of plain text, each with the name that follows it.
pub(in crate::config) fn parts(text: &str) -> Result<Vec<(&str, Option<&str>)>> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let name = after.split_once("}}").and_then(|(inside, tail)| {
            let name = inside.trim().strip_prefix('.')?;
            let word = |c: char| c.is_alphanumeric() || c == '_';
            (!name.is_empty() && name.chars().all(word)).then_some((name, tail))
        });
        let Some((name, tail)) = name else {
            return Err(Error::new(ErrorKind::ConfigInvalid, "braces without a variable")
                .with_context("value", format!("{text:?}"))
                .with_hint("write `{{ .name }}`"));
        };
        all.push((before, Some(name)));
        rest = tail;
    }
    all.push((rest, None));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_names_and_nothing_else() {
        let variables = Variables::new([("a", "1"), ("b_2", "{{ .a }}")]);
        for (text, filled) in [
            ("plain } { }}", "plain } { }}"),
            ("{{.a}}", "1"),
            ("x{{ .a }}y{{  .b_2 }}", "x1y{{ .a }}"),
            ("", ""),
        ] {
            assert_eq!(variables.fill(text).unwrap(), filled, "{text}");
        }
        for bad in [
            "{{",
            "{{ .a",
            "{{ a }}",
            "{{ . }}",
            "{{ .a b }}",
            "{{ .missing }}",
            "{{ }}",
        ] {
            let error = variables.fill(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{bad}");
            assert!(error.hint().is_some());
        }
        assert_eq!(Variables::used("{{ .x }}-{{ .y }}").unwrap(), ["x", "y"]);
    }
}
