//! The DNS face before each registry, asked by one who knows nothing but DNS.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use discovery::Client;
use discovery_consul::ConsulConfig;
use discovery_core::{Backend, HealthReport, Query, Registration, Status};
use discovery_dns::{Face, FaceConfig, serve};
use discovery_etcd::EtcdConfig;
use discovery_eureka::EurekaConfig;
use discovery_local::LocalConfig;
use discovery_testkit::{
    server::{Server, consul::Consul, etcd::Etcd, eureka::Eureka},
    try_eventually,
};
use hickory_proto::{
    op::{Message, Query as Question, ResponseCode},
    rr::{Name, RData, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use crate::{servers::Kube, support::PATIENCE};

const DEADLINE: Duration = Duration::from_secs(30);
/// How long the answers of a live view are good for, in seconds.
const TTL: u32 = 5;

pub(crate) async fn consul_is_served(binary: PathBuf) {
    let consul = Consul::dev(binary).build().await.unwrap();
    consul.start().await.unwrap();
    let at = consul.endpoint().to_string();
    let behind = || discovery_consul::backend(ConsulConfig::at(at.clone())).unwrap();
    is_served(behind, async || consul.kill().await.unwrap()).await;
}

pub(crate) async fn etcd_is_served(binary: PathBuf) {
    let etcd = Etcd::dev(binary).build().await.unwrap();
    etcd.start().await.unwrap();
    let behind = || discovery_etcd::backend(EtcdConfig::at([etcd.endpoint().to_string()])).unwrap();
    is_served(behind, async || etcd.kill().await.unwrap()).await;
}

pub(crate) async fn eureka_is_served(jar: PathBuf) {
    let eureka = Eureka::dev(jar).build().unwrap();
    eureka.start().await.unwrap();
    let behind = || {
        let mut config = EurekaConfig::at([eureka.endpoint().to_string()]);
        config.discovery.refresh_interval = Duration::from_millis(500);
        discovery_eureka::backend(config).unwrap()
    };
    is_served(behind, async || eureka.kill().await.unwrap()).await;
}

pub(crate) async fn kubernetes_is_served(_: PathBuf) {
    let kube = Kube::start(|builder| builder).await.unwrap();
    let behind = || {
        let mut config = kube.config(crate::servers::ADMIN);
        config.registration.local_addresses = true;
        discovery_k8s::backend(config).unwrap()
    };
    is_served(behind, async || kube.api.kill().await.unwrap()).await;
}

/// A file has no server that could fail.
pub(crate) async fn a_file_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let behind = || discovery_local::backend(LocalConfig::at(dir.path().join("registry.db"))).unwrap();
    let (ours, face) = is_served_live(behind).await;
    face.shutdown().await.unwrap();
    ours.shutdown(DEADLINE).await.unwrap();
}

/// What is registered is answered while the registry is there, and for a second at a time once `end` has ended it.
async fn is_served(behind: impl Fn() -> Backend, end: impl AsyncFn()) {
    let (ours, face) = is_served_live(behind).await;
    end().await;
    try_eventually("answers from a stale view", 3 * PATIENCE, || async {
        let answer = ask(face.addr(), "api.service.svc.example", RecordType::SRV, false).await;
        let ttls: Vec<_> = answer.answers.iter().map(|record| record.ttl).collect();
        // An outage takes nothing away.
        assert_eq!(ttls.len(), 2, "{answer:?}");
        if ttls == [1, 1] {
            Ok(())
        } else {
            Err(format!("{ttls:?}"))
        }
    })
    .await
    .unwrap();
    face.shutdown().await.unwrap();
    // Nobody is there to withdraw from.
    let _ = ours.shutdown(Duration::from_millis(100)).await;
}

async fn is_served_live(behind: impl Fn() -> Backend) -> (Client, Face) {
    let ours = Client::builder(behind()).build().unwrap();
    let one = |service: &str, host: u8, tag: &str| {
        Registration::builder(service, format!("127.0.0.{host}"), 8000 + u16::from(host)).tag(tag)
    };
    for registration in [
        one("api", 1, "v1").meta("version", "1"),
        one("api", 2, "v2"),
        one("api", 3, "v2").status(Status::Critical),
        one("web", 4, "v1"),
    ] {
        ours.register(registration.build().unwrap()).await.unwrap();
    }
    let all = ours.query(&Query::all()).unwrap();
    let config = FaceConfig::at((Ipv4Addr::LOCALHOST, 0).into()).zone("svc.example");
    let face = serve(&all, config).await.unwrap();
    let at = face.addr();

    for (name, ports) in [
        ("api.service.svc.example", &[8001, 8002][..]),
        ("API.Service.SVC.example", &[8001, 8002]),
        ("_api._tcp.service.svc.example", &[8001, 8002]),
        ("v1.api.service.svc.example", &[8001]),
        ("_api._v2.service.svc.example", &[8002]),
        ("web.service.svc.example", &[8004]),
    ] {
        shows(at, name, ports).await;
        let over_tcp = ask(at, name, RecordType::SRV, true).await;
        assert_eq!(services(&over_tcp), ports, "{name} over TCP");
    }
    let answer = ask(at, "v1.api.service.svc.example", RecordType::A, false).await;
    assert_eq!(answer.answers[0].data.to_string(), "127.0.0.1");
    assert_eq!(answer.answers[0].ttl, TTL);
    let answer = ask(at, "v1.api.service.svc.example", RecordType::AAAA, false).await;
    assert_eq!(
        (answer.answers.len(), answer.metadata.response_code),
        (0, ResponseCode::NoError)
    );
    let answer = ask(at, "v1.api.service.svc.example", RecordType::TXT, false).await;
    let strings = answer.answers.iter().map(|record| record.data.to_string());
    assert!(strings.collect::<String>().contains("version=1"), "{answer:?}");

    // Whatever strangers ask for, one watch is all there is.
    for n in 0..200 {
        let stranger = format!("t{n}.nobody-{n}.service.svc.example");
        let answer = ask(at, &stranger, RecordType::SRV, false).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    }
    assert_eq!(ours.status().await.watches, 1);

    // Health and withdrawal show as they come.
    let ids: Vec<_> = ours.status().await.registrations;
    let id = |port: u16| {
        let of_port = |one: &&discovery_core::registrar::RegistrationState| {
            one.key.id.as_str().ends_with(&format!("-{port}"))
        };
        ids.iter().find(of_port).unwrap().key.id.clone()
    };
    let passing = HealthReport::new(Status::Passing);
    ours.report_health(&id(8003), passing).await.unwrap();
    shows(at, "api.service.svc.example", &[8001, 8002, 8003]).await;
    ours.deregister(&id(8001)).await.unwrap();
    shows(at, "api.service.svc.example", &[8002, 8003]).await;
    (ours, face)
}

/// Waits until these ports are what SRV records of a name lead to.
async fn shows(at: SocketAddr, name: &str, ports: &[u16]) {
    try_eventually(name, PATIENCE, || async {
        let found = services(&ask(at, name, RecordType::SRV, false).await);
        if found == ports {
            Ok(())
        } else {
            Err(format!("{found:?}, not {ports:?}"))
        }
    })
    .await
    .unwrap();
}

/// The ports of the SRV records, sorted; each of them with the address of its target.
fn services(answer: &Message) -> Vec<u16> {
    let mut ports = Vec::new();
    for record in &answer.answers {
        let RData::SRV(srv) = &record.data else {
            panic!("{answer:?}")
        };
        let address = answer.additionals.iter().find(|one| one.name == srv.target);
        let wanted = format!("127.0.0.{}", srv.port - 8000);
        assert_eq!(address.unwrap().data.to_string(), wanted, "{answer:?}");
        ports.push(srv.port);
    }
    ports.sort_unstable();
    ports
}

async fn ask(at: SocketAddr, name: &str, kind: RecordType, tcp: bool) -> Message {
    let mut question = Message::query();
    question.add_query(Question::query(Name::from_ascii(name).unwrap(), kind));
    let bytes = question.to_vec().unwrap();
    let asked = async {
        if tcp {
            let mut stream = TcpStream::connect(at).await.unwrap();
            stream
                .write_u16(u16::try_from(bytes.len()).unwrap())
                .await
                .unwrap();
            stream.write_all(&bytes).await.unwrap();
            let mut reply = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut reply).await.unwrap();
            reply
        } else {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            socket.send_to(&bytes, at).await.unwrap();
            let mut reply = vec![0; 4096];
            let (length, _) = socket.recv_from(&mut reply).await.unwrap();
            reply.truncate(length);
            reply
        }
    };
    let reply = timeout(PATIENCE, asked).await.expect("an answer");
    let reply = Message::from_vec(&reply).unwrap();
    assert_eq!(reply.metadata.id, question.metadata.id);
    reply
}
