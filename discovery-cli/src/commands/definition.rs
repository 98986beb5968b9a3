//! Service definitions in files, filled in from flags, the environment and the host.

use std::{
    env,
    net::{Ipv4Addr, UdpSocket},
    path::Path,
};

use discovery::{
    Registration, Result,
    config::{ServiceDefinition, Variables},
    loader,
};

use crate::show;

/// What a file says is to be registered; what of it this release does not act on is said.
pub(crate) fn registration(file: &Path, set: &[(String, String)]) -> Result<Registration> {
    let loaded = loader().file(file)?;
    let definition: ServiceDefinition = loaded.block("service_definition")?;
    let registration = definition.registration(&variables(&definition, set)?);
    let registration =
        registration.map_err(|error| error.with_context("file", file.display().to_string()))?;
    if definition.connect.is_some() {
        // Nobody may be there to read it.
        let _ = show::note(&format!(
            "{}: loaded, but not acted on in this release: service_definition.connect",
            file.display()
        ));
    }
    Ok(registration)
}

/// What the host says, over it the environment, over it the flags.
fn variables(definition: &ServiceDefinition, set: &[(String, String)]) -> Result<Variables> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut variables = Variables::new([("instance_id", host.clone()), ("hostname", host)]);
    if let Some(ip) = host_ip() {
        variables = variables.with("host_ip", ip);
    }
    for name in definition.variables()? {
        if let Ok(value) = env::var(name.to_uppercase()) {
            variables = variables.with(name, value);
        }
    }
    let set = set.iter();
    Ok(set.fold(variables, |variables, (name, value)| variables.with(name, value)))
}

/// The address this host would use to speak to another one. Nothing is sent: connecting a datagram socket only chooses
/// a route.
fn host_ip() -> Option<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // An address kept for documentation (RFC 5737), which leads wherever the default route does.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}
