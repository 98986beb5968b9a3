//! Which cluster, and as whom: the settings, a kubeconfig, or the pod's service account.

use std::time::Duration;

use discovery_core::{Error, ErrorKind, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::{config::K8sConfig, error};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

pub(crate) fn config_invalid(failed: impl std::error::Error + Send + Sync + 'static) -> Error {
    error::error(ErrorKind::ConfigInvalid, "the cluster's settings cannot be used")
        .with_hint("check `cluster_config`, or the kubeconfig with `kubectl config view`")
        .with_source(failed)
}

/// What the block, a kubeconfig or the pod says.
pub(crate) async fn settings(config: &K8sConfig) -> Result<kube::Config> {
    let cluster = &config.cluster_config;
    let mut settings = if let Some(url) = config.server_url()? {
        let uri = url.parse().map_err(config_invalid)?;
        let mut settings = kube::Config::new(uri);
        if let Some(source) = config.token_source()? {
            settings.auth_info.token = Some(source.read()?.expose().to_owned().into());
        }
        let path = |file: &std::path::PathBuf| file.display().to_string();
        settings.auth_info.client_certificate = cluster.tls.cert_file.as_ref().map(path);
        settings.auth_info.client_key = cluster.tls.key_file.as_ref().map(path);
        settings.root_cert_file.clone_from(&cluster.tls.ca_file);
        settings.accept_invalid_certs = !cluster.tls.verify_ssl;
        settings.tls_server_name.clone_from(&cluster.tls.server_name);
        settings
    } else {
        let options = KubeConfigOptions {
            context: cluster.context.clone(),
            ..KubeConfigOptions::default()
        };
        match &cluster.kubeconfig {
            Some(file) => {
                let file = kubeconfig_path(file);
                let known = Kubeconfig::read_from(&file).map_err(|failed| {
                    config_invalid(failed).with_context("kubeconfig", file.display().to_string())
                })?;
                kube::Config::from_custom_kubeconfig(known, &options).await
            }
            None => kube::Config::from_kubeconfig(&options).await,
        }
        .or_else(|failed| {
            // A kubeconfig that is asked for goes before the pod's account.
            if cluster.kubeconfig.is_some() || cluster.context.is_some() {
                return Err(config_invalid(failed));
            }
            kube::Config::incluster().map_err(|_| {
                config_invalid(failed).with_hint(
                    "name a server or kubeconfig, set KUBECONFIG, or run in a pod with a service account",
                )
            })
        })?
    };
    settings.connect_timeout = Some(CONNECT);
    settings.read_timeout = None;
    // Core decides what is tried again, and when.
    settings.default_retry = false;
    Ok(settings)
}

fn kubeconfig_path(file: &std::path::Path) -> std::path::PathBuf {
    match (file.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => std::path::PathBuf::from(home).join(rest),
        _ => file.to_owned(),
    }
}
