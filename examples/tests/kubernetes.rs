//! The quickstart and the Kubernetes example on a real kube-apiserver; `scripts/test` gets it.

use std::process::Command;

use libtest_mimic::{Arguments, Failed, Trial};

#[path = "../../discovery-k8s/tests/servers/mod.rs"]
mod servers;

use servers::{ADMIN, Kube};

fn main() {
    let missing = servers::named().is_none();
    let trials = ["quickstart", "kubernetes"].map(|example| {
        let name = if missing {
            format!("k8s::{example} (not run: DISCOVERY_KUBE_APISERVER or DISCOVERY_ETCD_NEW is not set)")
        } else {
            format!("k8s::{example}")
        };
        Trial::test(name, move || run(example)).with_ignored_flag(missing)
    });
    let mut arguments = Arguments::from_args();
    // One at a time: the quickstart's heartbeats are a fraction of a second apart.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials.into()).exit();
}

/// It ends with exit code 0, which it does only if all of it happened, and leaves nothing registered.
fn run(example: &str) -> Result<(), Failed> {
    let runtime = tokio::runtime::Runtime::new()?;
    let kube = runtime.block_on(Kube::start(|builder| builder))?;
    let ca = kube.ca_file();
    let uri = format!(
        "k8s://{}?token_env=TOKEN&local_addresses=true&ca_file={}",
        kube.api_endpoint(),
        ca.display()
    );
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let run = Command::new(cargo)
        .args(["run", "--quiet", "--example", example, "--features", "k8s"])
        .env("DISCOVERY_URI", uri)
        .env("TOKEN", kube.token())
        .env("SECONDS", "3")
        .output()?;
    if !run.status.success() {
        let told = [run.stdout, run.stderr].concat();
        return Err(format!("{}:\n{}", run.status, String::from_utf8_lossy(&told)).into());
    }
    let backend = discovery_k8s::backend(kube.config(ADMIN))?;
    let left = runtime.block_on(backend.registry.services(&discovery::Scope::default()))?;
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("still registered: {left:?}").into())
    }
}
