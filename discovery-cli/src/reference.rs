//! The reference of the commands, written from their definition.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command, CommandFactory as _};
use discovery::{Error, ErrorKind, Result};

use crate::args::Cli;

/// One command, or the whole program.
pub(crate) fn command(name: Option<&str>) -> Result<Command> {
    let mut all = Cli::command();
    let Some(name) = name else {
        return Ok(all);
    };
    // Names of commands within others are made by this.
    all.build();
    let found = all.get_subcommands().find(|command| command.get_name() == name);
    found.cloned().ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "there is no such command").with_context("command", name)
    })
}

/// `docs/reference/cli.md`.
pub(crate) fn page() -> String {
    let mut all = Cli::command();
    all.build();
    let mut page = String::from(
        "<!-- Written by `sysctl-discovery reference`; a test compares. -->\n# The command line\n\n\
         `sysctl discovery …` where a link to the program is named `sysctl`, `sysctl-discovery …` everywhere. What commands\n\
         print for programs is in [Output](cli-output.md), how they are run day by day in\n\
         [Operations](../guides/operations.md).\n\n## Everywhere\n\n",
    );
    let global: Vec<_> = all
        .get_arguments()
        .filter(|arg| arg.is_global_set())
        .cloned()
        .collect();
    arguments(&mut page, &global);
    commands(&mut page, "sysctl discovery", &all, &global);
    page.push_str("## Exit codes\n\n| code | |\n| --- | --- |\n");
    let codes = all.get_after_help().map(ToString::to_string).unwrap_or_default();
    let codes = codes.trim_start_matches("Exit codes: ").trim_end_matches('.');
    for code in codes.split("; ") {
        let (code, text) = code.split_once(' ').unwrap_or((code, ""));
        let _ = writeln!(page, "| {code} | {text} |");
    }
    page.push_str("\nWhich error has which code is in [Errors](../concepts/errors.md).\n");
    page
}

fn commands(page: &mut String, before: &str, of: &Command, global: &[Arg]) {
    for command in of.get_subcommands().filter(|command| !command.is_hide_set()) {
        if command.get_name() == "help" {
            continue;
        }
        let name = format!("{before} {}", command.get_name());
        if command.has_subcommands() {
            commands(page, &name, command, global);
            continue;
        }
        let own: Vec<_> = command
            .get_arguments()
            .filter(|arg| !arg.is_hide_set() && arg.get_id() != "help")
            .filter(|arg| global.iter().all(|other| other.get_id() != arg.get_id()))
            .cloned()
            .collect();
        let mut usage = String::new();
        for arg in &own {
            let word = word(arg);
            let _ = if arg.is_required_set() {
                write!(usage, " {word}")
            } else {
                write!(usage, " [{word}]")
            };
        }
        let title = name.trim_start_matches("sysctl discovery ");
        let about = command.get_long_about().or(command.get_about());
        let about = about.map(ToString::to_string).unwrap_or_default();
        let about = about.trim_end_matches('.');
        let _ = writeln!(page, "## {title}\n\n```text\n{name}{usage}\n```\n\n{about}.\n");
        arguments(page, &own);
    }
}

/// An argument as it is written.
fn word(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let value = names.first().map(ToString::to_string).unwrap_or_default();
    if arg.is_positional() {
        return value;
    }
    let flag = match (arg.get_long(), arg.get_short()) {
        (Some(long), _) => format!("--{long}"),
        (None, Some(short)) => format!("-{short}"),
        (None, None) => String::new(),
    };
    if !matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) {
        return flag;
    }
    match arg.get_num_args() {
        Some(range) if range.min_values() == 0 => format!("{flag} [{value}]"),
        _ => format!("{flag} {value}"),
    }
}

fn arguments(page: &mut String, all: &[Arg]) {
    if all.is_empty() {
        return;
    }
    page.push_str("| | |\n| --- | --- |\n");
    for arg in all {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let mut help = help.replace('\n', " ").replace('|', "\\|").replace('<', "&lt;");
        let values: Vec<_> = arg
            .get_possible_values()
            .iter()
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        let takes = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
        if takes && !values.is_empty() {
            let _ = write!(help, "; one of {}", values.join(", "));
        }
        let defaults: Vec<_> = arg
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy())
            .filter(|value| !value.is_empty())
            .collect();
        if takes && !defaults.is_empty() && !help.contains("[default") {
            let _ = write!(help, " [default: {}]", defaults.join(", "));
        }
        let short = match (arg.get_short(), arg.get_long()) {
            (Some(short), Some(_)) => format!("`-{short}`, "),
            _ => String::new(),
        };
        let _ = writeln!(page, "| {short}`{}` | {help} |", word(arg));
    }
    page.push('\n');
}
