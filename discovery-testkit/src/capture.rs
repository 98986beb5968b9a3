//! Everything logged, at every level, to be searched for a secret that must not be there (rule A-6).

use std::{
    fmt,
    io::{self, Write},
    sync::{Arc, Mutex},
};

use tracing_subscriber::{
    EnvFilter,
    fmt::{MakeWriter, format::FmtSpan},
    util::SubscriberInitExt,
};

use crate::sync::lock;

/// How much is kept; a test that logs more cannot vouch for the rest.
const LIMIT: usize = 64 << 20;

/// A buffer that log lines are written to; clones share it.
///
/// Use [`Capture::scoped`] in a test, [`Capture::install`] for a whole test process, or give it to a formatter of your
/// own as its writer.
#[derive(Clone, Default)]
pub struct Capture(Arc<Mutex<Buffer>>);

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    overflowed: bool,
}

/// The end of a [`Capture::scoped`]; drop it to stop capturing.
#[derive(Debug)]
#[must_use = "dropping it ends the capture"]
pub struct CaptureGuard {
    _default: tracing::subscriber::DefaultGuard,
}

impl Capture {
    /// An empty buffer that nothing writes to yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Captures everything logged on this thread at TRACE until the guard is dropped, spans and their fields included.
    ///
    /// On a multi-thread runtime other threads are not captured: use [`Self::install`].
    pub fn scoped() -> (Self, CaptureGuard) {
        let capture = Self::new();
        let guard = CaptureGuard {
            _default: capture.subscriber().set_default(),
        };
        (capture, guard)
    }

    /// Captures everything logged in this process at TRACE from now on, but for the frames of HTTP/2.
    ///
    /// # Errors
    /// When the process has a global subscriber already.
    pub fn install() -> Result<Self, tracing_subscriber::util::TryInitError> {
        let capture = Self::new();
        capture.subscriber().try_init()?;
        Ok(capture)
    }

    fn subscriber(&self) -> impl SubscriberInitExt + use<> {
        tracing_subscriber::fmt()
            // It logs every frame, without what is in it, and would drown everything else.
            .with_env_filter(EnvFilter::new("trace,h2=info"))
            .with_ansi(false)
            .with_span_events(FmtSpan::FULL)
            .with_writer(self.clone())
            .finish()
    }

    /// What was logged so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&lock(&self.0).bytes).into_owned()
    }

    /// Asserts that no line holds `secret`.
    ///
    /// # Panics
    /// When one does (the line is shown without the secret), and when the assertion would prove nothing: an empty
    /// secret, nothing captured, or more logged than was kept (64 MiB).
    #[track_caller]
    pub fn assert_no_secret(&self, secret: &str) {
        assert!(!secret.is_empty(), "an empty secret is found everywhere");
        let overflowed = lock(&self.0).overflowed;
        let text = self.text();
        assert!(!text.is_empty(), "nothing was captured: this proves nothing");
        if let Some(line) = text.lines().find(|line| line.contains(secret)) {
            panic!("a secret was logged: {}", line.replace(secret, "<secret>"));
        }
        assert!(
            !overflowed,
            "more was logged than kept: this proves nothing about the rest"
        );
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = lock(&self.0).bytes.len();
        f.debug_struct("Capture")
            .field("bytes", &bytes)
            .finish_non_exhaustive()
    }
}

impl Write for Capture {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut buffer = lock(&self.0);
        let room = LIMIT - buffer.bytes.len();
        buffer.overflowed |= line.len() > room;
        buffer.bytes.extend_from_slice(&line[..line.len().min(room)]);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Capture {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "s3ntinel";

    fn panic_of(check: impl FnOnce() + std::panic::UnwindSafe) -> String {
        let panic = std::panic::catch_unwind(check).unwrap_err();
        panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap()
    }

    #[test]
    fn captures_trace_events_and_the_fields_of_spans() {
        let (capture, guard) = Capture::scoped();
        tracing::trace!(answer = 42, "quiet");
        drop(tracing::trace_span!("call", address = "here").entered());
        drop(guard);
        tracing::error!("after the end");
        let text = capture.text();
        assert!(text.contains("quiet answer=42"), "{text}");
        assert!(
            text.contains(r#"call{address="here"}"#),
            "a span without events: {text}"
        );
        assert!(!text.contains("after the end"), "{text}");
        capture.assert_no_secret(SECRET);
    }

    /// A-6: the check finds what it looks for and does not repeat it.
    #[test]
    fn a_logged_secret_is_found_and_not_shown() {
        let (capture, _guard) = Capture::scoped();
        tracing::debug!(token = SECRET, "sending");
        let panic = panic_of(|| capture.assert_no_secret(SECRET));
        assert!(panic.contains("sending token=\"<secret>\""), "{panic}");
        assert!(!panic.contains(SECRET), "{panic}");
    }

    #[test]
    fn an_empty_or_overflowing_capture_proves_nothing() {
        let mut capture = Capture::new();
        assert!(panic_of(|| Capture::new().assert_no_secret(SECRET)).contains("nothing was captured"));
        capture.write_all(&vec![b'x'; LIMIT - 1]).unwrap();
        capture.assert_no_secret(SECRET);
        capture.write_all(b"yz").unwrap();
        assert_eq!(lock(&capture.0).bytes.len(), LIMIT);
        assert!(panic_of(move || capture.assert_no_secret(SECRET)).contains("more was logged than kept"));
    }
}
