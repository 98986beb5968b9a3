//! One probe of an instance.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::{
    error::Result,
    model::{CheckOutcome, Instance},
};

/// One probe. How often, how long and how many in a row is data ([`Check`](crate::Check)), not its business.
#[async_trait]
pub trait HealthCheck: Send + Sync + Debug + 'static {
    /// Looks at `target` once. The caller sets the deadline; dropping the future ends the probe.
    ///
    /// # Errors
    /// When the probe itself could not be carried out, which says nothing of the target. A target that refuses or answers
    /// badly is an outcome, not an error.
    async fn check(&self, target: &Instance) -> Result<CheckOutcome>;
}
