//! From "is there a driver?" to an open device, with one sentence for everything that can be missing.
//!
//! | file | what |
//! |---|---|
//! | `library` | opens libraries at run time and looks functions up |
//! | `libcuda` | the driver's functions and its error codes |
//! | `libcublaslt` | the dense library's functions and its status codes |
//! | `cublaslt` | search for the dense library |
//! | `survey` | what there is, for `doctor` |
//!
//! cudarc gives types and constants only. Its own loading panics on a missing library or function,
//! searches by fixed names, and takes error codes for a closed enumeration.

mod cublaslt;
mod libcublaslt;
mod libcuda;
mod library;
mod survey;

use std::ffi::{c_int, c_void};
use std::path::PathBuf;

pub use cublaslt::DenseLibrary;
pub(super) use libcublaslt::{HeuristicResult, LibCublasLt, NOT_SUPPORTED, fault as dense_fault};
use libcuda::LibCuda;
pub(super) use libcuda::OUT_OF_MEMORY;
pub use survey::{Device, Survey, survey};

use crate::error::{Error, Result};

/// Least compute capability: `cp.async`, bf16 `mma` and the cubins need an A100 or newer.
const LEAST_CAPABILITY: (u32, u32) = (8, 0);

/// A version of CUDA: of a toolkit, or the newest one a driver supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CudaVersion {
    /// 13 of 13.0.
    pub major: u32,
    /// 0 of 13.0.
    pub minor: u32,
}

impl CudaVersion {
    /// From CUDA's number, 1000·major + 10·minor.
    pub fn from_number(n: i32) -> Self {
        let n = n.max(0) as u32;
        CudaVersion { major: n / 1000, minor: n % 1000 / 10 }
    }

    /// From "13.0".
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(CudaVersion { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    /// First driver series for this major version; later minor versions run on it too, as long as
    /// nothing has to be translated from PTX.
    fn driver_series(self) -> &'static str {
        match self.major {
            ..=11 => "450",
            12 => "525",
            13 => "580",
            _ => "of a later series",
        }
    }
}

impl std::fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "CUDA {}.{}", self.major, self.minor)
    }
}

/// What kernels were compiled with.
#[derive(Clone, Debug)]
pub struct Toolkit {
    /// Its version.
    pub version: CudaVersion,
    /// Where it was, and perhaps still is.
    pub dir: PathBuf,
}

impl Toolkit {
    /// That of this build; none in a CPU build.
    pub fn of_this_build() -> Option<Self> {
        let version = CudaVersion::parse(env!("CHTSL_CUDA_VERSION"))?;
        Some(Toolkit { version, dir: PathBuf::from(env!("CHTSL_CUDA_DIR")) })
    }
}

/// An open device: its primary context is retained and current on the thread that opened it.
#[derive(Debug)]
pub struct Driver {
    cuda: LibCuda,
    device: c_int,
    context: *mut c_void,
    /// Name, such as "NVIDIA A100-SXM4-80GB".
    pub name: String,
    /// Compute capability (major, minor).
    pub capability: (u32, u32),
    /// Newest CUDA that the driver supports.
    pub version: CudaVersion,
    /// What the kernels were compiled with.
    pub toolkit: CudaVersion,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes that nobody used when the device was opened.
    pub free: u64,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Copies from pageable memory must be waited for.
    pub(super) host_page_tables: bool,
    /// The dense library.
    pub dense: DenseLibrary,
}

impl Driver {
    /// One line for logs.
    pub fn describe(&self) -> String {
        let (major, minor) = self.capability;
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        format!(
            "{} (compute capability {major}.{minor}, {} multiprocessors, {:.1} of {:.1} GiB free); \
             driver {}, kernels {}, {}",
            self.name,
            self.multiprocessors,
            gib(self.free),
            gib(self.memory),
            self.version,
            self.toolkit,
            self.dense
        )
    }

    /// The driver's functions.
    pub(super) fn functions(&self) -> &LibCuda {
        &self.cuda
    }

    /// Makes the device's context that of the calling thread. A thread that has it loses nothing.
    pub(super) fn make_current(&self) {
        // SAFETY: retained until this value is dropped. It fails only when the context is broken, and
        // then the call that follows says so.
        unsafe { (self.cuda.cuCtxSetCurrent)(self.context) };
    }

    /// Bytes free and in all, now.
    pub(super) fn memory_now(&self) -> (usize, usize) {
        let (mut free, mut total) = (0, 0);
        // SAFETY: two sizes, a context is current.
        unsafe { (self.cuda.cuMemGetInfo_v2)(&mut free, &mut total) };
        (free, total)
    }

    /// Turns a code of the driver into a result that names the call, the versions and what to do.
    pub(super) fn check(&self, call: &'static str, code: c_int) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        let (what, advice) = self.cuda.fault(code);
        let both = format!(
            "the driver supports {} and the kernels were built with {}",
            self.version, self.toolkit
        );
        Err(Error::Device(format!("{call}: {what} ({both}): {advice}")))
    }
}

// SAFETY: the context is a handle that any thread may make current.
unsafe impl Send for Driver {}
// SAFETY: as above; nothing here changes after `open`.
unsafe impl Sync for Driver {}

impl Drop for Driver {
    fn drop(&mut self) {
        // SAFETY: `open` retained the context of this device once.
        unsafe { (self.cuda.cuDevicePrimaryCtxRelease_v2)(self.device) };
    }
}

/// Whether the machine has an NVIDIA driver, working or not.
pub fn present() -> bool {
    libcuda::library().is_ok()
}

/// Opens the first device for the kernels of this build.
///
/// Errors: [`Error::Device`] with one sentence naming what is missing, both versions and what to do.
pub fn open() -> Result<Driver> {
    let Some(toolkit) = Toolkit::of_this_build() else {
        return Err(Error::Device(format!(
            "this build has no CUDA kernels ({}): install a CUDA toolkit 12.4 or newer (README.md, \
             \"CUDA\") and build with CHTSL_CUDA=require cargo build --release",
            env!("CHTSL_BUILD")
        )));
    };
    open_for(&toolkit)
}

/// Opens the first device for kernels made with `toolkit`. Errors as [`open`].
pub fn open_for(toolkit: &Toolkit) -> Result<Driver> {
    let kernels = format!("the kernels were built with {}", toolkit.version);
    let series = toolkit.version.driver_series();
    let fail = |text: String| Err(Error::Device(text));

    let library = match libcuda::library() {
        Ok(library) => library,
        Err(why) => {
            return fail(format!(
                "there is no NVIDIA driver ({why}), and {kernels}: install driver {series} or newer (in \
                 a container, start it with --gpus all), or use --device cpu"
            ));
        }
    };
    let number = match libcuda::driver_version(library) {
        Ok(n) => n,
        Err((what, advice)) => return fail(format!("{what} ({kernels}): {advice}")),
    };
    let version = CudaVersion::from_number(number);
    if version.major < toolkit.version.major {
        return fail(format!(
            "the driver supports {version}, but {kernels}, which needs driver {series} or newer: \
             update the driver, or build with a CUDA {} toolkit (12.4 or newer, NVCC=/path/to/nvcc)",
            version.major.max(12)
        ));
    }
    let both = format!("the driver supports {version} and {kernels}");
    let cuda = match LibCuda::new(library) {
        Ok(cuda) => cuda,
        Err(name) => {
            let what = libcuda::missing(name);
            return fail(format!("{what} ({both}): reinstall driver {series} or newer"));
        }
    };
    let check = |call: &'static str, code: c_int| match code {
        0 => Ok(()),
        code => {
            let (what, advice) = cuda.fault(code);
            Err(Error::Device(format!("{call}: {what} ({both}): {advice}")))
        }
    };

    // SAFETY: no pointers; may be called any number of times.
    check("cuInit", unsafe { (cuda.cuInit)(0) })?;
    let mut count = 0;
    // SAFETY: `count` is one int.
    check("cuDeviceGetCount", unsafe { (cuda.cuDeviceGetCount)(&mut count) })?;
    if count < 1 {
        let (what, advice) = cuda.fault(libcuda::NO_DEVICE);
        return fail(format!("{what} ({both}): {advice}"));
    }
    let mut device = 0;
    // SAFETY: `device` is one int; there is at least one device.
    check("cuDeviceGet", unsafe { (cuda.cuDeviceGet)(&mut device, 0) })?;
    let name = cuda.name(device);
    let attribute = |which: c_int| {
        let mut value: c_int = 0;
        // SAFETY: `value` is one int, `device` came from cuDeviceGet.
        let code = unsafe { (cuda.cuDeviceGetAttribute)(&mut value, which, device) };
        check("cuDeviceGetAttribute", code).map(|()| value.max(0) as u32)
    };
    let capability = (attribute(libcuda::CAPABILITY_MAJOR)?, attribute(libcuda::CAPABILITY_MINOR)?);
    let (major, minor) = capability;
    if capability < LEAST_CAPABILITY {
        return fail(format!(
            "{name} has compute capability {major}.{minor}, and the kernels need 8.0 or higher (A100 \
             or newer; {both}): use --device cpu or another device (CUDA_VISIBLE_DEVICES)"
        ));
    }
    // Machine code for 8.0 and 9.0 runs on all of 8.x and 9.x. Anything newer gets PTX, which a driver
    // translates only when it is as new as the compiler that wrote it.
    if major > 9 && version < toolkit.version {
        return fail(format!(
            "{name} has compute capability {major}.{minor}, for which the driver must translate the \
             kernels, but it supports {version} only and {kernels}: update the driver, or build with \
             the toolkit of {version} or older"
        ));
    }
    let multiprocessors = attribute(libcuda::MULTIPROCESSORS)?;
    // A driver that does not know the question has no such device.
    let host_page_tables = attribute(libcuda::HOST_PAGE_TABLES).is_ok_and(|yes| yes != 0);

    let mut context: *mut c_void = std::ptr::null_mut();
    // SAFETY: `context` is one pointer; released below on failure, by `Drop` otherwise.
    let code = unsafe { (cuda.cuDevicePrimaryCtxRetain)(&mut context, device) };
    check("cuDevicePrimaryCtxRetain", code)?;
    let rest = || {
        // SAFETY: the context that was just retained.
        check("cuCtxSetCurrent", unsafe { (cuda.cuCtxSetCurrent)(context) })?;
        let (mut free, mut memory) = (0usize, 0usize);
        // SAFETY: two sizes, a context is current.
        let code = unsafe { (cuda.cuMemGetInfo_v2)(&mut free, &mut memory) };
        check("cuMemGetInfo", code)?;
        let dense = cublaslt::open(Some(toolkit), version).map_err(|(what, advice)| {
            Error::Device(format!("{what}: {advice} ({both}), or use --device cpu"))
        })?;
        Ok((free as u64, memory as u64, dense))
    };
    match rest() {
        Ok((free, memory, dense)) => Ok(Driver {
            cuda,
            device,
            context,
            name,
            capability,
            version,
            toolkit: toolkit.version,
            memory,
            free,
            multiprocessors,
            host_page_tables,
            dense,
        }),
        Err(e) => {
            // SAFETY: retained above, and no `Driver` is there to release it.
            unsafe { (cuda.cuDevicePrimaryCtxRelease_v2)(device) };
            Err(e)
        }
    }
}
