//! stub
use crate::model::{Query, Snapshot};
/// stub
#[derive(Debug, Clone)]
pub struct SnapshotStore;
impl SnapshotStore {
    /// stub
    pub async fn load(&self, _: &Query) -> Option<Snapshot> {
        None
    }
    /// stub
    pub async fn save(&self, _: &Query, _: &Snapshot) {}
}
