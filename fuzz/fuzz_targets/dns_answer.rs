//! What a DNS server answers a look-up: read, and made into instances.

#![no_main]

libfuzzer_sys::fuzz_target!(|packet: &[u8]| discovery_dns::fuzzing::answer(packet));
