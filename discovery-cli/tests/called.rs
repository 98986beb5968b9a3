//! A link named `sysctl` has two faces.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use support::{Ran, Stage};

/// Puts a sysctl of the system's into `folder`, which prints its words and ends with 3.
fn systems(stage: &Stage, folder: &str) -> String {
    let folder = stage.root().join(folder);
    fs::create_dir_all(&folder).unwrap();
    let program = folder.join("sysctl");
    fs::write(&program, "#!/bin/sh\nprintf '<%s>' \"$0\" \"$@\"\nexit 3\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    folder.display().to_string()
}

#[test]
fn other_words_reach_the_systems_sysctl_as_they_are() {
    let stage = Stage::new();
    let theirs = systems(&stage, "theirs");
    let more = stage.root().join("more");
    fs::create_dir(&more).unwrap();
    // A second link must not be mistaken for the system's.
    symlink(stage.bin().join("sysctl"), more.join("sysctl")).unwrap();
    let path = format!(
        "{}:{}:{theirs}:/usr/bin:/bin",
        stage.bin().display(),
        more.display()
    );
    let stage = stage.var("PATH", path);
    for (line, words) in [
        ("sysctl -w 'kernel.x=a b'", "<-w><kernel.x=a b>"),
        ("sysctl", ""),
        ("sysctl kernel.hostname discovery", "<kernel.hostname><discovery>"),
        ("sysctl --version", "<--version>"),
    ] {
        let ran = Ran::of(&stage.shell(line).output().unwrap());
        assert_eq!(ran.out, format!("<{theirs}/sysctl>{words}"), "{line}");
        assert_eq!((ran.code, ran.err.as_str()), (Some(3), ""), "{line}");
    }
    let ran = Ran::of(&stage.shell("sysctl discovery --version").output().unwrap());
    assert_eq!(ran.code, Some(0));
    assert!(ran.out.starts_with("sysctl-discovery "), "{ran:?}");
}

#[test]
fn the_version_names_what_is_built_in() {
    let stage = Stage::new();
    let version = stage.ok(&["--version"]);
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    for backend in [
        "memory",
        "consul",
        "local",
        "etcd",
        "dns_discovery",
        "eureka",
        "kubernetes_discovery",
    ] {
        assert!(version.contains(backend), "{version}");
    }
}

#[test]
fn completions_and_manual_pages_are_complete() {
    let stage = Stage::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            stage.ok(&["completions", shell]).contains("health-update"),
            "{shell}"
        );
    }
    assert!(stage.ok(&["man"]).contains(".TH sysctl-discovery 1"));
    assert!(stage.ok(&["man", "register"]).contains("health\\-check"));
    // Whoever reads the first line only is no reason to complain.
    let ran = Ran::of(
        &stage
            .shell("sysctl discovery completions bash | head -n 1; sysctl discovery man | true")
            .output()
            .unwrap(),
    );
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
}

#[test]
fn nothing_is_coloured_in_a_pipe() {
    let stage = Stage::new();
    stage.ok(&["register", "api", "--address", "127.0.0.1", "--port", "80"]);
    assert!(!stage.ok(&["find", "api"]).contains('\u{1b}'));
    let ran = stage.run(&["describe", "none"]);
    assert!(!ran.err.contains('\u{1b}'), "{ran:?}");
}
