//! From the words of a call to a client.

use std::{env, ffi::OsString, path::PathBuf};

use discovery::{
    Client, ClientBuilder, Error, ErrorKind, Result, backends, builder_from,
    config::{Loader, default_paths, format_duration, parse_uri},
    loader, named_backends,
};

use crate::args::Global;

/// Settings in force, and the block of the backend they are for.
pub(crate) struct Chosen {
    pub(crate) loaded: Loader,
    pub(crate) backend: &'static str,
}

impl Chosen {
    /// What the flags, the environment and the files say, in this order.
    pub(crate) fn by(global: &Global) -> Result<Self> {
        let uri = env::var("DISCOVERY_URI").ok().filter(|uri| !uri.is_empty());
        let (loaded, named) = read(global)?;
        let loaded = match global.timeout {
            Some(timeout) => loaded.set("client.timeout", format_duration(timeout))?,
            None => loaded,
        };
        if let Some(backend) = &global.backend {
            let (loaded, backend) =
                loaded.servers(backend, global.endpoint.as_deref().unwrap_or_default())?;
            return Ok(Self { loaded, backend });
        }
        match (uri, &named[..]) {
            // A file given by hand goes before the environment.
            (Some(uri), []) => Self::uri(loaded, &uri),
            (Some(uri), _) if global.config.is_empty() => Self::uri(loaded, &uri),
            (_, [backend]) => Ok(Self { loaded, backend }),
            (None, []) => Err(
                Error::new(ErrorKind::ConfigInvalid, "nothing says which registry to ask").with_hint(
                    format!(
                        "give --backend ({}), set DISCOVERY_URI, or write a discovery.yaml",
                        backends().join(", ")
                    ),
                ),
            ),
            (_, several) => Err(
                Error::new(ErrorKind::ConfigInvalid, "several backends are configured")
                    .with_context("blocks", several.join(", "))
                    .with_hint("say which with --backend"),
            ),
        }
    }

    fn uri(loaded: Loader, uri: &str) -> Result<Self> {
        let parsed = parse_uri(uri)?;
        let loaded = loaded.uri(&parsed)?;
        let (loaded, backend) = loaded.servers(&parsed.scheme, "")?;
        Ok(Self { loaded, backend })
    }

    /// What a file declares, `register` and `agent` register: no other command does by the way.
    pub(crate) fn builder(&self) -> Result<ClientBuilder> {
        let builder = builder_from(&self.loaded, self.backend)?;
        Ok(builder.register_on_startup(false))
    }

    pub(crate) fn client(&self) -> Result<Client> {
        self.builder()?.build()
    }
}

/// A client as the words of the call say.
pub(crate) fn client(global: &Global) -> Result<Client> {
    Chosen::by(global)?.client()
}

/// The files and the environment, and the backends that the files name.
fn read(global: &Global) -> Result<(Loader, Vec<&'static str>)> {
    let by_hand = !global.config.is_empty();
    let files = if by_hand {
        global.config.clone()
    } else {
        let var = |name: &str| -> Option<OsString> { env::var_os(name) };
        let found: Option<PathBuf> = default_paths(var).into_iter().find(|path| path.is_file());
        found.into_iter().collect()
    };
    let loaded = files.iter().try_fold(loader(), Loader::file)?;
    let named = named_backends(&loaded);
    Ok((loaded.env(env::vars_os())?, named))
}
