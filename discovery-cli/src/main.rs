//! `sysctl-discovery`, and `sysctl discovery …` where a link to it is named `sysctl`.

mod agent;
mod args;
mod called;
mod commands;
mod ends;
mod fault;
mod open;
mod reference;
mod show;

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use self::{
    args::{Cli, Later},
    called::Called,
    fault::Fault,
};

fn main() -> ExitCode {
    match Called::now() {
        Called::Discovery(words) => match Cli::read(&words) {
            Ok(cli) => fault::ended(run(cli)),
            Err(error) => match Later::meant(&words).filter(|_| error.use_stderr()) {
                Some(later) => fault::ended(Err(Fault::Later(later))),
                None => fault::usage(&error),
            },
        },
        Called::System(words) => called::system(&words),
    }
}

fn run(cli: Cli) -> Result<(), Fault> {
    log(cli.global.verbose);
    // One thread: a command that asks one question needs no more, and starts sooner.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let stays = commands::stays(&cli.command);
    runtime.block_on(async {
        if stays {
            // It ends in its own way.
            return commands::run(cli).await;
        }
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            done = commands::run(cli) => done,
            _ = interrupt.recv() => Err(Fault::Interrupted),
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
