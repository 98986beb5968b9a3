//! A client's configuration in one line: `consul://host:8501?dc=dc1&timeout=5s`.

use std::fmt;

use url::{Url, form_urlencoded};

use super::text::{is_secret, is_secret_block, shorten};
use crate::error::{Error, ErrorKind, Result};

/// A host and, where given, its port; prints as `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A host name, or an IP address (IPv6 in brackets).
    pub host: String,
    /// The port, where one is given.
    pub port: Option<u16>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// The parts of a URI.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceUri {
    /// The scheme in lower case, which names the backend.
    pub scheme: String,
    /// The servers, none for `memory://`.
    pub endpoints: Vec<Endpoint>,
    /// The decoded path with its leading slash; empty when there is none or only a slash.
    pub path: String,
    /// The decoded `key=value` pairs in their order, each key once.
    pub query: Vec<(String, String)>,
}

/// Takes a URI apart: a scheme, one or several `host:port` with commas between them, a path and a query.
///
/// # Errors
/// [`ErrorKind::ConfigInvalid`] for anything else, and for a user, password or token in it: URIs end up in logs and process
/// lists. No message repeats what follows the scheme, unless it is known to be harmless.
pub fn parse_uri(text: &str) -> Result<ServiceUri> {
    let bad = |fault: String| Error::new(ErrorKind::ConfigInvalid, fault);
    let (scheme, rest) = text.trim().split_once("://").ok_or_else(|| {
        bad("not a URI: `://` is missing".to_owned())
            .with_hint("write it as `scheme://host:port?key=value`, or `memory://`")
    })?;
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(
            bad("a URI may not carry a user or password".to_owned()).with_hint(
                "name environment variables instead: `token_env`, or `username_env` and `password_env`",
            ),
        );
    }

    // One host at a time is what the parser knows; the path and query go with an empty one.
    let tail = Url::parse(&format!("{scheme}://x{rest}")).map_err(|error| {
        let scheme = shorten(scheme, 40);
        bad(format!("bad URI with the scheme {scheme:?}")).with_source(error)
    })?;
    if tail.fragment().is_some() {
        return Err(bad("a URI for a registry has no `#` part".to_owned())
            .with_hint("write `#` within a value as `%23`"));
    }
    let scheme = tail.scheme().to_owned();
    let endpoints = match authority {
        "" => Vec::new(),
        list => list
            .split(',')
            .map(|part| endpoint(&scheme, part))
            .collect::<Result<_>>()?,
    };

    let mut query: Vec<(String, String)> = Vec::new();
    for (key, value) in tail.query_pairs() {
        let name = shorten(&key, 64);
        if key.is_empty() {
            return Err(bad(format!("{scheme}: a query key is empty")));
        }
        let field = key.rsplit('.').next().unwrap_or(&key);
        if is_secret(field) || is_secret_block(field) {
            return Err(bad(format!(
                "{scheme}: a URI may not carry a secret, as `{name}` seems to be"
            ))
            .with_hint("name an environment variable or a file instead, as in `token_env=CONSUL_TOKEN`"));
        }
        if query.iter().any(|(other, _)| *other == key) {
            return Err(bad(format!("{scheme}: query key `{name}` is given twice")));
        }
        query.push((key.into_owned(), value.into_owned()));
    }
    let path = match tail.path() {
        "" | "/" => String::new(),
        path => percent_decoded(path).ok_or_else(|| {
            bad(format!(
                "{scheme}: the path is not UTF-8 once its `%` codes are decoded"
            ))
        })?,
    };
    Ok(ServiceUri {
        scheme,
        endpoints,
        path,
        query,
    })
}

fn endpoint(scheme: &str, text: &str) -> Result<Endpoint> {
    let bad = |fault: &str| {
        let message = format!("{scheme}: bad address {:?}: {fault}", shorten(text, 80));
        Error::new(ErrorKind::ConfigInvalid, message).with_hint("write `host`, `host:port` or `[::1]:port`")
    };
    // The parser drops the former and takes a backslash for a slash.
    if text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err(bad("invalid character"));
    }
    // `http` makes the parser check host names and IPv4 addresses, which it leaves alone under unknown schemes.
    let url = Url::parse(&format!("http://{text}")).map_err(|error| bad(&error.to_string()))?;
    let host = url
        .host_str()
        .filter(|host| !host.is_empty())
        .ok_or_else(|| bad("empty host"))?;
    // The parser drops the scheme's own port.
    let explicit = text
        .rsplit_once(':')
        .map(|(_, port)| port)
        .filter(|port| !port.contains(']'));
    let port = match explicit {
        None => None,
        Some(port) => Some(port.parse().map_err(|_| bad("invalid port number"))?),
    };
    if port == Some(0) {
        return Err(bad("port 0 is no port to connect to"));
    }
    Ok(Endpoint {
        host: host.to_owned(),
        port,
    })
}

/// The path without its `%` codes. A form's key with nothing special in it is just that.
fn percent_decoded(path: &str) -> Option<String> {
    let form = path.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    let (decoded, _) = form_urlencoded::parse(form.as_bytes()).next()?;
    (!decoded.contains(char::REPLACEMENT_CHARACTER)).then(|| decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fault(text: &str) -> String {
        let error = parse_uri(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        format!("{error}; {}", error.hint().unwrap_or("-"))
    }

    #[test]
    fn takes_a_uri_apart() {
        let uri = parse_uri("consul://host:8501?dc=dc1&timeout=5s").unwrap();
        assert_eq!(uri.scheme, "consul");
        assert_eq!(
            uri.endpoints,
            [Endpoint {
                host: "host".into(),
                port: Some(8501)
            }]
        );
        assert_eq!(uri.path, "");
        assert_eq!(
            uri.query,
            [("dc".into(), "dc1".into()), ("timeout".into(), "5s".into())]
        );
    }

    #[test]
    fn takes_several_servers_and_a_path() {
        let uri = parse_uri("etcd://a:2379,[::1]:2380,10.0.0.1,b:80/services/%C3%A4?x=a%20b").unwrap();
        let endpoints: Vec<_> = uri.endpoints.iter().map(ToString::to_string).collect();
        assert_eq!(endpoints, ["a:2379", "[::1]:2380", "10.0.0.1", "b:80"]);
        assert_eq!(uri.path, "/services/ä");
        assert_eq!(uri.query, [("x".into(), "a b".into())]);
    }

    #[test]
    fn needs_no_server() {
        for text in ["memory://", "MEMORY:///", "memory://?"] {
            let uri = parse_uri(text).unwrap();
            assert_eq!(
                (uri.scheme.as_str(), uri.endpoints.len(), uri.path.as_str()),
                ("memory", 0, ""),
                "{text}"
            );
        }
    }

    #[test]
    fn secrets_are_refused_and_not_repeated() {
        for text in [
            "consul://user:hunter2@host:8501",
            "consul://hunter2@host",
            "consul://:hunter2@h/p?q#f",
        ] {
            assert_eq!(
                fault(text),
                "a URI may not carry a user or password; name environment variables instead: `token_env`, or \
                 `username_env` and `password_env`"
            );
        }
        assert_eq!(
            fault("consul://host?authentication.token=hunter2"),
            "consul: a URI may not carry a secret, as `authentication.token` seems to be; name an environment variable \
             or a file instead, as in `token_env=CONSUL_TOKEN`"
        );
        assert!(parse_uri("consul://host?token_env=CONSUL_TOKEN").is_ok());
    }

    #[test]
    fn bad_ones_say_why() {
        assert_eq!(
            fault("localhost:8500"),
            "not a URI: `://` is missing; write it as `scheme://host:port?key=value`, or `memory://`"
        );
        assert_eq!(
            fault("consul://host:99999"),
            "consul: bad address \"host:99999\": invalid port number; write `host`, `host:port` or `[::1]:port`"
        );
        for bad in [
            "host:",
            "host:0",
            "host:-1",
            "host:+1",
            ":80",
            "a,,b",
            "[::1",
            "a b",
            "1.2.3.4.5:1",
            "a:b:c",
        ] {
            assert!(
                fault(&format!("consul://{bad}")).starts_with("consul: bad address "),
                "{bad}"
            );
        }
        assert_eq!(fault("con sul://h"), "bad URI with the scheme \"con sul\"; -");
        assert_eq!(
            fault("consul://h?a=1&a=2"),
            "consul: query key `a` is given twice; -"
        );
        assert_eq!(fault("consul://h?=1"), "consul: a query key is empty; -");
        assert!(fault("consul://h/%FF").starts_with("consul: the path is not UTF-8"));
        assert!(fault("consul://h#x").starts_with("a URI for a registry has no `#` part"));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,60}", uri in "[a-z]{0,3}://[a-z0-9:,.@%\\[\\]/?&=#]{0,40}") {
            let _ = parse_uri(&text);
            let _ = parse_uri(&uri);
        }
    }
}
