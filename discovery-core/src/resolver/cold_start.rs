//! The last good snapshot on disk: what a start falls back on while the registry is down.

use std::time::Duration;

use tokio::time::{sleep_until, timeout};
use tracing::{debug, info};

use super::{
    upstream::{COLD_START, Upstream},
    writer::Delta,
};
use crate::model::{Snapshot, Source};

/// How long the last save may take when the watch stops.
const LAST_SAVE: Duration = Duration::from_secs(2);

impl Upstream {
    /// Reads the snapshot; it is looked at only when the registry has not answered for [`COLD_START`].
    pub(super) fn load_from_disk(&mut self) {
        let Some(store) = self.hub.options.disk.clone() else {
            return;
        };
        let (query, until) = (self.query.clone(), self.started + COLD_START);
        self.disk = Some(Box::pin(async move {
            let snapshot = store.load(&query).await;
            sleep_until(until).await;
            snapshot
        }));
    }

    pub(super) fn on_disk(&mut self, snapshot: Option<Snapshot>) {
        let Some(snapshot) = snapshot.filter(|_| !self.seen) else {
            return;
        };
        info!(
            instances = snapshot.instances.len(),
            age = ?snapshot.age(),
            "the registry does not answer: starting from the last good snapshot on disk"
        );
        let before = self.link;
        let mut delta = Delta::default();
        self.upsert(snapshot.instances.iter().cloned().collect(), &mut delta);
        self.seen = true;
        self.link.source = Source::Disk;
        self.freshness = snapshot.freshness;
        for writer in &mut self.writers {
            writer.age_like(&self.freshness);
            writer.check_expired();
        }
        self.settle(before, &delta, false);
    }

    pub(super) fn save_in_background(&mut self) {
        if let Some((store, snapshot)) = self.take_unsaved() {
            let query = self.query.clone();
            self.hub
                .tasks
                .spawn(async move { store.save(&query, &snapshot).await });
        }
    }

    /// Saves before the task ends.
    pub(super) async fn save(&mut self) {
        if let Some((store, snapshot)) = self.take_unsaved()
            && timeout(LAST_SAVE, store.save(&self.query, &snapshot))
                .await
                .is_err()
        {
            debug!("the last snapshot was not saved in time");
        }
    }

    fn take_unsaved(&mut self) -> Option<(crate::disk::SnapshotStore, Snapshot)> {
        let store = self.hub.options.disk.clone()?;
        if !std::mem::take(&mut self.unsaved) {
            return None;
        }
        let mut snapshot = Snapshot::live(
            self.query.target.clone(),
            self.members.endpoints().instances().clone(),
        );
        snapshot.freshness = self.freshness.clone();
        Some((store, snapshot))
    }
}
