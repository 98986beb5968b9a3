//! What files say is to be held.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use discovery::{Error, ErrorKind, InstanceId, Registration, Result};

use crate::commands;

/// Registrations by their ids, each with the file it is from.
#[derive(Debug, Default)]
pub(super) struct Definitions(pub(super) BTreeMap<InstanceId, (Registration, PathBuf)>);

impl Definitions {
    /// Reads files, and folders of them; all of them or, with a mistake in any, none.
    pub(super) fn read(files: &[PathBuf], set: &[(String, String)]) -> Result<Self> {
        let mut all = Self::default();
        for file in files {
            for file in expanded(file)? {
                let registration = commands::registration(&file, set)?;
                let id = registration.id.clone();
                if let Some((_, other)) = all.0.get(&id) {
                    return Err(Error::new(ErrorKind::ConfigInvalid, "two files define one id")
                        .with_context("id", id.to_string())
                        .with_context("files", format!("{} and {}", other.display(), file.display()))
                        .with_hint("give each instance an id of its own"));
                }
                all.0.insert(id, (registration, file));
            }
        }
        Ok(all)
    }
}

/// The file, or the files of the folder in the order of their names.
fn expanded(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |source| {
        Error::new(ErrorKind::ConfigInvalid, "the folder cannot be read")
            .with_context("folder", path.display().to_string())
            .with_source(source)
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let yaml = file
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        let hidden = file
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if yaml && !hidden && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}
