//! The kernels of `tests/planted`, compiled by the build script for these tests alone.

use std::ffi::{CStr, c_char};

use chtsl_emulation as emulation;
use emulation::{Options, Order};

/// Mirrors `Planted` in `planted.h`.
#[repr(C)]
struct Row {
    file: *const c_char,
    kernel: *const c_char,
    kinds: *const c_char,
    launch: unsafe extern "C" fn(*mut f32) -> i32,
}

#[repr(C)]
struct Table {
    rows: *const Row,
    count: usize,
}

type TableFn = unsafe extern "C" fn() -> Table;

macro_rules! tables {
    ($($family:ident $function:ident),*) => {
        unsafe extern "C" {
            $(fn $function() -> Table;)*
        }
        fn linked(family: &str) -> TableFn {
            match family {
                $(stringify!($family) => $function,)*
                _ => panic!("no family {family}"),
            }
        }
    };
}
tables!(
    barriers chtsl_planted_barriers,
    warps chtsl_planted_warps,
    shared chtsl_planted_shared,
    copies chtsl_planted_copies,
    global chtsl_planted_global,
    sound chtsl_planted_sound,
    loose chtsl_planted_loose
);

/// A kernel and what the emulator must say of it.
pub struct Planted {
    /// Name of its file in `tests/planted`.
    pub file: String,
    /// Name of the kernel.
    pub kernel: String,
    /// Kinds of fault of which one is demanded; none for a sound kernel.
    pub kinds: Vec<String>,
    launch: unsafe extern "C" fn(*mut f32) -> i32,
}

/// The kernels of one file.
pub fn family(name: &str) -> Vec<Planted> {
    let table: TableFn = match emulation::symbol(&format!("chtsl_planted_{name}")) {
        // SAFETY: the library is made of the same sources.
        Some(address) => unsafe {
            std::mem::transmute::<*const std::ffi::c_void, TableFn>(address)
        },
        None => linked(name),
    };
    // SAFETY: the function returns a static table of `count` rows whose texts are terminated.
    unsafe {
        let table = table();
        let text = |p| CStr::from_ptr(p).to_str().unwrap();
        std::slice::from_raw_parts(table.rows, table.count)
            .iter()
            .map(|row| Planted {
                file: text(row.file).rsplit('/').next().unwrap().to_string(),
                kernel: text(row.kernel).to_string(),
                kinds: text(row.kinds)
                    .split(',')
                    .filter(|k| !k.is_empty())
                    .map(String::from)
                    .collect(),
                launch: row.launch,
            })
            .collect()
    }
}

impl Planted {
    /// Runs the kernel on 256 zeros; returns the launch's status and what they have become.
    pub fn run(&self, options: Options) -> (i32, Vec<f32>) {
        let bytes = 256 * size_of::<f32>();
        let memory = emulation::alloc(bytes);
        assert!(!memory.is_null());
        // SAFETY: the buffer has 256 floats, nobody else knows it, and it is not used after it is freed.
        unsafe {
            emulation::fill(memory, 0, bytes).unwrap();
            let status = emulation::with_options(options, || (self.launch)(memory.cast()));
            let out = std::slice::from_raw_parts(memory.cast::<f32>(), 256).to_vec();
            emulation::free(memory).unwrap();
            (status, out)
        }
    }

    /// Lines of the kernel's file that belong to it: its body, and the rows of the table that name it.
    pub fn lines(&self) -> Vec<usize> {
        let path = format!("{}/tests/planted/{}", env!("CARGO_MANIFEST_DIR"), self.file);
        let source = std::fs::read_to_string(path).unwrap();
        let name = self.kernel.split('<').next().unwrap();
        let (mut lines, mut inside) = (Vec::new(), false);
        for (index, line) in source.lines().enumerate() {
            let starts = line.contains("__global__") && line.contains(&format!(" {name}("));
            inside = (inside || starts) && !(starts && line.ends_with('}'));
            if inside || line.contains(name) {
                lines.push(index + 1);
            }
            inside &= !line.starts_with('}');
        }
        lines
    }
}

/// Orders that must not matter.
pub fn orders() -> [Options; 3] {
    [Order::Forward, Order::Reverse, Order::Random(7)]
        .map(|order| Options { order, ..Options::default() })
}
