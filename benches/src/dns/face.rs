//! Questions a second of the DNS face, of BIND and of Consul's DNS port, each with the same ten instances.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    thread,
    time::Duration,
};

use discovery_consul::ConsulConfig;
use discovery_core::{
    Query, Registration, TaskGroup,
    memory::MemoryStore,
    pick::{RoundRobin, Service},
    resolver::{Resolver, ResolverOptions},
};
use discovery_dns::{FaceConfig, serve};
use discovery_testkit::{
    eventually,
    server::{
        Server,
        consul::{Age, Consul},
        dns::{Dns, Software},
    },
};

use super::question;
use crate::harness::{Cell, Plan, Report, Table, clock};

const INSTANCES: u16 = 10;
/// Clients that ask one question after the other.
const CLIENTS: usize = 8;
/// How long they ask in one round.
const SPAN: Duration = Duration::from_millis(300);

/// Microseconds a question with all clients asking: the inverse of questions a second.
fn load(server: SocketAddr, name: &str) -> f64 {
    let asked = question(name, 1);
    let started = clock::wall();
    let done: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
                    socket.connect(server).expect("a socket");
                    socket
                        .set_read_timeout(Some(Duration::from_secs(5)))
                        .expect("a socket");
                    let (mut done, mut buffer) = (0, [0; 4096]);
                    while (clock::wall() - started) / 1e9 < SPAN.as_secs_f64() {
                        socket.send(&asked).expect("sent");
                        socket.recv(&mut buffer).expect("an answer");
                        assert!(
                            buffer[3].is_multiple_of(16) && buffer[7] > 0,
                            "no answer to {name}"
                        );
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().expect("a client"))
            .sum()
    });
    (clock::wall() - started) / 1e3 / done as f64
}

/// Whether a server knows a name.
fn answers(server: SocketAddr, name: &str) -> bool {
    let ask = || {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.send(&question(name, 1))?;
        let mut buffer = [0; 4096];
        socket.recv(&mut buffer)?;
        Ok::<_, std::io::Error>(buffer[7] > 0)
    };
    ask().unwrap_or(false)
}

/// A Consul that has all of these, where there is one.
async fn consul(all: &[Registration]) -> Option<Consul> {
    let consul = Consul::dev(Age::New.binary()?).build().await.expect("a Consul");
    consul.start().await.expect("Consul starts");
    let config = ConsulConfig::at(consul.endpoint().to_string());
    let agent = discovery_consul::backend(config).expect("a backend");
    for one in all {
        agent.registry.register(one).await.expect("registered");
    }
    Some(consul)
}

pub(super) fn run(plan: &Plan, bind: &Path, report: &mut Report) {
    let ticks = clock::Ticks::now();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let all: Vec<_> = (1..=INSTANCES)
        .map(|n| {
            Registration::builder("web", format!("192.0.2.{n}"), 8080)
                .build()
                .expect("a registration")
        })
        .collect();

    let head = "$TTL 3600\n@ SOA ns root 1 3600 600 86400 1\n@ NS ns\nns A 127.0.0.1".to_owned();
    let records = all.iter().map(|one| format!("web.service A {}", one.address));
    let zone: Vec<_> = std::iter::once(head)
        .chain(records)
        .chain([String::new()])
        .collect();
    let zone = zone.join("\n");
    let bind = Dns::of(Software::Bind, bind)
        .zone("svc.test", zone)
        .build()
        .expect("a BIND");
    let (face, consul, _tasks) = runtime.block_on(async {
        bind.start().await.expect("BIND starts");
        let store = MemoryStore::new();
        let backend = store.backend();
        for one in &all {
            backend.registry.register(one).await.expect("registered");
        }
        let tasks = TaskGroup::current().expect("inside a runtime");
        let views = Resolver::new(backend, tasks.clone(), ResolverOptions::default());
        let strategy: std::sync::Arc<dyn discovery_core::pick::Strategy> = std::sync::Arc::new(RoundRobin);
        let view = views.view(&Query::all(), &strategy).expect("a view");
        let service = Service::new(view, Duration::from_secs(10));
        service.ready().await.expect("a view");
        let config = FaceConfig::at((Ipv4Addr::LOCALHOST, 0).into()).zone("svc.test");
        let face = serve(&service, config).await.expect("a face");
        let consul = consul(&all).await;
        (face, consul, (tasks, views))
    });
    if consul.is_none() {
        report.not_run(
            "dns: Consul's port",
            format!("{} is not set", Age::New.variable()),
        );
    }
    let mut servers = vec![
        ("BIND", bind.endpoint(), "web.service.svc.test"),
        ("face", face.addr(), "web.service.svc.test"),
    ];
    servers.extend(
        consul
            .as_ref()
            .map(|consul| ("Consul", consul.dns(), "web.service.consul")),
    );
    // Consul shows a service once its first check of the catalogue went through.
    for (_, server, name) in &servers {
        runtime.block_on(eventually("an answer", Duration::from_secs(20), || async {
            answers(*server, name)
        }));
    }
    let n = usize::from(INSTANCES);
    let mut cells: Vec<_> = servers
        .iter()
        .map(|(name, ..)| Cell::new(name, n, CLIENTS))
        .collect();
    for _ in 0..plan.rounds {
        for (cell, (_, server, name)) in cells.iter_mut().zip(&servers) {
            cell.samples.push(Some(load(*server, name)));
        }
    }
    let table = Table::new("dns question served", "us", "BIND", cells, ticks);
    let at = |name| (name, n, CLIENTS);
    let mut goals = vec![table.goal(
        "G21",
        "a question at the face / at BIND".to_owned(),
        2.0,
        at("face"),
        at("BIND"),
    )];
    if consul.is_some() {
        goals.push(table.goal(
            "G21",
            "a question at the face / at Consul's port".to_owned(),
            1.0,
            at("face"),
            at("Consul"),
        ));
    }
    report.goals(goals);
    report.table(table);
    runtime.block_on(async {
        face.shutdown().await.expect("the face ends");
        bind.stop().await.expect("BIND stops");
        if let Some(consul) = consul {
            consul.stop().await.expect("Consul stops");
        }
    });
}
