//! The dense library: entry points by name, status codes in words.

use std::ffi::{c_int, c_void};

use cudarc::cublaslt::sys::{
    cublasComputeType_t, cublasLtMatmulAlgo_t, cublasLtMatmulDescAttributes_t,
    cublasLtMatmulPreferenceAttributes_t, cudaDataType,
};

use super::library::entry_points;

/// cublasLtMatmulHeuristicResult_t, with its status as a number.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct HeuristicResult {
    pub algorithm: cublasLtMatmulAlgo_t,
    pub workspace_bytes: usize,
    pub status: c_int,
    pub waves: f32,
    pub reserved: [c_int; 4],
}

entry_points! {
    /// Functions of cublasLt.h. Handles and descriptors are untyped pointers.
    LibCublasLt:
    cublasLtGetVersion() -> usize;
    cublasLtGetCudartVersion() -> usize;
    cublasLtCreate(*mut *mut c_void) -> c_int;
    cublasLtDestroy(*mut c_void) -> c_int;
    cublasLtMatmulDescCreate(*mut *mut c_void, cublasComputeType_t, cudaDataType) -> c_int;
    cublasLtMatmulDescSetAttribute(
        *mut c_void, cublasLtMatmulDescAttributes_t, *const c_void, usize
    ) -> c_int;
    cublasLtMatmulDescDestroy(*mut c_void) -> c_int;
    cublasLtMatrixLayoutCreate(*mut *mut c_void, cudaDataType, u64, u64, i64) -> c_int;
    cublasLtMatrixLayoutDestroy(*mut c_void) -> c_int;
    cublasLtMatmulPreferenceCreate(*mut *mut c_void) -> c_int;
    cublasLtMatmulPreferenceSetAttribute(
        *mut c_void, cublasLtMatmulPreferenceAttributes_t, *const c_void, usize
    ) -> c_int;
    cublasLtMatmulPreferenceDestroy(*mut c_void) -> c_int;
    // Handle, description, layouts of A, B, C and D, preference, room for results, results, their number.
    cublasLtMatmulAlgoGetHeuristic(
        *mut c_void, *mut c_void, *mut c_void, *mut c_void, *mut c_void, *mut c_void, *mut c_void,
        c_int, *mut HeuristicResult, *mut c_int
    ) -> c_int;
    // Handle, description, alpha, A, B, beta, C and D (each with its layout), algorithm, workspace, its
    // bytes, stream.
    cublasLtMatmul(
        *mut c_void, *mut c_void, *const c_void, *const c_void, *mut c_void, *const c_void, *mut c_void,
        *const c_void, *const c_void, *mut c_void, *mut c_void, *mut c_void,
        *const cublasLtMatmulAlgo_t, *mut c_void, usize, *mut c_void
    ) -> c_int;
}

/// CUBLAS_STATUS_NOT_SUPPORTED.
pub const NOT_SUPPORTED: c_int = 15;

/// A status: what it is, and what to do about it.
pub fn fault(status: c_int) -> (String, &'static str) {
    let update = "update cuBLASLt and name its folder with CHTSL_CUDA_LIB, or use --device cpu";
    let (name, advice) = match status {
        1 => (
            "CUBLAS_STATUS_NOT_INITIALIZED",
            "see nvidia-smi, update the driver, or use --device cpu",
        ),
        3 => (
            "CUBLAS_STATUS_ALLOC_FAILED",
            "free memory of the device and the host, or use --device cpu",
        ),
        7 => ("CUBLAS_STATUS_INVALID_VALUE", update),
        8 => ("CUBLAS_STATUS_ARCH_MISMATCH", update),
        11 => ("CUBLAS_STATUS_MAPPING_ERROR", "see nvidia-smi and dmesg, or use --device cpu"),
        13 => ("CUBLAS_STATUS_EXECUTION_FAILED", "see nvidia-smi and dmesg, or use --device cpu"),
        14 => ("CUBLAS_STATUS_INTERNAL_ERROR", update),
        NOT_SUPPORTED => ("CUBLAS_STATUS_NOT_SUPPORTED", update),
        16 => ("CUBLAS_STATUS_LICENSE_ERROR", update),
        _ => ("unknown", update),
    };
    (format!("status {status} ({name})"), advice)
}
