//! The quickstart on real etcd, old and new; `scripts/test` gets them. What cannot run is shown as ignored.

use std::{env, process::Command};

use async_trait::async_trait;
use discovery::{Error, ErrorKind, Result};
use discovery_testkit::server::{ChildServer, Place, Recipe, Server};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let trials = ["DISCOVERY_ETCD_OLD", "DISCOVERY_ETCD_NEW"]
        .into_iter()
        .map(
            |variable| match env::var(variable).ok().filter(|program| !program.is_empty()) {
                Some(program) => Trial::test(format!("{variable}::quickstart"), move || quickstart(program)),
                None => Trial::test(format!("{variable}::quickstart (not run: it is not set)"), || {
                    Ok(())
                })
                .with_ignored_flag(true),
            },
        );
    let mut arguments = Arguments::from_args();
    // One at a time: the quickstart's heartbeats are a fraction of a second apart.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

#[derive(Debug)]
struct Member(String);

fn broken(source: etcd_client::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the server cannot be asked").with_source(source)
}

#[async_trait]
impl Recipe for Member {
    fn name(&self) -> &'static str {
        "etcd"
    }

    fn ports(&self) -> usize {
        2
    }

    fn command(&self, place: &Place) -> tokio::process::Command {
        let (client, peer) = (place.endpoints()[0], place.endpoints()[1]);
        let mut command = tokio::process::Command::new(&self.0);
        command
            .args(["--name", "m", "--log-level", "error", "--data-dir"])
            .arg(place.dir().join("data"))
            .args(["--listen-client-urls", &format!("http://{client}")])
            .args(["--advertise-client-urls", &format!("http://{client}")])
            .args(["--listen-peer-urls", &format!("http://{peer}")])
            .args(["--initial-advertise-peer-urls", &format!("http://{peer}")])
            .args(["--initial-cluster", &format!("m=http://{peer}")]);
        command
    }

    async fn probe(&self, place: &Place) -> Result<()> {
        left(place).await.map(drop)
    }

    async fn version(&self, _: &Place) -> Result<String> {
        Ok("as given".to_owned())
    }
}

/// How many keys there are.
async fn left(place: &Place) -> Result<i64> {
    let mut etcd = etcd_client::Client::connect([place.endpoints()[0].to_string()], None)
        .await
        .map_err(broken)?;
    let all = etcd_client::GetOptions::new().with_all_keys().with_count_only();
    Ok(etcd.get("", Some(all)).await.map_err(broken)?.count())
}

/// It ends with exit code 0, which it does only if all of it happened, and leaves nothing.
fn quickstart(program: String) -> Result<(), Failed> {
    let runtime = tokio::runtime::Runtime::new()?;
    let etcd = ChildServer::new(Member(program))?;
    runtime.block_on(etcd.start())?;
    for (example, variable, value) in [
        (
            "quickstart",
            "DISCOVERY_URI",
            format!("etcd://{}", etcd.endpoint()),
        ),
        ("etcd", "ETCDCTL_ENDPOINTS", etcd.endpoint().to_string()),
    ] {
        let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let run = Command::new(cargo)
            .args(["run", "--quiet", "--features", "etcd", "--example", example])
            .env(variable, value)
            .output()?;
        if !run.status.success() {
            let told = [run.stdout, run.stderr].concat();
            return Err(format!("{example}: {}:\n{}", run.status, String::from_utf8_lossy(&told)).into());
        }
        let left = runtime.block_on(left(etcd.place()))?;
        if left != 0 {
            return Err(format!("{example}: {left} keys are left").into());
        }
    }
    runtime.block_on(etcd.stop())?;
    Ok(())
}
