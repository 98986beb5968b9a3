use std::sync::{Arc, Mutex};

use futures::stream;

use super::*;

/// What each raw watch in turn yields; the last script repeats.
#[derive(Clone)]
enum Script {
    Fail(ErrorKind),
    Events(Vec<WatchEvent>, End),
}

#[derive(Clone, Copy)]
enum End {
    Close,
    Silence,
    /// One more event after so long, then the end.
    After(Duration),
}

type Opened = Arc<Mutex<Vec<(Instant, Option<Cursor>)>>>;

fn scripted(idle: Duration, scripts: Vec<Script>) -> (Recover<WatchEvent>, Opened) {
    let opened = Opened::default();
    let log = opened.clone();
    let recover = Recover::new(idle, move |cursor| {
        let mut log = log.lock().unwrap();
        let script = scripts[log.len().min(scripts.len() - 1)].clone();
        log.push((Instant::now(), cursor));
        match script {
            Script::Fail(kind) => stream::once(async move { Err(Error::new(kind, "scripted")) }).boxed(),
            Script::Events(events, End::Close) => stream::iter(events.into_iter().map(Ok)).boxed(),
            Script::Events(events, End::After(quiet)) => stream::iter(events.into_iter().map(Ok))
                .chain(stream::once(async move {
                    tokio::time::sleep(quiet).await;
                    Ok(upsert("later"))
                }))
                .boxed(),
            Script::Events(events, End::Silence) => stream::iter(events.into_iter().map(Ok))
                .chain(stream::pending())
                .boxed(),
        }
    });
    (recover, opened)
}

fn reset(cursor: &str) -> WatchEvent {
    WatchEvent::new(Change::Reset(Vec::new())).with_cursor(Cursor::new(cursor))
}

fn upsert(cursor: &str) -> WatchEvent {
    WatchEvent::new(Change::Upsert(Vec::new())).with_cursor(Cursor::new(cursor))
}

const IDLE: Duration = Duration::from_secs(20);

#[tokio::test(start_paused = true)]
async fn resumes_from_the_last_cursor_after_a_cut() {
    let (mut watch, opened) = scripted(
        IDLE,
        vec![
            Script::Events(vec![reset("1"), upsert("2")], End::Close),
            Script::Events(vec![upsert("3")], End::Silence),
        ],
    );
    assert!(matches!(watch.next().await, Recovered::Event(e) if e == reset("1")));
    assert!(matches!(watch.next().await, Recovered::Event(e) if e == upsert("2")));
    assert!(
        matches!(watch.next().await, Recovered::Down { error, .. } if error.kind() == ErrorKind::Unavailable)
    );
    assert!(matches!(watch.next().await, Recovered::Event(e) if e == upsert("3")));
    let cursors: Vec<_> = opened
        .lock()
        .unwrap()
        .iter()
        .map(|(_, cursor)| cursor.clone())
        .collect();
    assert_eq!(cursors, [None, Some(Cursor::new("2"))]);
}

#[tokio::test(start_paused = true)]
async fn relists_at_once_when_the_cursor_has_expired_and_only_once() {
    let (mut watch, opened) = scripted(
        IDLE,
        vec![
            Script::Events(vec![reset("1")], End::Close),
            Script::Fail(ErrorKind::WatchExpired),
            Script::Fail(ErrorKind::WatchExpired),
            Script::Events(vec![reset("9")], End::Silence),
        ],
    );
    let mut waits = Vec::new();
    loop {
        match watch.next().await {
            Recovered::Down { retry_in, .. } => waits.push(retry_in),
            Recovered::Event(event) if event == reset("9") => break,
            Recovered::Event(_) => {}
        }
    }
    assert_eq!(waits[1], Duration::ZERO, "the first relist does not wait");
    assert!(
        waits[2] > Duration::ZERO,
        "the second expiry in a row waits like any failure"
    );
    assert_eq!(opened.lock().unwrap()[2].1, None);
}

/// an endpoint that always errors gets few requests a minute.
#[tokio::test(start_paused = true)]
async fn a_4_an_endpoint_that_always_errs_is_asked_ever_more_seldom() {
    let (mut watch, opened) = scripted(IDLE, vec![Script::Fail(ErrorKind::Unavailable)]);
    let end = Instant::now() + Duration::from_secs(600);
    while Instant::now() < end {
        assert!(matches!(watch.next().await, Recovered::Down { .. }));
    }
    let opened = opened.lock().unwrap();
    let last_minutes = opened
        .iter()
        .filter(|(at, _)| *at + Duration::from_secs(300) > end)
        .count();
    assert!(opened.len() < 90, "{} requests in ten minutes", opened.len());
    assert!(
        (5..60).contains(&last_minutes),
        "{last_minutes} requests in the last five minutes"
    );
}

/// a watch that opens, answers and dies at once is no progress.
#[tokio::test(start_paused = true)]
async fn a_4_accept_then_close_does_not_reset_the_backoff() {
    let (mut watch, opened) = scripted(IDLE, vec![Script::Events(vec![reset("1")], End::Close)]);
    let end = Instant::now() + Duration::from_secs(300);
    while Instant::now() < end {
        watch.next().await;
    }
    assert!(opened.lock().unwrap().len() < 60);
}

/// a peer that is gone without a word is noticed within the idle deadline.
#[tokio::test(start_paused = true)]
async fn a_5_a_silent_watch_is_cut_and_opened_again() {
    let (mut watch, opened) = scripted(IDLE, vec![Script::Events(vec![reset("1")], End::Silence)]);
    assert!(matches!(watch.next().await, Recovered::Event(_)));
    let before = Instant::now();
    assert!(
        matches!(watch.next().await, Recovered::Down { error, .. } if error.kind() == ErrorKind::Timeout)
    );
    assert_eq!(before.elapsed(), IDLE);
    assert!(matches!(watch.next().await, Recovered::Event(_)));
    assert_eq!(opened.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_tried_slowly_and_for_ever() {
    let (mut watch, _) = scripted(IDLE, vec![Script::Fail(ErrorKind::PermissionDenied)]);
    for _ in 0..50 {
        let Recovered::Down { retry_in, .. } = watch.next().await else {
            panic!("no event was scripted")
        };
        assert!(retry_in >= MAX_DELAY);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fresh_watch_that_starts_with_a_change_is_not_believed() {
    let (mut watch, _) = scripted(IDLE, vec![Script::Events(vec![upsert("1")], End::Silence)]);
    assert!(
        matches!(watch.next().await, Recovered::Down { error, .. } if error.kind() == ErrorKind::Protocol)
    );
}

#[tokio::test(start_paused = true)]
async fn quiet_resets_the_backoff() {
    let mut scripts = vec![Script::Fail(ErrorKind::Unavailable); 12];
    scripts.push(Script::Events(vec![reset("1"), upsert("2")], End::After(QUIET)));
    scripts.push(Script::Fail(ErrorKind::Unavailable));
    let (mut watch, _) = scripted(QUIET * 2, scripts);
    let mut events = 0;
    while events < 3 {
        events += usize::from(matches!(watch.next().await, Recovered::Event(_)));
    }
    let Recovered::Down { retry_in, .. } = watch.next().await else {
        panic!("the stream ended")
    };
    assert!(retry_in <= MIN_DELAY, "{retry_in:?}");
}

#[tokio::test(start_paused = true)]
async fn dropping_next_loses_nothing() {
    let (mut watch, opened) = scripted(
        IDLE,
        vec![
            Script::Fail(ErrorKind::Unavailable),
            Script::Events(vec![reset("1"), upsert("2")], End::Silence),
        ],
    );
    let mut seen = Vec::new();
    while seen.len() < 2 {
        tokio::select! {
            biased;
            next = watch.next() => if let Recovered::Event(event) = next { seen.push(event) },
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
    }
    assert_eq!(seen, [reset("1"), upsert("2")]);
    assert_eq!(opened.lock().unwrap().len(), 2);
}
