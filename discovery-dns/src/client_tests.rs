use discovery_testkit::proxy::dns::{Act, DnsProxy, cut, refusal};

use super::*;
use crate::testing::{self, Records, ip, n};

fn records() -> Records {
    Records::of([ip("a.test", "192.0.2.1"), testing::soa("test", 60, 5)])
}

fn client(servers: &[&DnsProxy], transport: Transport) -> Client {
    let servers: Vec<_> = servers.iter().map(|server| server.addr().to_string()).collect();
    Client::new(&servers, transport, &TlsConfig::default(), testing::TIMEOUT).unwrap()
}

async fn ask(client: &Client) -> Result<usize> {
    let answer = client.ask(&n("a.test"), RecordType::A, false).await?;
    Ok(answer.answers.len())
}

/// A server that answers `code`.
async fn refusing(code: u8) -> DnsProxy {
    let server = DnsProxy::stub().await.unwrap();
    server.rule(move |packet| Act::Reply(vec![refusal(packet.bytes, code)]));
    server
}

#[tokio::test]
async fn d_2_a_cut_answer_without_records_is_asked_for_over_tcp() {
    let server = testing::server(records()).await;
    server.rule(|packet| {
        let answer = records().answer(packet.bytes).to_vec().unwrap();
        Act::Reply(vec![if packet.tcp { answer } else { cut(packet.bytes) }])
    });
    assert_eq!(ask(&client(&[&server], Transport::Udp)).await.unwrap(), 1);
    let ways: Vec<_> = server.asked().into_iter().map(|(_, _, tcp)| tcp).collect();
    assert_eq!(ways, [false, true]);
}

#[tokio::test]
async fn d_3_a_server_without_edns_is_asked_without_and_remembered() {
    for code in [Some(1), Some(4), None] {
        let server = DnsProxy::stub().await.unwrap();
        server.rule(move |packet| {
            let edns = Message::from_vec(packet.bytes).unwrap().edns.is_some();
            match (edns, code) {
                (false, _) => Act::Reply(vec![records().answer(packet.bytes).to_vec().unwrap()]),
                (true, Some(code)) => Act::Reply(vec![refusal(packet.bytes, code)[..12].to_vec()]),
                (true, None) => Act::Silence,
            }
        });
        let client = client(&[&server], Transport::Udp);
        assert_eq!(ask(&client).await.unwrap(), 1, "{code:?}");
        let first = server.count();
        assert_eq!(ask(&client).await.unwrap(), 1);
        assert_eq!(server.count(), first + 1, "{code:?}: it was not remembered");
    }
}

#[tokio::test]
async fn d_4_forged_answers_are_passed_over() {
    let server = DnsProxy::stub().await.unwrap();
    server.rule(|packet| {
        let good = records().answer(packet.bytes);
        let mut forged = good.clone();
        forged.metadata.id ^= 1;
        forged.answers.push(ip("a.test", "203.0.113.66"));
        let mut other = good.clone();
        other.queries[0].name = n("b.test");
        let packets = [forged, other, good].map(|message| message.to_vec().unwrap());
        Act::Reply([vec![vec![0xff; 40]], packets.to_vec()].concat())
    });
    assert_eq!(ask(&client(&[&server], Transport::Udp)).await.unwrap(), 1);
}

#[tokio::test]
async fn d_4_only_forged_answers_are_an_error() {
    let server = DnsProxy::stub().await.unwrap();
    server.rule(|packet| {
        let mut forged = records().answer(packet.bytes);
        forged.metadata.id ^= 1;
        Act::Reply(vec![forged.to_vec().unwrap()])
    });
    for transport in [Transport::Udp, Transport::Tcp] {
        let error = ask(&client(&[&server], transport)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    }
}

#[tokio::test]
async fn d_5_a_connection_the_server_has_closed_is_made_anew() {
    let server = testing::server(records()).await;
    let client = client(&[&server], Transport::Tcp);
    assert_eq!(ask(&client).await.unwrap(), 1);
    server.cut();
    assert_eq!(ask(&client).await.unwrap(), 1);
}

#[tokio::test]
async fn d_7_the_next_server_is_asked_where_one_fails() {
    let good = testing::server(records()).await;
    let dead = DnsProxy::stub().await.unwrap();
    dead.refuse().await;
    let silent = DnsProxy::stub().await.unwrap();
    for bad in [&refusing(2).await, &refusing(5).await, &dead, &silent] {
        let client = client(&[bad, &good], Transport::Udp);
        assert_eq!(ask(&client).await.unwrap(), 1);
        let before = bad.count();
        assert_eq!(ask(&client).await.unwrap(), 1);
        assert_eq!(bad.count(), before, "the one that answered is asked first");
    }
    let client = client(&[&dead, &silent], Transport::Udp);
    assert_eq!(ask(&client).await.unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn d_7_that_there_is_nothing_is_an_answer() {
    let (nothing, good) = (refusing(3).await, testing::server(records()).await);
    assert_eq!(ask(&client(&[&nothing, &good], Transport::Udp)).await.unwrap(), 0);
    assert_eq!(good.count(), 0);
}

#[tokio::test]
async fn an_answer_that_only_names_other_servers_is_no_absence() {
    let server = DnsProxy::stub().await.unwrap();
    server.rule(|packet| {
        let mut referral = Records::default().answer(packet.bytes);
        referral.metadata.authoritative = false;
        referral.metadata.response_code = ResponseCode::NoError;
        let ns = hickory_proto::rr::rdata::NS(n("ns.elsewhere.test"));
        referral.add_authority(testing::record("test", 60, hickory_proto::rr::RData::NS(ns)));
        Act::Reply(vec![referral.to_vec().unwrap()])
    });
    let error = ask(&client(&[&server], Transport::Udp)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[test]
fn servers_are_addresses() {
    assert_eq!(address("192.0.2.1", 53).unwrap().to_string(), "192.0.2.1:53");
    assert_eq!(address("::1", 53).unwrap().to_string(), "[::1]:53");
    assert_eq!(address("[::1]:8600", 53).unwrap().to_string(), "[::1]:8600");
    assert_eq!(
        address("localhost:8600", 53).unwrap().to_string(),
        "127.0.0.1:8600"
    );
    for bad in ["", "dns.test:53", "192.0.2.1:x", "192.0.2.1:70000"] {
        let error = address(bad, 53).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{bad}");
        assert!(error.hint().is_some());
    }
}

/// RFC 7858: TLS whose certificate names the server's address.
#[tokio::test]
async fn over_tls_the_server_must_be_whom_its_certificate_names() {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, certificate.pem()).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let server = rustls::ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(server));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serve = async {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // One who does not trust us ends it here.
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            while let Ok(question) = stream::read(&mut stream, None).await {
                let reply = records().answer(&question).to_vec().unwrap();
                stream::write(&mut stream, &reply).await.unwrap();
            }
        }
    };
    let client = |tls: TlsConfig| {
        Client::new(
            std::slice::from_ref(&address),
            Transport::Tls,
            &tls,
            Duration::from_secs(2),
        )
        .unwrap()
    };
    let mut trusting = TlsConfig::default();
    trusting.ca_file = Some(ca_file.clone());
    let mut other_name = trusting.clone();
    other_name.server_name = Some("dns.test".to_owned());
    let (trusting, other_name) = (client(trusting), client(other_name));
    let asks = async {
        assert_eq!(ask(&trusting).await.unwrap(), 1);
        drop(trusting);
        let error = ask(&other_name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error:?}");
    };
    tokio::select! {
        () = asks => {}
        () = serve => unreachable!("it serves for ever"),
    }
}
