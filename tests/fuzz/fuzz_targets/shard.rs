//! A token shard, ours or llm.c's: header, hash, batches.
#![no_main]

#[path = "../../mutants/readers.rs"]
mod readers;
mod scratch;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = scratch::file("train-00000.bin", bytes);
    let _ = readers::shard(&path);
    let _ = readers::batches(&path);
});
