//! The quickstart on real Consul, old and new; `scripts/test` gets them. What cannot run is shown as ignored.

use std::{path::PathBuf, process::Command};

use discovery_testkit::server::{
    Server,
    consul::{Age, Consul},
};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let trials = Age::ALL.into_iter().map(|age| {
        if let Some(binary) = age.binary() {
            return Trial::test(format!("{}::quickstart", age.name()), move || quickstart(binary));
        }
        let name = format!(
            "{}::quickstart (not run: {} is not set)",
            age.name(),
            age.variable()
        );
        Trial::test(name, || Ok(())).with_ignored_flag(true)
    });
    let mut arguments = Arguments::from_args();
    // One at a time: the quickstart's heartbeats are a fraction of a second apart.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

/// It ends with exit code 0, which it does only if all of it happened, and leaves nothing registered.
fn quickstart(binary: PathBuf) -> Result<(), Failed> {
    let runtime = tokio::runtime::Runtime::new()?;
    let consul = runtime.block_on(Consul::dev(binary).build())?;
    runtime.block_on(consul.start())?;
    let uri = format!("consul://{}", consul.endpoint());
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let run = Command::new(cargo)
        .args([
            "run",
            "--quiet",
            "--example",
            "quickstart",
            "--features",
            "consul",
        ])
        .env("DISCOVERY_URI", uri)
        .output()?;
    if !run.status.success() {
        let told = [run.stdout, run.stderr].concat();
        return Err(format!("{}:\n{}", run.status, String::from_utf8_lossy(&told)).into());
    }
    let left = runtime.block_on(consul.agent_services())?;
    runtime.block_on(consul.stop())?;
    if format!("{left:?}").contains("greeter") {
        return Err(format!("still registered: {left:?}").into());
    }
    Ok(())
}
