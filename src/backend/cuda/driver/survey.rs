//! What a machine has of CUDA, part by part, whatever this build can use of it.

use std::ffi::c_int;

use super::libcuda::{self, LibCuda};
use super::{CudaVersion, DenseLibrary, Toolkit, cublaslt, library};

/// Taken for the driver's version where there is none, so that cuBLASLt is looked for all the same: the
/// newest that is known.
const NEWEST: CudaVersion = CudaVersion { major: 13, minor: 0 };

/// The parts; the error says why one is missing.
#[derive(Debug)]
pub struct Survey {
    /// Newest CUDA that the driver supports.
    pub driver: Result<CudaVersion, String>,
    /// The first device.
    pub device: Result<Device, String>,
    /// The dense library.
    pub dense: Result<DenseLibrary, String>,
}

/// A device, not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Such as "NVIDIA A100-SXM4-80GB".
    pub name: String,
    /// Compute capability (major, minor).
    pub capability: (u32, u32),
    /// Bytes of memory; `None` where the driver does not tell.
    pub memory: Option<u64>,
    /// How many devices the driver sees.
    pub count: u32,
}

/// Looks for each part by itself. `toolkit`: where cuBLASLt may lie beside the loader's path.
pub fn survey(toolkit: Option<&Toolkit>) -> Survey {
    let driver = match libcuda::library() {
        Ok(library) => libcuda::driver_version(library)
            .map(CudaVersion::from_number)
            .map_err(|(what, advice)| format!("{what}: {advice}")),
        Err(why) => Err(why),
    };
    let version = driver.as_ref().copied().unwrap_or(NEWEST);
    let dense = cublaslt::open(toolkit, version).map_err(|(what, _)| what);
    Survey { driver, device: device(), dense }
}

fn device() -> Result<Device, String> {
    let library = libcuda::library().map_err(|_| "there is no driver to ask".to_string())?;
    let cuda = LibCuda::new(library).map_err(libcuda::missing)?;
    let check = |call: &str, code: c_int| match code {
        0 => Ok(()),
        code => {
            let (what, advice) = cuda.fault(code);
            Err(format!("{call}: {what}: {advice}"))
        }
    };
    // SAFETY: no pointers; may be called any number of times.
    check("cuInit", unsafe { (cuda.cuInit)(0) })?;
    let (mut count, mut device) = (0, 0);
    // SAFETY: `count` is one int.
    check("cuDeviceGetCount", unsafe { (cuda.cuDeviceGetCount)(&mut count) })?;
    if count < 1 {
        let (what, advice) = cuda.fault(libcuda::NO_DEVICE);
        return Err(format!("{what}: {advice}"));
    }
    // SAFETY: `device` is one int; there is at least one device.
    check("cuDeviceGet", unsafe { (cuda.cuDeviceGet)(&mut device, 0) })?;
    let attribute = |which: c_int| {
        let mut value: c_int = 0;
        // SAFETY: `value` is one int, `device` came from cuDeviceGet.
        let code = unsafe { (cuda.cuDeviceGetAttribute)(&mut value, which, device) };
        check("cuDeviceGetAttribute", code).map(|()| value.max(0) as u32)
    };
    let capability = (attribute(libcuda::CAPABILITY_MAJOR)?, attribute(libcuda::CAPABILITY_MINOR)?);
    // Not among the functions that a run needs, so a driver without it is none the worse.
    type TotalMemory = unsafe extern "C" fn(*mut usize, c_int) -> c_int;
    // SAFETY: the type of cuda.h.
    let total = unsafe { library::function::<TotalMemory>(library, "cuDeviceTotalMem_v2") };
    let memory = total.ok().and_then(|total| {
        let mut bytes = 0usize;
        // SAFETY: `bytes` is one size, `device` came from cuDeviceGet.
        (unsafe { total(&mut bytes, device) } == 0).then_some(bytes as u64)
    });
    Ok(Device { name: cuda.name(device), capability, memory, count: count as u32 })
}
