//! The C table of `runtime/api.cpp`, of this program or of a library that stands in for it.

use std::ffi::{CStr, c_char, c_void};
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

/// Mirrors `Api` in `runtime/api.cpp`, field by field.
#[repr(C)]
pub struct Api {
    pub launchers: extern "C" fn() -> *const c_void,
    pub allocate: extern "C" fn(usize) -> *mut c_void,
    pub release: unsafe extern "C" fn(*mut c_void) -> u32,
    pub fill: unsafe extern "C" fn(*mut c_void, u8, usize) -> u32,
    pub set_options: extern "C" fn(u32, u64, u32, u32),
    pub fault_kind: extern "C" fn() -> *const c_char,
    pub fault_text: extern "C" fn() -> *const c_char,
    pub clear_fault: extern "C" fn(),
    pub counters: extern "C" fn(&mut [u64; 3]),
}

unsafe extern "C" {
    fn chtsl_emulation_api() -> *const Api;
}

/// Library named by `CHTSL_EMULATION_LIBRARY`, opened once and never closed.
fn library() -> Option<&'static Library> {
    static OPENED: OnceLock<Option<Library>> = OnceLock::new();
    let opened = OPENED.get_or_init(|| {
        let path = std::env::var_os("CHTSL_EMULATION_LIBRARY").filter(|path| !path.is_empty())?;
        // SAFETY: whoever sets the variable names a library built from kernels/ by this project; its
        // constructors only fill tables.
        match unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) } {
            Ok(library) => Some(library),
            Err(error) => panic!("CHTSL_EMULATION_LIBRARY={}: {error}", path.display()),
        }
    });
    opened.as_ref()
}

/// Address of a function of the library that stands in for the linked kernels; `None` when there is none.
///
/// Panics when the library lacks the function.
pub fn symbol(name: &str) -> Option<*const c_void> {
    let library = library()?;
    // SAFETY: the address is only handed on; who calls it states its type.
    match unsafe { library.get::<*const c_void>(name.as_bytes()) } {
        Ok(found) => Some(*found),
        Err(error) => panic!("CHTSL_EMULATION_LIBRARY: {error}"),
    }
}

pub fn api() -> &'static Api {
    static FOUND: OnceLock<&'static Api> = OnceLock::new();
    FOUND.get_or_init(|| {
        // SAFETY: the symbol is defined by runtime/api.cpp with this type, here and in every library built
        // from it, and returns a table that lives as long as the program.
        unsafe {
            match symbol("chtsl_emulation_api") {
                Some(address) => {
                    let function: extern "C" fn() -> *const Api = std::mem::transmute(address);
                    &*function()
                }
                None => &*chtsl_emulation_api(),
            }
        }
    })
}

/// Copy of a text that the next launch may change.
pub fn text(pointer: *const c_char) -> String {
    // SAFETY: the API hands out terminated strings that live until this thread's next launch.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}
