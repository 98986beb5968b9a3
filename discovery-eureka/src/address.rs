//! Where servers are: every way to write it.

use discovery_core::{Result, config::Secret};
use url::Url;

use crate::config::{EurekaConfig, ServiceUrl, invalid};

/// One server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Where Eureka lies, with a slash at the end and without user and password.
    pub(crate) base: Url,
    /// The user and password in its URL.
    pub(crate) basic: Option<(String, Secret)>,
    /// Whether it is in the zone of this program.
    pub(crate) near: bool,
}

impl Address {
    /// `host:port`, for people.
    pub(crate) fn display(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        format!("{host}:{}", self.base.port_or_known_default().unwrap_or_default())
    }
}

/// Every server there is, each once.
pub(crate) fn servers(config: &EurekaConfig) -> Result<Vec<Address>> {
    let server = &config.server;
    let mut all: Vec<Address> = Vec::new();
    let mut add = |url: &ServiceUrl, near: bool| {
        // A list in one string, as other clients write it.
        for part in url.expose().split(',').filter(|part| !part.trim().is_empty()) {
            let address = address(config, part.trim(), near)?;
            match all.iter_mut().find(|known| known.base == address.base) {
                Some(known) => known.near |= near,
                None => all.push(address),
            }
        }
        Ok::<_, discovery_core::Error>(())
    };
    for (zone, urls) in &server.zones {
        let near = server.zone.as_ref() == Some(zone);
        urls.iter().try_for_each(|url| add(url, near))?;
    }
    server.urls.iter().try_for_each(|url| add(url, false))?;
    if all.is_empty() {
        all.push(address(config, "127.0.0.1:8761", false)?);
    }
    Ok(all)
}

fn address(config: &EurekaConfig, text: &str, near: bool) -> Result<Address> {
    // The text may hold a password: no message repeats it.
    let bad = |fault: &str| {
        Err(invalid("server.urls", fault)
            .with_hint("write `host:port`, `http://host:port/eureka/` or `https://host:port/eureka/`"))
    };
    let tls = config.tls.enabled;
    let url = match text.split_once("://") {
        None if tls.unwrap_or(config.tls.is_enabled()) => format!("https://{text}"),
        None => format!("http://{text}"),
        Some(("http", _)) if tls == Some(true) => return bad("`http://` although `tls.enabled` is true"),
        Some(("https", _)) if tls == Some(false) => return bad("`https://` although `tls.enabled` is false"),
        Some(("http" | "https", _)) => text.to_owned(),
        Some(_) => return bad("an unknown scheme"),
    };
    let Ok(mut base) = Url::parse(&url) else {
        return bad("not an address");
    };
    if base.host_str().is_none_or(str::is_empty) || base.query().is_some() || base.fragment().is_some() {
        return bad("not an address");
    }
    let decoded = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8_lossy()
            .into_owned()
    };
    let basic = (!base.username().is_empty()).then(|| {
        let password = decoded(base.password().unwrap_or_default());
        (decoded(base.username()), Secret::from(password))
    });
    if base.set_username("").is_err() || base.set_password(None).is_err() {
        return bad("not an address");
    }
    // U-34
    let path = match base.path() {
        "" | "/" => config.server.path.as_str(),
        path => path,
    };
    let path = format!("/{}/", path.trim_matches('/')).replace("//", "/");
    base.set_path(&path);
    Ok(Address { base, basic, near })
}
