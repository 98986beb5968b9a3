//! G20: one look-up by the command line, beside `curl` of the URL that it asks; both are started anew each time.

use std::{
    env,
    ffi::OsString,
    process::{Command, Stdio},
};

use super::{
    calls::{Once, race},
    fixture::{Fixture, write},
    raw::Raw,
};
use crate::harness::{Plan, Report, Table, clock};

const INSTANCES: usize = 10;
const CLI: &str = "sysctl-discovery find";
const CURL: &str = "curl";
/// The program, built for release; `benches/run` sets it.
const VARIABLE: &str = "BENCH_CLI";

/// Races them, where there is the program.
pub(super) fn run(plan: &Plan, fixture: &Fixture, report: &mut Report) {
    let Some(program) = env::var_os(VARIABLE) else {
        report.not_run("cli", format!("{VARIABLE} is not set"));
        return;
    };
    let ticks = clock::Ticks::now();
    let endpoint = fixture.endpoint().to_string();
    let mut socket = Raw::connect(fixture.endpoint());
    for i in 0..INSTANCES {
        write(&mut socket, "asked-for", i, 0);
    }
    let url = format!("http://{endpoint}/v1/health/service/asked-for");
    let ours: [&str; 7] = [
        "find",
        "asked-for",
        "--backend",
        "consul",
        "--endpoint",
        &endpoint,
        "--format=json",
    ];
    let mut contenders: Vec<(&'static str, Once<'_>)> = vec![
        (CURL, Box::new(|| once(&CURL.into(), &["-sS", &url]))),
        (CLI, Box::new(|| once(&program, &ours))),
    ];
    let [walls, _] = race(plan, &mut contenders, INSTANCES);
    let table = Table::new("one-shot look-up wall", "us", CURL, walls, ticks);
    let at = |name| (name, INSTANCES, 1);
    let goal = "one-shot look-up by the command line / curl of the same URL".to_owned();
    report.goals([table.goal("G20", goal, 0.35, at(CLI), at(CURL))]);
    report.table(table);
}

/// Runs a program to its end; it has to find something.
fn once(program: &OsString, words: &[&str]) {
    let output = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("a program");
    assert!(
        output.status.success() && output.stdout.len() > 100,
        "{}: {output:?}",
        program.display()
    );
}
