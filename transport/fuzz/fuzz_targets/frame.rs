//! [`arw_transport_fuzz::frame`] under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| arw_transport_fuzz::frame::feed(bytes));
