//! `agent`: holds registrations for programs that cannot, serves them over DNS, and shows metrics.

mod definitions;
mod exporter;
mod holder;

use std::{io, time::Duration};

use discovery::{Client, Error, ErrorKind};
use tokio::signal::unix::{SignalKind, signal};

use self::{definitions::Definitions, exporter::Exporter, holder::Holder};
use crate::{
    args::{Agent, Global},
    ends::Ends,
    fault::Fault,
    open::Chosen,
    show,
};

/// How long withdrawing may take at the end.
const FAREWELL: Duration = Duration::from_secs(10);

pub(crate) async fn agent(global: &Global, told: Agent) -> Result<(), Fault> {
    if told.file.is_empty() && told.dns.is_none() && told.metrics.is_none() {
        return Err(Error::new(ErrorKind::InvalidInput, "there is nothing to do")
            .with_hint("give --file, --dns or --metrics")
            .into());
    }
    // Before anything is done that counts.
    let mut ends = Ends::listen()?;
    let exporter = match told.metrics {
        Some(address) => Some(Exporter::start(address).await?),
        None => None,
    };
    let wanted = Definitions::read(&told.file, &told.set)?;
    let mut hangup = signal(SignalKind::hangup())?;
    let client = Chosen::by(global)?.client(|builder| builder)?;
    let mut holder = Holder::new(client.clone());
    let served = async {
        let face = Face::start(&client, &told).await?;
        if let Some(exporter) = &exporter {
            show::note(&format!("metrics at http://{}/metrics", exporter.addr()))?;
        }
        holder.hold(wanted).await?;
        loop {
            tokio::select! {
                () = ends.asked() => break,
                _ = hangup.recv() => reload(&mut holder, &told).await?,
                done = holder.next() => done?,
            }
        }
        face.end().await;
        Ok(())
    };
    let served: Result<(), Fault> = served.await;
    holder.end().await;
    let withdrawn = client.shutdown(FAREWELL).await;
    if let Some(exporter) = exporter {
        exporter.end().await;
    }
    served?;
    withdrawn?;
    show::note("ended")?;
    Ok(())
}

/// Reads the files again. A mistake in any of them leaves everything as it is.
async fn reload(holder: &mut Holder, told: &Agent) -> io::Result<()> {
    match Definitions::read(&told.file, &told.set) {
        Ok(wanted) => holder.hold(wanted).await,
        Err(error) => {
            let hint = error
                .hint()
                .map_or_else(String::new, |hint| format!("\nhint: {hint}"));
            show::note(&format!("not reloaded, all stays as it is: {error:#}{hint}"))
        }
    }
}

/// The DNS face, where it was asked for.
struct Face {
    #[cfg(feature = "dns")]
    face: Option<discovery::dns::Face>,
}

impl Face {
    #[cfg(feature = "dns")]
    async fn start(client: &Client, told: &Agent) -> Result<Self, Fault> {
        use discovery::{
            Query,
            dns::{FaceConfig, serve},
        };
        let Some(address) = told.dns else {
            return Ok(Self { face: None });
        };
        let everything = client.query(&Query::all())?;
        let face = serve(&everything, FaceConfig::at(address).zone(&told.dns_zone)).await?;
        show::note(&format!(
            "DNS at {} for NAME.service.{}",
            face.addr(),
            told.dns_zone
        ))?;
        Ok(Self { face: Some(face) })
    }

    #[cfg(not(feature = "dns"))]
    async fn start(_: &Client, told: &Agent) -> Result<Self, Fault> {
        match told.dns {
            None => Ok(Self {}),
            Some(_) => Err(Error::new(ErrorKind::Unsupported, "built without feature `dns`")
                .with_hint("rebuild with `--features dns`")
                .into()),
        }
    }

    async fn end(self) {
        #[cfg(feature = "dns")]
        if let Some(face) = self.face {
            // It is over either way.
            let _ = face.shutdown().await;
        }
    }
}
