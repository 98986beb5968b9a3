//! The instances of a snapshot: an immutable, cheaply cloned sequence.

use std::{fmt, ops::Index, sync::Arc};

use super::{Chunks, Instance, chunks};

/// An immutable sequence of instances. Cloning copies one pointer; two versions share what did not change.
#[derive(Clone, Default)]
pub struct Instances(pub(crate) Chunks<Arc<Instance>>);

impl Instances {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The instance at `index`.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&Arc<Instance>> {
        self.0.get(index)
    }

    /// The instances in order.
    pub fn iter(&self) -> InstancesIter<'_> {
        InstancesIter(self.0.iter())
    }
}

/// The instances of an [`Instances`], in order.
pub struct InstancesIter<'a>(chunks::Iter<'a, Arc<Instance>>);

impl fmt::Debug for InstancesIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstancesIter")
            .field("left", &self.0.len())
            .finish()
    }
}

impl<'a> Iterator for InstancesIter<'a> {
    type Item = &'a Arc<Instance>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for InstancesIter<'_> {}

impl<'a> IntoIterator for &'a Instances {
    type Item = &'a Arc<Instance>;
    type IntoIter = InstancesIter<'a>;

    fn into_iter(self) -> InstancesIter<'a> {
        self.iter()
    }
}

impl FromIterator<Arc<Instance>> for Instances {
    fn from_iter<I: IntoIterator<Item = Arc<Instance>>>(iter: I) -> Self {
        Self(iter.into_iter().collect())
    }
}

impl FromIterator<Instance> for Instances {
    fn from_iter<I: IntoIterator<Item = Instance>>(iter: I) -> Self {
        iter.into_iter().map(Arc::new).collect()
    }
}

impl Index<usize> for Instances {
    type Output = Arc<Instance>;

    fn index(&self, index: usize) -> &Self::Output {
        self.get(index).expect("index within the instances")
    }
}

impl PartialEq for Instances {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().zip(other).all(|(a, b)| Arc::ptr_eq(a, b) || a == b)
    }
}

impl Eq for Instances {}

impl fmt::Debug for Instances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
