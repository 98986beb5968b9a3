//! The reference is what the program says of itself.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::{env, fs, path::Path};

use support::Stage;

#[test]
fn the_reference_is_what_the_program_says_of_itself() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/cli.md");
    let written = Stage::new().ok(&["reference"]);
    if env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        fs::write(&page, &written).unwrap();
    }
    let text = fs::read_to_string(&page).unwrap();
    for (found, wanted) in text.lines().zip(written.lines()) {
        assert_eq!(
            found, wanted,
            "UPDATE_TRANSCRIPTS=1 writes docs/reference/cli.md anew"
        );
    }
    assert_eq!(text.len(), written.len());
}

/// What the specification and the guides call by name.
#[test]
fn every_command_takes_what_all_take() {
    let stage = Stage::new();
    let commands = [
        "register",
        "deregister",
        "list",
        "find",
        "describe",
        "health",
        "watch",
        "health-update",
        "health-list",
        "health-summary",
        "status",
        "test-connection",
        "pick",
        "explain",
        "agent",
        "completions",
        "man",
        "debug register",
        "debug health-checks",
        "debug dns",
        "debug network",
        "config get",
        "config set",
        "config watch",
        "config import",
        "config delete",
        "config list",
        "config explain",
    ];
    for command in commands {
        let mut words: Vec<_> = command.split(' ').collect();
        words.push("--help");
        let help = stage.ok(&words);
        for flag in [
            "--backend",
            "--endpoint",
            "--config",
            "--timeout",
            "--format",
            "-v, --verbose",
        ] {
            assert!(help.contains(flag), "{command} {flag}: {help}");
        }
    }
}
