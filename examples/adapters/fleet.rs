//! What the examples of adapters share: servers on loopback of which one is killed while calls go to all of them.

use std::{collections::BTreeMap, error::Error, fmt::Display, net::TcpListener, time::Duration};

use discovery::{
    Client, Registration,
    memory::MemoryStore,
    pick::{Balancing, Outlier},
};
use tokio::{runtime::Runtime, sync::mpsc, task::JoinSet};

const SERVERS: usize = 3;
/// As many as there may be retries at once in any case: more could meet the dead server together and use the budget up.
const CALLERS: usize = 3;
const CALLS: usize = 500;

pub(crate) type Done = Result<(), Box<dyn Error>>;

/// Servers, each on a runtime of its own, so that one can go as a killed process does: at once, with all its connections.
pub(crate) struct Fleet {
    pub(crate) client: Client,
    servers: Vec<(u16, Runtime)>,
}

impl Fleet {
    /// Starts servers of `api`, registers them, and waits until the view shows them.
    pub(crate) async fn start<F>(serve: impl Fn(tokio::net::TcpListener) -> F) -> Result<Self, Box<dyn Error>>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let client = Client::builder(MemoryStore::new().backend())
            .balancing(Balancing::default().outlier(Outlier::default()))
            .build()?;
        let mut servers = Vec::new();
        for _ in 0..SERVERS {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            listener.set_nonblocking(true)?;
            let port = listener.local_addr()?.port();
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()?;
            let listener = {
                let _inside = runtime.enter();
                tokio::net::TcpListener::from_std(listener)?
            };
            runtime.spawn(serve(listener));
            servers.push((port, runtime));
            client
                .register(Registration::builder("api", "127.0.0.1", port).build()?)
                .await?;
        }
        let mut changes = client.service("api")?.subscribe();
        while changes.next().await?.instances.len() < SERVERS {}
        Ok(Self { client, servers })
    }

    /// Calls and calls, and kills a server after a third of it. Fails if any call did.
    pub(crate) async fn survive<C, F, E>(mut self, call: C) -> Done
    where
        C: Fn() -> F + Clone + Send + 'static,
        F: Future<Output = Result<u16, E>> + Send,
        E: Display,
    {
        let (answers, mut answered) = mpsc::channel(CALLERS);
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (call, answers) = (call.clone(), answers.clone());
            callers.spawn(async move {
                for _ in 0..CALLS {
                    let answer = call().await.map_err(|error| error.to_string());
                    if answers.send(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
        drop(answers);
        let (mut seen, mut failed, mut by_port) = (0, 0, BTreeMap::new());
        while let Some(answer) = answered.recv().await {
            seen += 1;
            match answer {
                Ok(port) => *by_port.entry(port).or_insert(0) += 1,
                Err(error) => {
                    failed += 1;
                    println!("call {seen} failed: {error}");
                }
            }
            if seen == CALLERS * CALLS / 3
                && let Some((port, server)) = self.servers.pop()
            {
                server.shutdown_background();
                println!("after {seen} calls the server on {port} is killed");
            }
        }
        for (_, server) in self.servers {
            server.shutdown_background();
        }
        println!("{seen} calls, {failed} failed; answered by port: {by_port:?}");
        for one in self.client.explain("api").await? {
            println!(
                "{}: {}, {} ok, {} failed",
                one.instance.address(),
                one.verdict,
                one.succeeded,
                one.failed
            );
        }
        self.client.shutdown(Duration::from_secs(5)).await?;
        if failed > 0 {
            return Err(format!("{failed} of {seen} calls failed").into());
        }
        Ok(())
    }
}
