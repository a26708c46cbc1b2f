//! Dense products through cuBLASLt.
//!
//! The library thinks in columns: a row-major (r, c) matrix is its column-major (c, r) one. So
//! `C = A·B` is asked for as `Cᵀ = Bᵀ·Aᵀ`, with the operands exchanged and nothing moved.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;

use cudarc::cublaslt::sys;

use super::super::driver::{self, Driver, HeuristicResult, LibCublasLt, NOT_SUPPORTED};
use super::super::runtime::{Element, Gemm, GemmOperand};
use crate::error::{Error, Result};

/// Scratch for the library: what its documentation advises for Hopper.
const WORKSPACE_BYTES: usize = 32 << 20;

/// Partial sums, if any, go through the workspace in f32: never in place and never in bf16.
const REDUCTIONS: u32 = 2;

/// What the choice of an algorithm depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    extents: [usize; 3],
    strides: [usize; 3],
    transposed: [bool; 2],
    bf16: [bool; 2],
    alignments: [u32; 3],
}

impl Shape {
    fn new(g: &Gemm) -> Self {
        let alignment = |x: &GemmOperand| 1u32 << (x.data as usize).trailing_zeros().min(8);
        Shape {
            extents: [g.m, g.n, g.k],
            strides: [g.a.stride, g.b.stride, g.c.stride],
            transposed: [g.a.transposed, g.b.transposed],
            bf16: [g.a.element == Element::Bf16, g.c.element == Element::Bf16],
            alignments: [&g.a, &g.b, &g.c].map(alignment),
        }
    }
}

/// Something of the library's, given back when dropped.
struct Object {
    pointer: *mut c_void,
    destroy: unsafe extern "C" fn(*mut c_void) -> c_int,
}

impl Object {
    /// What `create` writes. Errors: its status.
    fn new(
        destroy: unsafe extern "C" fn(*mut c_void) -> c_int,
        create: impl FnOnce(&mut *mut c_void) -> c_int,
    ) -> Result<Self, c_int> {
        let mut pointer = std::ptr::null_mut();
        done(create(&mut pointer))?;
        Ok(Object { pointer, destroy })
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: made together with this function, used by nobody else.
        unsafe { (self.destroy)(self.pointer) };
    }
}

/// The library's scratch.
struct Workspace {
    pointer: u64,
    free: unsafe extern "C" fn(u64) -> c_int,
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // SAFETY: from cuMemAlloc, used by nobody else. Waits for products that use it.
        unsafe { (self.free)(self.pointer) };
    }
}

/// A product that has been set up.
struct Plan {
    description: Object,
    layouts: [Object; 3],
    algorithm: sys::cublasLtMatmulAlgo_t,
}

/// The library's handle, its workspace and the plans made so far: the heuristic is asked once per
/// shape, so that a shape is always computed the same way.
pub(super) struct Dense {
    // Dropped in this order: plans belong to the handle, products use the workspace.
    plans: HashMap<Shape, Plan>,
    workspace: Workspace,
    handle: Object,
    library: LibCublasLt,
}

// SAFETY: the handle may be used from any thread, one at a time: the owner keeps it behind a lock.
unsafe impl Send for Dense {}

fn done(status: c_int) -> Result<(), c_int> {
    if status == 0 { Ok(()) } else { Err(status) }
}

fn failed(what: &str, g: Option<&Gemm>, status: c_int) -> Error {
    let shape =
        g.map_or(String::new(), |g| format!(" for {}x{}x{} of {:?}", g.m, g.n, g.k, g.a.element));
    let (fault, advice) = driver::dense_fault(status);
    Error::Device(format!("cuBLASLt {what}{shape}: {fault}: {advice}"))
}

impl Dense {
    /// Opens the library on the current context.
    pub fn new(driver: &Driver) -> Result<Self> {
        let library = driver.dense.functions;
        // SAFETY: one pointer, a context is current.
        let create = |made: &mut _| unsafe { (library.cublasLtCreate)(made) };
        let handle = Object::new(library.cublasLtDestroy, create)
            .map_err(|status| failed("does not start", None, status))?;
        let mut pointer = 0;
        // SAFETY: one device pointer.
        driver.check("cuMemAlloc", unsafe {
            (driver.functions().cuMemAlloc_v2)(&mut pointer, WORKSPACE_BYTES)
        })?;
        let workspace = Workspace { pointer, free: driver.functions().cuMemFree_v2 };
        Ok(Dense { plans: HashMap::new(), workspace, handle, library })
    }

    /// # Safety
    /// The operands hold their extents; a context is current.
    pub unsafe fn multiply(&mut self, g: &Gemm, stream: *mut c_void) -> Result<()> {
        if g.a.element != g.b.element || g.c.transposed {
            return Err(Error::shape("gemm", "operands of one type and a plain result", "others"));
        }
        let shape = Shape::new(g);
        let plan = match self.plans.entry(shape) {
            Entry::Occupied(made) => made.into_mut(),
            Entry::Vacant(free) => {
                let plan = Plan::new(&self.library, &self.handle, g, &shape.alignments);
                free.insert(plan.map_err(|status| match status {
                    NOT_SUPPORTED => failed("has no algorithm", Some(g), status),
                    _ => failed("cannot set up a product", Some(g), status),
                })?)
            }
        };
        let [of_b, of_a, of_c] = plan.layouts.each_ref().map(|layout| layout.pointer);
        // SAFETY: layouts and operands belong together, the workspace has the size that the plan was
        // made for, and the caller vouches for the rest.
        done(unsafe {
            (self.library.cublasLtMatmul)(
                self.handle.pointer,
                plan.description.pointer,
                (&raw const g.alpha).cast(),
                g.b.data,
                of_b,
                g.a.data,
                of_a,
                (&raw const g.beta).cast(),
                g.c.data,
                of_c,
                g.c.data,
                of_c,
                &plan.algorithm,
                self.workspace.pointer as *mut c_void,
                WORKSPACE_BYTES,
                stream,
            )
        })
        .map_err(|status| failed("fails in a product", Some(g), status))
    }
}

impl Plan {
    /// Errors: the status of what failed.
    fn new(
        library: &LibCublasLt,
        handle: &Object,
        g: &Gemm,
        alignments: &[u32; 3],
    ) -> Result<Self, c_int> {
        let (compute, single) =
            (sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, sys::cudaDataType::CUDA_R_32F);
        let description = Object::new(library.cublasLtMatmulDescDestroy, |made| {
            // SAFETY: one pointer.
            unsafe { (library.cublasLtMatmulDescCreate)(made, compute, single) }
        })?;
        use sys::cublasLtMatmulDescAttributes_t as Of;
        for (which, transposed) in [
            (Of::CUBLASLT_MATMUL_DESC_TRANSA, g.b.transposed),
            (Of::CUBLASLT_MATMUL_DESC_TRANSB, g.a.transposed),
        ] {
            let value = i32::from(transposed); // CUBLAS_OP_N = 0, CUBLAS_OP_T = 1
            let set = library.cublasLtMatmulDescSetAttribute;
            // SAFETY: the attribute is an i32.
            done(unsafe { set(description.pointer, which, (&raw const value).cast(), 4) })?;
        }
        // Stored row-major (rows, cols) is column-major (cols, rows).
        let layout = |x: &GemmOperand, rows: usize, cols: usize| {
            let (rows, cols) = if x.transposed { (cols, rows) } else { (rows, cols) };
            let kind = match x.element {
                Element::F32 => sys::cudaDataType::CUDA_R_32F,
                Element::Bf16 => sys::cudaDataType::CUDA_R_16BF,
            };
            let create = library.cublasLtMatrixLayoutCreate;
            Object::new(library.cublasLtMatrixLayoutDestroy, |made| {
                // SAFETY: one pointer.
                unsafe { create(made, kind, cols as u64, rows as u64, x.stride as i64) }
            })
        };
        let layouts = [layout(&g.b, g.k, g.n)?, layout(&g.a, g.m, g.k)?, layout(&g.c, g.m, g.n)?];
        let preference = preference(library, alignments)?;

        let mut found = MaybeUninit::<HeuristicResult>::zeroed();
        let mut count = 0;
        let [of_b, of_a, of_c] = layouts.each_ref().map(|layout| layout.pointer);
        // SAFETY: all of them were made above; there is room for one result.
        done(unsafe {
            (library.cublasLtMatmulAlgoGetHeuristic)(
                handle.pointer,
                description.pointer,
                of_b,
                of_a,
                of_c,
                of_c,
                preference.pointer,
                1,
                found.as_mut_ptr(),
                &mut count,
            )
        })?;
        // SAFETY: zeros, or what the library wrote; all fields are numbers.
        let found = unsafe { found.assume_init() };
        if count < 1 {
            return Err(NOT_SUPPORTED);
        }
        done(found.status)?;
        Ok(Plan { description, layouts, algorithm: found.algorithm })
    }
}

/// What an algorithm may use and rely on.
fn preference(library: &LibCublasLt, alignments: &[u32; 3]) -> Result<Object, c_int> {
    let create = library.cublasLtMatmulPreferenceCreate;
    let preference = Object::new(library.cublasLtMatmulPreferenceDestroy, |made| {
        // SAFETY: one pointer.
        unsafe { create(made) }
    })?;
    use sys::cublasLtMatmulPreferenceAttributes_t as Want;
    let set = |which, value: *const c_void, bytes| {
        // SAFETY: the attributes below have these sizes.
        done(unsafe {
            (library.cublasLtMatmulPreferenceSetAttribute)(preference.pointer, which, value, bytes)
        })
    };
    let (workspace, reductions) = (WORKSPACE_BYTES as u64, REDUCTIONS);
    set(Want::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (&raw const workspace).cast(), 8)?;
    set(Want::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, (&raw const reductions).cast(), 4)?;
    let [a, b, c] = alignments;
    for (which, value) in [
        (Want::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, b),
        (Want::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, a),
        (Want::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, c),
        (Want::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, c),
    ] {
        set(which, (value as *const u32).cast(), 4)?;
    }
    Ok(preference)
}
