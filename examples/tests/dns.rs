//! The DNS example, and the quickstart on a real BIND; `scripts/test` gets that. What cannot run is shown as ignored.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use discovery_testkit::server::{
    Server,
    dns::{Dns, Software},
};
use libtest_mimic::{Arguments, Failed, Trial};

const ZONE: &str = "$TTL 1
@ SOA ns root 1 3600 600 86400 1
@ NS ns
ns A 127.0.0.1
";

fn main() {
    let bind = Software::Bind;
    let quickstart = match bind.binary() {
        Some(binary) => Trial::test("bind::quickstart", move || on_bind(binary)),
        None => Trial::test(
            format!("bind::quickstart (not run: {} is not set)", bind.variable()),
            || Ok(()),
        )
        .with_ignored_flag(true),
    };
    let trials = vec![
        Trial::test("dns_both_ways", || {
            let output = run("dns", "dns", &[])?;
            ends(&output, "v2.api.service.discovery: picked 127.0.0.1:808")
        }),
        Trial::test("dns_without_its_feature_says_how_to_get_it", || {
            let output = run("dns", "", &[])?;
            let told = told(&output);
            if output.status.success() || !told.contains("--features dns") {
                return Err(told.into());
            }
            Ok(())
        }),
        Trial::test("what_is_built_to_read_only_says_how_to_register", || {
            // Nothing is asked there.
            let uri = "dns://127.0.0.1:1/svc.test";
            let output = run("quickstart", "discovery/dns", &[("DISCOVERY_URI", uri)])?;
            let told = told(&output);
            let wanted = ["built without feature `update`", "`dns-update`"];
            // 65: unsupported.
            if output.status.code() != Some(65) || !wanted.iter().all(|text| told.contains(text)) {
                return Err(told.into());
            }
            Ok(())
        }),
        quickstart,
    ];
    let mut arguments = Arguments::from_args();
    // One at a time: they build one after the other anyway.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials).exit();
}

/// Runs an example with these features and variables.
fn run(example: &str, features: &str, env: &[(&str, &str)]) -> Result<Output, Failed> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["run", "--quiet", "--example", example, "--features", features])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .env_remove("DISCOVERY_URI")
        .envs(env.iter().copied())
        .output()?;
    Ok(output)
}

fn told(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr].concat();
    format!("{}:\n{}", output.status, String::from_utf8_lossy(&all))
}

/// It ended well, and said this.
fn ends(output: &Output, text: &str) -> Result<(), Failed> {
    let told = told(output);
    if !output.status.success() || !told.contains(text) {
        return Err(told.into());
    }
    Ok(())
}

/// It ends with exit code 0, which it does only if all of it happened, and leaves nothing registered.
fn on_bind(binary: PathBuf) -> Result<(), Failed> {
    let runtime = tokio::runtime::Runtime::new()?;
    let server = Dns::of(Software::Bind, binary)
        .zone("svc.test", ZONE)
        .updates()
        .build()?;
    runtime.block_on(server.start())?;
    let key = server.key().ok_or("no key")?;
    let uri = format!(
        "dns://{}/svc.test?transport=tcp&min_ttl=1s&ttl=1s&negative_ttl=1s&record_ttl=1s&key_name={}&secret_env=DNS_KEY",
        server.endpoint(),
        key.name
    );
    let output = run(
        "quickstart",
        "dns",
        &[("DISCOVERY_URI", &uri), ("DNS_KEY", key.secret.expose())],
    )?;
    ends(&output, "nothing stays registered")?;
    // 12: PTR.
    let left = runtime.block_on(server.ask("_greeter._tcp.svc.test", 12))?;
    runtime.block_on(server.stop())?;
    if left.answers > 0 {
        return Err(format!("still registered: {left:?}").into());
    }
    Ok(())
}
