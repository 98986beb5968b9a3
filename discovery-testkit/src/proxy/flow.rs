//! What may happen to the bytes of a connection.

use std::time::Duration;

/// One way through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// How a connection is ended, on both sides of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Close {
    /// In order: the peer reads an end of file (FIN).
    Fin,
    /// Abruptly: the peer reads "connection reset" (RST).
    Reset,
}

/// What happens to the bytes of one direction, on open connections and new ones alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Flow {
    /// They are forwarded at once.
    #[default]
    Pass,
    /// They wait this long before they are forwarded; those that arrive meanwhile go together after another wait.
    Delay(Duration),
    /// So many of them are forwarded (at least one), then none for a while, and so on.
    Trickle {
        /// Bytes at a time.
        bytes: usize,
        /// The pause after them.
        every: Duration,
    },
    /// Nothing is read or forwarded and nothing closed, not even where the peer has: a black hole. What waits in it is
    /// forwarded after the fault.
    Stall,
    /// They are read and thrown away, the end of the stream with them. Downwards: requests take effect and their
    /// answers never come.
    Discard,
    /// Random bytes are forwarded in their place.
    Garbage,
    /// The connection is closed after so many bytes of a response's body.
    ///
    /// A read that starts with `HTTP/1` starts a response, whose body follows its head; whatever else arrives counts as
    /// body, such as the rest of a response already running.
    CutBody {
        /// Bytes of the body that are forwarded.
        after: u64,
        /// How the connection is closed then.
        close: Close,
    },
}

/// The flows of both directions.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flows {
    pub(super) up: Flow,
    pub(super) down: Flow,
}

impl Flows {
    pub(super) fn of(self, direction: Direction) -> Flow {
        match direction {
            Direction::Up => self.up,
            Direction::Down => self.down,
        }
    }

    pub(super) fn set(&mut self, direction: Direction, flow: Flow) {
        match direction {
            Direction::Up => self.up = flow,
            Direction::Down => self.down = flow,
        }
    }
}

/// Counts the body bytes of the response that is running.
#[derive(Debug, Default)]
pub(super) struct BodyMeter {
    /// How much of the blank line that ends the head was seen; `None` in the body.
    blank: Option<usize>,
    body: u64,
}

impl BodyMeter {
    /// How many bytes of `read` may pass, where a body is cut after `limit`; `None` is all of them.
    pub(super) fn allow(&mut self, read: &[u8], limit: u64) -> Option<usize> {
        const BLANK: &[u8] = b"\r\n\r\n";
        if read.starts_with(b"HTTP/1") {
            (self.blank, self.body) = (Some(0), 0);
        }
        let mut head = 0;
        while let (Some(seen), Some(&byte)) = (self.blank, read.get(head)) {
            let seen = if byte == BLANK[seen] {
                seen + 1
            } else {
                usize::from(byte == BLANK[0])
            };
            self.blank = (seen < BLANK.len()).then_some(seen);
            head += 1;
        }
        if self.blank.is_some() {
            return None;
        }
        let room = limit.saturating_sub(self.body);
        let body = read.len() - head;
        self.body += body as u64;
        // A body that only just reaches the limit is cut as well: it may have been longer.
        (self.body >= limit).then(|| head + usize::try_from(room).unwrap_or(body).min(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_does_not_count_wherever_it_is_split() {
        let response = b"HTTP/1.1 200 OK\r\na: b\r\n\r\n0123456789";
        let expected = response.len() - 6;
        for split in 6..response.len() {
            let mut meter = BodyMeter::default();
            let (first, second) = response.split_at(split);
            let passed = meter
                .allow(first, 4)
                .or_else(|| meter.allow(second, 4).map(|n| split + n));
            assert_eq!(passed, Some(expected), "split at {split}");
        }
    }

    #[test]
    fn every_response_is_counted_on_its_own() {
        let mut meter = BodyMeter::default();
        assert_eq!(meter.allow(b"HTTP/1.1 200 OK\r\n\r\n123", 4), None);
        assert_eq!(meter.allow(b"HTTP/1.1 200 OK\r\n\r\n123", 4), None);
        assert_eq!(meter.allow(b"45", 4), Some(1));
    }

    #[test]
    fn what_has_no_head_is_all_body() {
        let mut meter = BodyMeter::default();
        assert_eq!(meter.allow(b"abc", 4), None);
        assert_eq!(meter.allow(b"def", 4), Some(1));
        assert_eq!(BodyMeter::default().allow(b"abc", 0), Some(0));
    }
}
