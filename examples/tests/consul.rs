//! The quickstart and the Consul example on real Consul, old and new; `scripts/test` gets them. What cannot run is shown
//! as ignored. That the example says what it lacks needs no server.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use discovery_testkit::server::{
    Server,
    consul::{Age, Consul},
};
use libtest_mimic::{Arguments, Failed, Trial};

/// The examples that run on Consul, and the service each registers.
const EXAMPLES: [(&str, &str); 2] = [("quickstart", "greeter"), ("consul", "api")];

fn main() {
    let mut trials = vec![
        Trial::test("consul_without_a_server_says_how_to_get_one", without_server),
        Trial::test("consul_without_its_feature_says_how_to_get_it", without_feature),
    ];
    for (age, (example, service)) in Age::ALL
        .into_iter()
        .flat_map(|age| EXAMPLES.map(|example| (age, example)))
    {
        let name = format!("{}::{example}", age.name());
        trials.push(match age.binary() {
            Some(binary) => Trial::test(name, move || on_consul(binary, example, service)),
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

/// It ends with exit code 0, which it does only if all of it happened, and leaves nothing registered.
fn on_consul(binary: PathBuf, example: &str, service: &str) -> Result<(), Failed> {
    let runtime = tokio::runtime::Runtime::new()?;
    let consul = runtime.block_on(Consul::dev(binary).build())?;
    runtime.block_on(consul.start())?;
    let output = run(example, "consul", &format!("consul://{}", consul.endpoint()))?;
    if !output.status.success() {
        return Err(told(&output).into());
    }
    let left = runtime.block_on(consul.agent_services())?;
    runtime.block_on(consul.stop())?;
    if format!("{left:?}").contains(service) {
        return Err(format!("still registered: {left:?}").into());
    }
    Ok(())
}

fn without_server() -> Result<(), Failed> {
    // Nobody listens on a port that was just given back.
    let closed: SocketAddr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    fails(
        &run("consul", "consul", &format!("consul://{closed}"))?,
        "consul agent -dev",
    )
}

fn without_feature() -> Result<(), Failed> {
    fails(
        &run("consul", "", "consul://127.0.0.1:8500")?,
        "--features consul",
    )
}

/// It failed, and told how to do better.
fn fails(output: &Output, hint: &str) -> Result<(), Failed> {
    let told = told(output);
    if output.status.success() || !told.contains(hint) {
        return Err(told.into());
    }
    Ok(())
}
