use std::time::Duration;

use super::*;
use crate::config::EtcdConfig;

/// Who asked.
struct Told<'a> {
    queue: &'a Mutex<Queue>,
    slot: usize,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        lock(self.queue).leave(self.slot);
    }
}

fn asked(queue: &Mutex<Queue>, id: i64, until: Instant) -> Told<'_> {
    let slot = lock(queue).push(id, until, Waker::noop().clone());
    Told { queue, slot }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

/// What the stream would send now, if anything.
fn next(requests: &mut Requests) -> Poll<Option<i64>> {
    let mut cx = Context::from_waker(Waker::noop());
    let next = requests.poll_next_unpin(&mut cx);
    next.map(|request| request.map(|request| request.id))
}

fn answer(queue: &Mutex<Queue>, id: i64, ttl: i64) {
    lock(queue).answered(&KeepAliveResponse { id, ttl });
}

fn told(told: Told<'_>) -> Option<Result<i64>> {
    let mut cx = Context::from_waker(Waker::noop());
    match lock(told.queue).poll(told.slot, &mut cx) {
        Poll::Ready(answer) => {
            std::mem::forget(told);
            Some(answer)
        }
        Poll::Pending => None,
    }
}

#[tokio::test]
async fn each_is_told_its_own_answer() {
    let queue = Arc::default();
    let mut requests = Requests::new(&queue);
    assert!(next(&mut requests).is_pending());
    let [one, gone, two, again] = [1, 1, 2, 1].map(|id| asked(&queue, id, soon()));
    for id in [1, 1, 2] {
        assert_eq!(next(&mut requests), Poll::Ready(Some(id)));
    }
    drop(gone);
    answer(&queue, 7, 30);
    // Not yet asked by `again`: it is not its answer.
    for (id, ttl) in [(1, 30), (1, 29), (2, 0), (1, 28)] {
        answer(&queue, id, ttl);
    }
    assert_eq!(told(one).unwrap().unwrap(), 30);
    assert_eq!(told(two).unwrap().unwrap(), 0);
    assert_eq!(next(&mut requests), Poll::Ready(Some(1)));
    answer(&queue, 1, 27);
    assert_eq!(told(again).unwrap().unwrap(), 27);
}

#[tokio::test]
async fn no_more_are_under_way_than_the_window_holds() {
    let queue = Arc::default();
    let all: Vec<_> = (0..=256).map(|id| asked(&queue, id, soon())).collect();
    let mut requests = Requests::new(&queue);
    for id in 0..256 {
        assert_eq!(next(&mut requests), Poll::Ready(Some(id)));
    }
    assert!(next(&mut requests).is_pending());
    for id in 0..128 {
        answer(&queue, id, 30);
        assert!(lock(&queue).sender.is_some(), "half of them at a time");
    }
    answer(&queue, 128, 30);
    assert!(lock(&queue).sender.is_none(), "the stream is woken");
    assert_eq!(next(&mut requests), Poll::Ready(Some(256)));
    assert!(next(&mut requests).is_pending());
    assert_eq!(all.len(), 257);
    let late = asked(&queue, 257, soon());
    lock(&queue).wake();
    assert_eq!(next(&mut requests), Poll::Ready(Some(257)), "there is room");
    drop(late);
}

#[tokio::test]
async fn a_new_stream_asks_again_for_what_is_not_answered() {
    let queue = Arc::default();
    let [one, gone, two] = [1, 2, 3].map(|id| asked(&queue, id, soon()));
    let mut broken = Requests::new(&queue);
    assert_eq!(next(&mut broken), Poll::Ready(Some(1)));
    assert_eq!(next(&mut broken), Poll::Ready(Some(2)));
    answer(&queue, 1, 30);
    drop((one, gone));
    let mut requests = Requests::new(&queue);
    assert_eq!(
        next(&mut broken),
        Poll::Ready(None),
        "it takes nothing from the other"
    );
    for id in [2, 3] {
        assert_eq!(next(&mut requests), Poll::Ready(Some(id)));
    }
    answer(&queue, 2, 30);
    answer(&queue, 3, 29);
    assert_eq!(told(two).unwrap().unwrap(), 29);
    let queue = lock(&queue);
    assert!(queue.asks.is_empty());
    assert!(queue.slots.is_empty(), "also of who went away");
}

#[tokio::test(start_paused = true)]
async fn only_who_waited_for_long_is_told_that_it_is_late() {
    let queue = Arc::default();
    let early = asked(&queue, 1, soon());
    tokio::time::advance(Duration::from_secs(3)).await;
    let young = asked(&queue, 2, soon());
    let mut requests = Requests::new(&queue);
    assert_eq!(next(&mut requests), Poll::Ready(Some(1)));
    tokio::time::advance(Duration::from_secs(2)).await;
    lock(&queue).expire(Instant::now(), &error::late(Duration::from_secs(5)));
    assert_eq!(told(early).unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    assert!(told(young).is_none());
}

/// Nothing listens there, and nobody waits for ever.
#[tokio::test]
async fn who_asks_is_told_that_there_is_no_way() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap().to_string();
    drop(closed);
    let alive = KeepAlives::new(Client::new(EtcdConfig::at([address])).unwrap());
    for _ in 0..2 {
        let asked = futures::future::join_all((0..10).map(|id| alive.ask(id, Instant::now()))).await;
        for failed in asked {
            assert_eq!(failed.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        assert!(!lock(&alive.shared.queue).read, "nobody waits, nothing reads");
    }
}

/// As when its runtime ends under it.
#[tokio::test]
async fn a_task_that_is_dropped_tells_those_who_wait() {
    let alive = KeepAlives::new(Client::new(EtcdConfig::default()).unwrap());
    let waits = asked(&alive.shared.queue, 1, soon());
    lock(&alive.shared.queue).read = true;
    drop(Reading {
        shared: alive.shared.clone(),
        ended: false,
    });
    assert_eq!(told(waits).unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert!(!lock(&alive.shared.queue).read, "the next starts another");
}
