//! A safetensors file: every tensor as every type, links where there are such.
#![no_main]

#[path = "../../mutants/readers.rs"]
mod readers;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = readers::safetensors(bytes.to_vec());
});
