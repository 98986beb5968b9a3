//! Rules: which requests are answered how.

use std::{
    fmt,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    Method, StatusCode,
    header::{HeaderName, HeaderValue, LOCATION},
};
use serde_json::Value;

use super::log::LoggedRequest;
use crate::sync::lock;

type Condition = Arc<dyn Fn(&LoggedRequest) -> bool + Send + Sync>;
type BodyEdit = Arc<dyn Fn(Bytes) -> Result<Bytes, String> + Send + Sync>;

/// What happens to the requests it matches: forwarded and their answer changed, or answered here.
///
/// Of several rules the first that matches and has uses left applies, alone.
///
/// ```
/// use std::time::Duration;
/// use discovery_testkit::proxy::http::Rule;
///
/// let slow = Rule::get("/v1/health/service/*").delay(Duration::from_millis(50)).times(3);
/// let amnesia = Rule::any("*").set_header("x-consul-index", "1").map_json(|body| *body = serde_json::json!([]));
/// let broken = Rule::any("*").when(|request| request.query("index").is_some()).reply(500, "rpc error");
/// ```
#[derive(Clone)]
pub struct Rule {
    method: Option<Method>,
    path: String,
    condition: Option<Condition>,
    times: u64,
    pub(super) delay: Duration,
    pub(super) answer: Answer,
    /// What the upstream is not shown.
    pub(super) hidden: Vec<HeaderName>,
    pub(super) edits: Vec<Edit>,
}

#[derive(Debug, Clone)]
pub(super) enum Answer {
    Forward,
    Reply(StatusCode, Bytes),
    Endless(Bytes),
}

#[derive(Clone)]
pub(super) enum Edit {
    Status(StatusCode),
    SetHeader(HeaderName, HeaderValue),
    StripHeader(HeaderName),
    Body(BodyEdit),
}

impl Rule {
    /// A rule for every method on a path; a `*` at its end stands for the rest of the path. The query does not count.
    pub fn any(path: impl Into<String>) -> Self {
        Self {
            method: None,
            path: path.into(),
            condition: None,
            times: u64::MAX,
            delay: Duration::ZERO,
            answer: Answer::Forward,
            hidden: Vec::new(),
            edits: Vec::new(),
        }
    }

    /// A rule for one method on a path, as in [`Self::any`].
    pub fn on(method: Method, path: impl Into<String>) -> Self {
        Self {
            method: Some(method),
            ..Self::any(path)
        }
    }

    /// A rule for `GET` on a path, as in [`Self::any`].
    pub fn get(path: impl Into<String>) -> Self {
        Self::on(Method::GET, path)
    }

    /// Applies only to requests that satisfy this too.
    #[must_use]
    pub fn when(mut self, condition: impl Fn(&LoggedRequest) -> bool + Send + Sync + 'static) -> Self {
        self.condition = Some(Arc::new(condition));
        self
    }

    /// Applies so many times, not until removed.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Waits before the request is forwarded or answered.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Answers without forwarding.
    ///
    /// # Panics
    /// When `status` is none.
    #[must_use]
    #[track_caller]
    pub fn reply(mut self, status: u16, body: impl Into<Bytes>) -> Self {
        self.answer = Answer::Reply(status_code(status), body.into());
        self
    }

    /// Redirects without forwarding.
    ///
    /// # Panics
    /// When `status` is none or `location` cannot be a header.
    #[must_use]
    #[track_caller]
    pub fn redirect(self, status: u16, location: &str) -> Self {
        self.reply(status, "").set_header(LOCATION.as_str(), location)
    }

    /// Answers 200 and a body that never ends: `piece`, over and over (a space where it is empty).
    #[must_use]
    pub fn endless(mut self, piece: impl AsRef<[u8]>) -> Self {
        const AT_ONCE: usize = 16 << 10;
        let piece = match piece.as_ref() {
            [] => b" ",
            piece => piece,
        };
        self.answer = Answer::Endless(piece.repeat(AT_ONCE.div_ceil(piece.len())).into());
        self
    }

    /// Forwards the request without this header.
    ///
    /// # Panics
    /// When `name` cannot be a header.
    #[must_use]
    #[track_caller]
    pub fn hide_header(mut self, name: &str) -> Self {
        self.hidden.push(header_name(name));
        self
    }

    /// Replaces the status of the answer.
    ///
    /// # Panics
    /// When `status` is none.
    #[must_use]
    #[track_caller]
    pub fn set_status(self, status: u16) -> Self {
        self.edit(Edit::Status(status_code(status)))
    }

    /// Sets or replaces a header of the answer.
    ///
    /// # Panics
    /// When `name` or `value` cannot be a header.
    #[must_use]
    #[track_caller]
    pub fn set_header(self, name: &str, value: &str) -> Self {
        let Ok(value) = HeaderValue::from_str(value) else {
            panic!("not the value of a header: {value:?}");
        };
        self.edit(Edit::SetHeader(header_name(name), value))
    }

    /// Removes a header from the answer.
    ///
    /// # Panics
    /// When `name` cannot be a header.
    #[must_use]
    #[track_caller]
    pub fn strip_header(self, name: &str) -> Self {
        self.edit(Edit::StripHeader(header_name(name)))
    }

    /// Changes the body of the answer, which is read to its end first.
    #[must_use]
    pub fn map_body(self, change: impl Fn(Bytes) -> Bytes + Send + Sync + 'static) -> Self {
        self.edit(Edit::Body(Arc::new(move |body| Ok(change(body)))))
    }

    /// Changes the body of the answer as JSON; a body that is none is answered with 502 and says so.
    #[must_use]
    pub fn map_json(self, change: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        self.edit(Edit::Body(Arc::new(move |body| {
            let mut value = serde_json::from_slice(&body).map_err(|error| format!("map_json: {error}"))?;
            change(&mut value);
            Ok(value.to_string().into())
        })))
    }

    fn edit(mut self, edit: Edit) -> Self {
        self.edits.push(edit);
        self
    }

    fn matches(&self, request: &LoggedRequest) -> bool {
        self.method
            .as_ref()
            .is_none_or(|method| *method == request.method)
            && request.matches(&self.path)
            && self.condition.as_ref().is_none_or(|condition| condition(request))
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = self.method.as_ref().map_or("*", Method::as_str);
        write!(
            f,
            "Rule({method} {} {:?} + {} edits)",
            self.path,
            self.answer,
            self.edits.len()
        )
    }
}

#[track_caller]
fn status_code(status: u16) -> StatusCode {
    let Ok(code) = StatusCode::from_u16(status) else {
        panic!("not a status: {status}");
    };
    code
}

#[track_caller]
fn header_name(name: &str) -> HeaderName {
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
        panic!("not the name of a header: {name:?}");
    };
    name
}

/// A rule in force; dropping it leaves the rule in force.
#[derive(Debug, Clone)]
pub struct RuleHandle {
    entry: Weak<Entry>,
    uses: Arc<AtomicU64>,
    rules: Arc<Rules>,
}

impl RuleHandle {
    /// How many requests it was applied to.
    pub fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }

    /// Takes the rule out of force; again, it does nothing.
    pub fn remove(&self) {
        lock(&self.rules.0).retain(|entry| !Weak::ptr_eq(&Arc::downgrade(entry), &self.entry));
    }
}

#[derive(Debug, Default)]
pub(super) struct Rules(Mutex<Vec<Arc<Entry>>>);

#[derive(Debug)]
struct Entry {
    rule: Rule,
    uses: Arc<AtomicU64>,
}

impl Rules {
    pub(super) fn add(self: &Arc<Self>, rule: Rule) -> RuleHandle {
        let uses = Arc::<AtomicU64>::default();
        let entry = Arc::new(Entry {
            rule,
            uses: uses.clone(),
        });
        let handle = RuleHandle {
            entry: Arc::downgrade(&entry),
            uses,
            rules: self.clone(),
        };
        lock(&self.0).push(entry);
        handle
    }

    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }

    /// The rule that applies to `request`, with one use taken.
    pub(super) fn apply(&self, request: &LoggedRequest) -> Option<Rule> {
        let rules = lock(&self.0).clone(); // conditions are foreign code: they run without the lock
        let entry = rules.iter().find(|entry| {
            entry.rule.matches(request)
                && entry
                    .uses
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |uses| {
                        (uses < entry.rule.times).then_some(uses + 1)
                    })
                    .is_ok()
        })?;
        Some(entry.rule.clone())
    }
}
