//! What a DNS server answers an update.

#![no_main]

libfuzzer_sys::fuzz_target!(|packet: &[u8]| discovery_dns::fuzzing::update(packet));
