//! What writes: registrations, heartbeats, changes of records that are there.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use discovery_core::{
    Error, ErrorKind, HealthReport, InstanceKey, Lease, LeaseGroup, MetaChange, Registration, Renewal, Result,
};
use reqwest::Method;
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::warn;

use crate::{
    client::{Answer, Call, parse, segment},
    convert::{self, Record, Word},
    error,
    registry::{EurekaRegistry, path},
};

/// What this client has registered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Own {
    /// U-11: the time of its last change, which heartbeats carry.
    dirty: u64,
    /// What was last asked for; what others ask for is left alone.
    health: HealthReport,
}

/// What is known of the records this client writes.
#[derive(Debug)]
pub(crate) struct Edits {
    own: Mutex<HashMap<String, Own>>,
    /// A record is read, changed and written by one at a time: Eureka cannot compare and set. Each has one of these by the
    /// hash of its path.
    turns: Vec<Semaphore>,
    hasher: RandomState,
}

/// How many records can be changed at once, at best.
const TURNS: usize = 64;

impl Default for Edits {
    fn default() -> Self {
        Self {
            own: Mutex::default(),
            turns: (0..TURNS).map(|_| Semaphore::new(1)).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl Edits {
    /// Waits until nobody else writes this record.
    async fn turn(&self, path: &str) -> Option<SemaphorePermit<'_>> {
        let hash = usize::try_from(self.hasher.hash_one(path) % TURNS as u64).unwrap_or_default();
        // They are never closed.
        self.turns[hash].acquire().await.ok()
    }

    fn own(&self, path: &str) -> Option<Own> {
        let all = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(path).cloned()
    }

    fn note(&self, path: &str, own: Own) {
        let mut all = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(path.to_owned(), own);
    }

    fn forget(&self, path: &str) {
        let mut all = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(path);
    }
}

/// U-11: now, and later than whatever is known, wherever the clock went.
fn later(own: Option<&Own>, record: Option<&Record>) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let own = own.map_or(0, |own| own.dirty);
    now.max(own + 1).max(record.map_or(0, Record::dirty) + 1)
}

fn not_found(key: &InstanceKey) -> Error {
    error::error(ErrorKind::NotFound, "the server does not know it").with_context("key", key.to_string())
}

impl EurekaRegistry {
    /// Sends a request whose answer says no more than that it was done; whether the server knew the record.
    async fn tell(&self, call: &Call) -> Result<bool> {
        let read = |answer: Answer| answer.known("nothing").map(|known| known.is_some());
        Ok(self.client.send(call, read).await?.0)
    }

    /// The record as its server has it, not from its cache.
    async fn record(&self, path: &str) -> Result<Option<Record>> {
        let read = |answer: Answer| {
            let Some(answer) = answer.known("an instance")? else {
                return Ok(None);
            };
            let json = answer.json("an instance")?;
            let mut root: Map<String, Value> = parse(&json, "an instance")?;
            match root.remove("instance") {
                Some(Value::Object(record)) => Ok(Some(Record(record))),
                _ => Err(error::page("an instance")),
            }
        };
        Ok(self.client.send(&Call::get(path.to_owned()), read).await?.0)
    }

    async fn post(&self, key: &InstanceKey, body: Map<String, Value>) -> Result<()> {
        let app = convert::app(key.service.as_str());
        let call = Call::new(Method::POST, format!("apps/{}", segment(&app))).instance(&body);
        if self.tell(&call).await? {
            return Ok(());
        }
        Err(error::page("a registration"))
    }

    /// U-12: what no registration can change.
    async fn hold(&self, key: &InstanceKey, path: &str, word: Word, dirty: u64) -> Result<()> {
        let call = Call::new(Method::PUT, format!("{path}/status"))
            .query("value", word.as_str())
            .query("lastDirtyTimestamp", dirty.to_string());
        if self.tell(&call).await? {
            Ok(())
        } else {
            Err(not_found(key))
        }
    }

    /// U-15: with the status that shows from now on, or it would be unknown.
    async fn let_go(&self, path: &str) -> Result<()> {
        let call = Call::new(Method::DELETE, format!("{path}/status")).query("value", Word::Up.as_str());
        self.tell(&call).await.map(drop)
    }

    pub(crate) async fn do_register(&self, registration: &Registration) -> Result<Lease> {
        let mut key = InstanceKey::new(
            error::SCHEME,
            registration.service.clone(),
            registration.id.clone(),
        );
        let vip = self.client.config().service_registration.vip.as_deref();
        if vip.is_some_and(|vip| convert::app(vip) != convert::app(registration.service.as_str())) {
            // Nothing else tells how the name was written.
            key.service = discovery_core::ServiceName::observed(registration.service.as_str().to_lowercase());
        }
        let (path, health) = (path(&key), &registration.health);
        // Refuses what no server takes, before anything is sent.
        convert::registration(registration, self.client.config(), 0)?;
        let _turn = self.edits.turn(&path).await;
        let own = self.edits.own(&path);
        let known = self.record(&path).await?;
        let dirty = later(own.as_ref(), known.as_ref());
        let mut body = convert::registration(registration, self.client.config(), dirty)?;
        let (want, mut shown) = (Word::of(health), known.as_ref().map(Record::word));
        let is_held = known.as_ref().is_some_and(Record::is_held);
        if want != Word::OutOfService && is_held {
            if own.is_some_and(|own| own.health.draining) {
                self.let_go(&path).await?;
                shown = Some(Word::Up);
            } else {
                warn!(%key, "somebody holds it out of service: it stays so until a report of its health ends that");
            }
        }
        let stuck = shown == Some(Word::OutOfService);
        let word = match want {
            // Never in service for a moment.
            Word::OutOfService if !stuck => Word::Starting,
            word => word,
        };
        body.insert("status".to_owned(), word.as_str().into());
        self.edits.note(
            &path,
            Own {
                dirty,
                health: health.clone(),
            },
        );
        self.post(&key, body).await?;
        if want == Word::OutOfService && !stuck {
            self.hold(&key, &path, want, dirty).await?;
        } else if want == Word::Up && stuck && !is_held {
            self.hold(&key, &path, want, dirty).await?;
            self.let_go(&path).await?;
        }
        let ttl = registration
            .ttl
            .unwrap_or(self.client.config().service_registration.ttl);
        let every = self.client.config().heartbeat(ttl);
        Ok(Lease::new(key, LeaseGroup::new(path), Some(ttl)).renewed_every(every))
    }

    pub(crate) async fn do_renew(&self, group: &LeaseGroup, renewal: &Renewal) -> Result<()> {
        for (key, health) in &renewal.members {
            let path = path(key);
            if path != group.as_str() {
                return Err(not_found(key));
            }
            let own = self.edits.own(&path);
            let mut call = Call::new(Method::PUT, path.clone()).query("status", Word::of(health).as_str());
            if let Some(own) = &own {
                call = call.query("lastDirtyTimestamp", own.dirty.to_string());
            }
            if !self.tell(&call).await? {
                return Err(not_found(key));
            }
            // A server takes no status from a heartbeat, and a report that failed is made up for.
            if own.is_some_and(|own| own.health != *health) {
                self.do_report_health(key, health).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn do_deregister(&self, key: &InstanceKey) -> Result<()> {
        let path = path(key);
        // U-19: known or not.
        self.tell(&Call::new(Method::DELETE, path.clone())).await?;
        self.edits.forget(&path);
        Ok(())
    }

    /// Writes a changed record back.
    async fn replace(&self, key: &InstanceKey, path: &str, record: Record, word: Word) -> Result<u64> {
        let own = self.edits.own(path);
        let dirty = later(own.as_ref(), Some(&record));
        if let Some(own) = own {
            self.edits.note(path, Own { dirty, ..own });
        }
        self.post(key, record.body(word, dirty)).await?;
        Ok(dirty)
    }

    /// U-13: the record is read, changed and registered again; what is set elsewhere would be lost with the next one.
    pub(crate) async fn do_update_meta(&self, key: &InstanceKey, change: &MetaChange) -> Result<()> {
        convert::check_meta(change.set.keys().chain(&change.remove))?;
        let path = path(key);
        let _turn = self.edits.turn(&path).await;
        let mut record = self.record(&path).await?.ok_or_else(|| not_found(key))?;
        let mut changed = false;
        for name in &change.remove {
            changed |= record.set(name, None);
        }
        for (name, value) in &change.set {
            changed |= record.set(name, Some(value));
        }
        if changed {
            let word = record.word();
            self.replace(key, &path, record, word).await?;
        }
        Ok(())
    }

    pub(crate) async fn do_report_health(&self, key: &InstanceKey, report: &HealthReport) -> Result<()> {
        let path = path(key);
        let _turn = self.edits.turn(&path).await;
        let own = self.edits.own(&path);
        let mut record = self.record(&path).await?.ok_or_else(|| not_found(key))?;
        let (want, mut shown, mut is_held) = (Word::of(report), record.word(), record.is_held());
        if is_held && want != Word::OutOfService && own.as_ref().is_none_or(|own| own.health.draining) {
            self.let_go(&path).await?;
            (shown, is_held) = (Word::Up, false);
        }
        let mut dirty = record.dirty();
        let told = want == shown || want == Word::OutOfService || (is_held && want == Word::Up);
        if record.mark(report) || !told {
            let word = if want == Word::OutOfService { shown } else { want };
            dirty = self.replace(key, &path, record, word).await?;
        }
        if want == Word::OutOfService && shown != want {
            self.hold(key, &path, want, dirty).await?;
        } else if want == Word::Up && shown == Word::OutOfService && !is_held {
            self.hold(key, &path, want, dirty).await?;
            self.let_go(&path).await?;
        }
        if let Some(own) = self.edits.own(&path) {
            let health = report.clone();
            self.edits.note(&path, Own { health, ..own });
        }
        Ok(())
    }
}
