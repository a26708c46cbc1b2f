//! Rust declarations of `include/launchers.h`, for the feature `bindgen`. Written into cargo's folder for
//! results; `tests/bindings.rs` compares them with the committed file or replaces it.

use std::path::Path;

/// Generates into `out`/bindings.rs.
pub fn generate(root: &Path, out: &Path) {
    let include = root.join("include");
    let bindings = bindgen::Builder::default()
        .header(include.join("launchers.h").display().to_string())
        .clang_arg(format!("-I{}", include.display()))
        // The headers' comments are ordinary ones; they become documentation.
        .clang_arg("-fparse-all-comments")
        .allowlist_type("chtsl_.*")
        .allowlist_var("CHTSL_.*")
        // Launchers are reached through the table, on the device and emulated.
        .allowlist_function("chtsl_launchers")
        .prepend_enum_name(false)
        .use_core()
        .merge_extern_blocks(true)
        .formatter(bindgen::Formatter::Prettyplease)
        .disable_header_comment()
        .raw_line("// Made by bindgen from include/launchers.h; do not edit. To make it again:")
        .raw_line("// CHTSL_BLESS=1 cargo test --features bindgen --test bindings")
        .generate()
        .expect("include/launchers.h can be read");
    let file = out.join("bindings.rs");
    bindings.write_to_file(&file).expect("OUT_DIR is writable");
    println!("cargo::rustc-env=CHTSL_BINDINGS={}", file.display());
}
