//! Gradients at the links. `include/sddmm.h`

use super::launch::launch;
use super::memory::{Act, Buf};
use super::{Cuda, Strategy, check_act, spmm};
use crate::backend::Csr;
use crate::error::{Result, check_len};

pub(super) fn sddmm(
    cuda: &Cuda,
    w: &Csr<Cuda>,
    dy: &Act,
    x: &Act,
    dvalues: &mut Buf,
) -> Result<()> {
    spmm::check("sddmm", w)?;
    check_act("sddmm", dy, w.index.rows, dy.tokens)?;
    check_act("sddmm", x, w.index.cols, dy.tokens)?;
    check_len("sddmm", "gradients", w.index.nnz, dvalues.len)?;
    dvalues.changed();
    if w.index.nnz == 0 || x.tokens == 0 {
        return Ok(());
    }
    match cuda.strategy {
        Strategy::Links => {
            launch!(cuda, sddmm(w.index.csr(), dy.raw(), x.raw(), dvalues.raw(), cuda.version))
        }
        Strategy::Dense => spmm::gathered_gradient(cuda, w, dy, x, dvalues.raw()),
    }
}
