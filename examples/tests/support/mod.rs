//! Examples, run as the documentation says, and what is wanted of them.

#![allow(dead_code, reason = "each test program uses its part")]

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Command, Output},
};

use libtest_mimic::{Arguments, Failed, Trial};

fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo
}

/// What it printed, with these variables and no registry but that of these.
fn output(mut command: Command, env: &[(&str, &str)]) -> Result<Output, Failed> {
    command.env_remove("DISCOVERY_URI").envs(env.iter().copied());
    Ok(command.output()?)
}

/// Runs an example as the documentation says, with these features and variables. It takes a build of its own.
///
/// # Errors
/// When cargo cannot be started.
pub(crate) fn run(example: &str, features: &str, env: &[(&str, &str)]) -> Result<Output, Failed> {
    let mut cargo = cargo();
    cargo.args(["run", "--quiet", "--example", example, "--features", features]);
    output(cargo, env)
}

/// Runs an example with every feature, as tests of the whole workspace have built it already.
///
/// # Errors
/// When it cannot be built or started.
pub(crate) fn run_built(example: &str, env: &[(&str, &str)]) -> Result<Output, Failed> {
    let mut cargo = cargo();
    cargo.args([
        "build",
        "--quiet",
        "--workspace",
        "--all-features",
        "--example",
        example,
    ]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    ends(&output(cargo, &[])?, "")?;
    // This program is in `deps`.
    let programs = std::env::current_exe()?;
    let programs = programs
        .parent()
        .ok_or("in no folder")?
        .with_file_name("examples");
    let mut program = Command::new(programs.join(example));
    program.current_dir(env!("CARGO_MANIFEST_DIR"));
    output(program, env)
}

/// All it said, and how it ended.
pub(crate) fn told(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr].concat();
    format!("{}:\n{}", output.status, String::from_utf8_lossy(&all))
}

/// It ended with exit code 0, which an example does only if all of it happened, and said this.
///
/// # Errors
/// When it did not, with what it said.
pub(crate) fn ends(output: &Output, text: &str) -> Result<(), Failed> {
    let told = told(output);
    if output.status.success() && told.contains(text) {
        Ok(())
    } else {
        Err(told.into())
    }
}

/// It failed, and told how to do better.
///
/// # Errors
/// When it did not, with what it said.
pub(crate) fn fails(output: &Output, hint: &str) -> Result<(), Failed> {
    let told = told(output);
    if !output.status.success() && told.contains(hint) {
        Ok(())
    } else {
        Err(told.into())
    }
}

/// Where nobody listens: a port that was just given back.
///
/// # Errors
/// When there is none.
pub(crate) fn closed() -> Result<SocketAddr, Failed> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// A trial on a real server, whose program is this; without one it is shown as ignored.
pub(crate) fn on_server<P: Send + 'static>(
    name: &str,
    variable: &str,
    program: Option<P>,
    trial: impl FnOnce(P) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    match program {
        Some(program) => Trial::test(name, move || trial(program)),
        None => {
            Trial::test(format!("{name} (not run: {variable} is not set)"), || Ok(())).with_ignored_flag(true)
        }
    }
}

/// Runs them one at a time: they build one after the other anyway, and the quickstart's heartbeats are a fraction of a
/// second apart.
pub(crate) fn conclude(trials: Vec<Trial>) -> ! {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials).exit()
}
