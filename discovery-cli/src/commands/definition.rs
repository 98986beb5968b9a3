//! Service definitions in files, filled in from flags, the environment and the host.

use std::path::Path;

use discovery::{
    Registration, Result,
    config::{ServiceDefinition, Variables},
    loader, registration_from,
};

use crate::show;

/// What a file says is to be registered; what of it this release does not act on is said.
pub(crate) fn registration(file: &Path, set: &[(String, String)]) -> Result<Registration> {
    let loaded = loader().file(file)?;
    let set = set.iter();
    let variables = set.fold(Variables::default(), |variables, (name, value)| {
        variables.with(name, value)
    });
    let registration = registration_from(&loaded, &variables)?;
    let definition: ServiceDefinition = loaded.block("service_definition")?;
    if definition.connect.is_some() {
        // Nobody may be there to read it.
        let _ = show::note(&format!(
            "{}: loaded, but not acted on in this release: service_definition.connect",
            file.display()
        ));
    }
    Ok(registration)
}
