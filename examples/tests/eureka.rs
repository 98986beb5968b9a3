//! The quickstart and the Eureka example on a real server; `scripts/test` gets it. What cannot run is shown as ignored. That
//! the example says what it lacks needs no server.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use discovery_testkit::server::{
    Server,
    eureka::{Eureka, SERVER},
};
use libtest_mimic::{Arguments, Failed, Trial};

/// The examples that run on Eureka, and the application each registers.
const EXAMPLES: [(&str, &str); 2] = [("quickstart", "GREETER"), ("eureka", "API")];

fn main() {
    let mut trials = vec![
        Trial::test("eureka_without_a_server_says_how_to_get_one", without_server),
        Trial::test("eureka_without_its_feature_says_how_to_get_it", without_feature),
    ];
    for (example, app) in EXAMPLES {
        let name = format!("eureka::{example}");
        trials.push(match SERVER.binary() {
            Some(jar) => Trial::test(name, move || on_eureka(jar, example, app)),
            None => Trial::test(
                format!("{name} (not run: {} is not set)", SERVER.variable()),
                || Ok(()),
            )
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
fn on_eureka(jar: PathBuf, example: &str, app: &str) -> Result<(), Failed> {
    let runtime = tokio::runtime::Runtime::new()?;
    let eureka = runtime.block_on(async {
        let eureka = Eureka::dev(jar).build()?;
        eureka.start().await?;
        Ok::<_, discovery::Error>(eureka)
    })?;
    let uri = format!("eureka://{}?refresh_interval=300ms", eureka.endpoint());
    let output = run(example, "eureka", &uri)?;
    if !output.status.success() {
        return Err(told(&output).into());
    }
    let left = runtime.block_on(eureka.instances(app))?;
    runtime.block_on(eureka.stop())?;
    if !left.is_empty() {
        return Err(format!("still registered: {left:?}").into());
    }
    Ok(())
}

fn without_server() -> Result<(), Failed> {
    // Nobody listens on a port that was just given back.
    let closed: SocketAddr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let output = run("eureka", "eureka", &format!("eureka://{closed}"))?;
    fails(&output, "start a Eureka server")
}

fn without_feature() -> Result<(), Failed> {
    fails(
        &run("eureka", "", "eureka://127.0.0.1:8761")?,
        "--features eureka",
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
