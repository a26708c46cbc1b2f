//! Dense products through cuBLASLt.
//!
//! The library thinks in columns: a row-major (r, c) matrix is its column-major (c, r) one. So
//! `C = A·B` is asked for as `Cᵀ = Bᵀ·Aᵀ`, with the operands exchanged and nothing moved.

use std::collections::HashMap;
use std::ffi::c_void;

use cudarc::cublaslt::{result, sys};

use super::super::driver::Driver;
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

/// A product that has been set up.
struct Plan {
    description: sys::cublasLtMatmulDesc_t,
    layouts: [sys::cublasLtMatrixLayout_t; 3],
    algorithm: sys::cublasLtMatmulAlgo_t,
}

/// The library's handle, its workspace and the plans made so far: the heuristic is asked once per
/// shape, so that a shape is always computed the same way.
pub(super) struct Dense {
    handle: sys::cublasLtHandle_t,
    workspace: u64,
    free: unsafe extern "C" fn(u64) -> i32,
    plans: HashMap<Shape, Plan>,
}

// SAFETY: the handle may be used from any thread, one at a time: the owner keeps it behind a lock.
unsafe impl Send for Dense {}

fn failed(what: &str, g: Option<&Gemm>, error: result::CublasError) -> Error {
    let shape = g.map_or(String::new(), |g| format!(" for {}x{}x{}", g.m, g.n, g.k));
    Error::Device(format!("cuBLASLt {what}{shape}: {error}"))
}

impl Dense {
    /// Opens the library on the current context.
    pub fn new(driver: &Driver) -> Result<Self> {
        let handle = result::create_handle().map_err(|e| failed("start", None, e))?;
        let mut workspace = 0;
        // SAFETY: one device pointer.
        driver.check("cuMemAlloc", unsafe {
            (driver.functions().cuMemAlloc_v2)(&mut workspace, WORKSPACE_BYTES)
        })?;
        let free = driver.functions().cuMemFree_v2;
        Ok(Dense { handle, workspace, free, plans: HashMap::new() })
    }

    /// # Safety
    /// The operands hold their extents; a context is current.
    pub unsafe fn multiply(&mut self, g: &Gemm, stream: *mut c_void) -> Result<()> {
        if g.a.element != g.b.element || g.c.transposed {
            return Err(Error::shape("gemm", "operands of one type and a plain result", "others"));
        }
        let shape = Shape::new(g);
        if !self.plans.contains_key(&shape) {
            let plan = Plan::new(self.handle, g, &shape.alignments)?;
            self.plans.insert(shape, plan);
        }
        let plan = &self.plans[&shape];
        let [of_b, of_a, of_c] = plan.layouts;
        // SAFETY: layouts and operands belong together, the workspace has the size that the plan was
        // made for, and the caller vouches for the rest.
        unsafe {
            result::matmul(
                self.handle,
                plan.description,
                (&raw const g.alpha).cast(),
                (&raw const g.beta).cast(),
                g.b.data,
                of_b,
                g.a.data,
                of_a,
                g.c.data,
                of_c,
                g.c.data,
                of_c,
                &plan.algorithm,
                self.workspace as *mut c_void,
                WORKSPACE_BYTES,
                stream.cast(),
            )
        }
        .map_err(|e| failed("product", Some(g), e))
    }
}

impl Plan {
    fn new(handle: sys::cublasLtHandle_t, g: &Gemm, alignments: &[u32; 3]) -> Result<Self> {
        let wrong = |e| failed("set-up", Some(g), e);
        let (compute, single) =
            (sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, sys::cudaDataType::CUDA_R_32F);
        let description = result::create_matmul_desc(compute, single).map_err(wrong)?;
        use sys::cublasLtMatmulDescAttributes_t as Of;
        for (which, transposed) in [
            (Of::CUBLASLT_MATMUL_DESC_TRANSA, g.b.transposed),
            (Of::CUBLASLT_MATMUL_DESC_TRANSB, g.a.transposed),
        ] {
            let value = i32::from(transposed); // CUBLAS_OP_N = 0, CUBLAS_OP_T = 1
            // SAFETY: the attribute is an i32.
            unsafe {
                result::set_matmul_desc_attribute(description, which, (&raw const value).cast(), 4)
            }
            .map_err(wrong)?;
        }
        // Stored row-major (rows, cols) is column-major (cols, rows).
        let layout = |x: &GemmOperand, rows: usize, cols: usize| {
            let (rows, cols) = if x.transposed { (cols, rows) } else { (rows, cols) };
            let kind = match x.element {
                Element::F32 => sys::cudaDataType::CUDA_R_32F,
                Element::Bf16 => sys::cudaDataType::CUDA_R_16BF,
            };
            result::create_matrix_layout(kind, cols as u64, rows as u64, x.stride as i64)
                .map_err(wrong)
        };
        let layouts = [layout(&g.b, g.k, g.n)?, layout(&g.a, g.m, g.k)?, layout(&g.c, g.m, g.n)?];

        let preference = result::create_matmul_pref().map_err(wrong)?;
        use sys::cublasLtMatmulPreferenceAttributes_t as Want;
        let (workspace, reductions) = (WORKSPACE_BYTES as u64, REDUCTIONS);
        let set = |which, value: *const c_void, bytes| {
            // SAFETY: the attributes below have these sizes.
            unsafe { result::set_matmul_pref_attribute(preference, which, value, bytes) }
                .map_err(wrong)
        };
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
        let [of_b, of_a, of_c] = layouts;
        // SAFETY: all of them were made above.
        let found = unsafe {
            let found = result::get_matmul_algo_heuristic(
                handle,
                description,
                of_b,
                of_a,
                of_c,
                of_c,
                preference,
            );
            // The preference is of no use any more, whatever came out.
            let _ = result::destroy_matmul_pref(preference);
            found
        };
        let algorithm = found.map_err(|e| failed("has no algorithm", Some(g), e))?.algo;
        Ok(Plan { description, layouts, algorithm })
    }
}

impl Drop for Dense {
    fn drop(&mut self) {
        // SAFETY: everything here was made by this value and is used by nobody else.
        unsafe {
            for plan in self.plans.values() {
                let _ = result::destroy_matmul_desc(plan.description);
                for layout in plan.layouts {
                    let _ = result::destroy_matrix_layout(layout);
                }
            }
            (self.free)(self.workspace);
            let _ = result::destroy_handle(self.handle);
        }
    }
}
