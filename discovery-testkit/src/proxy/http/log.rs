//! Every request an HTTP proxy saw.

use std::{collections::VecDeque, fmt, time::Duration};

use bytes::Bytes;
use hyper::{HeaderMap, Method};
use tokio::time::Instant;
use url::form_urlencoded;

/// How many requests are kept; the oldest go first.
const LIMIT: usize = 100_000;

/// A request as the proxy received it.
#[derive(Clone)]
#[non_exhaustive]
pub struct LoggedRequest {
    /// When its head had arrived.
    pub at: Instant,
    /// Its method.
    pub method: Method,
    /// Its path and query, as sent.
    pub path_and_query: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its whole body.
    pub body: Bytes,
}

impl LoggedRequest {
    /// The path without the query.
    pub fn path(&self) -> &str {
        self.path_and_query.split('?').next().unwrap_or_default()
    }

    /// The first value of this query parameter, decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.path_and_query.split_once('?')?;
        let (_, value) = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name)?;
        Some(value.into_owned())
    }

    /// The first value of this header, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether the path is `pattern`, or starts with it up to a `*` at its end.
    pub fn matches(&self, pattern: &str) -> bool {
        match pattern.strip_suffix('*') {
            Some(start) => self.path().starts_with(start),
            None => self.path() == pattern,
        }
    }

    /// Where the request holds `secret`, as it is or percent-encoded.
    pub fn find(&self, secret: &str) -> Option<String> {
        let decoded = form_urlencoded::parse(self.path_and_query.as_bytes())
            .flat_map(|(key, value)| [key, value])
            .any(|part| part.contains(secret));
        if decoded || self.path_and_query.contains(secret) {
            return Some("the path or query".to_owned());
        }
        for (name, value) in &self.headers {
            if name.as_str().contains(secret) || contains(value.as_bytes(), secret) {
                return Some(format!("header {name}").replace(secret, "<secret>"));
            }
        }
        contains(&self.body, secret).then(|| "the body".to_owned())
    }
}

fn contains(haystack: &[u8], secret: &str) -> bool {
    haystack
        .windows(secret.len())
        .any(|window| window == secret.as_bytes())
}

impl fmt::Debug for LoggedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values of headers may be credentials.
        let headers: Vec<_> = self
            .headers
            .keys()
            .map(hyper::header::HeaderName::as_str)
            .collect();
        write!(
            f,
            "{} {} {headers:?} + {} bytes",
            self.method,
            self.path_and_query,
            self.body.len()
        )
    }
}

#[derive(Debug, Default)]
pub(super) struct RequestLog {
    requests: VecDeque<LoggedRequest>,
    overflowed: bool,
}

impl RequestLog {
    pub(super) fn push(&mut self, request: LoggedRequest) {
        if self.requests.len() == LIMIT {
            self.requests.pop_front();
            self.overflowed = true;
        }
        self.requests.push_back(request);
    }

    pub(super) fn matching(&self, pattern: &str) -> impl Iterator<Item = &LoggedRequest> {
        self.requests
            .iter()
            .filter(move |request| request.matches(pattern))
    }

    /// Requests a second over the last `window`.
    pub(super) fn rate(&self, pattern: &str, window: Duration) -> f64 {
        let recent = self
            .matching(pattern)
            .filter(|request| request.at.elapsed() <= window)
            .count();
        f64::from(u32::try_from(recent).unwrap_or(u32::MAX)) / window.as_secs_f64()
    }

    /// The first place that holds `secret`, or why nothing can be said.
    pub(super) fn find(&self, secret: &str) -> Option<String> {
        let found = self.requests.iter().find_map(|request| {
            let place = request.find(secret)?;
            Some(format!("{place} of a {} request", request.method))
        });
        found.or_else(|| {
            self.overflowed
                .then(|| "perhaps the requests no longer in the log".to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn request(path_and_query: &str) -> LoggedRequest {
        LoggedRequest {
            at: Instant::now(),
            method: Method::GET,
            path_and_query: path_and_query.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    #[test]
    fn patterns_match_the_path_without_the_query() {
        let request = request("/v1/kv/a%2Fb?index=7&dc=a+b");
        assert!(request.matches("/v1/kv/a%2Fb") && request.matches("/v1/*") && request.matches("*"));
        assert!(!request.matches("/v1/kv") && !request.matches("/v2/*"));
        assert_eq!(request.query("dc").as_deref(), Some("a b"));
        assert_eq!(request.query("index").as_deref(), Some("7"));
        assert_eq!(request.query("wait"), None);
    }

    ///
    #[test]
    fn a_secret_is_found_wherever_it_hides() {
        let secret = "s3/cr&t";
        assert_eq!(request("/a?b=c").find(secret), None);
        assert!(request("/s3/cr&t").find(secret).is_some());
        assert!(request("/a?token=s3%2Fcr%26t").find(secret).is_some());
        assert!(request("/a/s3%2Fcr%26t/b").find(secret).is_some());
        let mut header = request("/");
        header
            .headers
            .insert("x-token", HeaderValue::from_static("Bearer s3/cr&t"));
        assert_eq!(header.find(secret).as_deref(), Some("header x-token"));
        assert!(!format!("{header:?}").contains(secret));
        let mut body = request("/");
        body.body = Bytes::from_static(b"\xff{\"token\":\"s3/cr&t\"}");
        assert_eq!(body.find(secret).as_deref(), Some("the body"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_covers_the_window_only() {
        let mut log = RequestLog::default();
        log.push(request("/old"));
        tokio::time::advance(Duration::from_secs(11)).await;
        for path in ["/a", "/b", "/a"] {
            log.push(request(path));
        }
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!((log.rate("*", Duration::from_secs(10)) - 0.3).abs() < 1e-9);
        assert!((log.rate("/a", Duration::from_secs(10)) - 0.2).abs() < 1e-9);
        assert!((log.rate("*", Duration::from_secs(20)) - 0.2).abs() < 1e-9);
    }

    #[tokio::test]
    async fn a_log_that_overflowed_does_not_vouch() {
        let mut log = RequestLog::default();
        for _ in 0..LIMIT {
            log.push(request("/"));
        }
        assert_eq!(log.find("secret"), None);
        log.push(request("/"));
        assert_eq!(log.requests.len(), LIMIT);
        assert!(log.find("secret").unwrap().contains("no longer in the log"));
    }
}
