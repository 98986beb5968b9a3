//! The DNS backend on a real BIND, beside hickory's resolver and beside a bare socket; and the DNS face beside the servers.

mod face;

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use discovery_core::{
    Query, TaskGroup,
    pick::{RoundRobin, Service, Strategy},
    resolver::{Resolver, ResolverOptions},
};
use discovery_dns::{DnsConfig, Transport, backend};
use discovery_testkit::server::{
    Server,
    dns::{Dns, Software},
};
use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolveHosts, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
    proto::rr::RecordType,
};
use tokio::runtime::Runtime;

use crate::{
    consul::calls::{self, Once},
    harness::{Plan, Report, Table, clock},
};

/// The contenders, by the names they have in tables.
const OURS: &str = "ours";
const HICKORY: &str = "hickory";
const RAW: &str = "raw UDP";

/// How many hits of a cache are one sample.
const HITS: usize = 100;

/// What is asked for: one instance, whose address comes along.
const NAME: &str = "_web._tcp.svc.test";
/// The same, so that hickory puts nothing behind it.
const NAME_ABSOLUTE: &str = "_web._tcp.svc.test.";
const ZONE: &str = "$TTL 3600
@ SOA ns root 1 3600 600 86400 3600
@ NS ns
ns A 127.0.0.1
_web._tcp SRV 10 60 8080 a
a A 192.0.2.1
";

/// Races them, where there is a BIND.
pub fn run(plan: &Plan, report: &mut Report) {
    let Some(binary) = Software::Bind.binary() else {
        report.not_run("dns", format!("{} is not set", Software::Bind.variable()));
        return;
    };
    let servers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let bind = Dns::of(Software::Bind, &binary)
        .zone("svc.test", ZONE)
        .build()
        .expect("a BIND");
    servers.block_on(bind.start()).expect("BIND starts");
    uncached(plan, bind.endpoint(), report);
    cached(plan, bind.endpoint(), report);
    servers.block_on(bind.stop()).expect("BIND stops");
    face::run(plan, &binary, report);
}

/// A runtime of one thread, on which whoever blocks does all the work.
fn quiet() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

/// A question for `name`, of this type, as it goes over the wire.
fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).expect("a label"));
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, u8::try_from(kind).expect("a type"), 0, 1]);
    bytes
}

fn hickory(server: SocketAddr, cache: u64) -> TokioResolver {
    let mut at = NameServerConfig::udp(server.ip());
    for connection in &mut at.connections {
        connection.port = server.port();
    }
    let config = ResolverConfig::from_name_servers(vec![at]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.cache_size = cache;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build().expect("a resolver")
}

fn ours(server: SocketAddr) -> DnsConfig {
    DnsConfig::at(server.to_string()).transport(Transport::Udp)
}

/// One look-up after the other, each asked of the server.
fn uncached(plan: &Plan, server: SocketAddr, report: &mut Report) {
    let ticks = clock::Ticks::now();
    let runtime = quiet();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.connect(server).expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a socket");
    let (asked, mut buffer) = (question(NAME, 33), [0; 4096]);
    let resolver = hickory(server, 0);
    let (backend, query) = (
        backend(ours(server)).expect("a backend"),
        Query::service(NAME).expect("a name"),
    );
    let mut contenders: Vec<(&'static str, Once<'_>)> = vec![
        (
            RAW,
            Box::new(|| {
                socket.send(&asked).expect("sent");
                let length = socket.recv(&mut buffer).expect("an answer");
                assert!(length > asked.len() && buffer[7] == 1);
            }),
        ),
        (
            HICKORY,
            Box::new(|| {
                let found = runtime
                    .block_on(resolver.lookup(NAME_ABSOLUTE, RecordType::SRV))
                    .expect("an answer");
                assert_eq!(found.answers().len(), 1);
            }),
        ),
        (
            OURS,
            Box::new(|| {
                let found = runtime
                    .block_on(backend.registry.instances(&query))
                    .expect("an answer");
                assert_eq!(found.instances.len(), 1);
            }),
        ),
    ];
    let [walls, cpus] = calls::race(plan, &mut contenders, 1);
    let table = Table::new("dns look-up wall", "us", RAW, walls, ticks);
    let at = |name| (name, 1, 1);
    let goals = [
        table.goal(
            "G21",
            "uncached SRV / hickory".to_owned(),
            1.05,
            at(OURS),
            at(HICKORY),
        ),
        table.goal(
            "G21",
            "uncached SRV / raw UDP".to_owned(),
            1.10,
            at(OURS),
            at(RAW),
        ),
    ];
    report.goals(goals);
    report.table(table);
    let table = Table::new("dns look-up cpu", "us", RAW, cpus, ticks);
    report.goals([table.goal(
        "G21",
        "CPU of an uncached SRV / hickory".to_owned(),
        0.5,
        at(OURS),
        at(HICKORY),
    )]);
    report.table(table);
}

/// What is known already: a pick from a view, beside a hit of hickory's cache.
fn cached(plan: &Plan, server: SocketAddr, report: &mut Report) {
    let ticks = clock::Ticks::now();
    let runtime = quiet();
    let resolver = hickory(server, 128);
    let strategy: Arc<dyn Strategy> = Arc::new(RoundRobin);
    let backend = backend(ours(server)).expect("a backend");
    let service = runtime.block_on(async {
        let tasks = TaskGroup::current().expect("inside a runtime");
        let views = Resolver::new(backend, tasks, ResolverOptions::default());
        let view = views
            .view(&Query::service(NAME).expect("a name"), &strategy)
            .expect("a view");
        let service = Service::new(view, Duration::from_secs(10));
        service.ready().await.expect("a first answer");
        service
    });
    let mut reader = service.reader();
    let mut contenders: Vec<(&'static str, Once<'_>)> = vec![
        (
            HICKORY,
            Box::new(|| {
                for _ in 0..HITS {
                    let found = runtime
                        .block_on(resolver.lookup(NAME_ABSOLUTE, RecordType::SRV))
                        .expect("an answer");
                    std::hint::black_box(found.answers().len());
                }
            }),
        ),
        (
            OURS,
            Box::new(|| {
                for _ in 0..HITS {
                    std::hint::black_box(reader.pick().expect("an instance").port);
                }
            }),
        ),
    ];
    let [_, cpus] = calls::race(plan, &mut contenders, HITS);
    let table = Table::new("dns 100 hits cpu", "us", HICKORY, cpus, ticks);
    let goal = table.goal(
        "G21",
        "pick from a view / hit of hickory's cache".to_owned(),
        0.01,
        (OURS, HITS, 1),
        (HICKORY, HITS, 1),
    );
    report.goals([goal]);
    report.table(table);
}
