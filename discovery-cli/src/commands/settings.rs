//! `config`.

use discovery::Result;

use crate::{
    args::{Config, Global},
    fault::Fault,
    open::Chosen,
    show,
};

pub(super) fn settings(global: &Global, told: &Config) -> Result<(), Fault> {
    match told {
        Config::Explain => {
            let chosen = Chosen::by(global)?;
            Ok(show::settings(global.format, &chosen.loaded.explain())?)
        }
    }
}
