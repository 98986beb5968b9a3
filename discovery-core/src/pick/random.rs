//! Any of them, all alike.

use super::{Endpoints, PickContext, Picker, Strategy};

/// Any of them, all alike.
#[derive(Debug, Clone, Copy, Default)]
pub struct Random;

impl Strategy for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn prepare(&self, endpoints: &Endpoints) -> Box<dyn Picker> {
        Box::new(Uniform { len: endpoints.len() })
    }
}

#[derive(Debug)]
struct Uniform {
    len: usize,
}

impl Picker for Uniform {
    #[inline]
    fn pick(&self, context: &mut PickContext) -> Option<usize> {
        (self.len > 0).then(|| context.rng.usize(..self.len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_ten_gets_its_share() {
        let mut context = PickContext {
            cursor: 0,
            rng: fastrand::Rng::with_seed(7),
            key: None,
        };
        let mut counts = [0; 10];
        for _ in 0..100_000 {
            counts[Uniform { len: 10 }.pick(&mut context).unwrap()] += 1;
        }
        assert!(
            counts.iter().all(|count| (9_500..10_500).contains(count)),
            "{counts:?}"
        );
        assert_eq!(Uniform { len: 0 }.pick(&mut context), None);
    }
}
