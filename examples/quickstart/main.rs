//! Services register, are discovered, balanced, fail and recover: the whole of it in under ten seconds.
//!
//! `cargo run --example quickstart` needs no server: it uses the embedded `memory` registry. `DISCOVERY_URI` names another
//! one. It ends with exit code 0 only if everything it tells about really happened, and leaves nothing registered.

mod registry;

use std::{collections::BTreeMap, fmt::Display, process::ExitCode, time::Duration};

use anstyle::{AnsiColor, Style};
use discovery::{
    Client, Error, ErrorKind, LeaseMode, Query, Registration, Result, Snapshot, Source,
    pick::{CallPolicy, Service, Subscription, strategy_named},
};
use registry::{Registry, Way};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, timeout},
};

const SERVICE: &str = "greeter";
const PICKS: usize = 3000;
const TTL: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> ExitCode {
    let started = Instant::now();
    match run().await {
        Ok(()) => {
            say(
                AnsiColor::Green,
                "done",
                format!("all of it happened, in {:.1?}", started.elapsed()),
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(AnsiColor::Red, "failed", format!("{error:#}"));
            if let Some(hint) = error.hint() {
                say(AnsiColor::Red, "hint", hint);
            }
            ExitCode::from(error.kind().exit_code())
        }
    }
}

async fn run() -> Result<()> {
    // One registry. The consumer reaches it by a way of its own, which can be cut.
    let registry = Registry::from_env()?;
    let (consumer, way) = registry.consumer().await?;
    say(
        AnsiColor::Blue,
        "registry",
        format!("{} ({})", consumer.info().scheme, consumer.info().address),
    );

    // Each instance is a small TCP server that registers itself, as a process of its own would.
    let mut instances = Vec::new();
    for _ in 0..3 {
        instances.push(Instance::start(&registry).await?);
    }
    say(
        AnsiColor::Blue,
        "registered",
        format!("3 instances of `{SERVICE}`"),
    );

    let greeter = consumer.balanced(&Query::service(SERVICE)?, &strategy_named("round_robin")?)?;
    let mut changes = greeter.subscribe();
    let view = until(&mut changes, "three instances", |view| view.instances.len() == 3).await?;
    for instance in &view.instances {
        say(
            AnsiColor::Blue,
            "discovered",
            format!(
                "{} at {} [{}]",
                instance.key.id,
                instance.address(),
                instance.status
            ),
        );
    }

    balance(&greeter, &instances).await?;

    let dead = instances[0].port;
    let sweeper = (consumer.capabilities().lease == LeaseMode::None).then_some(&registry);
    fail(&greeter, &mut changes, instances.remove(0), sweeper).await?;
    outage(&greeter, &mut changes, &way).await?;

    // A registry may keep showing a dead instance as critical: whoever takes its id over can withdraw it.
    sweep(&registry, dead).await?;
    for instance in instances {
        instance.client.shutdown(Duration::from_secs(5)).await?;
    }
    until(&mut changes, "an empty view", |view| view.instances.is_empty()).await?;
    let left = consumer
        .lookup(&Query::service(SERVICE)?.include_unhealthy())
        .await?;
    ensure(left.instances.is_empty(), "something stayed registered")?;
    say(
        AnsiColor::Blue,
        "withdrawn",
        "the instances left on shutdown, nothing stays registered",
    );
    consumer.shutdown(Duration::from_secs(5)).await
}

/// Picks spread evenly, and a call reaches an instance.
async fn balance(greeter: &Service, instances: &[Instance]) -> Result<()> {
    let mut reader = greeter.reader();
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    let started = Instant::now();
    for _ in 0..PICKS {
        let instance = reader.pick().ok_or_else(|| broken("a pick found nothing"))?;
        *counts.entry(instance.port).or_default() += 1;
    }
    let each = started.elapsed() / u32::try_from(PICKS).unwrap_or(1);
    for (port, count) in &counts {
        say(
            AnsiColor::Cyan,
            "picked",
            format!("{count:>5} × 127.0.0.1:{port}  {}", "▇".repeat(count / 50)),
        );
    }
    say(
        AnsiColor::Cyan,
        "picked",
        format!("{each:?} a pick, counting included (a debug build)"),
    );
    let even = counts
        .values()
        .all(|count| count.abs_diff(PICKS / instances.len()) <= 1);
    ensure(
        even && counts.len() == instances.len(),
        "the picks were not spread evenly",
    )?;

    let answer = greet(greeter).await?;
    say(
        AnsiColor::Cyan,
        "called",
        format!("an instance answered {answer:?}"),
    );
    Ok(())
}

/// Withdraws what a dead instance left, by taking its id over.
async fn sweep(registry: &Registry, dead: u16) -> Result<()> {
    let heir = registry.client()?;
    heir.register(registration(dead)?).await?;
    heir.shutdown(Duration::from_secs(5)).await
}

/// An instance dies without a word: its registration runs out, or is swept up where it never would, and the view follows.
async fn fail(
    greeter: &Service,
    changes: &mut Subscription,
    victim: Instance,
    sweeper: Option<&Registry>,
) -> Result<()> {
    let (died, port) = (Instant::now(), victim.port);
    victim.die();
    say(
        AnsiColor::Yellow,
        "killed",
        format!("127.0.0.1:{port} stopped without saying so"),
    );
    // Until its registration runs out, calls that meet it go on to the next instance.
    for _ in 0..6 {
        greet(greeter).await?;
    }
    say(
        AnsiColor::Yellow,
        "failed over",
        format!("6 of 6 calls answered, {:.1?} after its end", died.elapsed()),
    );
    if let Some(registry) = sweeper {
        sweep(registry, port).await?;
        say(
            AnsiColor::Yellow,
            "swept",
            "nothing runs out in this registry: somebody else withdrew it",
        );
    }
    let view = until(changes, "the dead instance to leave", |view| {
        view.instances.len() == 2
    })
    .await?;
    ensure(
        view.instances.iter().all(|i| i.port != port),
        "the wrong instance left the view",
    )?;
    let took = died.elapsed();
    say(
        AnsiColor::Yellow,
        "noticed",
        format!("the view lost it {took:.2?} after its end (its TTL is {TTL:?})"),
    );
    // Eureka keeps what was renewed for twice its TTL, and looks once a second.
    ensure(
        took < 2 * TTL + Duration::from_secs(3),
        "the dead instance stayed too long",
    )
}

/// The way to the registry is cut: picks go on from the last good view, marked stale, and it heals.
async fn outage(greeter: &Service, changes: &mut Subscription, way: &Way) -> Result<()> {
    way.cut().await;
    say(AnsiColor::Magenta, "cut", "the way to the registry");
    until(changes, "a stale view", |view| view.source == Source::Stale).await?;
    let (mut picks, mut last) = (0, Duration::ZERO);
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        for _ in 0..1000 {
            greeter.acquire()?;
            picks += 1;
        }
        let view = greeter.instances().await?;
        ensure(
            view.source == Source::Stale && view.age() > last,
            "a view without contact must be stale and age",
        )?;
        last = view.age();
        say(
            AnsiColor::Magenta,
            "stale",
            format!(
                "{} instances, last confirmed {last:.1?} ago, {picks} picks went on",
                view.instances.len()
            ),
        );
    }
    let healing = Instant::now();
    way.heal()?;
    let view = until(changes, "a live view", |view| view.source == Source::Live).await?;
    say(
        AnsiColor::Green,
        "healed",
        format!(
            "live again after {:.2?}, confirmed {:.0?} ago",
            healing.elapsed(),
            view.age()
        ),
    );
    ensure(
        view.instances.len() == 2 && view.age() < last,
        "the view did not come back fresh and whole",
    )
}

/// A small TCP server that says its name, and the client that registered it.
struct Instance {
    port: u16,
    client: Client,
    /// Ends when dropped.
    server: JoinSet<()>,
}

impl Instance {
    async fn start(registry: &Registry) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(io)?;
        let port = listener.local_addr().map_err(io)?.port();
        let mut server = JoinSet::new();
        server.spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let _ = connection
                    .write_all(format!("hello from {port}").as_bytes())
                    .await;
            }
        });
        let client = registry.client()?;
        client.register(registration(port)?).await?;
        Ok(Self { port, client, server })
    }

    /// Ends as a killed process does: the server is gone, the heartbeats stop, nothing is withdrawn.
    fn die(self) {
        drop((self.server, self.client));
    }
}

fn registration(port: u16) -> Result<Registration> {
    Registration::builder(SERVICE, "127.0.0.1", port)
        .tag("quickstart")
        .ttl(TTL)
        .build()
}

/// Calls one instance over TCP; the next one when that fails.
async fn greet(greeter: &Service) -> Result<String> {
    let policy = CallPolicy::default().timeout(Duration::from_secs(1));
    let call = |instance: std::sync::Arc<discovery::Instance>| async move {
        let mut connection = TcpStream::connect(instance.address()).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    greeter
        .call(&policy, call)
        .await
        .map_err(|error| broken(format!("no instance answered: {error}")))
}

/// Waits for a view that is as it should be.
async fn until(changes: &mut Subscription, what: &str, good: impl Fn(&Snapshot) -> bool) -> Result<Snapshot> {
    let wait = async {
        loop {
            let view = changes.next().await?;
            if good(&view) {
                return Ok(view);
            }
        }
    };
    timeout(Duration::from_secs(15), wait)
        .await
        .unwrap_or_else(|_| Err(broken(format!("waited in vain for {what}"))))
}

fn ensure(held: bool, otherwise: &'static str) -> Result<()> {
    if held { Ok(()) } else { Err(broken(otherwise)) }
}

fn broken(what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Unexpected, what)
}

fn io(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "cannot listen on 127.0.0.1").with_source(error)
}

fn say(color: AnsiColor, what: &str, text: impl Display) {
    let style = Style::new().fg_color(Some(color.into())).bold();
    anstream::println!("{style}{what:>12}{style:#}  {text}");
}
