//! Cases that need a program; what cannot run is shown as ignored, never as passed.

use std::path::PathBuf;

use discovery_testkit::server::Server;
use libtest_mimic::{Arguments, Failed, Trial};
use rustix::process::{Pid, test_kill_process};

/// One case under the name of a program, of which `binary` is the path where its variable is set.
pub(crate) fn trial(
    program: &str,
    variable: &str,
    binary: Option<PathBuf>,
    name: &str,
    case: impl FnOnce(PathBuf) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let ignored = binary.is_none();
    let missing = format!("not run: {variable} is not set; scripts/servers gets one");
    let name = if ignored {
        format!("{program}: {name} ({missing})")
    } else {
        format!("{program}: {name}")
    };
    Trial::test(name, move || case(binary.ok_or(missing)?)).with_ignored_flag(ignored)
}

/// Runs one case on a runtime of its own.
pub(crate) fn run(case: impl Future<Output = ()>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(case);
    Ok(())
}

/// Runs them all and ends the process.
pub(crate) fn conclude(trials: Vec<Trial>) -> ! {
    libtest_mimic::run(&Arguments::from_args(), trials).exit()
}

/// Stops a server of this process id, and makes sure that the process is gone.
pub(crate) async fn ends(server: &impl Server, pid: Option<u32>) {
    let pid = pid
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw);
    test_kill_process(pid.unwrap()).unwrap();
    server.stop().await.unwrap();
    test_kill_process(pid.unwrap()).unwrap_err();
}
