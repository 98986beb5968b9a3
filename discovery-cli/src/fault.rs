//! Errors and the codes that commands end with.

use std::{
    fmt::Display,
    io::{self, Write as _},
    process::ExitCode,
};

use anstyle::{AnsiColor, Style};
use discovery::Error;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Fault {
    Discovery(Error),
    /// A command of the specification that comes later.
    Later(&'static str),
    /// Several instances, and none of them named.
    Ambiguous(String),
    Io(io::Error),
    Interrupted,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Discovery(error)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Says how a command ended.
pub(crate) fn ended(result: Result<(), Fault>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Fault::Discovery(error)) => say(&format!("{error:#}"), error.hint(), error.kind().exit_code()),
        Err(Fault::Later(command)) => say(
            &format!("`{command}`: not in this release"),
            Some("`sysctl-discovery --help` lists what is"),
            65,
        ),
        Err(Fault::Ambiguous(message)) => say(&message, Some("name one with --service-id"), 64),
        // Whoever read our output has had enough of it.
        Err(Fault::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Fault::Io(error)) => say(&error, None, 74),
        Err(Fault::Interrupted) => ExitCode::from(130),
    }
}

/// Says what is wrong with the words of a call, or shows the help that was asked for.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // Nobody may be there to read it.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { 64 } else { 0 })
}

/// Says an error and what to do about it.
pub(crate) fn say(message: &dyn Display, hint: Option<&str>, code: u8) -> ExitCode {
    let bold = |color: AnsiColor| Style::new().bold().fg_color(Some(color.into()));
    let (red, cyan) = (bold(AnsiColor::Red), bold(AnsiColor::Cyan));
    let mut out = anstream::stderr().lock();
    let _ = writeln!(out, "{red}error:{red:#} {message}");
    if let Some(hint) = hint {
        let _ = writeln!(out, "{cyan}hint:{cyan:#} {hint}");
    }
    ExitCode::from(code)
}
