//! DNS both ways: an embedded registry is served over DNS, and found by a client that knows nothing but DNS.
//!
//! `cargo run --example dns --features dns`; needs no server. `dig` sees it too, while it runs.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it shows what it does")]

use std::process::ExitCode;

#[cfg(feature = "dns")]
#[tokio::main]
async fn main() -> ExitCode {
    match example::show().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(error.kind().exit_code())
        }
    }
}

#[cfg(not(feature = "dns"))]
fn main() -> ExitCode {
    eprintln!("run it with: cargo run --example dns --features dns");
    ExitCode::from(discovery::ErrorKind::Unsupported.exit_code())
}

#[cfg(feature = "dns")]
mod example {
    use std::{net::Ipv4Addr, time::Duration};

    use discovery::{
        Client, Query, Registration, Result,
        dns::{FaceConfig, serve},
    };

    const DEADLINE: Duration = Duration::from_secs(5);

    pub(crate) async fn show() -> Result<()> {
        // Any registry: Consul, etcd, … Here the embedded one.
        let client = Client::from_uri("memory://")?;
        for port in [8081, 8082] {
            let registration = Registration::builder("api", "127.0.0.1", port)
                .tag("v2")
                .meta("version", "2.0.1")
                .build()?;
            client.register(registration).await?;
        }

        // One watch of everything answers DNS for `<service>.service.discovery`.
        let everything = client.query(&Query::all())?;
        everything.ready().await?;
        let face = serve(&everything, FaceConfig::at((Ipv4Addr::LOCALHOST, 0).into())).await?;
        let port = face.addr().port();
        println!("try: dig @127.0.0.1 -p {port} api.service.discovery SRV");

        // Somebody else, who speaks DNS only.
        let resolver = Client::from_uri(&format!("dns://127.0.0.1:{port}"))?;
        for name in ["api.service.discovery", "v2.api.service.discovery"] {
            let api = resolver.service(name)?;
            let mut found = api.subscribe();
            let view = loop {
                let view = found.next().await?;
                if view.instances.len() == 2 {
                    break view;
                }
            };
            for instance in &view.instances {
                println!("{name}: {} ({})", instance.address(), view.source);
            }
            println!("{name}: picked {}", api.acquire()?.instance().address());
        }

        resolver.shutdown(DEADLINE).await?;
        face.shutdown().await?;
        client.shutdown(DEADLINE).await
    }
}
