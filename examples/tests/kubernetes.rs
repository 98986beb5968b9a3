//! The quickstart and the Kubernetes example on a real kube-apiserver, under every way to find one; `scripts/test` gets it.

mod support;

use std::{fs, path::Path};

use libtest_mimic::{Failed, Trial};
use serde_json::json;

#[path = "../../discovery-k8s/tests/servers/mod.rs"]
mod servers;

use servers::{ADMIN, Kube};
use support::{conclude, ends, run_built};

type Env = Vec<(&'static str, String)>;
/// The environment under which a program finds the apiserver; files go into the folder.
type Way = fn(&Kube, &Path) -> Result<Env, Failed>;

const TRIALS: [(&str, &str, Way); 4] = [
    ("quickstart", "quickstart", named),
    ("kubernetes", "kubernetes", named),
    ("quickstart under two kubeconfigs", "quickstart", kubeconfigs),
    ("quickstart in a pod", "quickstart", pod),
];

fn main() {
    let missing = servers::named().is_none();
    let trials = TRIALS.map(|(name, example, way)| {
        let name = if missing {
            format!("k8s::{name} (not run: DISCOVERY_KUBE_APISERVER or DISCOVERY_ETCD_NEW is not set)")
        } else {
            format!("k8s::{name}")
        };
        Trial::test(name, move || run(example, way)).with_ignored_flag(missing)
    });
    conclude(trials.into());
}

/// Everything is in the URI, but for the token.
#[expect(clippy::unnecessary_wraps, reason = "as the other ways")]
fn named(kube: &Kube, _: &Path) -> Result<Env, Failed> {
    let (at, ca) = (kube.api_endpoint(), kube.ca_file());
    let uri = format!(
        "k8s://{at}?token_env=TOKEN&local_addresses=true&ca_file={}",
        ca.display()
    );
    Ok(vec![("DISCOVERY_URI", uri), ("TOKEN", kube.token().to_owned())])
}

/// The context is in one file of `KUBECONFIG`, cluster and user in the other, and another context is the current one.
fn kubeconfigs(kube: &Kube, folder: &Path) -> Result<Env, Failed> {
    let (one, two) = (folder.join("one"), folder.join("two"));
    let here = json!({ "server": kube.api.url(), "certificate-authority": kube.ca_file() });
    let away = json!({ "server": "https://127.0.0.1:1" });
    let contexts = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "away",
        "contexts": [
            { "name": "away", "context": { "cluster": "away", "user": "me" } },
            { "name": "production", "context": { "cluster": "here", "user": "me", "namespace": "default" } },
        ],
    });
    let rest = json!({
        "apiVersion": "v1", "kind": "Config",
        "clusters": [{ "name": "away", "cluster": away }, { "name": "here", "cluster": here }],
        "users": [{ "name": "me", "user": { "token": kube.token() } }],
    });
    fs::write(&one, contexts.to_string())?;
    fs::write(&two, rest.to_string())?;
    Ok(vec![
        (
            "DISCOVERY_URI",
            "kubernetes://?context=production&local_addresses=true".to_owned(),
        ),
        ("KUBECONFIG", format!("{}:{}", one.display(), two.display())),
    ])
}

/// What a pod has, with its account in another folder than usual.
fn pod(kube: &Kube, folder: &Path) -> Result<Env, Failed> {
    fs::write(folder.join("token"), kube.token())?;
    fs::write(folder.join("namespace"), "default")?;
    fs::copy(kube.ca_file(), folder.join("ca.crt"))?;
    let uri = format!("k8s://?service_account={}&local_addresses=true", folder.display());
    let at = kube.api_endpoint();
    Ok(vec![
        ("DISCOVERY_URI", uri),
        ("KUBERNETES_SERVICE_HOST", at.ip().to_string()),
        ("KUBERNETES_SERVICE_PORT", at.port().to_string()),
    ])
}

/// It leaves nothing registered.
fn run(example: &str, way: Way) -> Result<(), Failed> {
    let runtime = tokio::runtime::Runtime::new()?;
    let kube = runtime.block_on(Kube::start(|builder| builder))?;
    let folder = tempfile::tempdir()?;
    let env = way(&kube, folder.path())?;
    let mut env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    env.push(("SECONDS", "3"));
    ends(&run_built(example, &env)?, "")?;
    let backend = discovery_k8s::backend(kube.config(ADMIN))?;
    let left = runtime.block_on(backend.registry.services(&discovery::Scope::default()))?;
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("still registered: {left:?}").into())
    }
}
