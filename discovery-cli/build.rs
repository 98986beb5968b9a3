//! Links the program to a fixed address, and gcc's unwinder into it; `docs/decisions/0021-fixed-address.md` says why.

use std::{env, path::PathBuf, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |name| env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    // A static program has its unwinder, and its own way to be loaded.
    if target("OS") != "linux" || target("ENV") != "gnu" || target("FEATURE").contains("crt-static") {
        return;
    }
    println!("cargo::rustc-link-arg-bins=-no-pie");
    if let Some(library) = unwinder() {
        println!("cargo::rustc-link-search=native={}", library.display());
        println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
    }
}

/// The folder of the unwinder's archive, where gcc has one for this target.
fn unwinder() -> Option<PathBuf> {
    if env::var("TARGET") != env::var("HOST") {
        return None;
    }
    let asked = Command::new("cc")
        .arg("-print-file-name=libgcc_eh.a")
        .output()
        .ok()?;
    let path = PathBuf::from(String::from_utf8(asked.stdout).ok()?.trim());
    path.is_absolute().then(|| path.parent().map(PathBuf::from))?
}
