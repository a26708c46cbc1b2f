//! A CUDA device as the machine that kernels run on: memory, copies and one stream through the driver,
//! dense products through cuBLASLt.
//!
//! Kernels are launched by the CUDA runtime that is linked into their launchers. It uses the same
//! primary context as the driver calls here, so pointers and the stream are common to both.

mod dense;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Mutex;
use std::time::Duration;

use super::driver::{self, Driver};
use super::runtime::{Gemm, Launchers, Moment, Runtime};
use crate::error::{Error, Result};
use dense::Dense;

/// An open device.
pub struct Device {
    // Dropped in this order: the library's handle and the stream live in the context.
    dense: Mutex<Dense>,
    stream: Stream,
    driver: Driver,
    launchers: &'static Launchers,
}

/// The stream of all work; it does not wait for the legacy default stream.
struct Stream {
    handle: *mut c_void,
    destroy: unsafe extern "C" fn(*mut c_void) -> c_int,
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: made by cuStreamCreate, used by nobody else.
        unsafe { (self.destroy)(self.handle) };
    }
}

// SAFETY: a stream may be used from any thread.
unsafe impl Send for Stream {}
// SAFETY: the driver serialises calls on a stream.
unsafe impl Sync for Stream {}

const NON_BLOCKING: u32 = 1;

/// A mark on the stream that knows its time.
struct Event {
    handle: *mut c_void,
    destroy: unsafe extern "C" fn(*mut c_void) -> c_int,
}

// SAFETY: an event may be used from any thread; nothing here does so at the same time.
unsafe impl Send for Event {}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by cuEventCreate, used by nobody else.
        unsafe { (self.destroy)(self.handle) };
    }
}

impl Device {
    /// Opens the first device that the process may see.
    ///
    /// Errors: `Error::Device` with one sentence that says what is missing and what to do.
    pub fn open() -> Result<Self> {
        let launchers = launchers()?;
        Device::new(driver::open()?, launchers)
    }

    /// A stream and the dense library on an open driver, for kernels of `launchers`.
    ///
    /// Errors: `Error::Device` as [`Device::open`].
    pub fn new(driver: Driver, launchers: &'static Launchers) -> Result<Self> {
        driver.make_current();
        let mut handle = std::ptr::null_mut();
        // SAFETY: a context is current; `handle` is one pointer.
        driver.check("cuStreamCreate", unsafe {
            (driver.functions().cuStreamCreate)(&mut handle, NON_BLOCKING)
        })?;
        let stream = Stream { handle, destroy: driver.functions().cuStreamDestroy_v2 };
        let dense = Mutex::new(Dense::new(&driver)?);
        Ok(Device { dense, stream, driver, launchers })
    }

    /// What was opened.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    fn check(&self, call: &'static str, code: c_int) -> Result<()> {
        self.driver.check(call, code)
    }

    fn event(&self) -> Result<Event> {
        let f = self.driver.functions();
        let mut handle = std::ptr::null_mut();
        // SAFETY: one pointer.
        self.check("cuEventCreate", unsafe { (f.cuEventCreate)(&mut handle, 0) })?;
        Ok(Event { handle, destroy: f.cuEventDestroy_v2 })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // What the fields give back lives in the context, and this may be a thread that never had it.
        self.driver.make_current();
    }
}

#[cfg(chtsl_cuda)]
fn launchers() -> Result<&'static Launchers> {
    // SAFETY: the table is a constant of the program.
    Ok(unsafe { &*super::bindings::chtsl_launchers() })
}

#[cfg(not(chtsl_cuda))]
fn launchers() -> Result<&'static Launchers> {
    // A build without kernels cannot open a driver either, and says why.
    match driver::open() {
        Ok(_) => Err(Error::Device("this build has no CUDA kernels".into())),
        Err(e) => Err(e),
    }
}

#[cfg(chtsl_cuda)]
unsafe extern "C" {
    /// Text of an error of the CUDA runtime; the runtime is linked with the kernels.
    fn cudaGetErrorString(error: c_int) -> *const c_char;
}

#[cfg(chtsl_cuda)]
fn runtime_text(status: i32) -> String {
    // SAFETY: any number is allowed, the texts are constants.
    let text = unsafe { CStr::from_ptr(cudaGetErrorString(status)) };
    text.to_string_lossy().into_owned()
}

#[cfg(not(chtsl_cuda))]
fn runtime_text(status: i32) -> String {
    let unknown: *const c_char = c"an error of the CUDA runtime".as_ptr();
    // SAFETY: a constant.
    let text = unsafe { CStr::from_ptr(unknown) };
    format!("{} ({status})", text.to_string_lossy())
}

// SAFETY: memory comes from the driver and is valid in the primary context that launches use.
unsafe impl Runtime for Device {
    fn name(&self) -> &'static str {
        "cuda"
    }

    fn describe(&self) -> String {
        self.driver.describe()
    }

    fn launchers(&self) -> &'static Launchers {
        // Launches go to the context that is current on the calling thread.
        self.driver.make_current();
        self.launchers
    }

    fn stream(&self) -> *mut c_void {
        self.stream.handle
    }

    fn allocate(&self, bytes: usize) -> Result<*mut c_void> {
        self.driver.make_current();
        let mut pointer = 0u64;
        // SAFETY: `pointer` is one device pointer.
        let code = unsafe { (self.driver.functions().cuMemAlloc_v2)(&mut pointer, bytes) };
        if code == driver::OUT_OF_MEMORY {
            let (free, total) = self.driver.memory_now();
            let mb = |bytes: usize| bytes as f64 / 1e6;
            return Err(Error::Memory(format!(
                "{}: cannot allocate {:.1} MB, {:.1} of {:.1} MB are free; lower train.micro_batch or \
                 data.eval_tokens, or free the device",
                self.driver.name,
                mb(bytes),
                mb(free),
                mb(total)
            )));
        }
        self.check("cuMemAlloc", code)?;
        Ok(pointer as *mut c_void)
    }

    unsafe fn free(&self, memory: *mut c_void) {
        self.driver.make_current();
        // SAFETY: passed on from the caller. Waits for work that uses the memory.
        unsafe { (self.driver.functions().cuMemFree_v2)(memory as u64) };
    }

    unsafe fn upload(&self, to: *mut c_void, from: &[u8]) -> Result<()> {
        self.driver.make_current();
        let stream = self.stream.handle;
        // SAFETY: passed on from the caller. Pageable memory is staged before the call returns, or the
        // wait below keeps `from` borrowed until the copy is over.
        let code = unsafe {
            let copy = self.driver.functions().cuMemcpyHtoDAsync_v2;
            copy(to as u64, from.as_ptr().cast(), from.len(), stream)
        };
        self.check("cuMemcpyHtoD", code)?;
        if self.driver.host_page_tables { self.synchronize() } else { Ok(()) }
    }

    unsafe fn download(&self, to: &mut [u8], from: *const c_void) -> Result<()> {
        self.driver.make_current();
        let stream = self.stream.handle;
        // SAFETY: passed on from the caller; `to` stays borrowed until the wait below is over.
        let code = unsafe {
            let copy = self.driver.functions().cuMemcpyDtoHAsync_v2;
            copy(to.as_mut_ptr().cast(), from as u64, to.len(), stream)
        };
        self.check("cuMemcpyDtoH", code)?;
        self.synchronize()
    }

    unsafe fn copy(&self, to: *mut c_void, from: *const c_void, bytes: usize) -> Result<()> {
        self.driver.make_current();
        // SAFETY: passed on from the caller.
        let code = unsafe {
            let copy = self.driver.functions().cuMemcpyDtoDAsync_v2;
            copy(to as u64, from as u64, bytes, self.stream.handle)
        };
        self.check("cuMemcpyDtoD", code)
    }

    unsafe fn clear(&self, to: *mut c_void, bytes: usize) -> Result<()> {
        self.driver.make_current();
        // SAFETY: passed on from the caller.
        let code = unsafe {
            (self.driver.functions().cuMemsetD8Async)(to as u64, 0, bytes, self.stream.handle)
        };
        self.check("cuMemsetD8", code)
    }

    fn synchronize(&self) -> Result<()> {
        self.driver.make_current();
        // SAFETY: our own stream.
        let code = unsafe { (self.driver.functions().cuStreamSynchronize)(self.stream.handle) };
        self.check("cuStreamSynchronize", code)
    }

    fn record(&self) -> Result<Option<Moment>> {
        self.driver.make_current();
        let event = self.event()?;
        let record = self.driver.functions().cuEventRecord;
        // SAFETY: our own event and stream.
        let code = unsafe { record(event.handle, self.stream.handle) };
        self.check("cuEventRecord", code)?;
        Ok(Some(Box::new(event)))
    }

    fn between(&self, from: &Moment, to: &Moment) -> Result<Duration> {
        let (Some(from), Some(to)) = (from.downcast_ref::<Event>(), to.downcast_ref::<Event>())
        else {
            return Err(Error::Device("a point in time of another machine".into()));
        };
        self.driver.make_current();
        let mut milliseconds = 0f32;
        let elapsed = self.driver.functions().cuEventElapsedTime;
        // SAFETY: our own events.
        let code = unsafe { elapsed(&mut milliseconds, from.handle, to.handle) };
        self.check("cuEventElapsedTime", code)?;
        Ok(Duration::from_secs_f64(f64::from(milliseconds.max(0.0)) / 1e3))
    }

    fn memory(&self) -> Option<(usize, usize)> {
        self.driver.make_current();
        let (free, total) = self.driver.memory_now();
        let before = usize::try_from(self.driver.free).unwrap_or(total);
        Some((before.saturating_sub(free), free))
    }

    fn fault(&self, status: i32) -> String {
        format!("{} (CUDA runtime error {status})", runtime_text(status))
    }

    unsafe fn gemm(&self, product: &Gemm) -> Result<()> {
        self.driver.make_current();
        let mut dense = self.dense.lock().expect("not poisoned");
        // SAFETY: passed on from the caller.
        let result = unsafe { dense.multiply(product, self.stream.handle) };
        match result {
            // The library has one status for whatever the device ran into: the driver knows more.
            Err(Error::Device(_)) => self.synchronize().and(result),
            _ => result,
        }
    }
}
