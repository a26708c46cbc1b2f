//! Calls of launchers, and what their status means.

use super::bindings::{
    CHTSL_BAD_ALIGNMENT, CHTSL_BAD_SHAPE, CHTSL_OK, CHTSL_TOO_LARGE, CHTSL_UNSUPPORTED,
};
use super::runtime::Runtime;
use crate::error::{Error, Result};

/// Turns a launcher's status into a result.
pub(super) fn check(runtime: &dyn Runtime, name: &'static str, status: i32) -> Result<()> {
    let refused = |why: &str| Err(Error::shape(name, "arguments that the kernel can take", why));
    match status {
        CHTSL_OK => Ok(()),
        CHTSL_BAD_SHAPE => refused("extents that disagree or a missing operand"),
        CHTSL_BAD_ALIGNMENT => refused("a pointer or stride off 16 bytes"),
        CHTSL_TOO_LARGE => refused("an extent beyond what its grid can index"),
        CHTSL_UNSUPPORTED => refused("a type, rank or version that it does not have"),
        code => Err(Error::Device(format!("{name}: {}", runtime.fault(code)))),
    }
}

/// `launch!(cuda, spmm_forward(w, values, x, y, version))`: calls a launcher of the table with the
/// backend's stream as its last argument and turns the status into a `Result`.
///
/// Every call is sound for the same reason: arguments are made by `raw()` methods of memory that the
/// caller borrows, whose extents the wrapper has compared, and the launcher checks them again.
macro_rules! launch {
    ($cuda:expr, $name:ident($($argument:expr),* $(,)?)) => {{
        let runtime = $cuda.runtime();
        let launcher = runtime.launchers().$name.expect("a complete table of launchers");
        // SAFETY: see the macro.
        let status = unsafe { launcher($($argument,)* runtime.stream()) };
        $crate::backend::cuda::launch::check(runtime, stringify!($name), status)
    }};
}
/// `query!(cuda, alignment_scratch(rows, tokens))`: asks a launcher's companion for a size.
macro_rules! query {
    ($cuda:expr, $name:ident($($argument:expr),* $(,)?)) => {{
        let ask = $cuda.runtime().launchers().$name.expect("a complete table of launchers");
        // SAFETY: queries compute with their arguments and touch no memory.
        unsafe { ask($($argument),*) }
    }};
}
pub(super) use launch;
pub(super) use query;
