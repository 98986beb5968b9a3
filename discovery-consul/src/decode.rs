//! The instances of an answer. A watch remembers what it was shown: an element whose bytes it knows is not read again.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use discovery_core::{Error, ErrorKind, Instance, Result};

use crate::{
    convert, error,
    wire::{self, Text},
};

/// What is expected, for errors.
const WHAT: &str = "the instances of a service";
/// How many elements may be gone before one that is read is no longer recognised.
const AHEAD: usize = 8;

/// Reads answers to the same question, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    with_checks: bool,
    body: Bytes,
    /// The elements of `body`, and what they are.
    known: Vec<(Range<usize>, Arc<Instance>)>,
}

impl Decoder {
    pub(crate) fn new(with_checks: bool) -> Self {
        Self {
            with_checks,
            ..Self::default()
        }
    }

    /// The instances in `body`, by key, or in the server's order where that is to be kept (C-19).
    ///
    /// # Errors
    /// `Protocol` for what is no answer. What was known stays known then.
    pub(crate) fn read(&mut self, body: &Bytes, keep_order: bool) -> Result<Vec<Arc<Instance>>> {
        let known = self.elements(body)?;
        self.known = known;
        self.body = body.clone();
        let all = self.known.iter().map(|(_, instance)| instance);
        let mut all: Vec<_> = all
            .filter(|one| !one.key.id.as_str().is_empty())
            .cloned()
            .collect();
        if !keep_order {
            all.sort_by(|a, b| a.key.cmp(&b.key));
        }
        Ok(all)
    }

    fn elements(&self, body: &[u8]) -> Result<Vec<(Range<usize>, Arc<Instance>)>> {
        let text = std::str::from_utf8(body)
            .map_err(|failed| unreadable(failed.valid_up_to()).with_source(failed))?;
        if text.trim_ascii() == "null" {
            return Ok(Vec::new());
        }
        let mut now: Vec<(Range<usize>, Arc<Instance>)> = Vec::with_capacity(self.known.len());
        // The next element of the last answer that has not come again.
        let mut next = 0;
        let mut at = expect(body, 0, b'[')?;
        while body.get(skip(body, at)) != Some(&b']') {
            if !now.is_empty() {
                at = expect(body, at, b',')?;
            }
            at = expect(body, at, b'{')? - 1;
            let before = self.known.get(next);
            let known = before.filter(|(range, _)| self.is_at(range, &body[at..]));
            let (length, instance) = if let Some((range, instance)) = known {
                next += 1;
                (range.len(), instance.clone())
            } else {
                let like = before.or(now.last()).map(|(_, instance)| &**instance);
                let (length, instance) = self.element(&text[at..], like)?;
                match self.recognise(&instance, next) {
                    Some(i) => {
                        next = i + 1;
                        let (range, known) = &self.known[i];
                        let same = self.is_at(range, &body[at..]);
                        (length, if same { known.clone() } else { Arc::new(instance) })
                    }
                    // One that is new leaves those known where they are.
                    None => (length, Arc::new(instance)),
                }
            };
            now.push((at..at + length, instance));
            at += length;
        }
        let end = expect(body, at, b']')?;
        match skip(body, end) {
            end if end == body.len() => Ok(now),
            end => Err(unreadable(end)),
        }
    }

    /// Reads the element that `text` starts with; answers its length as well.
    fn element(&self, text: &str, like: Option<&Instance>) -> Result<(usize, Instance)> {
        let mut one = serde_json::Deserializer::from_str(text).into_iter();
        let entry: wire::ServiceEntry<Text<'_>> = one
            .next()
            .ok_or_else(|| unreadable(0))?
            .map_err(|failed| error::of_body(failed, WHAT))?;
        let instance = convert::instance_like(entry, self.with_checks, like);
        Ok((one.byte_offset(), instance))
    }

    /// Where an instance is among those known, maybe in another state, from `next` on: some may be gone.
    fn recognise(&self, instance: &Instance, next: usize) -> Option<usize> {
        let mut ahead = self.known.iter().enumerate().skip(next).take(AHEAD);
        ahead
            .find(|(_, (_, known))| known.key == instance.key)
            .map(|(i, _)| i)
    }

    /// Whether `rest` starts with a known element. An object ends where it ends, so what follows does not matter.
    fn is_at(&self, known: &Range<usize>, rest: &[u8]) -> bool {
        rest.starts_with(&self.body[known.clone()])
    }
}

/// Where it goes on after `byte`, which must come next.
fn expect(body: &[u8], from: usize, byte: u8) -> Result<usize> {
    let at = skip(body, from);
    if body.get(at) == Some(&byte) {
        return Ok(at + 1);
    }
    Err(unreadable(at))
}

fn unreadable(at: usize) -> Error {
    error::error(ErrorKind::Protocol, "the server's answer cannot be read")
        .with_context("expected", WHAT)
        .with_context("at_byte", at.to_string())
}

/// Where the next byte is that is not white space.
fn skip(body: &[u8], from: usize) -> usize {
    let white = |b: &&u8| matches!(**b, b' ' | b'\n' | b'\r' | b'\t');
    from + body
        .get(from..)
        .unwrap_or_default()
        .iter()
        .take_while(white)
        .count()
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
