//! The emulator in a shared library finds the same mistakes: `__shared__` variables are then thread-locals of that
//! library, and symbols of the program must not stand in for its own.

use crate::mutation::{link, run_tests};

#[test]
fn a_library_stands_in_for_what_is_linked() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libsound.so");
    link(folder.path(), &library, None).unwrap();
    let tests = std::env::current_exe().unwrap();
    for module in ["faults::", "sound::", "host::"] {
        let (passed, output) = run_tests(&tests, module, &library);
        assert!(passed && !output.contains("ok. 0 passed"), "{module}\n{output}");
    }
}

#[test]
fn a_library_that_is_missing_is_named() {
    let tests = std::env::current_exe().unwrap();
    let missing = tempfile::tempdir().unwrap().path().join("none.so");
    std::fs::create_dir_all(missing.parent().unwrap()).unwrap();
    let (passed, output) = run_tests(&tests, "sound::sound_kernels_pass", &missing);
    assert!(!passed && output.contains("CHTSL_EMULATION_LIBRARY="), "{output}");
}
