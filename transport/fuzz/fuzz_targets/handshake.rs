//! [`arw_transport_fuzz::handshake`] under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| arw_transport_fuzz::handshake::feed(bytes));
