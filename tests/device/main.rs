//! `Device` on stand-ins for libcuda and cuBLASLt that work on the host's memory
//! (`support/stub_cuda.c`, `support/stub_cublaslt.c`): memory and the order of work, contexts, products,
//! faults, and that nothing is left behind. Kernels do not run here: their launchers use the real
//! runtime.
#![cfg(target_os = "linux")]

mod failures;
mod memory;
mod products;
mod stand_ins;
#[path = "../support/stubs.rs"]
mod stubs;
mod threads;

#[cfg(chtsl_cuda)]
#[test]
fn opens_for_the_kernels_of_this_build() {
    use chtsl::backend::cuda::{device::Device, runtime::Runtime};
    stand_ins::on_stand_ins(
        "opens_for_the_kernels_of_this_build",
        &[("STUB_DRIVER", "13990")],
        |stub| {
            let device = Device::open().unwrap();
            let version = env!("CHTSL_CUDA_VERSION");
            let parts = ["Stub A100", &format!("kernels CUDA {version}"), "cuBLASLt 13.3"];
            assert!(parts.iter().all(|p| device.describe().contains(p)), "{}", device.describe());
            assert_eq!([stub.live("contexts"), stub.live("streams"), stub.live("handles")], [1; 3]);
        },
    );
}
