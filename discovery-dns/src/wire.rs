//! Questions into packets, packets into answers.

use discovery_core::{ErrorKind, Result};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};

use crate::error::error;

/// Code 16: what the codec reads it as is the same number in a signature.
pub(crate) const BADVERS: ResponseCode = ResponseCode::BADSIG;
/// How much of an answer we take over UDP: what passes without being cut to pieces on the way (D-3).
pub(crate) const PAYLOAD: u16 = 1232;

/// A question as it is sent, with what an answer to it must repeat.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) id: u16,
    query: Query,
    pub(crate) bytes: Vec<u8>,
}

impl Question {
    /// A question under a random id.
    pub(crate) fn new(name: &Name, kind: RecordType, edns: bool) -> Result<Self> {
        let mut message = Message::query();
        let query = Query::query(name.clone(), kind);
        message.add_query(query.clone());
        message.metadata.recursion_desired = true;
        if edns {
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD);
            message.set_edns(edns);
        }
        Ok(Self {
            id: message.metadata.id,
            query,
            bytes: encode(&message)?,
        })
    }

    /// What a packet from the server is to this question (D-4).
    pub(crate) fn read(&self, packet: &[u8]) -> Read {
        let Some(id) = packet.first_chunk().copied().map(u16::from_be_bytes) else {
            return Read::Garbage;
        };
        if id != self.id {
            return Read::Other;
        }
        let message = match Message::from_vec(packet) {
            Ok(message) => message,
            // A cut answer may end within a record.
            Err(_) if cut(packet) => return Read::Cut,
            Err(_) => return Read::Garbage,
        };
        let head = &message.metadata;
        if head.message_type != MessageType::Response || head.op_code != OpCode::Query {
            return Read::Other;
        }
        let ours = match &message.queries[..] {
            [query] => *query == self.query,
            // A server that could not read the question cannot repeat it.
            [] => matches!(
                head.response_code,
                ResponseCode::FormErr | ResponseCode::NotImp | BADVERS
            ),
            _ => false,
        };
        match (ours, head.truncation) {
            (false, _) => Read::Other,
            (true, true) => Read::Cut,
            (true, false) => Read::Answer(Box::new(message)),
        }
    }
}

/// What a packet is to a question.
#[derive(Debug)]
pub(crate) enum Read {
    /// Its answer.
    Answer(Box<Message>),
    /// An answer that was cut: what it holds is not looked at (D-2).
    Cut,
    /// An answer to something else, or forged.
    Other,
    /// No message at all.
    Garbage,
}

/// Whether a packet's head says that it is a response, and cut.
fn cut(packet: &[u8]) -> bool {
    packet.get(2).is_some_and(|flags| flags & 0x82 == 0x82)
}

pub(crate) fn encode(message: &Message) -> Result<Vec<u8>> {
    message.to_vec().map_err(|source| {
        error(ErrorKind::InvalidInput, "the question cannot be written").with_source(source)
    })
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
