//! Faults of the device and of the library: one sentence each, and nothing is left.

use std::ffi::c_void;

use chtsl::backend::cuda::device::Device;
use chtsl::backend::cuda::runtime::{Element, Gemm, GemmOperand, Runtime};
use chtsl::error::Result;

use crate::stand_ins::{Piece, on_stand_ins, open, sentence};

/// The calls that can tell of a fault.
fn call(name: &str, device: &Device, memory: *mut c_void) -> Result<()> {
    let second = memory.wrapping_byte_add(32);
    let mut room = [0; 64];
    // SAFETY: 64 bytes of memory.
    unsafe {
        match name {
            "synchronize" => device.synchronize(),
            "upload" => device.upload(memory, &room),
            "download" => device.download(&mut room, memory),
            "copy" => device.copy(memory, second, 32),
            "clear" => device.clear(memory, 64),
            "allocate" => device.allocate(64).map(|more| device.free(more)),
            "time" => device.time(&mut || ()).map(|_| ()),
            "gemm" => {
                let element = Element::F32;
                let a = GemmOperand { data: memory, element, stride: 2, transposed: false };
                let c = GemmOperand { data: second, ..a };
                device.gemm(&Gemm { m: 2, n: 2, k: 2, a, b: a, c, alpha: 1.0, beta: 0.0 })
            }
            other => panic!("{other}"),
        }
    }
}

const CALLS: [&str; 8] =
    ["synchronize", "upload", "download", "copy", "clear", "allocate", "time", "gemm"];

#[test]
fn a_fault_stays_and_is_told_by_whatever_comes_next() {
    on_stand_ins("failures::a_fault_stays_and_is_told_by_whatever_comes_next", &[], |stub| {
        let parts = [
            "error 700 (CUDA_ERROR_ILLEGAL_ADDRESS, an illegal memory access was encountered)",
            "the driver supports CUDA 13.0 and the kernels were built with CUDA 13.0",
            "a kernel went wrong and the process has lost the device",
        ];
        for noticed in [false, true] {
            for first in CALLS {
                let device = open().unwrap();
                let memory = Piece::holding(&device, &[0; 64]);
                // Once before, so that there is a plan, or not.
                if noticed {
                    for name in CALLS {
                        call(name, &device, memory.at).unwrap();
                    }
                }
                stub.launch(&device, 700, noticed);
                let told = call(first, &device, memory.at);
                // What only puts work on the stream may come before the device gets to the fault.
                let waits = ["synchronize", "download", "time"].contains(&first);
                if noticed || waits || told.is_err() {
                    sentence(told, &parts);
                }
                sentence(device.synchronize(), &parts);
                for name in CALLS {
                    let text = sentence(call(name, &device, memory.at), &parts);
                    assert!(text.starts_with("cu"), "{name}: {text}");
                }
                drop(memory);
                drop(device);
                assert_eq!(stub.left(), 0, "{first}");
                stub.start_again();
            }
        }
    });
}

#[test]
fn failures_of_the_library_are_told() {
    on_stand_ins("failures::failures_of_the_library_are_told", &[], |stub| {
        let update = "update cuBLASLt and name its folder with CHTSL_CUDA_LIB, or use --device cpu";
        for (code, name) in
            [(1, "CUBLAS_STATUS_NOT_INITIALIZED"), (8, "CUBLAS_STATUS_ARCH_MISMATCH")]
        {
            stub.fail("cublasLtCreate", 1, code);
            sentence(open(), &[&format!("cuBLASLt does not start: status {code} ({name}): ")]);
            assert_eq!(stub.left(), 0);
        }
        let device = open().unwrap();
        let memory = Piece::holding(&device, &[0; 64]);
        let product = |function: &str, code: i32, parts: &[&str]| {
            stub.fail(function, 1, code);
            sentence(call("gemm", &device, memory.at), parts);
            assert!(stub.failed(), "{function}");
        };
        let heuristic = "cublasLtMatmulAlgoGetHeuristic";
        let none =
            "cuBLASLt has no algorithm for 2x2x2 of F32: status 15 (CUBLAS_STATUS_NOT_SUPPORTED)";
        product(heuristic, 15, &[none, update]);
        // No status, and no algorithm either; one that carries its own status.
        product(heuristic, -1, &[none, update]);
        product(heuristic, -2, &[none, update]);
        let unknown = "cuBLASLt cannot set up a product for 2x2x2 of F32: status 4242 (unknown)";
        product(heuristic, 4242, &[unknown, update]);
        let inside = "cuBLASLt cannot set up a product for 2x2x2 of F32: status 14 (CUBLAS_STATUS_INTERNAL_ERROR)";
        product("cublasLtMatmulDescCreate", 14, &[inside]);
        let failed = "cuBLASLt fails in a product for 2x2x2 of F32: status ";
        product("cublasLtMatmul", 13, &[failed, "13 (CUBLAS_STATUS_EXECUTION_FAILED)", "dmesg"]);
        product("cublasLtMatmul", 4242, &[failed, "4242 (unknown)", update]);
        // None of them stays.
        call("gemm", &device, memory.at).unwrap();
        device.synchronize().unwrap();
    });
}

/// Whatever fails, at whichever call: an error, and afterwards nothing is left.
#[test]
fn nothing_is_left_after_a_failure() {
    on_stand_ins("failures::nothing_is_left_after_a_failure", &[], |stub| {
        for (name, times) in [("cuStreamCreate", 1), ("cublasLtCreate", 1), ("cuMemAlloc_v2", 1)] {
            for nth in 1..=times {
                stub.fail(name, nth, 14);
                assert!(open().is_err() && stub.failed(), "{name} {nth}");
                assert_eq!(stub.left(), 0, "{name} {nth}");
            }
        }
        for (of, name, times) in [
            ("gemm", "cublasLtMatmulDescCreate", 1),
            ("gemm", "cublasLtMatmulDescSetAttribute", 2),
            ("gemm", "cublasLtMatrixLayoutCreate", 3),
            ("gemm", "cublasLtMatmulPreferenceCreate", 1),
            ("gemm", "cublasLtMatmulPreferenceSetAttribute", 6),
            ("gemm", "cublasLtMatmulAlgoGetHeuristic", 1),
            ("gemm", "cublasLtMatmul", 1),
            ("time", "cuEventCreate", 2),
            ("time", "cuEventRecord", 2),
            ("time", "cuStreamSynchronize", 1),
            ("time", "cuEventElapsedTime", 1),
            ("upload", "cuMemcpyHtoDAsync_v2", 1),
            ("download", "cuMemcpyDtoHAsync_v2", 1),
            ("download", "cuStreamSynchronize", 1),
            ("copy", "cuMemcpyDtoDAsync_v2", 1),
            ("clear", "cuMemsetD8Async", 1),
            ("allocate", "cuMemAlloc_v2", 1),
        ] {
            for nth in 1..=times {
                let device = open().unwrap();
                let memory = Piece::holding(&device, &[0; 64]);
                stub.fail(name, nth, 14);
                sentence(call(of, &device, memory.at), &[" 14 ("]);
                assert!(stub.failed(), "{name} {nth}");
                assert_eq!(stub.live("events"), 0, "{name} {nth}");
                // Not a fault of the device's: the same call succeeds.
                call(of, &device, memory.at).unwrap();
                drop(memory);
                drop(device);
                assert_eq!(stub.left(), 0, "{name} {nth}");
            }
        }
    });
}
