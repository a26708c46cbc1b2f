//! Memory that is not there: a sentence and the documented exit code instead of an abort.
//!
//! Large buffers ask before they take ([`Error::Memory`](crate::Error::Memory)); whatever else runs out
//! of memory ends in the standard library's abort, which is caught here. What is on disk is safe: a
//! checkpoint is whole or absent, however a process ends.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of the last request that was refused.
static REFUSED: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, remembering what it refused.
pub struct Remembering;

fn noted(memory: *mut u8, bytes: usize) -> *mut u8 {
    if memory.is_null() {
        REFUSED.store(bytes, Ordering::Relaxed);
    }
    memory
}

// SAFETY: passes everything on.
unsafe impl GlobalAlloc for Remembering {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on from the caller.
        noted(unsafe { System.alloc(layout) }, layout.size())
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        noted(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: as above.
        noted(unsafe { System.realloc(memory, layout, bytes) }, bytes)
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// Turns an abort for want of memory into exit code 5.
#[cfg(unix)]
pub fn catch() {
    let told = || {
        let bytes = REFUSED.load(Ordering::Relaxed);
        if bytes > 0 {
            use std::io::Write;
            // Nothing is allocated: standard error has no buffer.
            let _ = writeln!(
                std::io::stderr(),
                "error: cannot allocate {bytes} bytes: lower train.micro_batch, model.seq_len or the \
                 model size"
            );
            signal_hook::low_level::exit(5);
        }
    };
    // SAFETY: the handler runs on the thread that aborts, and only writes and ends the process.
    let caught = unsafe { signal_hook::low_level::register(signal_hook::consts::SIGABRT, told) };
    debug_assert!(caught.is_ok());
}

/// Turns an abort for want of memory into exit code 5.
#[cfg(not(unix))]
pub fn catch() {}
