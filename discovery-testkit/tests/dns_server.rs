//! The launcher on real BIND and Knot; `scripts/test` gets them. What cannot run is shown as ignored.
#![expect(
    clippy::unwrap_used,
    reason = "these are tests, without the harness that would say so"
)]

mod support;

use std::{net::SocketAddr, path::PathBuf};

use discovery_core::ErrorKind;
use discovery_testkit::server::{
    Server,
    dns::{Dns, Software},
};
use libtest_mimic::Failed;
use tokio::process::Command;

const A: u16 = 1;
const SRV: u16 = 33;
const ZONE: &str = "$TTL 2
@ SOA ns root 1 3600 600 86400 3
@ NS ns
ns A 127.0.0.1
_web._tcp SRV 10 60 8080 a
_web._tcp SRV 10 40 8080 b
a A 192.0.2.1
b A 192.0.2.2
";
/// Adds `<name>.svc.test A 192.0.2.9` by dynamic update under a TSIG key, and prints the response code.
const UPDATE: &str = r"
import base64, hashlib, hmac, socket, struct, sys, time
port, name, key, secret = sys.argv[1:]
def wire(name):
    return b''.join(bytes([len(l)]) + l.encode() for l in name.split('.') if l) + b'\0'
algorithm = wire('hmac-sha256')
zone = wire('svc.test') + struct.pack('>HH', 6, 1)
record = wire(name + '.svc.test') + struct.pack('>HHIH', 1, 1, 60, 4) + bytes([192, 0, 2, 9])
def message(additional):
    return struct.pack('>HHHHHH', 4711, 5 << 11, 1, 0, 1, additional) + zone + record
now = struct.pack('>HIH', 0, int(time.time()), 300)
rest = struct.pack('>HH', 0, 0)
signed = message(0) + wire(key) + struct.pack('>HI', 255, 0) + algorithm + now + rest
mac = hmac.new(base64.b64decode(secret), signed, hashlib.sha256).digest()
data = algorithm + now + struct.pack('>H', len(mac)) + mac + struct.pack('>H', 4711) + rest
tsig = wire(key) + struct.pack('>HHIH', 250, 255, 0, len(data)) + data
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
s.sendto(message(1) + tsig, ('127.0.0.1', int(port)))
print(s.recv(4096)[3] & 15)
";

type Case = (&'static str, fn(Software, PathBuf) -> Result<(), Failed>);

macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        [$((stringify!($name), |software, binary| support::run($name(software, binary)))),+]
    };
}

fn main() {
    let cases: [Case; 3] = cases![
        serves_and_says_its_version,
        updates_need_the_key_and_stay,
        a_broken_zone_is_an_error_with_the_log,
    ];
    let trials = Software::ALL.into_iter().flat_map(|software| {
        cases.map(|(name, case)| {
            let run = move |binary| case(software, binary);
            support::trial(software.name(), software.variable(), software.binary(), name, run)
        })
    });
    support::conclude(trials.collect());
}

/// The response code of an update, by a client that shares nothing with ours.
async fn update(server: SocketAddr, name: &str, key: &str, secret: &str) -> u8 {
    let mut python = Command::new("python3");
    let port = server.port().to_string();
    let output = python
        .args(["-c", UPDATE, &port, name, key, secret])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

async fn serves_and_says_its_version(software: Software, binary: PathBuf) {
    let dns = Dns::of(software, binary)
        .zone("svc.test", ZONE)
        .zone("other.test", ZONE)
        .build()
        .unwrap();
    let down = dns.ask("a.svc.test", A).await.unwrap_err();
    assert_eq!(down.kind(), ErrorKind::Unavailable, "{down}");
    dns.start().await.unwrap();
    let version = dns.version().await.unwrap();
    assert!(version.split('.').count() >= 2, "{version}");
    for (name, kind, code, answers) in [
        ("_web._tcp.svc.test", SRV, 0, 2),
        ("a.svc.test", A, 0, 1),
        ("a.other.test", A, 0, 1),
        ("a.svc.test", SRV, 0, 0),
        ("c.svc.test", A, 3, 0),
        ("elsewhere.example", A, 5, 0),
    ] {
        let answer = dns.ask(name, kind).await.unwrap();
        assert_eq!((answer.code, answer.answers), (code, answers), "{name}");
    }
    assert!(
        tokio::net::TcpStream::connect(dns.endpoint()).await.is_ok(),
        "TCP as well"
    );
    support::ends(&dns, dns.pid()).await;
}

async fn updates_need_the_key_and_stay(software: Software, binary: PathBuf) {
    let dns = Dns::of(software, &binary)
        .zone("svc.test", ZONE)
        .updates()
        .build()
        .unwrap();
    dns.start().await.unwrap();
    let key = dns.key().unwrap();
    let secret = key.secret.expose();
    assert!(!format!("{dns:?}").contains(secret));
    let wrong = update(dns.endpoint(), "x", &key.name, &secret.repeat(2)).await;
    assert_eq!(wrong, 9, "NOTAUTH");
    assert_eq!(dns.ask("x.svc.test", A).await.unwrap().code, 3);

    assert_eq!(update(dns.endpoint(), "x", &key.name, secret).await, 0);
    assert_eq!(dns.ask("x.svc.test", A).await.unwrap().answers, 1);
    dns.restart().await.unwrap();
    assert_eq!(dns.ask("x.svc.test", A).await.unwrap().answers, 1, "it remembers");
    assert_eq!(update(dns.endpoint(), "y", &key.name, secret).await, 0);
    dns.kill().await.unwrap();
    dns.start().await.unwrap();
    for name in ["x.svc.test", "y.svc.test", "a.svc.test"] {
        assert_eq!(dns.ask(name, A).await.unwrap().answers, 1, "{name} after a crash");
    }
    dns.restart_empty().await.unwrap();
    assert_eq!(dns.ask("x.svc.test", A).await.unwrap().code, 3);
    assert_eq!(dns.ask("a.svc.test", A).await.unwrap().answers, 1);

    let closed = Dns::of(software, &binary).zone("svc.test", ZONE).build().unwrap();
    closed.start().await.unwrap();
    assert_ne!(update(closed.endpoint(), "x", &key.name, secret).await, 0);
}

async fn a_broken_zone_is_an_error_with_the_log(software: Software, binary: PathBuf) {
    let dns = Dns::of(software, binary)
        .zone("svc.test", "@ BROKEN")
        .build()
        .unwrap();
    let error = dns.start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("svc.test"), "{error}");
    assert_eq!(dns.pid(), None);
}
