//! The environment: declared variables only.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    sync::Arc,
};

use super::{
    KnownBlock,
    text::closest,
    tree::{Data, Node, Origin, split},
};
use crate::error::{Error, ErrorKind, Result};

const PREFIX: &str = "DISCOVERY_";

/// Names of ours that are no setting of a block.
const RESERVED: [&str; 2] = ["DISCOVERY_LOG", "DISCOVERY_URI"];

/// A declared environment variable and the field of its block that it sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnvVar {
    /// The variable.
    pub name: &'static str,
    /// The field, with dots, within its block.
    pub field: &'static str,
}

impl EnvVar {
    /// A variable and its field.
    pub const fn new(name: &'static str, field: &'static str) -> Self {
        Self { name, field }
    }
}

/// The settings among `vars`; of two variables for one field, the one declared later wins.
pub(super) fn parse<I, K, V>(known: &[KnownBlock], reserved: &[&str], vars: I) -> Result<Node>
where
    I: IntoIterator<Item = (K, V)>,
    K: AsRef<OsStr>,
    V: Into<OsString>,
{
    let declared = || {
        known
            .iter()
            .flat_map(|block| block.env.iter().map(move |var| (block, var)))
    };
    let mut found = Vec::new();
    for (name, value) in vars {
        // What is not UTF-8 is not one of ours.
        let Some(name) = name.as_ref().to_str() else {
            continue;
        };
        if let Some((order, (block, var))) = declared().enumerate().find(|(_, (_, var))| var.name == name) {
            let value = value.into().into_string().map_err(|_| {
                Error::new(
                    ErrorKind::ConfigInvalid,
                    format!("environment variable {name} is not UTF-8"),
                )
            })?;
            // An empty variable is one that was unset.
            if !value.is_empty() {
                found.push((order, block.name, var, value));
            }
        } else if name.starts_with(PREFIX) && !RESERVED.contains(&name) && !reserved.contains(&name) {
            return Err(unknown(name, known, declared().map(|(_, var)| var.name)));
        }
    }
    found.sort_by_key(|(order, ..)| *order);
    let mut tree = Node::empty(Origin::Default);
    for (_, block, var, value) in found {
        let mut path = vec![block.to_owned()];
        path.extend(split(var.field)?);
        let origin = Origin::Env(Arc::from(var.name));
        tree.merge(Node::new(Data::Loose(value), origin).under(path));
    }
    Ok(tree)
}

fn unknown(name: &str, known: &[KnownBlock], declared: impl Iterator<Item = &'static str>) -> Error {
    let of_missing = known.iter().find(|block| {
        block.missing.is_some()
            && name[PREFIX.len()..].starts_with(&format!("{}_", block.name.to_ascii_uppercase()))
    });
    if let Some(block) = of_missing {
        return block.not_built(&format!("environment variable {name}"));
    }
    let error = Error::new(
        ErrorKind::ConfigInvalid,
        format!("unknown environment variable {name}"),
    );
    match closest(name, declared.chain(RESERVED)) {
        Some(candidate) => error.with_hint(format!("did you mean {candidate}?")),
        None => error.with_hint(format!(
            "names that start with {PREFIX} are ours: rename or unset it"
        )),
    }
}

/// Where a configuration file is looked for when none is named; the first that exists is meant.
///
/// `./discovery.yaml`, then `system-control/discovery.yaml` under `$XDG_CONFIG_HOME` (or `~/.config`) and under each of
/// `$XDG_CONFIG_DIRS` (or `/etc/xdg`). `env` looks a variable up.
pub fn default_paths(env: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    // Relative directories are to be ignored, says the XDG specification.
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let home = env("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .and_then(absolute)
        .or_else(|| {
            env("HOME")
                .map(PathBuf::from)
                .and_then(absolute)
                .map(|home| home.join(".config"))
        });
    let system = env("XDG_CONFIG_DIRS")
        .filter(|dirs| !dirs.is_empty())
        .unwrap_or_else(|| "/etc/xdg".into());
    let system = std::env::split_paths(&system).filter_map(absolute);
    let under = |directory: PathBuf| directory.join("system-control").join("discovery.yaml");
    std::iter::once(PathBuf::from("discovery.yaml"))
        .chain(home.into_iter().chain(system).map(under))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_here_then_at_home_then_in_the_system() {
        let paths = |vars: &'static [(&str, &str)]| {
            default_paths(|name| {
                vars.iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| value.into())
            })
        };
        let strings = |paths: Vec<PathBuf>| {
            paths
                .into_iter()
                .map(|p| p.display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            strings(paths(&[("HOME", "/home/a")])),
            [
                "discovery.yaml",
                "/home/a/.config/system-control/discovery.yaml",
                "/etc/xdg/system-control/discovery.yaml"
            ]
        );
        assert_eq!(
            strings(paths(&[
                ("HOME", "/home/a"),
                ("XDG_CONFIG_HOME", "/c"),
                ("XDG_CONFIG_DIRS", "/x:y:/z")
            ])),
            [
                "discovery.yaml",
                "/c/system-control/discovery.yaml",
                "/x/system-control/discovery.yaml",
                "/z/system-control/discovery.yaml"
            ]
        );
    }
}
