//! The CUDA backend on the emulator: the real kernels, run and checked on the CPU.
//!
//! The backends differ in everything that results must not depend on: the order of lanes and blocks,
//! naive or default kernels, links walked or scattered.

use std::ffi::c_void;
use std::sync::{Arc, OnceLock};

use chtsl::backend::Cuda;
use chtsl::backend::cuda::Strategy;
use chtsl::backend::cuda::runtime::{Element, Gemm, GemmOperand, Launchers, Runtime};
use chtsl::config::Precision;
use chtsl::error::{Error, Result};
use chtsl_emulation::{Options, Order};

/// The emulator as a machine for the backend.
pub struct Emulated {
    options: Options,
}

impl Emulated {
    /// A machine that runs lanes and blocks in this order.
    pub fn machine(order: Order) -> Arc<dyn Runtime> {
        Arc::new(Emulated { options: Options { order, ..Options::default() } })
    }
}

// SAFETY: memory comes from the emulator's allocator and its launchers take such memory.
unsafe impl Runtime for Emulated {
    fn name(&self) -> &'static str {
        "emulated"
    }

    fn describe(&self) -> String {
        format!("emulated, {:?} lanes", self.options.order)
    }

    fn launchers(&self) -> &'static Launchers {
        // Options belong to the calling thread, and tests run on many.
        chtsl_emulation::set_options(self.options);
        // SAFETY: the table lives as long as the program and was compiled from the same header.
        unsafe { &*chtsl_emulation::launchers().cast::<Launchers>() }
    }

    fn stream(&self) -> *mut c_void {
        std::ptr::null_mut()
    }

    fn allocate(&self, bytes: usize) -> Result<*mut c_void> {
        let memory = chtsl_emulation::alloc(bytes);
        if memory.is_null() {
            return Err(Error::Memory(format!("cannot allocate {bytes} bytes")));
        }
        Ok(memory)
    }

    unsafe fn free(&self, memory: *mut c_void) {
        // SAFETY: passed on from the caller.
        let result = unsafe { chtsl_emulation::free(memory) };
        if !std::thread::panicking() {
            result.expect("intact guards around a buffer");
        }
    }

    unsafe fn upload(&self, to: *mut c_void, from: &[u8]) -> Result<()> {
        // SAFETY: passed on from the caller; emulated memory is the host's.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.cast(), from.len()) };
        Ok(())
    }

    unsafe fn download(&self, to: &mut [u8], from: *const c_void) -> Result<()> {
        // SAFETY: as above.
        unsafe { std::ptr::copy_nonoverlapping(from.cast(), to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    unsafe fn copy(&self, to: *mut c_void, from: *const c_void, bytes: usize) -> Result<()> {
        // SAFETY: as above.
        unsafe { std::ptr::copy_nonoverlapping(from.cast::<u8>(), to.cast(), bytes) };
        Ok(())
    }

    unsafe fn clear(&self, to: *mut c_void, bytes: usize) -> Result<()> {
        // SAFETY: as above.
        unsafe { std::ptr::write_bytes(to.cast::<u8>(), 0, bytes) };
        Ok(())
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn fault(&self, status: i32) -> String {
        match chtsl_emulation::last_fault() {
            Some(fault) => fault.text,
            None => format!("status {status}"),
        }
    }

    unsafe fn gemm(&self, g: &Gemm) -> Result<()> {
        let (m, n, k) = (g.m, g.n, g.k);
        // SAFETY: the operands hold their extents.
        let (a, b) = unsafe { (load(&g.a, m, k), load(&g.b, k, n)) };
        // SAFETY: as above.
        let before = unsafe { load(&g.c, m, n) };
        let mut row = vec![0.0f32; n];
        for i in 0..m {
            row.fill(0.0);
            for (a, b) in a[i * k..][..k].iter().zip(b.chunks_exact(n)) {
                row.iter_mut().zip(b).for_each(|(c, b)| *c += a * b);
            }
            for (j, c) in row.iter_mut().enumerate() {
                let old = if g.beta == 0.0 { 0.0 } else { g.beta * before[i * n + j] };
                *c = g.alpha * *c + old;
            }
            // SAFETY: as above.
            unsafe { store(&g.c, i, &row) };
        }
        Ok(())
    }
}

/// A row-major copy of an operand of (rows, cols) after transposition.
unsafe fn load(x: &GemmOperand, rows: usize, cols: usize) -> Vec<f32> {
    let at = |i: usize| {
        // SAFETY: the caller's operand holds these elements.
        match x.element {
            Element::F32 => unsafe { *x.data.cast::<f32>().add(i) },
            Element::Bf16 => {
                half::bf16::from_bits(unsafe { *x.data.cast::<u16>().add(i) }).to_f32()
            }
        }
    };
    let mut all = Vec::with_capacity(rows * cols);
    for i in 0..rows {
        all.extend((0..cols).map(|j| match x.transposed {
            false => at(i * x.stride + j),
            true => at(j * x.stride + i),
        }));
    }
    all
}

/// Writes a row, rounding to the operand's type.
unsafe fn store(x: &GemmOperand, i: usize, row: &[f32]) {
    for (j, &v) in row.iter().enumerate() {
        // SAFETY: the caller's operand holds this row.
        match x.element {
            Element::F32 => unsafe { *x.data.cast::<f32>().add(i * x.stride + j) = v },
            Element::Bf16 => unsafe {
                *x.data.cast::<u16>().add(i * x.stride + j) = half::bf16::from_f32(v).to_bits();
            },
        }
    }
}

/// The precision of this backend that tests of `precision` use.
pub fn counterpart(precision: Precision) -> Precision {
    match precision {
        Precision::Bf16Pure => Precision::Bf16Master,
        other => other,
    }
}

/// A backend on the emulator.
pub fn backend(precision: Precision, order: Order, strategy: Strategy, version: i32) -> Cuda {
    let cuda = Cuda::new(Emulated::machine(order), counterpart(precision)).expect("a backend");
    cuda.with_strategy(strategy).with_version(version)
}

/// The backends that every operation is tested on.
pub fn backends(precision: Precision) -> &'static [Cuda] {
    static ALL: [OnceLock<Vec<Cuda>>; 2] = [OnceLock::new(), OnceLock::new()];
    ALL[usize::from(precision == Precision::Bf16Pure)]
        .get_or_init(|| named(precision).into_iter().map(|(_, cuda)| cuda).collect())
}

/// The same backends, freshly made, with names for messages.
pub fn named(precision: Precision) -> Vec<(&'static str, Cuda)> {
    vec![
        ("links", backend(precision, Order::Forward, Strategy::Links, 0)),
        ("links, naive", backend(precision, Order::Reverse, Strategy::Links, 1)),
        ("links, second version", backend(precision, Order::Forward, Strategy::Links, 2)),
        ("dense scratch", backend(precision, Order::Random(7), Strategy::Dense, 0)),
    ]
}
