//! A blocking query, asked again and again: every rule about its index, and its pace.

use std::time::Duration;

use discovery_core::Result;
use tokio::time::{Instant, sleep_until};

use crate::{
    client::{Answer, Call, Client, Watching},
    convert::Meta,
};

/// The least time between two questions, on average.
const FLOOR: Duration = Duration::from_millis(100);
/// How many questions may come closer than that.
const BURST: u32 = 2;
/// The time to the next question where the server gives no index: nothing tells whether anything changed.
const BLIND: Duration = Duration::from_millis(2500);

/// The index of a blocking query and the pace of its questions.
#[derive(Debug)]
pub(crate) struct Pacer {
    /// What to wait beyond; zero asks for an answer at once.
    index: u64,
    /// The highest index seen, told by a cursor or an answer.
    seen: u64,
    /// When the next question would come if all came evenly.
    even: Instant,
    not_before: Instant,
}

impl Pacer {
    /// A query that last saw the index `since`, in another life. It starts with a question that does not wait: an index
    /// of a history that is gone would wait for nothing.
    pub(crate) fn new(since: u64) -> Self {
        let now = Instant::now();
        Self {
            index: 0,
            seen: since,
            even: now,
            not_before: now,
        }
    }

    /// The index to ask beyond, and when. C-8: no pause after a success, but for a floor when indexes churn.
    fn next(&mut self) -> (u64, Instant) {
        let now = Instant::now();
        let at = now
            .max(self.not_before)
            .max(self.even.checked_sub(FLOOR * (BURST - 1)).unwrap_or(now));
        self.even = self.even.max(at) + FLOOR;
        (self.index, at)
    }

    /// Takes the index of a success and answers whether it went backwards. C-3: failures never get here.
    fn answered(&mut self, index: Option<u64>) -> bool {
        let Some(index) = index else {
            // C-2: never zero in a loop.
            self.index = 1;
            self.not_before = Instant::now() + BLIND;
            return false;
        };
        let regressed = index < self.seen;
        // C-1: the body is good all the same, and the next question starts over.
        self.index = if regressed { 0 } else { index };
        self.seen = index;
        regressed
    }

    /// The last index seen, for a cursor.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }
}

/// An answer to a blocking query.
#[derive(Debug)]
pub(crate) struct Polled {
    pub(crate) answer: Answer,
    pub(crate) meta: Meta,
    /// The index went backwards.
    pub(crate) regressed: bool,
}

/// A blocking query under way.
#[derive(Debug)]
pub(crate) struct Poll {
    client: Client,
    _watching: Watching,
    pub(crate) pacer: Pacer,
    /// C-9: whether 404 is an answer like any other.
    absent_is_data: bool,
}

impl Poll {
    pub(crate) fn new(client: &Client, since: u64, absent_is_data: bool) -> Self {
        Self {
            _watching: client.watching(),
            client: client.clone(),
            pacer: Pacer::new(since),
            absent_is_data,
        }
    }

    /// The next answer to the question that `call` makes, changed or not.
    ///
    /// # Errors
    /// The end of this watch.
    ///
    /// # Cancel safety
    /// Cancel-safe: dropping it ends the query, and the next call asks again.
    pub(crate) async fn next(&mut self, call: impl Fn() -> Call) -> Result<Polled> {
        let (index, at) = self.pacer.next();
        // Timers are coarse: one that is due already would cost a millisecond.
        if at > Instant::now() {
            sleep_until(at).await;
        }
        let question = match index {
            0 => call(),
            index => call().blocking(index, self.client.wait()),
        };
        let mut answer = self.client.send(&question).await?;
        let told = Meta::of(&answer.headers);
        if told.streaming && index > 0 && told.index == Some(index) {
            // C-11: the agent answers from a copy of its own, which outlives leaders and other datacenters without a
            // word. Only a read that does not wait confirms it.
            answer = self.client.send(&call()).await?;
        }
        let answer = if answer.status == 404 && self.absent_is_data {
            answer
        } else {
            answer.ok()?
        };
        let meta = Meta::of(&answer.headers);
        // The copy has indexes of its own: the next question goes beyond the one it told.
        let regressed = self.pacer.answered(told.index);
        Ok(Polled {
            answer,
            meta,
            regressed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(pacer: &mut Pacer) -> u64 {
        pacer.next().0
    }

    #[tokio::test(start_paused = true)]
    async fn c_1_an_index_that_went_backwards_starts_over_once() {
        let mut pacer = Pacer::new(0);
        assert_eq!(ask(&mut pacer), 0);
        assert!(!pacer.answered(Some(100)));
        assert_eq!(ask(&mut pacer), 100);
        assert!(!pacer.answered(Some(105)));
        assert_eq!(ask(&mut pacer), 105);
        assert!(pacer.answered(Some(40)));
        assert_eq!(ask(&mut pacer), 0);
        assert!(!pacer.answered(Some(40)));
        assert_eq!(ask(&mut pacer), 40);
    }

    #[tokio::test(start_paused = true)]
    async fn c_1_a_history_lost_between_two_watches_is_noticed() {
        let mut pacer = Pacer::new(1000);
        assert_eq!(
            ask(&mut pacer),
            0,
            "an index of a lost history would wait for nothing"
        );
        assert!(pacer.answered(Some(12)));
    }

    #[tokio::test(start_paused = true)]
    async fn c_2_without_an_index_it_is_one_and_slow() {
        let (mut pacer, started, mut asked) = (Pacer::new(0), Instant::now(), 0);
        while started.elapsed() < Duration::from_secs(10) {
            let (index, at) = pacer.next();
            sleep_until(at).await;
            assert_eq!(index, u64::from(asked > 0), "zero only at first");
            pacer.answered(None);
            asked += 1;
        }
        assert!(asked <= 5, "{asked} questions in 10 s");
    }

    #[tokio::test(start_paused = true)]
    async fn c_7_the_largest_index_is_kept() {
        let mut pacer = Pacer::new(0);
        pacer.answered(Some(u64::MAX));
        assert_eq!(ask(&mut pacer), u64::MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn c_8_churn_is_met_with_a_floor_and_quiet_with_none() {
        let (mut pacer, started) = (Pacer::new(0), Instant::now());
        for index in 1..=100 {
            let (_, at) = pacer.next();
            sleep_until(at).await;
            pacer.answered(Some(index));
        }
        let took = started.elapsed();
        assert!(took >= FLOOR * 98 && took <= FLOOR * 100, "{took:?}");
        tokio::time::advance(Duration::from_secs(5)).await;
        for _ in 0..2 {
            assert_eq!(pacer.next().1, Instant::now(), "two at once after a pause");
        }
        assert!(pacer.next().1 > Instant::now());
    }
}
