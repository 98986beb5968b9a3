//! Writes of records. Each names the revision it replaces, so that one that arrives late replaces nothing else (E-28).

use discovery_core::{Error, ErrorKind, HealthReport, InstanceKey, Result};
use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse};

use crate::{
    client::{Client, Kind},
    convert::Record,
    error,
    keys::Name,
    registry::EtcdRegistry,
    wire::KeyValue,
};

/// How often a write is tried anew because somebody else wrote in between.
const ROUNDS: usize = 8;

/// What is to become of a record, and whether it does.
pub(crate) enum Edit {
    Same,
    To(Record),
}

fn absent(key: &InstanceKey) -> Error {
    error::error(ErrorKind::NotFound, "there is no such registration").with_context("key", key.to_string())
}

fn busy(key: &str) -> Error {
    error::error(
        ErrorKind::Conflict,
        "somebody else keeps writing the same registration",
    )
    .with_context("key", key)
}

/// What the read in a transaction found.
fn found(answer: &TxnResponse) -> Option<KeyValue> {
    answer.op_responses().into_iter().find_map(|op| match op {
        TxnOpResponse::Get(got) => got.kvs().first().map(KeyValue::from),
        _ => None,
    })
}

impl EtcdRegistry {
    pub(crate) async fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        self.client
            .call(Kind::Write, |client| {
                let txn = txn.clone();
                async move { client.kv_client().txn(txn).await }
            })
            .await
    }

    pub(crate) async fn read(&self, key: &str) -> Result<Option<KeyValue>> {
        let got = self
            .client
            .call(Kind::Read, |client| async move {
                Client::kv(&client).get(key, None).await
            })
            .await?;
        Ok(got.kvs().first().map(KeyValue::from))
    }

    /// Writes our record: over nothing, over what it was, or over what an explicit registration replaces.
    pub(crate) async fn claim(&self, key: &InstanceKey, value: &[u8], id: i64) -> Result<()> {
        let (key, name) = (&*self.key(key), &Name::from(key));
        let mut revision = 0;
        for _ in 0..ROUNDS {
            let put = TxnOp::put(key, value, Some(PutOptions::new().with_lease(id)));
            let txn = Txn::new()
                .when([Compare::mod_revision(key, CompareOp::Equal, revision)])
                .and_then([put])
                .or_else([TxnOp::get(key, None)]);
            self.leases.writing(id, name);
            let answer = self.txn(txn).await.inspect_err(|failed| {
                // What a server refused did not happen, and never will.
                if !matches!(
                    failed.kind(),
                    ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Protocol
                ) {
                    self.leases.wrote(id, name, false);
                }
            })?;
            if answer.succeeded() {
                self.leases.wrote(id, name, true);
                return Ok(());
            }
            let there = found(&answer);
            if let Some(there) = &there
                && there.lease == id
                && there.value == value
            {
                self.leases.wrote(id, name, true);
                return Ok(());
            }
            self.leases.wrote(id, name, false);
            revision = there.map_or(0, |there| there.mod_revision);
        }
        Err(busy(key))
    }

    /// Reads a record, changes it and writes it back unless somebody else has changed it; its lease stays (E-10).
    pub(crate) async fn edit(&self, key: &InstanceKey, change: impl Fn(Record) -> Edit) -> Result<()> {
        let name = self.key(key);
        let mut there = self.read(&name).await?;
        for _ in 0..ROUNDS {
            let known = there.ok_or_else(|| absent(key))?;
            let record = Record::read(&known.value).ok_or_else(|| {
                error::error(
                    ErrorKind::Unsupported,
                    "this record is in no form that can be changed",
                )
                .with_context("key", name.clone())
            })?;
            let record = match change(record) {
                Edit::Same => return Ok(()),
                Edit::To(record) => record,
            };
            let put = TxnOp::put(
                &*name,
                record.write()?,
                Some(PutOptions::new().with_ignore_lease()),
            );
            let txn = Txn::new()
                .when([Compare::mod_revision(
                    &*name,
                    CompareOp::Equal,
                    known.mod_revision,
                )])
                .and_then([put])
                .or_else([TxnOp::get(&*name, None)]);
            let answer = self.txn(txn).await?;
            if answer.succeeded() {
                return Ok(());
            }
            there = found(&answer);
        }
        Err(busy(&name))
    }

    pub(crate) async fn show(&self, key: &InstanceKey, report: &HealthReport) -> Result<()> {
        self.edit(key, |mut record| {
            if record.health() == *report {
                return Edit::Same;
            }
            record.set_health(report);
            Edit::To(record)
        })
        .await
    }
}
