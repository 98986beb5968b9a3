//! The quickstart on a file, which needs no server.

mod support;

use libtest_mimic::Trial;

use support::{conclude, ends, run_built};

fn main() {
    conclude(vec![Trial::test("local::quickstart", || {
        let folder = tempfile::tempdir()?;
        let uri = format!("local://{}/registry.db", folder.path().display());
        ends(&run_built("quickstart", &[("DISCOVERY_URI", &uri)])?, "")
    })]);
}
