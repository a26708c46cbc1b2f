//! The manifests of a checkpoint and of a dataset, as they are and with checksums that fit.
#![no_main]

#[path = "../../mutants/readers.rs"]
mod readers;
mod scratch;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for fix in [false, true] {
        let path = scratch::file("manifest.json", bytes);
        let _ = readers::checkpoint_manifest(path.parent().expect("a folder"), fix);
        let path = scratch::file("dataset.json", bytes);
        let _ = readers::dataset_manifest(path.parent().expect("a folder"), fix);
    }
});
