use hickory_proto::{
    op::Query,
    rr::{RecordType, TSigResponseContext},
};

use super::*;
use crate::testing::n;

fn key(secret: &str) -> Key {
    Key::new(&Update::signed("update", secret)).unwrap().unwrap()
}

fn update() -> Message {
    let mut message = Message::new(7, hickory_proto::op::MessageType::Query, OpCode::Update);
    message.add_query(Query::query(n("svc.test"), RecordType::SOA));
    message
}

fn reply(code: ResponseCode) -> Message {
    let mut reply = Message::response(7, OpCode::Update);
    reply.metadata.response_code = code;
    reply
}

/// The answer as a server signs it that has `secret` for the key.
fn signed(request: &[u8], code: ResponseCode, secret: &str) -> Vec<u8> {
    let request = Message::from_vec(request).unwrap();
    let tsig = &request.signature.as_ref().unwrap().data;
    let signer = TSigner::new(
        STANDARD.decode(secret).unwrap(),
        TsigAlgorithm::HmacSha256,
        n("update"),
        FUDGE,
    )
    .unwrap();
    let mut reply = reply(code);
    let context = TSigResponseContext::new(7, tsig.time, signer, tsig.mac.clone(), None);
    let signature = context.sign(&reply.to_vec().unwrap()).unwrap();
    reply.set_signature(signature);
    reply.to_vec().unwrap()
}

#[test]
fn d_24_no_success_is_believed_without_a_signature_that_holds() {
    let seal = || seal(update(), Some(&key("a2V5"))).unwrap();
    let (request, verifier) = seal();
    let good = signed(&request, ResponseCode::NoError, "a2V5");
    assert_eq!(answer(&good, verifier).unwrap(), Said::Done);

    let (request, verifier) = seal();
    let other = signed(&request, ResponseCode::NoError, "b3RoZXI=");
    assert_eq!(
        answer(&other, verifier).unwrap_err().kind(),
        ErrorKind::Protocol,
        "another key"
    );
    let (_, verifier) = seal();
    let unsigned = reply(ResponseCode::NoError).to_vec().unwrap();
    assert_eq!(
        answer(&unsigned, verifier).unwrap_err().kind(),
        ErrorKind::Protocol,
        "none"
    );
    let (_, verifier) = seal();
    let unsigned = reply(ResponseCode::NXRRSet).to_vec().unwrap();
    assert_eq!(
        answer(&unsigned, verifier).unwrap_err().kind(),
        ErrorKind::Protocol,
        "a condition"
    );
    // Without a key, there is nothing to believe by.
    let unsigned = reply(ResponseCode::NoError).to_vec().unwrap();
    assert_eq!(answer(&unsigned, None).unwrap(), Said::Done);
}

#[test]
fn d_23_every_code_has_its_kind() {
    use ErrorKind::{ConfigInvalid, PermissionDenied, Unauthenticated, Unavailable, Unsupported};
    let of = |code, error: Option<TsigError>| {
        let mut reply = reply(code);
        if let Some(error) = error {
            let tsig = hickory_proto::rr::rdata::tsig::TSIG::new(
                TsigAlgorithm::HmacSha256,
                1_000_000,
                FUDGE,
                Vec::new(),
                7,
                Some(error),
                Vec::new(),
            );
            reply.set_signature(Box::new(hickory_proto::rr::rdata::tsig::make_tsig_record(
                n("update"),
                tsig,
            )));
        }
        answer(&reply.to_vec().unwrap(), None)
    };
    for code in [
        ResponseCode::YXDomain,
        ResponseCode::YXRRSet,
        ResponseCode::NXRRSet,
    ] {
        assert_eq!(of(code, None).unwrap(), Said::Differs, "{code}");
    }
    for (code, tsig, kind) in [
        (ResponseCode::Refused, None, PermissionDenied),
        (ResponseCode::NotAuth, Some(TsigError::BadSig), Unauthenticated),
        (ResponseCode::NotAuth, Some(TsigError::BadKey), Unauthenticated),
        (ResponseCode::NotAuth, Some(TsigError::BadTime), Unauthenticated),
        (ResponseCode::NotAuth, None, Unsupported),
        (ResponseCode::NotZone, None, ConfigInvalid),
        (ResponseCode::ServFail, None, Unavailable),
    ] {
        let error = of(code, tsig).unwrap_err();
        assert_eq!(error.kind(), kind, "{code} {tsig:?}");
    }
    let skew = of(ResponseCode::NotAuth, Some(TsigError::BadTime)).unwrap_err();
    assert!(
        skew.message().contains("clock") && skew.is_retryable(),
        "{skew:?}"
    );
    assert!(of(ResponseCode::ServFail, None).unwrap_err().is_retryable());
}

#[test]
fn a_6_a_key_that_is_none_does_not_show() {
    let error = seal(update(), Some(&key("sentinel!"))).map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
    assert!(!format!("{error:?} {error:#}").contains("sentinel"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(1000))]

    /// D-6: of answers to updates, too.
    #[test]
    fn d_6_no_damage_to_an_answer_is_a_success(at: proptest::sample::Index, byte: u8, cut: proptest::sample::Index) {
        let (request, verifier) = seal(update(), Some(&key("a2V5"))).unwrap();
        let good = signed(&request, ResponseCode::NoError, "a2V5");
        let mut packet = good.clone();
        let at = at.index(packet.len());
        packet[at] = byte;
        packet.truncate(cut.index(packet.len()) + 1);
        let answered = answer(&packet, verifier);
        // Of this answer, only the head says anything; its id is signed as it was first sent.
        proptest::prop_assert!(answered.is_err() || packet[2..12] == good[2..12], "{at}: {answered:?}");
    }
}
