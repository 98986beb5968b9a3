//! Pages with commands show what they print, on a file of their own.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::path::Path;

use support::{Stage, transcript};

/// Checks a page from a registry that nobody configured.
fn check(page: &str) {
    let stage = Stage::new();
    stage.write(
        "api.yaml",
        "service_definition:\n  name: api\n  id: \"api-{{ .instance_id }}\"\n  address: 127.0.0.1\n  port: 8080\n  tags: [\"{{ .version }}\"]\n",
    );
    stage.write(
        "settings.yaml",
        "api:\n  timeout: 30s\n  retries: 3\nhosts: [a, b]\n",
    );
    let folder = stage.root().display().to_string();
    stage.write("second.yaml", &format!("local: {{ path: {folder}/two.db }}\n"));
    stage.write(
        "both.yaml",
        &format!(
            "local: {{ path: {folder}/one.db }}\nfailover:\n  name: one\n  sources: [{{ name: two, uri: \"local://{folder}/two.db\" }}]\n"
        ),
    );
    transcript::check(&stage, &Path::new(env!("CARGO_MANIFEST_DIR")).join(page));
}

#[test]
fn without_a_registry_it_is_a_file_of_this_host() {
    check("tests/transcripts/local.md");
}

#[test]
fn what_is_wrong_is_said_with_a_hint_and_a_code() {
    check("tests/transcripts/errors.md");
}

#[test]
fn values_are_read_and_written() {
    check("tests/transcripts/values.md");
}

#[test]
fn a_definition_in_a_file_is_filled_in() {
    check("tests/transcripts/definitions.md");
}

#[test]
fn what_programs_read_is_as_documented() {
    check("../docs/reference/cli-output.md");
}

#[test]
fn of_two_sources_one_stands_by() {
    check("tests/transcripts/failover.md");
}
