//! The conformance suite on the backends of this workspace.

use std::{process::ExitCode, sync::Arc};

use discovery_testkit::suite::{self, MemoryProvider, Provider};

fn main() -> ExitCode {
    let providers: [Arc<dyn Provider>; 1] = [Arc::new(MemoryProvider::bare())];
    suite::run(providers)
}
