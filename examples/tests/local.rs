//! The quickstart on a file, which needs no server.

use std::process::Command;

#[test]
fn the_quickstart_runs_on_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let uri = format!("local://{}/registry.db", folder.path().display());
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["run", "--quiet", "--example", "quickstart", "--features", "local"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("DISCOVERY_URI", uri)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {told}", output.status);
}
