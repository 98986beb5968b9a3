//! Runs every case on every provider.

use std::{any::Any, panic::AssertUnwindSafe, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use discovery_core::{Error, ErrorKind, Result};
use futures::FutureExt;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::{
    runtime::{Handle, Runtime},
    time::{Instant, timeout},
};

use super::{
    Case, Env, Flag, Provider, Subject, Tier, Tool, cases, honesty,
    report::{Ended, Ledger},
};
use crate::{capture::Capture, try_eventually};

/// How long a registry may take to end the watches of clients that are gone.
const LEAK_DEADLINE: Duration = Duration::from_secs(30);

/// What is asked of a provider before the cases: a subject to read the claims of its backend from.
const PROBE: Case = Case::new("provider", "starts", |_| Box::pin(async { Ok(()) }));
const REFUSES: Case = Case::new("unsupported", "refuses", |_| Box::pin(async { Ok(()) }));

/// Runs the suite on these providers, with the command line of `cargo test`, and answers how the process should end.
///
/// It fails when a trial fails, when a provider has no subject to give, when nothing ran on one, and, unless the command
/// line picks trials, when a flag that a backend claims was proved by no case that passed.
///
/// Environment: `DISCOVERY_TEST_TIER=slow` adds the slow cases; `DISCOVERY_TEST_REPORT` names a file for a report in JSON.
///
/// # Panics
/// When no tokio runtime can be started.
#[expect(clippy::print_stderr, reason = "this is a test program's main")]
pub fn run(providers: impl IntoIterator<Item = Arc<dyn Provider>>) -> ExitCode {
    let mut args = Arguments::from_args();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // Cases wait more than they work.
    args.test_threads.get_or_insert(4 * cores);
    let runtime = Runtime::new().expect("a tokio runtime");
    let run = Arc::new(Run {
        runtime: runtime.handle().clone(),
        ledger: Ledger::default(),
        capture: Capture::install().ok(),
        slow: args.include_ignored || std::env::var("DISCOVERY_TEST_TIER").is_ok_and(|tier| tier == "slow"),
    });

    let (mut trials, mut claims) = (Vec::new(), Vec::new());
    for provider in providers {
        let flags = run.trials_of(&provider, &mut trials);
        claims.push((provider, flags));
    }
    let conclusion = libtest_mimic::run(&args, trials);
    if args.list {
        return ExitCode::SUCCESS;
    }

    let picked = args.filter.is_some() || !args.skip.is_empty() || args.ignored;
    let wrong = if picked { Vec::new() } else { run.verdict(&claims) };
    for wrong in &wrong {
        eprintln!("conformance: {wrong}");
    }
    let mut failed = conclusion.has_failed() || !wrong.is_empty();
    if let Some(path) = std::env::var_os("DISCOVERY_TEST_REPORT").map(PathBuf::from) {
        let claims: Vec<_> = claims
            .into_iter()
            .map(|(p, flags)| (p.name().to_owned(), flags))
            .collect();
        if let Err(error) = run.ledger.write(&path, &claims, &wrong) {
            eprintln!("conformance: {error:#}");
            failed = true;
        }
    }
    runtime.shutdown_timeout(Duration::from_secs(5));
    if failed {
        ExitCode::from(101)
    } else {
        ExitCode::SUCCESS
    }
}

/// What all trials of one run share.
struct Run {
    runtime: Handle,
    ledger: Ledger,
    capture: Option<Capture>,
    slow: bool,
}

impl Run {
    /// Adds every trial of `provider` and answers the flags its backend claims.
    fn trials_of(self: &Arc<Self>, provider: &Arc<dyn Provider>, trials: &mut Vec<Trial>) -> Vec<Flag> {
        let backend = self
            .runtime
            .block_on(async { provider.subject(&PROBE).await?.connect().await });
        let mut add = |group: &str, name: &str, case: Option<Case>, work: Work| {
            trials.push(
                self.clone()
                    .trial(provider.clone(), format!("{group}::{name}"), case, work),
            );
        };
        let runs = |case: &&Case| {
            provider
                .groups()
                .is_none_or(|groups| groups.contains(&case.group))
        };
        let backend = match backend {
            Ok(backend) => backend,
            Err(error) => {
                // Every trial fails, so that no choice of trials makes a registry that cannot be had look like success.
                for case in std::iter::once(&PROBE).chain(cases::all().filter(runs)) {
                    let error = error.clone();
                    add(
                        case.group,
                        case.name,
                        Some(*case),
                        Box::new(move |_, _| Err(error)),
                    );
                }
                return Vec::new();
            }
        };
        let flags: Vec<_> = Flag::ALL.into_iter().filter(|flag| flag.of(&backend)).collect();
        if provider.groups().is_none() {
            let wrong = honesty::contradictions(&backend);
            let agree = move |_: &Run, _: &dyn Provider| {
                if wrong.is_empty() {
                    return Ok(());
                }
                Err(Error::new(ErrorKind::Unexpected, wrong.join("; ")))
            };
            add("honesty", "parts_and_flags_agree", None, Box::new(agree));
            for flag in Flag::ALL
                .into_iter()
                .filter(|flag| !flags.contains(flag) && honesty::is_refusable(*flag))
            {
                let refuses =
                    move |run: &Run, provider: &dyn Provider| run.runtime.block_on(refuses(provider, flag));
                add(REFUSES.group, flag.as_str(), None, Box::new(refuses));
            }
        }
        for case in cases::all().filter(runs) {
            let reason = self.reason_not_to(provider.as_ref(), case, &flags);
            let case = *case;
            let work: Work = match reason {
                Some(reason) => Box::new(move |_, _| Err(not_run(reason))),
                None => Box::new(move |run, provider| run.runtime.block_on(run.case(provider, case))),
            };
            add(case.group, case.name, Some(case), work);
        }
        flags
    }

    /// Why a case is not run on this provider, if it is not.
    fn reason_not_to(&self, provider: &dyn Provider, case: &Case, flags: &[Flag]) -> Option<String> {
        if case.tier == Tier::Slow && !self.slow {
            return Some("slow: DISCOVERY_TEST_TIER=slow adds it".to_owned());
        }
        if let Some(flag) = case.needs.iter().find(|flag| !flags.contains(flag)) {
            return Some(format!("the backend does not claim `{flag}`"));
        }
        if let Some(fault) = case.faults.iter().find(|fault| !provider.shows(**fault)) {
            return Some(format!("the provider cannot show {fault:?}"));
        }
        let tool = case.tools.iter().find(|tool| !provider.has(**tool));
        tool.map(|tool| format!("the provider has no {tool:?}"))
    }

    fn trial(
        self: Arc<Self>,
        provider: Arc<dyn Provider>,
        name: String,
        case: Option<Case>,
        work: Work,
    ) -> Trial {
        let full = format!("{}::{name}", provider.name());
        Trial::ignorable_test(full, move || {
            let started = Instant::now();
            let ended = match std::panic::catch_unwind(AssertUnwindSafe(|| work(&self, provider.as_ref()))) {
                Ok(Ok(())) => Ended::Passed,
                Ok(Err(error)) if is_not_run(&error) => Ended::NotRun(error.message().to_owned()),
                Ok(Err(error)) => Ended::Failed(format!("{error:?}")),
                Err(panic) => Ended::Failed(text_of(panic.as_ref())),
            };
            let took = started.elapsed();
            self.ledger
                .note(provider.name(), name, case.as_ref(), ended.clone(), took);
            match ended {
                Ended::Passed => Ok(Completion::Completed),
                Ended::NotRun(reason) => Ok(Completion::ignored_with(format!("not run: {reason}"))),
                Ended::Failed(why) => Err(Failed::from(why)),
            }
        })
    }

    /// Runs one case on a subject of its own, within its deadline, and looks for what it left behind.
    async fn case(&self, provider: &dyn Provider, case: Case) -> Result<()> {
        let subject: Arc<dyn Subject> = provider.subject(&case).await?.into();
        let env = Env::new(subject.clone(), self.capture.clone()).await?;
        let work = AssertUnwindSafe((case.run)(env)).catch_unwind();
        match timeout(case.tier.deadline(), work).await {
            Ok(Ok(ended)) => ended?,
            Ok(Err(panic)) => return Err(Error::new(ErrorKind::Unexpected, text_of(panic.as_ref()))),
            Err(_) => {
                return Err(Error::new(ErrorKind::Timeout, "the case did not end")
                    .with_context("deadline", format!("{:?}", case.tier.deadline())));
            }
        }
        if provider.has(Tool::OpenWatches) {
            try_eventually("the end of every watch (A-10)", LEAK_DEADLINE, || async {
                match subject.open_watches() {
                    Some(open @ 1..) => Err(format!("{open} open watches")),
                    _ => Ok(()),
                }
            })
            .await?;
        }
        Ok(())
    }

    /// What is wrong with the run as a whole.
    fn verdict(&self, claims: &[(Arc<dyn Provider>, Vec<Flag>)]) -> Vec<String> {
        let mut wrong = Vec::new();
        if claims.is_empty() {
            wrong.push("there is no provider: nothing ran".to_owned());
        }
        for (provider, flags) in claims {
            let name = provider.name();
            if self.ledger.ran(name) == 0 {
                wrong.push(format!("nothing ran on `{name}`"));
            }
            if provider.groups().is_none() {
                for flag in honesty::unproved(flags, &self.ledger.proved(name)) {
                    wrong.push(format!(
                        "`{name}` claims `{flag}`, and no case that passed proves it"
                    ));
                }
            }
        }
        wrong
    }
}

type Work = Box<dyn FnOnce(&Run, &dyn Provider) -> Result<()> + Send>;

/// The error a trial that is not run ends with.
fn not_run(reason: String) -> Error {
    Error::new(ErrorKind::Unsupported, reason).with_operation(NOT_RUN)
}

fn is_not_run(error: &Error) -> bool {
    error.operation() == Some(NOT_RUN)
}

const NOT_RUN: &str = "not run";

/// What a backend denies it must refuse, with nothing on the wire.
async fn refuses(provider: &dyn Provider, flag: Flag) -> Result<()> {
    let subject = provider.subject(&REFUSES).await?;
    let backend = subject.connect().await?;
    let before = subject.requests();
    let calls = timeout(Tier::Fast.deadline(), honesty::refused(flag, &backend))
        .await
        .map_err(|_| Error::new(ErrorKind::Timeout, "a refusal did not end"))??;
    for (call, kind) in calls {
        assert_eq!(
            kind,
            Some(ErrorKind::Unsupported),
            "`{call}` without the flag `{flag}`"
        );
    }
    assert_eq!(subject.requests(), before, "a refusal went on the wire");
    Ok(())
}

/// What a panic said.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::{Fault, MemoryProvider};

    fn run() -> Arc<Run> {
        Arc::new(Run {
            runtime: Handle::current(),
            ledger: Ledger::default(),
            capture: None,
            slow: false,
        })
    }

    #[tokio::test]
    async fn a_run_that_proves_too_little_is_wrong() {
        let run = run();
        assert_eq!(run.verdict(&[]), ["there is no provider: nothing ran"]);
        let memory: Arc<dyn Provider> = Arc::new(MemoryProvider::bare());
        let claims = [(memory, vec![Flag::Register])];
        let unproved = "`memory` claims `register`, and no case that passed proves it";
        let case = cases::all().find(|case| case.proves == [Flag::Register]);
        let note = |ended| {
            run.ledger
                .note("memory", "case".to_owned(), case, ended, Duration::ZERO);
        };
        note(Ended::NotRun("slow".to_owned()));
        assert_eq!(run.verdict(&claims), ["nothing ran on `memory`", unproved]);
        note(Ended::Failed("it did".to_owned()));
        assert_eq!(run.verdict(&claims), [unproved]);
        note(Ended::Passed);
        assert!(run.verdict(&claims).is_empty());
    }

    /// A registry that was asked for and cannot be had.
    #[derive(Debug)]
    struct Absent;

    #[async_trait::async_trait]
    impl Provider for Absent {
        fn name(&self) -> &'static str {
            "absent"
        }
        fn shows(&self, _: Fault) -> bool {
            false
        }
        fn has(&self, _: Tool) -> bool {
            false
        }
        async fn subject(&self, _: &Case) -> Result<Box<dyn Subject>> {
            Err(Error::new(ErrorKind::Unavailable, "it does not start"))
        }
    }

    #[test]
    fn a_registry_that_cannot_be_had_has_every_case_and_passes_none() {
        let runtime = Runtime::new().unwrap();
        let run = {
            let _runtime = runtime.enter();
            run()
        };
        let (absent, mut trials): (Arc<dyn Provider>, _) = (Arc::new(Absent), Vec::new());
        assert!(run.trials_of(&absent, &mut trials).is_empty());
        assert_eq!(trials.len(), 1 + cases::all().count());
        assert!(trials.iter().all(|trial| !trial.has_ignored_flag()));
    }
}
