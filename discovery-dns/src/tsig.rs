//! Signing updates and believing answers (RFC 8945).

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use discovery_core::{Error, ErrorKind, Result, Retry, config::SecretSource};
use hickory_proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{
        Name, TSigVerifier, TSigner,
        rdata::tsig::{TsigAlgorithm, TsigError},
    },
};

use crate::{
    config::{KeyAlgorithm, Update, invalid, misnamed},
    error::{self, error},
    name, wire,
};

/// How far the clocks of both sides may be apart, in seconds.
const FUDGE: u16 = 300;

/// The key updates are signed with; the secret is read for each.
pub(crate) struct Key {
    name: Name,
    algorithm: KeyAlgorithm,
    source: SecretSource,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Key {
    pub(crate) fn new(update: &Update) -> Result<Option<Self>> {
        let (Some(source), Some(key)) = (update.source()?, &update.key_name) else {
            return Ok(None);
        };
        Ok(Some(Self {
            name: name::absolute(key).map_err(|error| misnamed("update.key_name", &error))?,
            algorithm: update.key_algorithm,
            source,
        }))
    }

    /// Signs a message; answers what will believe its answer.
    pub(crate) fn sign(&self, message: &mut Message) -> Result<Option<TSigVerifier>> {
        let secret = STANDARD
            .decode(self.source.read()?.expose().trim())
            .map_err(|_| {
                // The cause would show a part of it.
                invalid("update.secret", "not base64").with_hint("give the key as `tsig-keygen` prints it")
            })?;
        let algorithm = match self.algorithm {
            KeyAlgorithm::HmacSha256 => TsigAlgorithm::HmacSha256,
            KeyAlgorithm::HmacSha384 => TsigAlgorithm::HmacSha384,
            KeyAlgorithm::HmacSha512 => TsigAlgorithm::HmacSha512,
        };
        let unsigned = || error(ErrorKind::Unexpected, "the update cannot be signed");
        let signer = TSigner::new(secret, algorithm, self.name.clone(), FUDGE)
            .map_err(|source| unsigned().with_source(source))?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_err(|source| unsigned().with_hint("set the clock").with_source(source))?;
        message
            .finalize(&signer, now.as_secs())
            .map_err(|source| unsigned().with_source(source))
    }
}

/// What a server said to an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// It is done.
    Done,
    /// A prerequisite did not hold: nothing is done.
    Differs,
}

/// Reads the answer to an update. Without a signature that holds, no success is believed (D-24).
pub(crate) fn answer(packet: &[u8], verifier: Option<TSigVerifier>) -> Result<Said> {
    let message = Message::from_vec(packet).map_err(|_| error::garbled())?;
    if message.metadata.op_code != OpCode::Update {
        return Err(error::garbled());
    }
    let code = message.metadata.response_code;
    if let Some(mut verifier) = verifier
        && verifier.verify(packet).is_err()
        && matches!(
            code,
            ResponseCode::NoError
                | ResponseCode::NXDomain
                | ResponseCode::YXDomain
                | ResponseCode::YXRRSet
                | ResponseCode::NXRRSet
        )
    {
        return Err(error(
            ErrorKind::Protocol,
            "the answer is not signed with the key of the update",
        )
        .with_hint("somebody between here and the server changes answers, or made this one"));
    }
    match code {
        ResponseCode::NoError => Ok(Said::Done),
        // D-23
        ResponseCode::YXDomain | ResponseCode::YXRRSet | ResponseCode::NXRRSet | ResponseCode::NXDomain => {
            Ok(Said::Differs)
        }
        code => Err(refusal(code, &message)),
    }
}

fn refusal(code: ResponseCode, message: &Message) -> Error {
    let found = match (code, message.signature.as_ref().and_then(|tsig| tsig.data.error)) {
        (ResponseCode::NotAuth, Some(TsigError::BadTime)) => error(
            ErrorKind::Unauthenticated,
            "the clocks of this host and the server are too far apart",
        )
        .with_hint("set both by NTP")
        .with_retry(Retry::Transient { after: None }),
        (ResponseCode::NotAuth, Some(_)) => error(
            ErrorKind::Unauthenticated,
            "the server does not know the key, or has another secret for it",
        )
        .with_hint("check `update.key_name`, `update.key_algorithm` and the secret"),
        (ResponseCode::NotAuth, None) => {
            error(ErrorKind::Unsupported, "the server is not the zone's primary")
                .with_hint("name the primary in `update.server`: its SOA record says which it is")
        }
        (ResponseCode::NotZone, _) => error(ErrorKind::ConfigInvalid, "the zone does not hold these names")
            .with_hint("check the zone's name"),
        (ResponseCode::Refused, _) => error(
            ErrorKind::PermissionDenied,
            "the server takes no updates like this one",
        )
        .with_hint("allow updates of the zone under this key, in the server's configuration"),
        _ => return error::of_answer(code),
    };
    found.with_context("code", code.to_str().to_owned())
}

/// The bytes of an update, signed, and what will believe its answer.
pub(crate) fn seal(mut message: Message, key: Option<&Key>) -> Result<(Vec<u8>, Option<TSigVerifier>)> {
    let verifier = match key {
        Some(key) => key.sign(&mut message)?,
        None => None,
    };
    Ok((wire::encode(&message)?, verifier))
}

#[cfg(test)]
#[path = "tsig_tests.rs"]
mod tests;
