//! Names: from text to labels and back, never splitting what the wire keeps together.

use discovery_core::{Error, ErrorKind, Result};
use hickory_proto::rr::Name;

use crate::error::error;

/// A name of its own: labels with dots between them, one at the end or not (D-13).
pub(crate) fn absolute(text: &str) -> Result<Name> {
    let labels = text.strip_suffix('.').unwrap_or(text);
    if labels.is_empty() {
        return Err(bad(text, "empty"));
    }
    from_labels(labels.split('.').map(str::as_bytes)).map_err(|_| bad(text, "no DNS name"))
}

/// The name of these labels, from the left.
pub(crate) fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Result<Name> {
    Name::from_labels(labels)
        .map_err(|source| error(ErrorKind::InvalidInput, "no DNS name").with_source(source))
}

/// `<label>.<name>`; the label may hold anything, dots included (D-21).
pub(crate) fn under(label: &[u8], name: &Name) -> Result<Name> {
    from_labels(std::iter::once(label).chain(name.iter())).map_err(|_| {
        bad(
            &String::from_utf8_lossy(label),
            "no label, or makes the name too long",
        )
    })
}

/// Text that is one label of a host or service name: letters, digits, `-` and `_`, up to 63.
pub(crate) fn label(text: &str) -> Result<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if text.is_empty() || text.len() > 63 || !text.bytes().all(plain) {
        return Err(bad(text, "no DNS label"));
    }
    Ok(text)
}

fn bad(text: &str, fault: &str) -> Error {
    error(ErrorKind::InvalidInput, format!("a name is {fault}"))
        .with_context("name", format!("{text:?}"))
        .with_hint("use labels of up to 63 letters, digits, `-` and `_`, with dots between them, 253 in all")
}

/// How a name is shown: without the dot at its end, what is not text replaced.
pub(crate) fn shown(name: &Name) -> String {
    let labels: Vec<_> = name.iter().map(String::from_utf8_lossy).collect();
    labels.join(".")
}

/// The first label as text.
pub(crate) fn first(name: &Name) -> String {
    name.iter()
        .next()
        .map(|label| String::from_utf8_lossy(label).into_owned())
        .unwrap_or_default()
}

/// Whether `pattern`, a name or `*.` and an ending, fits.
pub(crate) fn fits(pattern: &Pattern, name: &Name) -> bool {
    if pattern.below {
        pattern.name.zone_of(name) && name.num_labels() > pattern.name.num_labels()
    } else {
        pattern.name == *name
    }
}

/// A name, or everything below one.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    name: Name,
    below: bool,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Result<Self> {
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if rest.contains('*') {
            return Err(bad(text, "no pattern: `*` stands at its beginning only"));
        }
        Ok(Self {
            name: absolute(rest)?,
            below,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_13_case_and_the_last_dot_make_no_difference() {
        assert_eq!(
            absolute("API.service.Consul").unwrap(),
            absolute("api.service.consul.").unwrap()
        );
        for bad in ["", ".", "a..b", ".a", &"x".repeat(64), &"abc.".repeat(70)] {
            let error = absolute(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad:?}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn d_21_a_label_keeps_its_dots() {
        let zone = absolute("_http._tcp.svc.test").unwrap();
        let name = under("Büro. 2nd floor".as_bytes(), &zone).unwrap();
        assert_eq!(name.num_labels(), 5);
        assert_eq!(first(&name), "Büro. 2nd floor");
    }

    #[test]
    fn patterns_fit_what_is_below_them() {
        let fits = |pattern: &str, name: &str| {
            super::fits(&Pattern::new(pattern).unwrap(), &absolute(name).unwrap())
        };
        assert!(fits("*.service.consul", "api.SERVICE.consul"));
        assert!(fits("*.service.consul", "v2.api.service.consul"));
        assert!(!fits("*.service.consul", "service.consul"));
        assert!(!fits("*.service.consul", "api.myservice.consul"));
        assert!(fits("api.service.consul", "api.service.consul"));
        assert!(Pattern::new("a.*.consul").is_err());
    }
}
