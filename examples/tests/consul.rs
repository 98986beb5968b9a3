//! The quickstart and the Consul example on real Consul, old and new; `scripts/test` gets them. What cannot run is shown
//! as ignored. That the example says what it lacks needs no server.

mod support;

use std::path::PathBuf;

use discovery_testkit::server::{
    Server,
    consul::{Age, Consul},
};
use libtest_mimic::{Failed, Trial};

use support::{closed, conclude, ends, fails, on_server, run};

/// The examples that run on Consul, and the service each registers.
const EXAMPLES: [(&str, &str); 2] = [("quickstart", "greeter"), ("consul", "api")];

fn main() {
    let mut trials = vec![
        Trial::test("consul_without_a_server_says_how_to_get_one", || {
            let uri = format!("consul://{}", closed()?);
            fails(
                &run("consul", "consul", &[("DISCOVERY_URI", &uri)])?,
                "consul agent -dev",
            )
        }),
        Trial::test("consul_without_its_feature_says_how_to_get_it", || {
            let uri = "consul://127.0.0.1:8500";
            fails(
                &run("consul", "", &[("DISCOVERY_URI", uri)])?,
                "--features consul",
            )
        }),
    ];
    for (age, (example, service)) in Age::ALL
        .into_iter()
        .flat_map(|age| EXAMPLES.map(|example| (age, example)))
    {
        let name = format!("{}::{example}", age.name());
        trials.push(on_server(&name, age.variable(), age.binary(), move |binary| {
            on_consul(binary, example, service)
        }));
    }
    conclude(trials);
}

/// It leaves nothing registered.
fn on_consul(binary: PathBuf, example: &str, service: &str) -> Result<(), Failed> {
    let runtime = tokio::runtime::Runtime::new()?;
    let consul = runtime.block_on(Consul::dev(binary).build())?;
    runtime.block_on(consul.start())?;
    let uri = format!("consul://{}", consul.endpoint());
    ends(&run(example, "consul", &[("DISCOVERY_URI", &uri)])?, "")?;
    let left = runtime.block_on(consul.agent_services())?;
    runtime.block_on(consul.stop())?;
    if format!("{left:?}").contains(service) {
        return Err(format!("still registered: {left:?}").into());
    }
    Ok(())
}
