//! Validated names: of services and of instances.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use crate::error::{Error, ErrorKind, Result};

/// The longest name or id, in bytes: what a DNS name can hold, and less than any registry's own limit.
const MAX_LEN: usize = 253;

/// Why `text` cannot be a name, if it cannot.
///
/// The rule is the intersection of what the registries keep apart by themselves: one path segment, one line.
fn fault(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        Some("is empty")
    } else if text.len() > MAX_LEN {
        Some("is longer than 253 bytes")
    } else if text.contains('/') {
        Some("contains `/`, which separates keys in every registry")
    } else if text.chars().any(char::is_control) {
        Some("contains a control character")
    } else if text == "." || text == ".." {
        Some("is a relative path segment")
    } else if text.trim() != text {
        Some("starts or ends with white space")
    } else {
        None
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            #[doc = concat!("A validated ", $what, ".")]
            ///
            /// # Errors
            /// [`ErrorKind::InvalidInput`] when it is empty, longer than 253 bytes, a relative path segment, padded with
            /// white space, or contains `/` or a control character.
            pub fn new(text: impl AsRef<str>) -> Result<Self> {
                let text = text.as_ref();
                match fault(text) {
                    None => Ok(Self(text.into())),
                    Some(fault) => Err(Error::new(ErrorKind::InvalidInput, concat!("invalid ", $what))
                        .with_context($field, format!("{text:?} {fault}"))
                        .with_hint("use letters, digits, `-`, `_` and `.`")),
                }
            }

            #[doc = concat!("A ", $what, " as a registry reported it, whatever it looks like.")]
            ///
            /// For backends: what others registered must be shown, even where we would not have accepted it.
            pub fn observed(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text of it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

name_type! {
    /// The name of a service.
    ///
    /// ```
    /// use discovery_core::ServiceName;
    ///
    /// assert!(ServiceName::new("api").is_ok());
    /// assert!(ServiceName::new("api/v2").is_err());
    /// ```
    ServiceName, "service name", "name"
}

name_type! {
    /// The id of an instance, unique within what its [`InstanceKey`](crate::InstanceKey) names.
    InstanceId, "instance id", "id"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_refused_or_kept_whole() {
        for bad in [
            "",
            "a/b",
            "/",
            "..",
            ".",
            " a",
            "a ",
            "a\nb",
            "a\0",
            "\u{7f}",
            &"x".repeat(254),
        ] {
            let error = ServiceName::new(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad:?}");
            assert!(error.hint().is_some());
        }
        for good in [
            "api",
            "a b",
            "a?b",
            "a#b",
            "a%2Fb",
            "a+b",
            "größe",
            "服务",
            &"x".repeat(253),
        ] {
            assert_eq!(ServiceName::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn deserialising_validates() {
        assert!(serde_json::from_str::<InstanceId>("\"web-1\"").is_ok());
        assert!(serde_json::from_str::<InstanceId>("\"web/1\"").is_err());
    }
}
