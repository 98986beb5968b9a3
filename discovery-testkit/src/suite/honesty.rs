//! Whether a backend tells the truth about itself.

use discovery_core::{
    Backend, ErrorKind, HealthReport, InstanceId, InstanceKey, LeaseGroup, LeaseMode, MetaChange, Query,
    Registration, Renewal, Result, Scope, ServiceName,
};
use futures::StreamExt;

use super::{Flag, env::kind};

/// What a backend that lacks `flag` must refuse, call by call; nothing for a flag that no call needs.
pub(super) async fn refused(flag: Flag, backend: &Backend) -> Result<Vec<(&'static str, Option<ErrorKind>)>> {
    let (registry, watcher) = (&backend.registry, &backend.watcher);
    let registration = Registration::builder("conformance-refused", "127.0.0.1", 1).build()?;
    let key = InstanceKey::new(
        registry.info().source,
        ServiceName::new("conformance-refused")?,
        InstanceId::new("conformance-refused-1")?,
    );
    let group = LeaseGroup::new("conformance-refused");
    let mut calls = Vec::new();
    match flag {
        Flag::Register => {
            calls.push(("register", kind(&registry.register(&registration).await)));
            calls.push(("deregister", kind(&registry.deregister(&key).await)));
        }
        Flag::Lease => calls.push(("renew", kind(&registry.renew(&group, &Renewal::default()).await))),
        Flag::SharedLease => calls.push(("release", kind(&registry.release(&group).await))),
        Flag::UpdateMeta => {
            let change = MetaChange::new().set("k", "v");
            calls.push(("update_meta", kind(&registry.update_meta(&key, &change).await)));
        }
        Flag::ReportHealth => {
            let report = HealthReport::default();
            calls.push((
                "report_health",
                kind(&registry.report_health(&key, &report).await),
            ));
        }
        Flag::ListServices => calls.push(("services", kind(&registry.services(&Scope::default()).await))),
        Flag::WatchAll | Flag::Datacenters | Flag::Namespaces => {
            let query = match flag {
                Flag::WatchAll => Query::all(),
                Flag::Datacenters => Query::service("conformance-refused")?.datacenter("elsewhere"),
                _ => Query::service("conformance-refused")?.namespace("elsewhere"),
            };
            calls.push(("instances", kind(&registry.instances(&query).await)));
            let first = watcher.watch(&query, None).next().await;
            calls.push(("watch", first.as_ref().and_then(kind)));
        }
        Flag::RunsChecks | Flag::Resume | Flag::PushWatch | Flag::Config => {}
    }
    Ok(calls)
}

/// Whether there is a call that a backend without `flag` must refuse.
pub(super) fn is_refusable(flag: Flag) -> bool {
    !matches!(
        flag,
        Flag::RunsChecks | Flag::Resume | Flag::PushWatch | Flag::Config
    )
}

/// What in a backend's own description contradicts itself.
pub(super) fn contradictions(backend: &Backend) -> Vec<String> {
    let (can, info) = (backend.registry.capabilities(), backend.registry.info());
    let mut wrong = Vec::new();
    let mut check = |holds: bool, otherwise: &str| {
        if !holds {
            wrong.push(otherwise.to_owned());
        }
    };
    check(
        can.register || can.lease == LeaseMode::None,
        "leases, but nothing can be registered",
    );
    check(
        can.register || !can.runs_checks,
        "it runs checks, but nothing can be registered",
    );
    check(!can.confirm_every.is_zero(), "`confirm_every` is zero");
    let word =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    check(word(info.scheme), "the scheme is not one lower-case word");
    check(!info.source.is_empty(), "the source has no name");
    check(!info.address.is_empty(), "there is no address to show");
    check(!info.address.contains('@'), "the address shows credentials");
    wrong
}

/// The flags claimed in `claimed` that no passed case proved.
pub(super) fn unproved(claimed: &[Flag], proved: &[Flag]) -> Vec<Flag> {
    claimed
        .iter()
        .copied()
        .filter(|flag| !proved.contains(flag))
        .collect()
}

#[cfg(test)]
mod tests {
    use discovery_core::memory::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn what_memory_denies_is_refused_and_what_it_claims_is_not() {
        let backend = MemoryStore::new().backend();
        for flag in Flag::ALL {
            let refused = refused(flag, &backend).await.unwrap();
            assert_eq!(refused.is_empty(), !is_refusable(flag), "{flag}");
            for (call, kind) in refused {
                assert_eq!(
                    kind == Some(ErrorKind::Unsupported),
                    !flag.of(&backend),
                    "{flag}: {call}: {kind:?}"
                );
            }
        }
        assert!(contradictions(&backend).is_empty());
    }

    #[test]
    fn a_claim_without_a_passed_case_is_unproved() {
        let unproved = unproved(&[Flag::Register, Flag::Lease], &[Flag::Lease, Flag::Config]);
        assert_eq!(unproved, [Flag::Register]);
    }
}
