//! The driver library: entry points by name, error codes in words.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use libloading::Library;

use super::library::{self, entry_points};

pub const CAPABILITY_MAJOR: c_int = 75;
pub const CAPABILITY_MINOR: c_int = 76;
pub const MULTIPROCESSORS: c_int = 16;
/// Whether the device reads pageable host memory through the host's page tables (Grace Hopper): an
/// asynchronous copy from it may then still be running when the call returns.
pub const HOST_PAGE_TABLES: c_int = 100;

pub const OUT_OF_MEMORY: c_int = 2;
pub const NO_DEVICE: c_int = 100;

/// The driver, opened once. The CUDA runtime, which is linked with the kernels, asks for it under the
/// first of these names, too.
///
/// Errors: the loader's reason why there is none.
pub fn library() -> Result<&'static Library, String> {
    static OPENED: OnceLock<Result<&'static Library, String>> = OnceLock::new();
    let names: &[&str] =
        if cfg!(windows) { &["nvcuda.dll"] } else { &["libcuda.so.1", "libcuda.so"] };
    let open = || {
        let first = library::open(names[0]);
        names[1..].iter().fold(first, |found, name| {
            found.or_else(|reason| library::open(name).map_err(|_| reason))
        })
    };
    OPENED.get_or_init(open).clone()
}

/// The sentence's start for a driver without a function that is needed.
pub fn missing(name: &str) -> String {
    format!("libcuda has no function {name}: it is too old, damaged or not NVIDIA's")
}

/// Newest CUDA that the driver supports. Works before `cuInit`, so that a message can name it even
/// when the driver does not start.
///
/// Errors: what is wrong, and what to do about it.
pub fn driver_version(library: &'static Library) -> Result<i32, (String, &'static str)> {
    let name = "cuDriverGetVersion";
    // SAFETY: the type of cuda.h.
    let get =
        unsafe { library::function::<unsafe extern "C" fn(*mut c_int) -> c_int>(library, name) }
            .map_err(|name| (missing(name), "reinstall the driver"))?;
    let mut version = 0;
    // SAFETY: `version` is one int.
    match unsafe { get(&mut version) } {
        0 => Ok(version),
        code => Err((format!("the driver does not tell its version: error {code}"), advice(code))),
    }
}

entry_points! {
    /// Functions of cuda.h.
    LibCuda:
    cuInit(c_uint) -> c_int;
    cuDeviceGetCount(*mut c_int) -> c_int;
    cuDeviceGet(*mut c_int, c_int) -> c_int;
    cuDeviceGetName(*mut c_char, c_int, c_int) -> c_int;
    cuDeviceGetAttribute(*mut c_int, c_int, c_int) -> c_int;
    cuDevicePrimaryCtxRetain(*mut *mut c_void, c_int) -> c_int;
    cuDevicePrimaryCtxRelease_v2(c_int) -> c_int;
    cuCtxSetCurrent(*mut c_void) -> c_int;
    cuMemGetInfo_v2(*mut usize, *mut usize) -> c_int;
    cuMemAlloc_v2(*mut u64, usize) -> c_int;
    cuMemFree_v2(u64) -> c_int;
    cuMemcpyHtoDAsync_v2(u64, *const c_void, usize, *mut c_void) -> c_int;
    cuMemcpyDtoHAsync_v2(*mut c_void, u64, usize, *mut c_void) -> c_int;
    cuMemcpyDtoDAsync_v2(u64, u64, usize, *mut c_void) -> c_int;
    cuMemsetD8Async(u64, u8, usize, *mut c_void) -> c_int;
    cuStreamCreate(*mut *mut c_void, c_uint) -> c_int;
    cuStreamDestroy_v2(*mut c_void) -> c_int;
    cuStreamSynchronize(*mut c_void) -> c_int;
    cuEventCreate(*mut *mut c_void, c_uint) -> c_int;
    cuEventRecord(*mut c_void, *mut c_void) -> c_int;
    cuEventElapsedTime(*mut f32, *mut c_void, *mut c_void) -> c_int;
    cuEventDestroy_v2(*mut c_void) -> c_int;
    cuGetErrorName(c_int, *mut *const c_char) -> c_int;
    cuGetErrorString(c_int, *mut *const c_char) -> c_int;
}

impl LibCuda {
    /// Name of a device.
    pub fn name(&self, device: c_int) -> String {
        let mut buffer = [0 as c_char; 256];
        // SAFETY: room for 256 characters, of which the last stays zero.
        let code = unsafe { (self.cuDeviceGetName)(buffer.as_mut_ptr(), 255, device) };
        // SAFETY: the last character is zero.
        let text = unsafe { CStr::from_ptr(buffer.as_ptr()) }.to_string_lossy();
        if code == 0 && !text.is_empty() { text.into_owned() } else { format!("device {device}") }
    }

    /// An error code: what it is, and what to do about it.
    pub fn fault(&self, code: c_int) -> (String, &'static str) {
        let text = |get: unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int| {
            let mut p: *const c_char = std::ptr::null();
            // SAFETY: `p` is one pointer.
            let known = unsafe { get(code, &mut p) } == 0 && !p.is_null();
            // SAFETY: the driver's texts are constants.
            known.then(|| unsafe { CStr::from_ptr(p) }.to_string_lossy().into_owned())
        };
        let name = text(self.cuGetErrorName).unwrap_or_else(|| "unknown".into());
        let what = match text(self.cuGetErrorString) {
            Some(string) => format!("error {code} ({name}, {string})"),
            None => format!("error {code} ({name})"),
        };
        let what = match code {
            OUT_OF_MEMORY => format!("the device is out of memory: {what}"),
            NO_DEVICE => format!("the driver sees no device: {what}"),
            _ => what,
        };
        (what, advice(code))
    }
}

/// What to do about an error code.
fn advice(code: c_int) -> &'static str {
    match code {
        OUT_OF_MEMORY => {
            "other processes hold it (nvidia-smi lists them): wait for them, pick another device with \
             CUDA_VISIBLE_DEVICES, or use --device cpu"
        }
        34 => {
            "the toolkit's link-time stub was loaded in place of the driver: take its stubs folder out \
             of LD_LIBRARY_PATH"
        }
        46 => "another process has the device to itself: wait for it or pick another",
        NO_DEVICE => {
            "see nvidia-smi, check CUDA_VISIBLE_DEVICES (in a container, start it with --gpus all), or \
             use --device cpu"
        }
        214 => "the device's memory is damaged: see nvidia-smi -q -d ECC, reset it",
        700 | 702 | 710 | 714..=719 => {
            "a kernel went wrong and the process has lost the device: report it (compute-sanitizer \
             names the kernel), start again, or use --device cpu"
        }
        803 => "driver and kernel module differ: reboot after the driver's update",
        804 => "this device needs a newer driver: forward compatibility excludes it",
        _ => "see nvidia-smi and dmesg, or use --device cpu",
    }
}
