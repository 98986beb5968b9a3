//! What a stranger asks the DNS face.

#![no_main]

libfuzzer_sys::fuzz_target!(|packet: &[u8]| discovery_dns::fuzzing::question(packet));
