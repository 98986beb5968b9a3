//! The highest bidder for a key.

use super::{
    Endpoints, PickContext, Picker, Strategy,
    hash::{mix, sharing},
};

/// The instance that bids highest for the key, each by a hash of its own and in proportion to its weight.
///
/// A removal moves exactly the keys of what was removed, and no table is built; but a pick asks every instance.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rendezvous;

impl Strategy for Rendezvous {
    fn name(&self) -> &'static str {
        "rendezvous"
    }

    fn prepare(&self, endpoints: &Endpoints) -> Box<dyn Picker> {
        let bidders = sharing(endpoints);
        Box::new(Bidders {
            even: bidders.windows(2).all(|pair| pair[0].2 == pair[1].2),
            bidders,
        })
    }
}

#[derive(Debug)]
struct Bidders {
    bidders: Vec<(u32, u64, u32)>,
    /// All weigh the same: hashes are compared as they are.
    even: bool,
}

impl Picker for Bidders {
    fn pick(&self, context: &mut PickContext) -> Option<usize> {
        let key = context.key_or_random();
        let best = if self.even {
            self.bidders.iter().max_by_key(|(_, hash, _)| mix(key, *hash))
        } else {
            self.bidders
                .iter()
                .max_by(|a, b| bid(key, a).total_cmp(&bid(key, b)))
        };
        best.map(|(index, _, _)| *index as usize)
    }
}

/// Weighted rendezvous hashing: `weight / -ln(u)`.
fn bid(key: u64, (_, hash, share): &(u32, u64, u32)) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what is kept")]
    let u = ((mix(key, *hash) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    f64::from(*share) / -u.ln()
}
