//! Records what was built. This version has no CUDA backend, so there is nothing to compile here; the
//! search for nvcc comes with the kernels.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = std::env::var("TARGET").unwrap_or_default();
    println!("cargo:rustc-env=CHTSL_BUILD=CPU build for {target}");
}
