//! The quickstart and the etcd example on real etcd, old and new; `scripts/test` gets them. What cannot run is shown as
//! ignored. That the example says what it lacks needs no server.

mod support;

use std::path::PathBuf;

use discovery_testkit::server::{
    Server,
    etcd::{Age, Etcd},
};
use libtest_mimic::{Failed, Trial};

use support::{closed, conclude, ends, fails, on_server, run, run_built};

/// The examples that run on etcd.
const EXAMPLES: [&str; 2] = ["quickstart", "etcd"];

fn main() {
    let mut trials = vec![
        Trial::test("etcd_without_a_server_says_how_to_get_one", || {
            let uri = format!("etcd://{}", closed()?);
            fails(&run_built("etcd", &[("DISCOVERY_URI", &uri)])?, "start etcd")
        }),
        Trial::test("etcd_without_its_feature_says_how_to_get_it", || {
            let uri = "etcd://127.0.0.1:2379";
            fails(&run("etcd", "", &[("DISCOVERY_URI", uri)])?, "--features etcd")
        }),
    ];
    for (age, example) in Age::ALL
        .into_iter()
        .flat_map(|age| EXAMPLES.map(|example| (age, example)))
    {
        let name = format!("{}::{example}", age.name());
        trials.push(on_server(&name, age.variable(), age.binary(), move |binary| {
            on_etcd(binary, example)
        }));
    }
    conclude(trials);
}

/// It leaves neither a key nor a lease.
fn on_etcd(binary: PathBuf, example: &str) -> Result<(), Failed> {
    let runtime = tokio::runtime::Runtime::new()?;
    let etcd = runtime.block_on(Etcd::dev(binary).build())?;
    runtime.block_on(etcd.start())?;
    let uri = format!("etcd://{}", etcd.endpoint());
    ends(&run_built(example, &[("DISCOVERY_URI", &uri)])?, "")?;
    let keys = runtime.block_on(etcd.ctl(&["get", "--prefix", "--keys-only", "/"]))?;
    let leases = runtime.block_on(etcd.ctl(&["lease", "list"]))?;
    runtime.block_on(etcd.stop())?;
    if !keys.trim().is_empty() || !leases.starts_with("found 0 leases") {
        return Err(format!("left behind: {keys:?}, {leases:?}").into());
    }
    Ok(())
}
