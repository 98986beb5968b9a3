//! The DNS example, and the quickstart on a real BIND; `scripts/test` gets that. What cannot run is shown as ignored.

mod support;

use std::path::PathBuf;

use discovery_testkit::server::{
    Server,
    dns::{Dns, Software},
};
use libtest_mimic::{Failed, Trial};

use support::{conclude, ends, fails, on_server, run, run_built, told};

const ZONE: &str = "$TTL 1
@ SOA ns root 1 3600 600 86400 1
@ NS ns
ns A 127.0.0.1
";

fn main() {
    let bind = Software::Bind;
    let trials = vec![
        Trial::test("dns_both_ways", || {
            let output = run_built("dns", &[])?;
            ends(&output, "v2.api.service.discovery: picked 127.0.0.1:808")
        }),
        Trial::test("dns_without_its_feature_says_how_to_get_it", || {
            fails(&run("dns", "", &[])?, "--features dns")
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
        on_server("bind::quickstart", bind.variable(), bind.binary(), on_bind),
    ];
    conclude(trials);
}

/// It leaves nothing registered.
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
    let output = run_built(
        "quickstart",
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
