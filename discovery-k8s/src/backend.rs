//! Validates the configuration and puts the backend together.

use std::sync::Arc;

use discovery_core::{Backend, Result};

use crate::{
    client::Client, config::K8sConfig, configmaps::K8sValues, reader::Reader, registry::K8sRegistry,
    watcher::K8sWatcher,
};

/// A backend on the cluster that `config` names. Reads and sends nothing yet: the kubeconfig, its plug-in or the pod's
/// service account are read with the first request, and again whenever the server refuses them.
///
/// # Errors
/// [`ConfigInvalid`](discovery_core::ErrorKind::ConfigInvalid) naming the field that is wrong.
pub fn backend(config: K8sConfig) -> Result<Backend> {
    let values = config.configmap.enabled;
    let reader = Reader::new(Client::new(config)?);
    let backend = Backend::new(
        Arc::new(K8sRegistry::new(reader.clone())),
        Arc::new(K8sWatcher(reader.clone())),
    );
    Ok(if values {
        backend.with_config(Arc::new(K8sValues(reader.client)))
    } else {
        backend
    })
}
