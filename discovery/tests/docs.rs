//! The pages name what exists: files, tests, other pages.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not know as such"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension == wanted)
}

/// Every page of the repository.
fn pages() -> Vec<PathBuf> {
    let mut folders = vec![root()];
    let mut pages = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if has_extension(&path, "md") {
                pages.push(path);
            }
        }
    }
    assert!(pages.len() > 15, "{pages:?}");
    pages
}

/// The headings of a page as the anchors they can be linked by.
fn anchors(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| -> String {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let to = if path.is_empty() {
                page.clone()
            } else {
                page.parent().unwrap().join(path)
            };
            let leads =
                to.exists() && (anchor.is_empty() || anchors(&to).iter().any(|known| known == anchor));
            if !leads {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The Roles in the guide are those that a test applies.
#[test]
fn the_guide_shows_the_roles_as_they_are() {
    let guide = fs::read_to_string(root().join("docs/guides/kubernetes.md")).unwrap();
    for name in ["read", "register", "config"] {
        let file = format!("examples/kubernetes/role-{name}.yaml");
        let role = fs::read_to_string(root().join(&file)).unwrap();
        let (_, rules) = role.split_once("\nrules:\n").unwrap();
        assert!(guide.contains(&format!("```yaml\nrules:\n{rules}```")), "{file}");
    }
}

/// What stands between backticks in `text`.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_architecture_names_files_that_exist_and_tests_that_prove() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let is_path =
        |word: &&str| word.contains('/') && (has_extension(Path::new(word), "rs") || word.ends_with('/'));
    for path in text.lines().flat_map(quoted).filter(is_path) {
        assert!(root().join(path).exists(), "{path}");
    }

    let (_, invariants) = text.split_once("## Invariants").unwrap();
    let rows: Vec<_> = invariants
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(2)
        .collect();
    assert!(rows.len() >= 20, "{rows:?}");
    for row in rows {
        let proof = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let (mut code, mut tests) = (String::new(), 0);
        for word in quoted(proof) {
            if is_path(&word) {
                code = fs::read_to_string(root().join(word)).unwrap();
            } else {
                assert!(code.contains(&format!("fn {word}(")), "no test {word}: {row}");
                tests += 1;
            }
        }
        assert!(tests > 0, "{row}");
    }
}

/// Checks a page of rules: its table has each of `ids`, a letter and the last number, and each proof `path::name` is a
/// test in the source, one of every rule with the id in its name.
fn rules_are_proved(page: &str, ids: &[(char, usize)]) {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").collect())
        .skip(2)
        .collect();
    let wanted: Vec<String> = ids
        .iter()
        .flat_map(|(letter, last)| (1..=*last).map(move |n| format!("{letter}-{n}")))
        .collect();
    let found: Vec<_> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(found, wanted, "{page}");
    for row in rows {
        let id = row[0].to_lowercase().replace('-', "_") + "_";
        let mut named = false;
        for proof in quoted(row[2]) {
            let (path, name) = proof.split_once("::").unwrap();
            let code = fs::read_to_string(root().join(path)).unwrap_or_default();
            // Cases of a test program without the usual harness have names of their own.
            let exists = code.contains(&format!("fn {name}(")) || code.contains(&format!("(\"{name}\","));
            assert!(exists, "{page}: no test {proof}");
            named |= name.starts_with(&id) || name.contains(&format!("_{id}"));
        }
        assert!(named, "{page}: no test with {id} in its name: {row:?}");
    }
}

#[test]
fn every_rule_of_consul_is_proved() {
    rules_are_proved("docs/reference/consul-rules.md", &[('C', 43), ('H', 7)]);
}

#[test]
fn every_rule_of_etcd_is_proved() {
    rules_are_proved("docs/reference/etcd-rules.md", &[('E', 39)]);
}

#[test]
fn every_rule_of_dns_is_proved() {
    rules_are_proved("docs/reference/dns-rules.md", &[('D', 28)]);
}

#[test]
fn every_rule_of_eureka_is_proved() {
    rules_are_proved("docs/reference/eureka-rules.md", &[('U', 35)]);
}

#[test]
fn every_rule_of_kubernetes_is_proved() {
    rules_are_proved("docs/reference/k8s-rules.md", &[('K', 33)]);
}
