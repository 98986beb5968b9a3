//! From the words of a call to a client.

use std::{env, ffi::OsString, path::PathBuf};

use discovery::{
    Client, ClientBuilder, Error, ErrorKind, Result, backends, builder_from,
    config::{Loader, default_paths, format_duration, parse_uri},
    loader, named_backends,
};

use crate::{args::Global, fault::Fault, show};

/// What is asked where nothing says otherwise.
const DEFAULT: &str = "local";

/// Settings in force, and the block of the backend they are for.
pub(crate) struct Chosen {
    pub(crate) loaded: Loader,
    pub(crate) backend: &'static str,
    /// Nobody chose it.
    by_default: bool,
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
            return Self::named(loaded, backend, global.endpoint.as_deref().unwrap_or_default());
        }
        match (uri, &named[..]) {
            // A file given by hand goes before the environment.
            (Some(uri), []) => Self::uri(loaded, &uri),
            (Some(uri), _) if global.config.is_empty() => Self::uri(loaded, &uri),
            (_, [backend]) => Ok(Self {
                loaded,
                backend,
                by_default: false,
            }),
            (None, []) if backends().contains(&DEFAULT) => {
                let mut chosen = Self::named(loaded, DEFAULT, "")?;
                chosen.by_default = true;
                Ok(chosen)
            }
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

    fn named(loaded: Loader, backend: &str, servers: &str) -> Result<Self> {
        let (loaded, backend) = loaded.servers(backend, servers)?;
        Ok(Self {
            loaded,
            backend,
            by_default: false,
        })
    }

    fn uri(loaded: Loader, uri: &str) -> Result<Self> {
        let parsed = parse_uri(uri)?;
        Self::named(loaded.uri(&parsed)?, &parsed.scheme, "")
    }

    /// Sets a field, such as `local.lifetime`.
    pub(crate) fn set(mut self, path: &str, value: impl Into<serde_json::Value>) -> Result<Self> {
        self.loaded = self.loaded.set(path, value)?;
        Ok(self)
    }

    /// A client, made further by `build`; a registry that nobody chose is named to whoever sits there.
    pub(crate) fn client(&self, build: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Result<Client, Fault> {
        // What a file declares, `register` and `agent` register: no other command does by the way.
        let builder = builder_from(&self.loaded, self.backend)?.register_on_startup(false);
        let client = build(builder).build()?;
        if self.by_default {
            let info = client.info();
            show::note(&format!(
                "no registry is configured: this is `{}`, the file {}",
                info.scheme, info.address
            ))?;
        }
        Ok(client)
    }
}

/// A client as the words of the call say, for one question.
pub(crate) fn client(global: &Global) -> Result<Client, Fault> {
    Chosen::by(global)?.client(ClientBuilder::without_cache)
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
