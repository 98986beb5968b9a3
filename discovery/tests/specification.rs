//! The blocks of the specification, character for character.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not know as such"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use discovery::{Error, ErrorKind, Result, builder_from_config, config::Loader, loader};

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// The fixtures by name.
fn fixtures() -> BTreeMap<String, String> {
    let entries = fs::read_dir(tests().join("specification")).unwrap();
    let read = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read_to_string(entry.path()).unwrap())
    };
    entries.map(|entry| read(entry.unwrap())).collect()
}

/// The YAML blocks of the specification, by the name of a fixture.
fn blocks() -> BTreeMap<String, String> {
    let text = fs::read_to_string(tests().join("specification.md")).unwrap();
    let fenced = text.split("```yaml\n").skip(1);
    let blocks = fenced.map(|rest| rest.split_once("```").unwrap().0);
    let named = blocks.map(|block| {
        let first = block.lines().next().unwrap().trim_start_matches("# ");
        // The one block without the path of a file.
        let path = if first == "Best practices configuration" {
            "high-availability.yaml"
        } else {
            first
        };
        (path.replace('/', "-"), block.to_owned())
    });
    named.collect()
}

/// Those of other programs: a template of Consul Template, and what Istio is told.
const OTHERS: [&str; 2] = [
    "load-balancing-consul-template.yaml",
    "istio-service-discovery.yaml",
];

#[test]
fn the_fixtures_are_the_blocks_of_the_specification() {
    let mut blocks = blocks();
    for other in OTHERS {
        assert!(blocks.remove(other).is_some(), "{other}");
    }
    assert_eq!(blocks, fixtures());
    assert_eq!(blocks.len(), 12);
    assert!(
        blocks["dns-dns-discovery.yaml"]
            .ends_with("# worker.service.consul -> Returns healthy worker instances\n")
    );
}

/// The blocks of backends that this build lacks.
fn absent(text: &str) -> bool {
    let built = discovery::backends();
    let backends = ["consul", "etcd", "kubernetes_discovery", "dns_discovery"];
    let lacking = backends.iter().filter(|block| !built.contains(block));
    lacking
        .into_iter()
        .any(|block| text.contains(&format!("\n{block}:\n")))
}

fn read(name: &str, text: &str) -> Result<Loader> {
    let loaded = loader().yaml(name, text)?;
    loaded.validate()?;
    Ok(loaded)
}

#[tokio::test]
async fn every_block_loads_and_validates() {
    let mut seen = BTreeSet::new();
    for (name, text) in fixtures() {
        if absent(&text) {
            continue;
        }
        let loaded = read(&name, &text).unwrap_or_else(|error| panic!("{error:#}"));
        seen.extend(loaded.blocks());
        // Every scalar of the file is a setting with its place.
        let places = loaded
            .explain()
            .into_iter()
            .map(|setting| setting.origin.to_string());
        assert!(
            places.filter(|place| place.starts_with(&name)).count() > 5,
            "{name}"
        );
    }
    let ours = [
        "service_definition",
        "high_availability",
        "health_checks",
        "datacenter_federation",
        "connect_intentions",
        "sidecar_proxies",
        "dynamic_configuration",
        "discovery_metrics",
        "acl_policies",
    ];
    for block in ours.iter().chain(discovery::backends()) {
        let own = ["memory", "local", "eureka"].contains(block);
        assert!(own || seen.contains(block), "no {block} in {seen:?}");
    }
}

/// All blocks that name no backend, together in one file beside one.
#[tokio::test]
async fn all_of_it_in_one_file_makes_a_client() {
    let backends = ["consul:", "etcd:", "kubernetes_discovery:", "dns_discovery:"];
    let mut text = "memory: {}\n".to_owned();
    for block in fixtures().into_values() {
        if !backends
            .iter()
            .any(|backend| block.contains(&format!("\n{backend}\n")))
        {
            text.push_str(&block);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("discovery.yaml");
    fs::write(&path, text).unwrap();
    let builder = builder_from_config(&path).unwrap_or_else(|error| panic!("{error:#}"));
    // `register_on_startup` is true there, and nobody says what environment this is.
    let error = builder.clone().build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    let unfilled = "service_definition.meta.environment: nothing says what `{{ .environment }}` stands for";
    assert!(error.to_string().contains(unfilled), "{error}");
    let variables = [
        ("version", "2.1.0"),
        ("environment", "test"),
        ("host_ip", "127.0.0.1"),
    ];
    let builder = variables
        .iter()
        .fold(builder, |builder, (name, value)| builder.variable(*name, *value));
    let client = builder.variable("instance_id", "node-1").build().unwrap();
    assert_eq!(client.declares().unwrap().as_str(), "api-node-1");
}

// === mistakes ===

/// Message and hint.
fn told(error: &Error) -> String {
    format!("{error}\n{}", error.hint().unwrap_or_default())
}

/// Keys with their line and column, from one.
fn keys(text: &str) -> Vec<(usize, usize, &str)> {
    let mut keys = Vec::new();
    // Scripts and rules stand in blocks of text, which are indented deeper than their key.
    let mut text_below = None;
    for (number, line) in text.lines().enumerate() {
        let content = line.trim_start().trim_start_matches("- ");
        let column = line.len() - content.len();
        let indent = line.len() - line.trim_start().len();
        if text_below.is_some_and(|depth| indent > depth || content.is_empty()) {
            continue;
        }
        text_below = None;
        let Some((key, value)) = content.split_once(':') else {
            continue;
        };
        if content.starts_with('#')
            || !key
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c))
        {
            continue;
        }
        if value.trim() == "|" {
            text_below = Some(indent);
        }
        keys.push((number + 1, column + 1, key));
    }
    keys
}

/// Keys that are anybody's to choose: names of services, labels, metadata.
const FREE: &[&str] = &[
    "app.kubernetes.io/part-of",
    "api_service",
    "database_service",
    "version",
    "environment",
    "team",
    "repository",
    "api",
    "dc1",
    "dc2",
    "database_url",
    "api_timeout",
    "log_level",
    "feature_flags",
    "service_read",
    "service_write",
    "operator",
];

/// Whichever key is misspelt, its place is told, and what was meant.
#[test]
fn a_misspelt_key_is_found_wherever_it_is() {
    let (mut found, mut free) = (0, BTreeSet::new());
    for (name, text) in fixtures() {
        if absent(&text) {
            continue;
        }
        for (line, column, key) in keys(&text) {
            let misspelt = format!("{key}x");
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines[line - 1].replace_range(column - 1..column - 1 + key.len(), &misspelt);
            match read(&name, &lines.join("\n")) {
                Ok(_) => drop(free.insert(key.to_owned())),
                Err(error) => {
                    let told = told(&error);
                    let place = format!("{name}:{line}:{column}: ");
                    // A name that is anybody's to choose, and that others in the block refer to.
                    if told.contains("names the datacenter") {
                        free.insert(key.to_owned());
                        continue;
                    }
                    assert!(told.starts_with(&place), "{place}\n{told}");
                    assert!(told.contains(&format!("\n{line} | ")), "no snippet: {told}");
                    assert!(told.contains(&format!("did you mean `{key}`")), "{key}: {told}");
                    found += 1;
                }
            }
        }
    }
    let expected: BTreeSet<_> = FREE.iter().map(|&key| key.to_owned()).collect();
    let surprising: Vec<_> = free.difference(&expected).collect();
    assert!(surprising.is_empty(), "taken as they are: {surprising:?}");
    assert!(found > 100, "{found}");
}

/// Whichever duration is none, its place is told, and what a duration is.
#[test]
fn a_bad_duration_is_found_wherever_it_is() {
    let mut found = 0;
    for (name, text) in fixtures() {
        if absent(&text) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let Some((before, after)) = line.split_once(": \"") else {
                continue;
            };
            let is_duration = after
                .strip_suffix("s\"")
                .is_some_and(|n| n.parse::<u32>().is_ok());
            if !is_duration {
                continue;
            }
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines[number] = format!("{before}: \"soon\"");
            let told = told(&read(&name, &lines.join("\n")).unwrap_err());
            let place = format!("{name}:{}:{}: ", number + 1, before.len() + 3);
            assert!(
                told.starts_with(&place) && told.contains("bad duration \"soon\""),
                "{place}\n{told}"
            );
            // A list where one value belongs is none either.
            lines[number] = format!("{before}: [1, 2]");
            let listed = read(&name, &lines.join("\n")).unwrap_err();
            assert!(listed.to_string().starts_with(&place), "{place}\n{listed}");
            found += 1;
        }
    }
    assert!(found > 15, "{found}");
}
