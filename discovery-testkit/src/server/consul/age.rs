//! Old and new.

use std::{env, path::PathBuf};

/// Which of the two Consuls that the tests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// 1.8, the oldest supported.
    Old,
    /// A current one.
    New,
}

impl Age {
    /// Both, oldest first.
    pub const ALL: [Self; 2] = [Self::Old, Self::New];

    /// What it is called in the names of tests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Old => "consul-old",
            Self::New => "consul-new",
        }
    }

    /// The variable that holds the path of its program; `scripts/test` sets it.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Old => "DISCOVERY_CONSUL_OLD",
            Self::New => "DISCOVERY_CONSUL_NEW",
        }
    }

    /// The path of its program, where the tests were told one.
    pub fn binary(self) -> Option<PathBuf> {
        env::var_os(self.variable())
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    }
}
