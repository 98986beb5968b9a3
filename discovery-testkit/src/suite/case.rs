//! One conformance case.

use std::{fmt, time::Duration};

use discovery_core::Result;
use futures::future::LocalBoxFuture;

use super::{Env, Fault, Flag, Tool};

/// When a case runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Always; within seconds, and on a busy machine within 3 min.
    Fast,
    /// With `DISCOVERY_TEST_TIER=slow` only; within 10 min.
    Slow,
}

impl Tier {
    /// How long a case of this tier may take in all.
    pub const fn deadline(self) -> Duration {
        match self {
            Self::Fast => Duration::from_secs(180),
            Self::Slow => Duration::from_secs(600),
        }
    }
}

/// One case: what it needs, what it proves and how it runs. It fails by panic or error.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Case {
    /// Its name within its group.
    pub name: &'static str,
    /// Its group.
    pub group: &'static str,
    /// When it runs.
    pub tier: Tier,
    /// Whether it needs a registry that nobody else uses.
    pub exclusive: bool,
    /// What the backend must claim.
    pub needs: &'static [Flag],
    /// What the provider must be able to show.
    pub faults: &'static [Fault],
    /// What else the provider must have.
    pub tools: &'static [Tool],
    /// The flags it proves when it passes.
    pub proves: &'static [Flag],
    pub(super) run: fn(Env) -> LocalBoxFuture<'static, Result<()>>,
}

impl Case {
    /// A fast case; `path` is its module, whose last part names the group.
    pub(super) const fn new(
        group: &'static str,
        name: &'static str,
        run: fn(Env) -> LocalBoxFuture<'static, Result<()>>,
    ) -> Self {
        Self {
            name,
            group,
            tier: Tier::Fast,
            exclusive: false,
            needs: &[],
            faults: &[],
            tools: &[],
            proves: &[],
            run,
        }
    }

    pub(super) const fn slow(mut self) -> Self {
        self.tier = Tier::Slow;
        self
    }

    pub(super) const fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    pub(super) const fn needs(mut self, flags: &'static [Flag]) -> Self {
        self.needs = flags;
        self
    }

    pub(super) const fn faults(mut self, faults: &'static [Fault]) -> Self {
        self.faults = faults;
        self
    }

    pub(super) const fn tools(mut self, tools: &'static [Tool]) -> Self {
        self.tools = tools;
        self
    }

    pub(super) const fn proves(mut self, flags: &'static [Flag]) -> Self {
        self.proves = flags;
        self
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.group, self.name)
    }
}

/// `case!(group, function)`: the case that runs this function and is called like it.
macro_rules! case {
    ($group:expr, $run:ident) => {
        $crate::suite::Case::new($group, stringify!($run), |env| Box::pin($run(env)))
    };
}
pub(super) use case;
