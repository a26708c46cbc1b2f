//! The CUDA kernels of `chtsl` on the CPU, with every access checked: for tests on machines without a GPU.
//!
//! The kernels of `kernels/*.cu` are compiled as C++ against `include/emulation/` and linked into the test program. Their
//! launchers are called like those of a device, on memory from [`alloc`]; a launch has ended when its launcher returns.
//! What goes wrong in a kernel comes back as the launcher's status ([`LAUNCH_FAILURE`]) and as [`last_fault`], which names
//! the mistake, kernel, thread and line.
//!
//! ```
//! use chtsl_emulation as emulation;
//!
//! let launchers = emulation::launchers();
//! assert!(!launchers.is_null());
//! let memory = emulation::alloc(1000);
//! // SAFETY: `memory` has 1000 bytes and is not used after it is freed.
//! unsafe {
//!     emulation::fill(memory, 0, 1000).unwrap();
//!     emulation::free(memory).unwrap();
//! }
//! ```
//!
//! [`Options`], faults and counters belong to the calling host thread, so parallel tests do not meet.
//!
//! When `CHTSL_EMULATION_LIBRARY` names a shared library, everything here (launchers, memory, options, faults) is taken from
//! it instead of from what is linked. That is how mutated kernels are tested without linking test programs anew.

mod api;

use std::cell::Cell;
use std::ffi::c_void;

use api::api;
#[doc(hidden)]
pub use api::symbol;

/// Status of a launcher whose kernel was caught at a mistake: `cudaErrorLaunchFailure`.
pub const LAUNCH_FAILURE: i32 = 719;

/// The table of launchers, a `chtsl_launcher_table` of `include/launchers.h`. Lives as long as the program.
pub fn launchers() -> *const c_void {
    (api().launchers)()
}

/// Memory that kernels may touch, on 256 bytes, filled with 0xFF: NaN in every float format.
///
/// On both sides lie bytes of a known pattern, then a page that nobody can touch. Null when there is no memory.
pub fn alloc(bytes: usize) -> *mut c_void {
    (api().allocate)(bytes)
}

/// Gives memory back.
///
/// Errors: `memory` is no buffer, or bytes next to it were overwritten since [`alloc`]; then it is given back all the same.
///
/// # Safety
/// Nobody uses the memory afterwards.
pub unsafe fn free(memory: *mut c_void) -> Result<(), String> {
    // SAFETY: the runtime looks the address up among its buffers; the caller answers for its use.
    match unsafe { (api().release)(memory) } {
        0 => Ok(()),
        1 => Err(format!("{memory:p} was not allocated here, or is free already")),
        _ => Err(format!("the bytes around the buffer at {memory:p} were overwritten")),
    }
}

/// Sets bytes.
///
/// Errors: the range does not lie in one buffer.
///
/// # Safety
/// Nobody else reads or writes the bytes meanwhile.
pub unsafe fn fill(memory: *mut c_void, byte: u8, bytes: usize) -> Result<(), String> {
    // SAFETY: the runtime checks the range; the caller answers for others.
    match unsafe { (api().fill)(memory, byte, bytes) } {
        0 => Ok(()),
        _ => Err(format!("{bytes} bytes at {memory:p} do not lie in one buffer")),
    }
}

/// In which order lanes and blocks take their turns. Sound kernels give the same bits in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Lane 0 first, block 0 first.
    Forward,
    /// The last lane first, the last block first.
    Reverse,
    /// Drawn from a seed, anew at every turn.
    Random(u64),
}

/// How launches of the calling thread run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Order of lanes and blocks.
    pub order: Order,
    /// Host threads that blocks are spread over.
    pub host_threads: u32,
    /// Fault when a block touches global memory that another block of the same launch wrote. Off for kernels whose blocks
    /// exchange data, by an atomic counter for instance.
    pub blocks_disjoint: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { order: Order::Forward, host_threads: 1, blocks_disjoint: true }
    }
}

thread_local! {
    static OPTIONS: Cell<Options> = Cell::new(Options::default());
}

/// Options of the calling thread.
pub fn options() -> Options {
    OPTIONS.get()
}

/// Sets the options of the calling thread.
pub fn set_options(options: Options) {
    let (order, seed) = match options.order {
        Order::Forward => (0, 0),
        Order::Reverse => (1, 0),
        Order::Random(seed) => (2, seed),
    };
    (api().set_options)(order, seed, options.host_threads, u32::from(options.blocks_disjoint));
    OPTIONS.set(options);
}

/// Runs `work` under other options and puts the present ones back, also when it panics.
pub fn with_options<R>(options: Options, work: impl FnOnce() -> R) -> R {
    struct Restore(Options);
    impl Drop for Restore {
        fn drop(&mut self) {
            set_options(self.0);
        }
    }
    let _restore = Restore(OPTIONS.get());
    set_options(options);
    work()
}

/// A mistake that a launch of the calling thread was caught at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Short name, such as `shared memory race`; the list is in `README.md`.
    pub kind: String,
    /// All that is known: kernel, block, thread, what happened, file and line.
    pub text: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// The fault of this thread's last faulty launch, until it is cleared.
pub fn last_fault() -> Option<Fault> {
    let fault =
        Fault { kind: api::text((api().fault_kind)()), text: api::text((api().fault_text)()) };
    (!fault.kind.is_empty()).then_some(fault)
}

/// Forgets the last fault of the calling thread.
pub fn clear_fault() {
    (api().clear_fault)();
}

/// What launches of the calling thread have done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Switches between fibers: the cost of barriers and collectives here.
    pub fiber_switches: u64,
    /// 8x8 matrices that `ldmatrix` has read.
    pub matrices: u64,
    /// Passes over the shared-memory banks that took; as many as matrices when rows never meet.
    pub matrix_passes: u64,
}

/// Counts of the calling thread; subtract two calls to see what lies between.
pub fn counters() -> Counters {
    let mut counts = [0; 3];
    (api().counters)(&mut counts);
    Counters { fiber_switches: counts[0], matrices: counts[1], matrix_passes: counts[2] }
}
