//! By which name the program was started: a link named `sysctl` makes `sysctl discovery …` ours and leaves every other word
//! to the system's own sysctl.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use crate::fault;

/// The folders of system programs, which are not in everybody's `PATH`.
const SYSTEM: [&str; 2] = ["/usr/sbin", "/sbin"];

/// What was called.
pub(crate) enum Called {
    /// This program, with these words, the first of which is its name.
    Discovery(Vec<OsString>),
    /// The system's sysctl, with these words after its name.
    System(Vec<OsString>),
}

impl Called {
    pub(crate) fn now() -> Self {
        Self::by(env::args_os().collect())
    }

    fn by(mut words: Vec<OsString>) -> Self {
        let name = words.first().map(Path::new).and_then(Path::file_name);
        if name != Some(OsStr::new("sysctl")) {
            return Self::Discovery(words);
        }
        if words.get(1).is_some_and(|word| word == "discovery") {
            words.remove(0);
            return Self::Discovery(words);
        }
        words.remove(0);
        Self::System(words)
    }
}

/// Becomes the system's sysctl.
pub(crate) fn system(words: &[OsString]) -> ExitCode {
    let path = env::var_os("PATH").unwrap_or_default();
    let ours = env::current_exe().and_then(std::fs::canonicalize).ok();
    let found = env::split_paths(&path)
        .chain(SYSTEM.map(PathBuf::from))
        .map(|folder| folder.join("sysctl"))
        .filter(|program| program.is_file())
        .find(|program| program.canonicalize().ok() != ours);
    let Some(program) = found else {
        return fault::say(
            &"there is no other sysctl on PATH, in /usr/sbin or in /sbin",
            Some("this program answers to `sysctl discovery …` only"),
            127,
        );
    };
    let error = Command::new(&program).args(words).exec();
    fault::say(&format!("{}: {error}", program.display()), None, 126)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn only_sysctl_has_two_faces() {
        for (called, ours) in [
            ("sysctl-discovery list", Some("sysctl-discovery list")),
            ("/opt/bin/sysctl discovery list", Some("discovery list")),
            ("sysctl -a", None),
            ("sysctl", None),
            ("sysctl kernel.hostname discovery", None),
        ] {
            match (Called::by(words(called)), ours) {
                (Called::Discovery(found), Some(expected)) => assert_eq!(found, words(expected)),
                (Called::System(found), None) => {
                    assert_eq!(found, words(called)[1..].to_vec());
                }
                _ => panic!("{called}"),
            }
        }
    }
}
