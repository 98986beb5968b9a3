//! What a registry holds, in the words every backend shares: services, instances, registrations, snapshots.

mod check;
mod chunks;
mod health;
mod instance;
mod instances;
mod key;
mod lease;
mod name;
mod query;
mod registration;
mod snapshot;

pub use check::{Check, CheckKind};
pub(crate) use chunks::Chunks;
pub use health::{CheckOutcome, CheckResult, HealthReport, ServiceHealth, Status};
pub use instance::{Instance, InstanceBuilder, Locality, NamedPort, Weight};
pub use instances::{Instances, InstancesIter};
pub use key::InstanceKey;
pub use lease::{Lease, LeaseGroup, Renewal};
pub use name::{InstanceId, ServiceName};
pub use query::{Query, Scope, ServiceSummary, Target};
pub use registration::{MetaChange, Registration, RegistrationBuilder};
pub use snapshot::{Cursor, Evidence, Freshness, Held, Snapshot, Source, Suspicion};
