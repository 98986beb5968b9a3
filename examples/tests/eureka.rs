//! The quickstart and the Eureka example on a real server; `scripts/test` gets it. What cannot run is shown as ignored. That
//! the example says what it lacks needs no server.

mod support;

use std::path::PathBuf;

use discovery_testkit::server::{
    Server,
    eureka::{Eureka, SERVER},
};
use libtest_mimic::{Failed, Trial};

use support::{closed, conclude, ends, fails, on_server, run, run_built};

/// The examples that run on Eureka, and the application each registers.
const EXAMPLES: [(&str, &str); 2] = [("quickstart", "GREETER"), ("eureka", "API")];

fn main() {
    let mut trials = vec![
        Trial::test("eureka_without_a_server_says_how_to_get_one", || {
            let uri = format!("eureka://{}", closed()?);
            let output = run_built("eureka", &[("DISCOVERY_URI", &uri)])?;
            fails(&output, "start a Eureka server")
        }),
        Trial::test("eureka_without_its_feature_says_how_to_get_it", || {
            let uri = "eureka://127.0.0.1:8761";
            fails(
                &run("eureka", "", &[("DISCOVERY_URI", uri)])?,
                "--features eureka",
            )
        }),
    ];
    for (example, app) in EXAMPLES {
        let name = format!("eureka::{example}");
        trials.push(on_server(&name, SERVER.variable(), SERVER.binary(), move |jar| {
            on_eureka(jar, example, app)
        }));
    }
    conclude(trials);
}

/// It leaves nothing registered.
fn on_eureka(jar: PathBuf, example: &str, app: &str) -> Result<(), Failed> {
    let runtime = tokio::runtime::Runtime::new()?;
    let eureka = runtime.block_on(async {
        let eureka = Eureka::dev(jar).build()?;
        eureka.start().await?;
        Ok::<_, discovery::Error>(eureka)
    })?;
    let uri = format!("eureka://{}?refresh_interval=300ms", eureka.endpoint());
    ends(&run_built(example, &[("DISCOVERY_URI", &uri)])?, "")?;
    let left = runtime.block_on(eureka.instances(app))?;
    runtime.block_on(eureka.stop())?;
    if !left.is_empty() {
        return Err(format!("still registered: {left:?}").into());
    }
    Ok(())
}
