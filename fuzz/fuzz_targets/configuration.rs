//! A configuration file: read, checked, and told of.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(loaded) = discovery::loader().yaml("fuzz.yaml", text) {
        for backend in discovery::backends() {
            drop(discovery::builder_from(&loaded, backend));
        }
        drop(loaded.explain());
    }
});
