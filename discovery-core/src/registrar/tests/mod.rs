//! The registrar against a scripted registry, on the paused clock.

mod changing;
mod ending;
mod fake;
mod keeping;
mod racing;
mod watching;

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use self::fake::{Fake, Fault, Op};
use super::{Registrar, RegistrarConfig, RegistrationPhase};
use crate::{
    error::ErrorKind,
    model::{InstanceId, Registration, ServiceName, Status},
    task::TaskGroup,
};

const TTL: Duration = Duration::from_secs(30);

/// How often [`eventually`] looks.
const POLL: Duration = Duration::from_millis(50);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn registration(id: &str) -> Registration {
    Registration::builder("api", "127.0.0.1", 8080)
        .id(id)
        .build()
        .unwrap()
}

fn api() -> ServiceName {
    ServiceName::new("api").unwrap()
}

fn id(id: &str) -> InstanceId {
    InstanceId::new(id).unwrap()
}

fn registrar(fake: &Arc<Fake>) -> Registrar {
    registrar_with(fake, RegistrarConfig::default())
}

fn registrar_with(fake: &Arc<Fake>, config: RegistrarConfig) -> Registrar {
    Registrar::new(fake.clone(), TaskGroup::current().unwrap(), config)
}

fn phase(registrar: &Registrar) -> RegistrationPhase {
    registrar.states()[0].phase
}

/// Polls until `what` holds and answers how long that took.
async fn eventually(deadline: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < deadline, "not within {deadline:?}: {what}");
        sleep(POLL).await;
    }
    started.elapsed()
}
