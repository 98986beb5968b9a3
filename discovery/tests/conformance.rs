//! The conformance suite on the backends of this workspace.

use std::{process::ExitCode, sync::Arc};

use discovery_testkit::suite::{self, MemoryProvider, Provider};

fn main() -> ExitCode {
    let providers: [Arc<dyn Provider>; 2] = [
        Arc::new(MemoryProvider::bare()),
        Arc::new(MemoryProvider::chaotic()),
    ];
    suite::run(providers)
}
