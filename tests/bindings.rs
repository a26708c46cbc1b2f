//! The committed declarations of the kernels are those of the headers. Runs with the feature `bindgen`,
//! which needs libclang:
//!
//! ```text
//! cargo test --features bindgen --test bindings
//! CHTSL_BLESS=1 cargo test --features bindgen --test bindings    # replaces the committed file
//! ```
#![cfg(feature = "bindgen")]

use std::path::Path;

#[test]
fn committed_bindings_are_those_of_the_headers() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/backend/cuda/bindings.rs");
    let made = std::fs::read_to_string(env!("CHTSL_BINDINGS")).unwrap();
    if std::env::var_os("CHTSL_BLESS").is_some() {
        std::fs::write(&committed, &made).unwrap();
    }
    let found = std::fs::read_to_string(&committed).unwrap();
    let first = found.lines().zip(made.lines()).enumerate().find(|(_, (a, b))| a != b);
    assert!(
        found == made,
        "{} is not what bindgen makes of include/launchers.h (first difference: {first:?}); run \
         CHTSL_BLESS=1 cargo test --features bindgen --test bindings",
        committed.display()
    );
}
