//! What the CUDA backend needs beside kernels: memory, copies, a stream, dense products.
//!
//! Two machines offer it: a device through the driver, and the emulator that tests use. Everything
//! above this file is the same on both.

use std::any::Any;
use std::ffi::c_void;
use std::time::{Duration, Instant};

use super::bindings::chtsl_launcher_table;
use crate::error::Result;

/// The kernels' launchers.
pub type Launchers = chtsl_launcher_table;

/// Element type of device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// IEEE single precision.
    F32,
    /// bfloat16.
    Bf16,
}

impl Element {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::Bf16 => 2,
        }
    }
}

/// A row-major matrix on the device, read as it is or transposed.
#[derive(Clone, Copy, Debug)]
pub struct GemmOperand {
    /// First element.
    pub data: *mut c_void,
    /// Type of its elements.
    pub element: Element,
    /// Elements from row to row, as stored.
    pub stride: usize,
    /// Multiply with the transpose of what is stored.
    pub transposed: bool,
}

/// `c (m,n) = alpha·a (m,k)·b (k,n) + beta·c`, all row-major after transposition; `a` and `b` of one type,
/// sums in f32 without reduced-precision shortcuts (no TF32).
#[derive(Clone, Copy, Debug)]
pub struct Gemm {
    /// Rows of a and c.
    pub m: usize,
    /// Columns of b and c.
    pub n: usize,
    /// Columns of a, rows of b.
    pub k: usize,
    /// Left operand.
    pub a: GemmOperand,
    /// Right operand.
    pub b: GemmOperand,
    /// Result; never transposed.
    pub c: GemmOperand,
    /// Factor of the product.
    pub alpha: f32,
    /// 0 overwrites c, whatever it held; 1 adds to it.
    pub beta: f32,
}

/// A point in time on the stream; only the runtime that made it can read it.
pub type Moment = Box<dyn Any + Send>;

/// A machine that CUDA kernels run on. All work goes to one stream, in order.
///
/// # Safety
///
/// Implementations must hand out pointers that stay valid for the requested bytes until freed, and
/// a table whose launchers may be called with such pointers and [`Runtime::stream`].
pub unsafe trait Runtime: Send + Sync {
    /// Short name: "cuda", "emulated".
    fn name(&self) -> &'static str;
    /// One line for logs: device, driver, toolkit.
    fn describe(&self) -> String;
    /// The kernels.
    fn launchers(&self) -> &'static Launchers;
    /// The stream that launchers are given.
    fn stream(&self) -> *mut c_void;
    /// Device memory, contents arbitrary, aligned to at least 256 bytes. `bytes` > 0.
    ///
    /// Errors: `Error::Memory` with the size asked for and the size left.
    fn allocate(&self, bytes: usize) -> Result<*mut c_void>;
    /// Gives memory back.
    ///
    /// # Safety
    /// `memory` came from [`Runtime::allocate`] of this runtime and is not used again.
    unsafe fn free(&self, memory: *mut c_void);
    /// Copies to the device; `from` may be reused on return.
    ///
    /// # Safety
    /// `to` has room for `from`.
    unsafe fn upload(&self, to: *mut c_void, from: &[u8]) -> Result<()>;
    /// Waits for all work, then copies to the host.
    ///
    /// # Safety
    /// `from` holds as many bytes as `to`.
    unsafe fn download(&self, to: &mut [u8], from: *const c_void) -> Result<()>;
    /// Copies within the device.
    ///
    /// # Safety
    /// Both hold `bytes` and do not overlap.
    unsafe fn copy(&self, to: *mut c_void, from: *const c_void, bytes: usize) -> Result<()>;
    /// Sets bytes to zero.
    ///
    /// # Safety
    /// `to` holds `bytes`.
    unsafe fn clear(&self, to: *mut c_void, bytes: usize) -> Result<()>;
    /// Waits for all work.
    ///
    /// Errors: `Error::Device` with whatever the work so far has run into.
    fn synchronize(&self) -> Result<()>;
    /// Time that the work put on the stream by `work` takes, by the device's own clock where it has one,
    /// else by the host's between two waits.
    fn time(&self, work: &mut dyn FnMut()) -> Result<Duration> {
        self.synchronize()?;
        let (from, start) = (self.record()?, Instant::now());
        work();
        let to = self.record()?;
        self.synchronize()?;
        match (&from, &to) {
            (Some(from), Some(to)) => self.between(from, to),
            _ => Ok(start.elapsed()),
        }
    }
    /// Puts a point in time on the stream; `None` where work is done when a call returns, and the host's
    /// clock is the right one.
    fn record(&self) -> Result<Option<Moment>> {
        Ok(None)
    }
    /// Time from one recorded point to a later one, both of them reached.
    fn between(&self, from: &Moment, to: &Moment) -> Result<Duration> {
        let _ = (from, to);
        Ok(Duration::ZERO)
    }
    /// Bytes that this process has taken from the device and bytes that it has left, where that is not
    /// the host's memory.
    fn memory(&self) -> Option<(usize, usize)> {
        None
    }
    /// Text of a positive launch status.
    fn fault(&self, status: i32) -> String;
    /// Dense product.
    ///
    /// # Safety
    /// The operands hold their extents.
    unsafe fn gemm(&self, product: &Gemm) -> Result<()>;
}
