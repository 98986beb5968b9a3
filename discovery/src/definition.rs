//! From a `service_definition:` block to a registration.

use std::{
    env,
    net::{Ipv4Addr, UdpSocket},
};

use discovery_core::{
    Registration, Result,
    config::{Loader, ServiceDefinition, Variables},
};

/// The block's name.
pub(crate) const DEFINITION: &str = "service_definition";

/// What the `service_definition:` block of `loaded` has registered.
///
/// `{{ .name }}` in its texts is what `variables` say, else what the environment does (`{{ .version }}` is `VERSION`), else
/// what the host does: `instance_id` and `hostname` are its name, `host_ip` is the address it would use to speak to another
/// one.
///
/// # Errors
/// `ConfigInvalid` with the place of a name that nothing gives a value, `InvalidInput` for what makes no registration.
pub fn registration_from(loaded: &Loader, variables: &Variables) -> Result<Registration> {
    let filled = loaded
        .clone()
        .fill(DEFINITION, |name| value_of(name, variables))?;
    let definition: ServiceDefinition = filled.block(DEFINITION)?;
    let registration = definition.registration();
    registration.map_err(|error| error.with_context("block", DEFINITION))
}

fn value_of(name: &str, variables: &Variables) -> Option<String> {
    let given = variables.get(name).map(str::to_owned);
    given
        .or_else(|| {
            env::var(name.to_uppercase())
                .ok()
                .filter(|value| !value.is_empty())
        })
        .or_else(|| match name {
            "instance_id" | "hostname" => Some(hostname()),
            "host_ip" => host_ip(),
            _ => None,
        })
}

fn hostname() -> String {
    let names = rustix::system::uname();
    names.nodename().to_string_lossy().into_owned()
}

/// The address of the default route. Nothing is sent: connecting a datagram socket only chooses a route.
fn host_ip() -> Option<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // An address kept for documentation (RFC 5737), which leads wherever the default route does.
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}
