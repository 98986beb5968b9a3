//! Changes of records that are there, ours or somebody else's, at the agent that owns them; their checks stay as they are.

use std::time::Duration;

use discovery_core::{
    Error, ErrorKind, HealthReport, Instance, InstanceId, InstanceKey, MetaChange, Query, Result,
    ServiceName, Target,
};
use serde_json::{Map, Value};

use crate::{
    checks,
    client::{Call, segment},
    convert, error,
    registry::ConsulRegistry,
    wire,
};

/// The fields of a service that can be written back as they were read.
const KEPT: &[&str] = &[
    "Kind",
    "ID",
    "Tags",
    "Meta",
    "Port",
    "Ports",
    "Address",
    "SocketPath",
    "TaggedAddresses",
    "Weights",
    "EnableTagOverride",
    "Proxy",
    "Connect",
    "Locality",
];

impl ConsulRegistry {
    /// The agent's own record of this id, as it sends it. Without the right to read it: nothing, and no error.
    pub(crate) async fn own(&self, id: &str) -> Result<Own> {
        let client = &self.reader.client;
        let call = client.owned(Call::get(format!("/v1/agent/service/{}", segment(id))));
        let answer = client.send(&call).await?;
        match answer.ok() {
            Ok(answer) => Ok(Own::Record(answer.json("a service of the agent")?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Own::Absent),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(Own::Hidden),
            Err(error) => Err(error),
        }
    }

    /// Refuses records of other agents: what this one is told about them would not last.
    async fn owned(&self, key: &InstanceKey) -> Result<()> {
        let Some(node) = &key.node else {
            return Ok(());
        };
        let own = self.reader.agent.identity(Some(key.id.as_str())).await?.node;
        match own {
            Some(own) if own != *node => match self.foreign(key).await? {
                Some(owner) => Err(not_ours(key, &owner)),
                None => Err(not_found(key)),
            },
            _ => Ok(()),
        }
    }

    /// The node whose agent owns a record that ours does not have, according to the catalogue.
    pub(crate) async fn foreign(&self, key: &InstanceKey) -> Result<Option<String>> {
        let own = self.reader.agent.identity(Some(key.id.as_str())).await?.node;
        let instances = self.reader.service(&key.service, &scope_of(key)).await?.0;
        Ok(instances
            .iter()
            .filter(|instance| {
                instance.key.id == key.id && (key.node.is_none() || instance.key.node == key.node)
            })
            .filter_map(|instance| instance.key.node.clone())
            .find(|node| own.as_ref() != Some(node))
            .map(|node| node.to_string()))
    }

    /// Why there is no such record here: the agent of another node has it, or nobody.
    async fn missing(&self, key: &InstanceKey) -> Result<Error> {
        Ok(match self.foreign(key).await? {
            Some(owner) => not_ours(key, &owner),
            None => not_found(key),
        })
    }

    /// C-34: the tags that others may have given a record of ours. Its agent learns of them within a minute or so: the
    /// catalogue has them at once, but may not be readable.
    pub(crate) async fn overridden(
        &self,
        service: &ServiceName,
        id: &InstanceId,
        record: &Map<String, Value>,
    ) -> Vec<String> {
        let shown = async {
            let own = self.reader.agent.identity(Some(id.as_str())).await?.node;
            let query = Query::new(Target::Service(service.clone()));
            let (instances, _) = self.reader.service(service, &query).await?;
            let ours = instances
                .iter()
                .find(|instance| instance.key.id == *id && instance.key.node == own);
            Ok::<_, Error>(ours.map(|instance| instance.tags.clone()))
        };
        if let Ok(Some(tags)) = shown.await {
            return tags;
        }
        let tags = record.get("Tags").cloned().unwrap_or_default();
        serde_json::from_value(tags).unwrap_or_default()
    }

    pub(crate) async fn do_update_meta(&self, key: &InstanceKey, change: &MetaChange) -> Result<()> {
        self.owned(key).await?;
        let client = &self.reader.client;
        let _turn = self.editing.acquire().await;
        let record = match self.own(key.id.as_str()).await? {
            Own::Record(record) if name_of(&record) == key.service.as_str() => record,
            Own::Hidden => {
                return Err(
                    error::error(ErrorKind::PermissionDenied, "the token cannot read the record")
                        .with_hint("grant the token `service:read` for it"),
                );
            }
            _ => return Err(self.missing(key).await?),
        };
        let name = name_of(&record).to_owned();
        let tags = match record.get("EnableTagOverride") {
            Some(Value::Bool(true)) => Some(self.overridden(&key.service, &key.id, &record).await),
            _ => None,
        };
        let mut body: Map<String, Value> = record
            .into_iter()
            .filter(|(field, value)| KEPT.contains(&field.as_str()) && !value.is_null())
            .collect();
        let meta = body.remove("Meta").unwrap_or_default();
        let mut meta = serde_json::from_value(meta).unwrap_or_default();
        change.apply(&mut meta);
        convert::check_meta(&meta)?;
        body.insert("Name".to_owned(), name.into());
        if let Some(tags) = tags {
            body.insert("Tags".to_owned(), tags.into());
        }
        body.insert(
            "Meta".to_owned(),
            meta.into_iter()
                .map(|(k, v)| (k, Value::from(v)))
                .collect::<Map<_, _>>()
                .into(),
        );
        // C-26: without checks and without replacing them, those there stay as they are.
        let call = Call::put("/v1/agent/service/register".to_owned()).json(&body)?;
        client.send(&client.owned(call)).await?.ok().map(drop)
    }

    pub(crate) async fn do_report_health(&self, key: &InstanceKey, report: &HealthReport) -> Result<()> {
        self.owned(key).await?;
        if let Some(valid_for) = report.valid_for {
            return self.reported(key, report, valid_for).await;
        }
        let id = key.id.as_str();
        let known = self.asked(id);
        if known.is_some() {
            self.edit(id, |asked| asked.starts = None);
        }
        match self.beat(id, report).await {
            // A record of somebody else may have no heartbeat of ours.
            Err(error) if error.kind() == ErrorKind::NotFound && known.is_none() => {
                self.shows(key, report).await?;
            }
            done => done?,
        }
        if known.is_none_or(|known| known.draining != report.draining) {
            self.drain(id, report).await?;
        }
        Ok(())
    }

    /// What somebody else says of a record: a check beside all others. Whether the record drains is left as it is.
    async fn reported(&self, key: &InstanceKey, report: &HealthReport, valid_for: Duration) -> Result<()> {
        let client = &self.reader.client;
        match self.own(key.id.as_str()).await? {
            Own::Record(record) if name_of(&record) == key.service.as_str() => {}
            Own::Hidden => {}
            _ => return Err(self.missing(key).await?),
        }
        let check = checks::reported(key.id.as_str(), report, valid_for);
        let update = wire::CheckUpdate {
            status: convert::status_text(report.status),
            output: &report.output,
        };
        let register = || Call::put("/v1/agent/check/register".to_owned()).json(&check);
        client.send(&client.owned(register()?)).await?.ok()?;
        // C-25: one that was there already has kept its status, and a new one has no output.
        let path = format!("/v1/agent/check/update/{}", segment(&check.id));
        let update = Call::put(path).json(&update)?;
        client.send(&client.owned(update)).await?.ok()?;
        // Of an output alone the agent tells the catalogue minutes later; of a check that is registered, at once.
        client.send(&client.owned(register()?)).await?.ok().map(drop)
    }

    /// Refuses to show a status other than what the checks of somebody else's record say: they are not ours to touch.
    async fn shows(&self, key: &InstanceKey, report: &HealthReport) -> Result<()> {
        let Some(Instance { status, .. }) = self.do_instance(key).await? else {
            return Err(self.missing(key).await?);
        };
        if convert::status_text(status) == convert::status_text(report.status) {
            return Ok(());
        }
        Err(error::error(
            ErrorKind::Unsupported,
            "the record has no heartbeat of this library: its own checks decide its status",
        )
        .with_context("key", key.to_string())
        .with_context("status", convert::status_text(status))
        .with_hint(
            "report the status it has, to change draining alone, or ask the program that registered it",
        ))
    }
}

/// What the agent has under an id.
pub(crate) enum Own {
    Record(Map<String, Value>),
    Absent,
    Hidden,
}

pub(crate) fn name_of(record: &Map<String, Value>) -> &str {
    record.get("Service").and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn scope_of(key: &InstanceKey) -> Query {
    let mut query = Query::new(Target::Service(key.service.clone())).with_checks();
    query.scope.datacenter.clone_from(&key.datacenter);
    query.scope.namespace.clone_from(&key.namespace);
    query
}

pub(crate) fn not_found(key: &InstanceKey) -> Error {
    error::error(ErrorKind::NotFound, "no such record")
        .with_context("key", key.to_string())
        .with_hint("register again")
}

pub(crate) fn not_ours(key: &InstanceKey, owner: &str) -> Error {
    error::error(
        ErrorKind::InvalidInput,
        "the record belongs to the agent of another node",
    )
    .with_context("key", key.to_string())
    .with_context("owner", owner)
    .with_hint(format!("ask the agent of node {owner}"))
}
