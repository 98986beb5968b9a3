//! Which cluster, and as whom: the settings, a kubeconfig, or the pod's service account.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use discovery_core::{Error, ErrorKind, Result};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use tokio::{sync::Mutex, task::spawn_blocking};

use crate::{config::K8sConfig, error};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// Where a pod finds `token`, `ca.crt` and `namespace` of its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

fn config_invalid(failed: impl std::error::Error + Send + Sync + 'static) -> Error {
    unusable().with_source(failed)
}

fn unusable() -> Error {
    error::error(ErrorKind::ConfigInvalid, "the cluster's settings cannot be used")
        .with_hint("check `cluster_config`, or the kubeconfig with `kubectl config view`")
}

/// What the block, a kubeconfig or the pod says.
pub(crate) async fn settings(config: &K8sConfig) -> Result<kube::Config> {
    let url = config.server_url()?;
    let mut settings = match (&config.cluster_config.service_account, url) {
        (Some(folder), url) => service_account(folder, url)?,
        (None, Some(url)) => named(config, &url)?,
        (None, None) => kubeconfig(config).await?,
    };
    settings.connect_timeout = Some(CONNECT);
    settings.read_timeout = None;
    // Core decides what is tried again, and when.
    settings.default_retry = false;
    Ok(settings)
}

/// The server and credentials of the block.
fn named(config: &K8sConfig, url: &str) -> Result<kube::Config> {
    let cluster = &config.cluster_config;
    let mut settings = kube::Config::new(url.parse().map_err(config_invalid)?);
    if let Some(source) = config.token_source()? {
        settings.auth_info.token = Some(source.read()?.expose().to_owned().into());
    }
    let path = |file: &PathBuf| file.display().to_string();
    settings.auth_info.client_certificate = cluster.tls.cert_file.as_ref().map(path);
    settings.auth_info.client_key = cluster.tls.key_file.as_ref().map(path);
    settings.root_cert_file.clone_from(&cluster.tls.ca_file);
    settings.accept_invalid_certs = !cluster.tls.verify_ssl;
    settings.tls_server_name.clone_from(&cluster.tls.server_name);
    Ok(settings)
}

/// The account of a pod; its server, unless another is named, is where the environment says.
fn service_account(folder: &Path, url: Option<String>) -> Result<kube::Config> {
    let url = url.or_else(pod_url).ok_or_else(|| {
        unusable().with_hint(
            "set KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT as in a pod, or name `server`",
        )
    })?;
    let file = folder.join("namespace");
    let namespace = std::fs::read_to_string(&file)
        .map_err(|failed| config_invalid(failed).with_context("file", file.display().to_string()))?;
    let mut settings = kube::Config::new(url.parse().map_err(config_invalid)?);
    namespace.trim().clone_into(&mut settings.default_namespace);
    settings.auth_info.token_file = Some(folder.join("token").display().to_string());
    settings.root_cert_file = Some(folder.join("ca.crt"));
    Ok(settings)
}

/// Where a pod finds its apiserver.
fn pod_url() -> Option<String> {
    let host = env::var("KUBERNETES_SERVICE_HOST").ok()?;
    let port = env::var("KUBERNETES_SERVICE_PORT").ok()?;
    Some(if host.contains(':') {
        format!("https://[{host}]:{port}")
    } else {
        format!("https://{host}:{port}")
    })
}

/// The kubeconfig; the pod's account where there is none and none is asked for.
async fn kubeconfig(config: &K8sConfig) -> Result<kube::Config> {
    let cluster = &config.cluster_config;
    let options = KubeConfigOptions {
        context: cluster.context.clone(),
        ..KubeConfigOptions::default()
    };
    if let Some(file) = &cluster.kubeconfig {
        let file = kubeconfig_path(file);
        let at = |failed| unreadable(failed).with_context("kubeconfig", file.display().to_string());
        let known = Kubeconfig::read_from(&file).map_err(at)?;
        return kube::Config::from_custom_kubeconfig(known, &options)
            .await
            .map_err(at);
    }
    let asked = cluster.context.is_some() || env::var_os("KUBECONFIG").is_some_and(|list| !list.is_empty());
    match kube::Config::from_kubeconfig(&options).await {
        Ok(settings) => Ok(settings),
        Err(KubeconfigError::ReadConfig(..) | KubeconfigError::FindPath) if !asked => {
            service_account(Path::new(ACCOUNT), None).map_err(|failed| {
                failed.with_hint(
                    "name a server or kubeconfig, set KUBECONFIG, or run in a pod with a service account",
                )
            })
        }
        Err(failed) => Err(unreadable(failed)),
    }
}

/// What a kubeconfig that cannot be read tells; never a piece of it, which may be a token.
fn unreadable(failed: KubeconfigError) -> Error {
    match failed {
        KubeconfigError::Parse(failed) => {
            let at = failed.location();
            let at = at.map_or_else(String::new, |at| {
                format!("line {} column {}", at.line(), at.column())
            });
            unusable().with_context("not_yaml", at)
        }
        other => config_invalid(other),
    }
}

fn kubeconfig_path(file: &Path) -> PathBuf {
    match (file.strip_prefix("~"), env::var_os("HOME")) {
        (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => file.to_owned(),
    }
}

/// Makes a client: reads files and runs the kubeconfig's plug-in, away from the runtime's own threads. One at a time, of all
/// that share `turn`: a plug-in that hangs has no second beside it.
///
/// # Cancel safety
/// Cancel-safe; a plug-in that was started runs on.
pub(crate) async fn connect(settings: kube::Config, turn: &Arc<Mutex<()>>) -> Result<kube::Client> {
    let turn = turn.clone().lock_owned().await;
    let made = spawn_blocking(move || {
        let made = kube::Client::try_from(settings);
        drop(turn);
        made
    });
    match made.await.map_err(config_invalid)? {
        Ok(client) => Ok(client),
        Err(kube::Error::Auth(failed)) => Err(error::no_credentials(failed)),
        Err(failed) => Err(config_invalid(failed)),
    }
}
