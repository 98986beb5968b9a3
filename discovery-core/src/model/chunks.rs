//! A persistent sequence: cloning copies pointers to chunks, changing one element copies one chunk.
//!
//! Published views are immutable, and a change of one instance in ten thousand must not copy ten thousand pointers.
//! All chunks but the last are full, so that an index needs a shift and a mask.

use std::{fmt, sync::Arc};

const BITS: usize = 6;
const CHUNK: usize = 1 << BITS;
const MASK: usize = CHUNK - 1;

/// Full from the front; the places behind the sequence's end are empty.
struct Chunk<T>([Option<T>; CHUNK]);

impl<T: Clone> Clone for Chunk<T> {
    fn clone(&self) -> Self {
        // What is behind the first empty place is not even looked at.
        let mut full = self.0.iter().map_while(Option::as_ref).fuse();
        Self(std::array::from_fn(|_| full.next().cloned()))
    }
}

impl<T> Chunk<T> {
    const fn empty() -> Self {
        Self([const { None }; CHUNK])
    }
}

/// A persistent sequence of cheaply cloned elements.
pub(crate) struct Chunks<T> {
    chunks: Arc<[Arc<Chunk<T>>]>,
    len: usize,
}

impl<T> Clone for Chunks<T> {
    fn clone(&self) -> Self {
        Self {
            chunks: self.chunks.clone(),
            len: self.len,
        }
    }
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self {
            chunks: Arc::default(),
            len: 0,
        }
    }
}

impl<T> Chunks<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index >> BITS)?.0[index & MASK].as_ref()
    }

    pub(crate) fn iter(&self) -> Iter<'_, T> {
        Iter {
            chunks: self,
            next: 0,
        }
    }
}

impl<T: Clone> Chunks<T> {
    fn place(&mut self, index: usize) -> &mut Option<T> {
        let chunk = &mut Arc::make_mut(&mut self.chunks)[index >> BITS];
        &mut Arc::make_mut(chunk).0[index & MASK]
    }

    pub(crate) fn set(&mut self, index: usize, value: T) {
        assert!(index < self.len, "index within the sequence");
        *self.place(index) = Some(value);
    }

    pub(crate) fn push(&mut self, value: T) {
        if self.len & MASK == 0 {
            let more = [Arc::new(Chunk::empty())];
            self.chunks = self.chunks.iter().cloned().chain(more).collect();
        }
        *self.place(self.len) = Some(value);
        self.len += 1;
    }

    /// Removes the last element.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let last = self.len.checked_sub(1)?;
        let value = self.place(last).take();
        if last & MASK == 0 {
            self.chunks = self.chunks[..last >> BITS].into();
        }
        self.len = last;
        value
    }

    /// Removes the element at `index` and puts the last one in its place.
    pub(crate) fn swap_remove(&mut self, index: usize) -> Option<T> {
        let removed = self.get(index)?.clone();
        let last = self.pop()?;
        if index < self.len {
            self.set(index, last);
        }
        Some(removed)
    }
}

impl<T: Clone> FromIterator<T> for Chunks<T> {
    fn from_iter<I: IntoIterator<Item = T>>(iter: I) -> Self {
        let mut iter = iter.into_iter().peekable();
        let mut chunks = Vec::new();
        let mut len = 0;
        while iter.peek().is_some() {
            let mut chunk = Chunk::empty();
            for (place, value) in chunk.0.iter_mut().zip(&mut iter) {
                *place = Some(value);
                len += 1;
            }
            chunks.push(Arc::new(chunk));
        }
        Self {
            chunks: chunks.into(),
            len,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Chunks<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The elements in order.
pub(crate) struct Iter<'a, T> {
    chunks: &'a Chunks<T>,
    next: usize,
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        let item = self.chunks.get(self.next)?;
        self.next += 1;
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.chunks.len - self.next;
        (left, Some(left))
    }
}

impl<T> ExactSizeIterator for Iter<'_, T> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Op {
        Push(u32),
        Pop,
        Set(usize, u32),
        SwapRemove(usize),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            6 => any::<u32>().prop_map(Op::Push),
            1 => Just(Op::Pop),
            2 => (any::<usize>(), any::<u32>()).prop_map(|(i, v)| Op::Set(i, v)),
            2 => any::<usize>().prop_map(Op::SwapRemove),
        ];
        prop::collection::vec(op, 0..600)
    }

    proptest! {
        #[test]
        fn behaves_like_a_vec_and_leaves_old_versions_alone(start in prop::collection::vec(any::<u32>(), 0..200), ops in ops()) {
            let mut model = start.clone();
            let mut chunks: Chunks<u32> = start.iter().copied().collect();
            let first = chunks.clone();
            for op in ops {
                match op {
                    Op::Push(v) => { model.push(v); chunks.push(v); }
                    Op::Pop => prop_assert_eq!(model.pop(), chunks.pop()),
                    Op::Set(i, v) if !model.is_empty() => { let i = i % model.len(); model[i] = v; chunks.set(i, v); }
                    Op::SwapRemove(i) if !model.is_empty() => {
                        let i = i % model.len();
                        prop_assert_eq!(Some(model.swap_remove(i)), chunks.swap_remove(i));
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(chunks.len(), model.len());
            prop_assert_eq!(chunks.iter().copied().collect::<Vec<_>>(), model);
            prop_assert_eq!(first.iter().copied().collect::<Vec<_>>(), start);
        }
    }
}
