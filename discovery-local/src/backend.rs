//! Validates the configuration and puts the backend together: its parts, what it is and what it can do.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use discovery_core::{Backend, BackendInfo, Capabilities, LeaseMode, Result, WatchMode};

use crate::{
    config::LocalConfig, error::SCHEME, kv::LocalValues, registry::LocalRegistry, store::Store,
    watcher::LocalWatcher,
};

/// A backend on the file that `config` names. Touches nothing yet.
///
/// # Errors
/// [`ConfigInvalid`](discovery_core::ErrorKind::ConfigInvalid) naming the field that is wrong;
/// [`Unsupported`](discovery_core::ErrorKind::Unsupported) in a process forked while its parent had the file open. What is wrong with the file
/// is told by the first operation, and by every later one until it is right.
pub fn backend(config: LocalConfig) -> Result<Backend> {
    config.validate()?;
    let store = Store::shared(&resolved(config.file()?))?;
    let values = LocalValues {
        store: store.clone(),
        config: config.clone(),
    };
    let watcher = LocalWatcher {
        store: store.clone(),
        config: config.clone(),
    };
    Ok(
        Backend::new(Arc::new(LocalRegistry { store, config }), Arc::new(watcher))
            .with_config(Arc::new(values)),
    )
}

/// The path without links, as far as it exists: two names of a file are one store.
fn resolved(path: PathBuf) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    match (folder, path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => path,
    }
}

/// What it is: the address is the path.
pub(crate) fn info(path: &Path) -> BackendInfo {
    BackendInfo::new(SCHEME, path.display().to_string())
}

/// What it can do: all but datacenters, namespaces, shared leases and running checks.
pub(crate) fn capabilities(confirm_every: Duration) -> Capabilities {
    let mut can = Capabilities::read_only(confirm_every);
    can.register = true;
    can.lease = LeaseMode::Single;
    can.update_meta = true;
    can.report_health = true;
    can.list_services = true;
    can.watch_all = true;
    can.watch = WatchMode::Push;
    can.resume = true;
    can
}
