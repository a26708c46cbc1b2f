//! Files that are not what they seem (F3, F4, F5): torn, mutated and hostile ones of every kind that the
//! program reads. Each ends in a typed error or in values that pass every check; none in a panic, a hang
//! or memory beyond the file's size + 200 MB. `tests/faults.sh` runs the same with larger numbers.
#![cfg(target_os = "linux")]

mod hostile;
mod kinds;
mod memory;
mod mutate;
mod readers;
#[path = "../support/record.rs"]
mod record;
mod site;
mod torn;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, Once};
use std::time::{Duration, Instant};

use record::{count, told};

/// One test at a time: memory is counted for the process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|e| e.into_inner())
}

/// Far beyond what any of these files takes to read.
const HANG: Duration = Duration::from_secs(120);
/// Milliseconds since the first look at which the reader under way began; 0 = none is.
static BEGAN: AtomicU64 = AtomicU64::new(0);

/// Ends the process when a reader does not return.
fn watch() -> Instant {
    static ONCE: Once = Once::new();
    static START: Mutex<Option<Instant>> = Mutex::new(None);
    let start = *START.lock().unwrap().get_or_insert_with(Instant::now);
    ONCE.call_once(|| {
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let (began, now) = (BEGAN.load(SeqCst), start.elapsed().as_millis() as u64);
                if began > 0 && now > began + HANG.as_millis() as u64 {
                    eprintln!("a reader has not returned for {HANG:?}");
                    std::process::abort();
                }
            }
        });
    });
    start
}

/// What a reader did.
struct Seen {
    /// `None`: it panicked.
    result: Option<chtsl::Result<()>>,
    /// Most bytes held above those before.
    peak: usize,
    /// Processor time of all threads: what else the machine does has no part in it.
    took: Duration,
}

/// Processor time that this process has taken.
fn processor_time() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

/// Runs a reader and watches it.
fn observe(read: impl FnOnce() -> chtsl::Result<()>) -> Seen {
    let start = watch();
    BEGAN.store(start.elapsed().as_millis() as u64 + 1, SeqCst);
    let began = processor_time();
    let (result, peak) = memory::peak_of(|| catch_unwind(AssertUnwindSafe(read)).ok());
    let took = processor_time() - began;
    BEGAN.store(0, SeqCst);
    Seen { result, peak, took }
}
