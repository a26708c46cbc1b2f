//! Libraries opened at run time, and their functions by name.

use std::ffi::OsStr;

use libloading::Library;

/// Opens a library for the life of the process: pointers into it stay valid.
///
/// Errors: the loader's own words.
pub fn open(name: impl AsRef<OsStr>) -> Result<&'static Library, String> {
    // SAFETY: loading runs the library's initialisers; NVIDIA's are harmless. It is never closed.
    match unsafe { Library::new(name.as_ref()) } {
        Ok(library) => Ok(Box::leak(Box::new(library))),
        Err(e) => Err(loader_text(&e)),
    }
}

/// Such as "libcuda.so.1: cannot open shared object file: No such file or directory".
fn loader_text(e: &libloading::Error) -> String {
    use std::error::Error;
    e.source().map_or_else(|| e.to_string(), |s| s.to_string())
}

/// A function of `library` under its exported name. Errors: the name, where there is none.
///
/// # Safety
/// `F` must be the function's type.
pub unsafe fn function<F: Copy>(
    library: &'static Library,
    name: &'static str,
) -> Result<F, &'static str> {
    // SAFETY: the caller names the type; the library stays loaded for ever, so the copy stays valid.
    unsafe { library.get::<F>(name.as_bytes()).map(|f| *f) }.map_err(|_| name)
}

/// Declares functions with their types, once, as fields of a table that `new` fills. Codes that say how a
/// call went are plain numbers: a new library may return some that no enumeration has.
macro_rules! entry_points {
    ($(#[$doc:meta])* $table:ident: $($name:ident($($argument:ty),*) -> $returns:ty;)*) => {
        $(#[$doc])*
        #[allow(non_snake_case)]
        #[derive(Clone, Copy, Debug)]
        pub struct $table {
            $(pub $name: unsafe extern "C" fn($($argument),*) -> $returns,)*
        }

        impl $table {
            /// Looks up everything. Errors: the name of a function that is missing.
            pub fn new(library: &'static libloading::Library) -> Result<Self, &'static str> {
                use $crate::backend::cuda::driver::library::function;
                // SAFETY: the types are those of NVIDIA's header.
                unsafe { Ok($table { $($name: function(library, stringify!($name))?,)* }) }
            }
        }
    };
}
pub(super) use entry_points;
