//! The quickstart and the etcd example on real etcd, old and new; `scripts/test` gets them. What cannot run is shown as
//! ignored. That the example says what it lacks needs no server.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use discovery_testkit::server::{
    Server,
    etcd::{Age, Etcd},
};
use libtest_mimic::{Arguments, Failed, Trial};

/// The examples that run on etcd.
const EXAMPLES: [&str; 2] = ["quickstart", "etcd"];

fn main() {
    let mut trials = vec![
        Trial::test("etcd_without_a_server_says_how_to_get_one", without_server),
        Trial::test("etcd_without_its_feature_says_how_to_get_it", without_feature),
    ];
    for (age, example) in Age::ALL
        .into_iter()
        .flat_map(|age| EXAMPLES.map(|example| (age, example)))
    {
        let name = format!("{}::{example}", age.name());
        trials.push(match age.binary() {
            Some(binary) => Trial::test(name, move || on_etcd(binary, example)),
            None => Trial::test(format!("{name} (not run: {} is not set)", age.variable()), || {
                Ok(())
            })
            .with_ignored_flag(true),
        });
    }
    let mut arguments = Arguments::from_args();
    // One at a time: the quickstart's heartbeats are a fraction of a second apart.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials).exit();
}

/// Runs an example with these features.
fn run(example: &str, features: &str, uri: &str) -> Result<Output, Failed> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["run", "--quiet", "--example", example, "--features", features])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .env("DISCOVERY_URI", uri)
        .output()?;
    Ok(output)
}

fn told(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr].concat();
    format!("{}:\n{}", output.status, String::from_utf8_lossy(&all))
}

/// It ends with exit code 0, which it does only if all of it happened, and leaves neither a key nor a lease.
fn on_etcd(binary: PathBuf, example: &str) -> Result<(), Failed> {
    let runtime = tokio::runtime::Runtime::new()?;
    let etcd = runtime.block_on(Etcd::dev(binary).build())?;
    runtime.block_on(etcd.start())?;
    let output = run(example, "etcd", &format!("etcd://{}", etcd.endpoint()))?;
    if !output.status.success() {
        return Err(told(&output).into());
    }
    let keys = runtime.block_on(etcd.ctl(&["get", "--prefix", "--keys-only", "/"]))?;
    let leases = runtime.block_on(etcd.ctl(&["lease", "list"]))?;
    runtime.block_on(etcd.stop())?;
    if !keys.trim().is_empty() || !leases.starts_with("found 0 leases") {
        return Err(format!("left behind: {keys:?}, {leases:?}").into());
    }
    Ok(())
}

fn without_server() -> Result<(), Failed> {
    // Nobody listens on a port that was just given back.
    let closed: SocketAddr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    fails(&run("etcd", "etcd", &format!("etcd://{closed}"))?, "start etcd")
}

fn without_feature() -> Result<(), Failed> {
    fails(&run("etcd", "", "etcd://127.0.0.1:2379")?, "--features etcd")
}

/// It failed, and told how to do better.
fn fails(output: &Output, hint: &str) -> Result<(), Failed> {
    let told = told(output);
    if output.status.success() || !told.contains(hint) {
        return Err(told.into());
    }
    Ok(())
}
