//! The command blocks of the specification, as they stand there, on real servers.
//!
//! They name addresses of a network that is not ours, so each server and every command runs in a network of its own, where
//! 10.0.1.100 is an address of the loopback device: nothing is ever asked of another one. Blocks that say `--backend consul`
//! say the name of the other backends there. What cannot run is shown as ignored, never as passed.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "these are tests, without the harness that would say so"
)]

mod support;

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
};

use discovery_testkit::server::{
    Server,
    consul::{self, Consul},
    etcd::{self, Etcd},
    eureka::{self, Eureka},
    kube::{self, KubeApiserver},
};
use libtest_mimic::{Arguments, Failed, Trial};
use rustix::process::{Signal, geteuid};
use support::{Ran, Running, Stage, eventually};

/// Set where a case runs in its own network.
const INSIDE: &str = "SPECIFICATION_INSIDE";
/// Gives the network the specification's address, and this system the DNS server that a test starts.
const NETWORK: &str = "ip link set lo up && ip address add 10.0.1.100/32 dev lo && \
    mount --bind \"$RESOLV\" /etc/resolv.conf && exec \"$@\"";
const REGISTER: &str = "sysctl discovery register api --address 10.0.1.100 --port 8080 --tags 'api,v2.1.0,production' \
    --health-check http://10.0.1.100:8080/health";
const NODE: &str = "sysctl discovery register api --address 10.0.1.100 --port 8081 --id api-node-1";

/// A server that the commands run on.
#[derive(Clone)]
struct On {
    name: &'static str,
    backend: &'static str,
    /// Its programs, or the variable that is not set.
    programs: Result<Vec<PathBuf>, &'static str>,
}

fn all() -> Vec<On> {
    let of = |name, backend, programs: &[(Option<PathBuf>, &'static str)]| On {
        name,
        backend,
        programs: programs
            .iter()
            .map(|(path, variable)| path.clone().ok_or(*variable))
            .collect(),
    };
    let etcd = (etcd::Age::New.binary(), etcd::Age::New.variable());
    let mut all: Vec<_> = consul::Age::ALL
        .map(|age| of(age.name(), "consul", &[(age.binary(), age.variable())]))
        .into();
    all.push(of("etcd-new", "etcd", std::slice::from_ref(&etcd)));
    all.push(of(
        "eureka",
        "eureka",
        &[(eureka::SERVER.binary(), eureka::SERVER.variable())],
    ));
    let kube = (kube::APISERVER.binary(), kube::APISERVER.variable());
    all.push(of("kube-apiserver", "k8s", &[kube, etcd]));
    all
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    let trials = all().into_iter().map(|on| {
        let name = format!("{}::the_commands_run_word_for_word", on.name);
        match &on.programs {
            Err(variable) => {
                let why = format!("{name} (not run: {variable} is not set; scripts/servers gets one)");
                Trial::test(why, || Ok(())).with_ignored_flag(true)
            }
            Ok(_) if env::var_os(INSIDE).is_some() => Trial::test(name, move || {
                inside(&on);
                Ok(())
            }),
            Ok(_) => Trial::test(name.clone(), move || outside(&name)),
        }
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// Runs a case in a network of its own.
fn outside(name: &str) -> Result<(), Failed> {
    let resolv = tempfile::NamedTempFile::new()?;
    fs::write(resolv.path(), "nameserver 127.0.0.1\n")?;
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount"]);
    if !geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let done = command
        .args(["sh", "-c", NETWORK, "sh"])
        .arg(env::current_exe()?)
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .env("RESOLV", resolv.path())
        .output()
        .map_err(|error| format!("unshare: {error}; apt-get install util-linux"))?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    if done.status.success() && said.contains("1 passed") {
        return Ok(());
    }
    Err(format!("(where the network is refused, it takes root or user namespaces)\n{said}").into())
}

/// Something healthy, and ports that are open, at the specification's addresses.
fn surroundings() {
    let healthy = TcpListener::bind("10.0.1.100:8080").unwrap();
    thread::spawn(move || {
        for mut connection in healthy.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let _ = connection.read(&mut [0; 1024]);
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nhealthy";
                let _ = connection.write_all(answer.as_bytes());
            });
        }
    });
    for port in [8300, 8301, 8302] {
        let open = TcpListener::bind(("127.0.0.1", port)).unwrap();
        thread::spawn(move || open.incoming().for_each(drop));
    }
}

/// Runs every block on a server.
fn inside(on: &On) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let programs = on.programs.clone().unwrap();
    surroundings();
    let stage = Stage::new().var("TOKEN", "secret");
    let started: (Box<dyn Server>, Stage) = runtime.block_on(async {
        match on.backend {
            "consul" => {
                let server = Consul::dev(&programs[0]).build().await.unwrap();
                server.start().await.unwrap();
                let at = server.endpoint().to_string();
                let stage = stage
                    .var("CONSUL_HTTP_ADDR", &at)
                    .var("DISCOVERY_URI", format!("consul://{at}"));
                (Box::new(server) as Box<dyn Server>, stage)
            }
            "etcd" => {
                let server = Etcd::dev(&programs[0]).build().await.unwrap();
                server.start().await.unwrap();
                let at = server.endpoint().to_string();
                let stage = stage
                    .var("ETCDCTL_ENDPOINTS", &at)
                    .var("DISCOVERY_URI", format!("etcd://{at}"));
                (Box::new(server) as _, stage)
            }
            "eureka" => {
                let server = Eureka::dev(&programs[0]).build().unwrap();
                server.start().await.unwrap();
                let stage = stage
                    .var("EUREKA_SERVICE_URL", server.url())
                    .var("DISCOVERY_URI", format!("eureka://{}", server.endpoint()));
                (Box::new(server) as _, stage)
            }
            _ => {
                let server = KubeApiserver::dev(&programs[0], &programs[1])
                    .build()
                    .await
                    .unwrap();
                server.start().await.unwrap();
                let config = server.kubeconfig("admin").unwrap();
                let stage = stage
                    .var("KUBECONFIG", config.display().to_string())
                    .var("DISCOVERY_URI", "k8s://");
                (Box::new(server) as _, stage)
            }
        }
    });
    let (server, stage) = started;
    let run = Run {
        on: on.backend,
        stage,
    };
    run.everything();
    runtime.block_on(server.stop()).unwrap();
}

/// The blocks on one server.
struct Run {
    on: &'static str,
    stage: Stage,
}

impl Run {
    /// A command that has to succeed, now or when the registry has caught up.
    fn soon(&self, line: &str) -> Ran {
        let mut last = None;
        let ran = eventually(line, || {
            let ran = Ran::of(&self.stage.shell(line).output().unwrap());
            if ran.code == Some(0) {
                return Some(ran);
            }
            if last.as_ref() != Some(&ran.err) {
                eprintln!("{line}: {ran:?}");
                last = Some(ran.err);
            }
            None
        });
        eprintln!("$ {line}\n{}{}", ran.out, ran.err);
        ran
    }

    /// What `find` shows once it shows `part`, or once it shows it no longer.
    fn shows(&self, part: &str, there: bool) {
        eventually(part, || {
            let ran = Ran::of(&self.stage.shell("sysctl discovery find api").output().unwrap());
            (ran.code == Some(0) && ran.out.contains(part) == there).then_some(())
        });
    }

    fn everything(&self) {
        let values = self.on != "eureka";
        self.stage.write("config.yaml", "api:\n  request_timeout: 30s\n");
        self.soon(NODE);
        self.shows("api-node-1", true);
        self.block("01-system-control-cli-integration");

        self.soon(NODE);
        self.soon(REGISTER);
        self.shows("api-node-1", true);
        self.shows("10.0.1.100:8080", true);
        self.block("02-service-lookup");

        self.soon("sysctl discovery deregister api --service-id api-node-1");
        self.shows("api-node-1", false);
        self.soon(REGISTER);
        self.block("03-health-check-commands");

        if values {
            self.soon("sysctl discovery config set database_url postgres://db/api");
            self.soon("sysctl discovery config set feature_flags/dark on");
        }
        self.block("04-configuration-commands");
        self.soon(REGISTER);
        self.block("05-monitoring-commands");
        self.block("06-service-catalog");
        self.block("07-security-commands");

        self.soon(REGISTER);
        // Consul answers DNS itself; every other registry does through our face, on the port that systems ask.
        let face = (self.on != "consul").then(|| {
            let mut face = self
                .stage
                .start(&["agent", "--dns", "127.0.0.1:53", "--dns-zone", "consul"]);
            face.err.with("DNS at 127.0.0.1:53");
            face
        });
        self.block("08-common-issues");
        drop(face);
        self.block("09-performance-issues");
        if self.on == "consul" {
            self.a_report_masks_nothing();
        }
    }

    /// Runs every command of a block.
    fn block(&self, name: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/specification/{name}.sh"));
        let text = fs::read_to_string(path).unwrap().replace("\\\n", " ");
        let mut commands = 0;
        for line in text.lines().filter(|line| line.starts_with("sysctl ")) {
            self.command(&line.replace("--backend consul", &format!("--backend {}", self.on)));
            commands += 1;
        }
        assert!(commands >= 4, "{name}: {commands} commands");
    }

    fn command(&self, line: &str) {
        let words: Vec<_> = line.split_whitespace().skip(2).collect();
        let later = [
            "health-check",
            "health-history",
            "metrics",
            "report",
            "catalog",
            "acl",
            "analyze",
        ];
        let values = words[0] == "config";
        if later.contains(&words[0]) {
            let ran = Ran::of(&self.stage.shell(line).output().unwrap());
            assert_eq!(ran.code, Some(65), "{line}: {ran:?}");
            assert!(ran.err.contains("not in this release"), "{line}: {ran:?}");
        } else if values && self.on == "eureka" {
            let ran = Ran::of(&self.stage.shell(line).output().unwrap());
            assert_eq!(ran.code, Some(65), "{line}: {ran:?}");
        } else if line.contains("--follow") {
            let mut watch = Running::of(self.stage.shell(&format!("exec {line}")));
            watch.out.with(if values {
                "feature_flags/dark = on"
            } else {
                "appeared"
            });
            assert_eq!(watch.end(Signal::INT), Some(0), "{line}");
        } else {
            let ran = self.soon(line);
            for part in wanted(&words) {
                assert!(ran.out.contains(part), "{line}: no {part:?} in {ran:?}");
            }
            if words[0] == "register" && matches!(self.on, "etcd" | "eureka" | "k8s") {
                assert!(
                    ran.err.contains("it lives for ") && ran.err.contains("--keep-alive"),
                    "{ran:?}"
                );
            }
        }
    }

    /// A check that fails goes on to fail whatever is reported beside it.
    fn a_report_masks_nothing(&self) {
        self.soon(
            "sysctl discovery register sick --address 127.0.0.1 --port 9 --health-check tcp://127.0.0.1:9 --interval 1s",
        );
        let health = || Ran::of(&self.stage.shell("sysctl discovery health sick").output().unwrap()).out;
        eventually("the failure", || health().contains("refused").then_some(()));
        self.soon("sysctl discovery health-update sick --status passing --output fine --valid-for 1h");
        eventually("the report", || health().contains("fine").then_some(()));
        let shown = health();
        assert!(
            shown.contains("sick-127.0.0.1-9  critical") && shown.contains("reported passing"),
            "{shown}"
        );
        let failing = self.soon("sysctl discovery health-list --status failing").out;
        assert!(
            failing.contains("sick") && !failing.contains("reported"),
            "{failing}"
        );
        // It is updated, not made again beside itself.
        self.soon("sysctl discovery health-update sick --status warning --output so-so");
        eventually("the second report", || health().contains("so-so").then_some(()));
        assert_eq!(health().matches("reported").count(), 1);
        self.soon("sysctl discovery deregister sick");
    }
}

/// What a command has to print.
fn wanted(words: &[&str]) -> &'static [&'static str] {
    match words {
        ["register", ..] => &["registered api-10.0.1.100-8080 of api"],
        ["deregister", ..] => &["deregistered api-node-1 of api"],
        ["list" | "health-summary", ..] => &["api"],
        ["find", ..] => &["10.0.1.100:8080", "production"],
        ["describe", ..] => &["api-node-1", "10.0.1.100:8081"],
        ["health-update", ..] => &["reported passing for api-10.0.1.100-8080 of api"],
        ["config", "get", ..] => &["postgres://db/api\n"],
        ["config", "set", ..] => &["set api_timeout"],
        ["config", "import", ..] => &["imported 1 value"],
        ["status" | "test-connection", ..] => &["reachable"],
        ["debug", "register", ..] => &["registered", "read", "withdrawn"],
        ["health", ..] | ["debug", "health-checks", ..] => &["api-10.0.1.100-8080"],
        ["debug", "dns", ..] => &["10.0.1.100"],
        ["debug", "network", ..] => &["127.0.0.1:8300", "127.0.0.1:8301", "127.0.0.1:8302", "open"],
        _ => &[],
    }
}
