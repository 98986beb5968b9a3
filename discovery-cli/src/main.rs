//! `sysctl-discovery`, and `sysctl discovery …` where a link to it is named `sysctl`.

mod args;
mod called;
mod commands;
mod fault;
mod open;
mod show;

use std::process::ExitCode;

use clap::Parser as _;

use self::{args::Cli, called::Called};

fn main() -> ExitCode {
    match Called::now() {
        Called::Discovery(words) => match Cli::try_parse_from(words) {
            Ok(cli) => fault::ended(run(cli)),
            Err(error) => fault::usage(&error),
        },
        Called::System(words) => called::system(&words),
    }
}

fn run(cli: Cli) -> Result<(), fault::Fault> {
    log(cli.global.verbose);
    // One thread: a command that asks one question needs no more, and starts sooner.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::select! {
            done = commands::run(cli) => done,
            _ = tokio::signal::ctrl_c() => Err(fault::Fault::Interrupted),
        }
    })
}

/// What the library logs goes to stderr: warnings, and with each `-v` more.
fn log(verbose: u8) {
    let level = ["warn", "info", "debug", "trace"][usize::from(verbose.min(3))];
    let filter = tracing_subscriber::EnvFilter::try_from_env("DISCOVERY_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(format!("{level},hyper=warn,reqwest=warn")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(anstream::stderr)
        .with_target(verbose > 1)
        .without_time()
        .init();
}
