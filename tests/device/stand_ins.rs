//! A process with the stand-ins, what they tell and are told, and memory of a device on them.

use std::ffi::{CString, c_char, c_int, c_long, c_void};
use std::process::Command;

use chtsl::backend::cuda::device::Device;
use chtsl::backend::cuda::driver::{self, CudaVersion, Driver, Toolkit};
use chtsl::backend::cuda::runtime::{Launchers, Runtime};
use chtsl::error::{Error, Result};
use libloading::Library;

use crate::stubs::Stubs;

/// Set in the processes that have the stand-ins.
const INSIDE: &str = "DEVICE_TEST_INSIDE";

/// Runs `body` in a process of its own, with `env`, on the machine with stand-ins. `test` is the path of
/// the test that calls this. Afterwards nothing may be left, and nothing may have been misused.
pub fn on_stand_ins(test: &str, env: &[(&str, &str)], body: fn(&Stub)) {
    if std::env::var_os(INSIDE).is_some() {
        let stub = Stub::new();
        body(&stub);
        assert_eq!(stub.misuses(), 0, "the stand-ins tell of each above");
        assert_eq!(stub.left(), 0, "the stand-ins tell of each above");
        return println!("\nthe body ran");
    }
    let stubs = Stubs::new();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let out = stubs.output(command, env);
    let said = [out.stdout, out.stderr].map(|b| String::from_utf8_lossy(&b).into_owned()).concat();
    assert!(out.status.success() && said.contains("\nthe body ran\n"), "{env:?}: {said}");
}

/// What the driver's stand-in tells and is told.
pub struct Stub(Library);

impl Stub {
    fn new() -> Self {
        // SAFETY: our own library; it stays loaded.
        Stub(unsafe { Library::new("libcuda.so.1") }.expect("the stand-in"))
    }

    fn number(&self, name: &str) -> c_long {
        // SAFETY: stub_misuses, stub_live_in_all: no arguments, a long.
        unsafe { self.0.get::<unsafe extern "C" fn() -> c_long>(name.as_bytes()).unwrap()() }
    }

    pub fn misuses(&self) -> c_long {
        self.number("stub_misuses")
    }

    /// Objects of any kind that exist.
    pub fn left(&self) -> c_long {
        self.number("stub_live_in_all")
    }

    fn count(&self, function: &str, of: &str) -> c_long {
        let of = CString::new(of).unwrap();
        // SAFETY: stub_live, stub_calls: a string, a long.
        unsafe {
            let f =
                self.0.get::<unsafe extern "C" fn(*const c_char) -> c_long>(function.as_bytes());
            f.unwrap()(of.as_ptr())
        }
    }

    pub fn live(&self, kind: &str) -> c_long {
        self.count("stub_live", kind)
    }

    pub fn calls(&self, name: &str) -> c_long {
        self.count("stub_calls", name)
    }

    /// The `nth` call of a function from now on fails.
    pub fn fail(&self, name: &str, nth: c_int, code: c_int) {
        let name = CString::new(name).unwrap();
        // SAFETY: stub_fail: a string, two ints.
        unsafe {
            let f = self.0.get::<unsafe extern "C" fn(*const c_char, c_int, c_int)>(b"stub_fail");
            f.unwrap()(name.as_ptr(), nth, code);
        }
    }

    /// Whether that failure happened.
    pub fn failed(&self) -> bool {
        // SAFETY: no arguments, an int.
        unsafe {
            let f = self.0.get::<unsafe extern "C" fn() -> c_int>(b"stub_failure_is_planned");
            f.unwrap()() == 0
        }
    }

    /// A kernel that ends in an error, which the device notices now or when somebody waits.
    pub fn launch(&self, device: &Device, code: c_int, noticed: bool) {
        // SAFETY: a stream, an int; a stream.
        unsafe {
            let f = self.0.get::<unsafe extern "C" fn(*mut c_void, c_int)>(b"stub_launch");
            f.unwrap()(device.stream(), code);
            if noticed {
                self.0.get::<unsafe extern "C" fn(*mut c_void)>(b"stub_run").unwrap()(
                    device.stream(),
                );
            }
        }
    }

    /// Forgets the error that stayed.
    pub fn start_again(&self) {
        // SAFETY: no arguments.
        unsafe { self.0.get::<unsafe extern "C" fn()>(b"stub_start_again").unwrap()() }
    }
}

pub fn launchers() -> &'static Launchers {
    // SAFETY: the table lives as long as the program and was compiled from the same header.
    unsafe { &*chtsl_emulation::launchers().cast::<Launchers>() }
}

pub fn open_driver() -> Result<Driver> {
    let version = CudaVersion::parse("13.0").unwrap();
    driver::open_for(&Toolkit { version, dir: std::env::temp_dir() })
}

pub fn open() -> Result<Device> {
    Device::new(open_driver()?, launchers())
}

/// A piece of device memory that is given back.
pub struct Piece<'a> {
    device: &'a Device,
    pub at: *mut c_void,
    bytes: usize,
}

impl<'a> Piece<'a> {
    pub fn new(device: &'a Device, bytes: usize) -> Self {
        Piece { device, at: device.allocate(bytes).unwrap(), bytes }
    }

    pub fn holding(device: &'a Device, data: &[u8]) -> Self {
        let piece = Piece::new(device, data.len());
        // SAFETY: as many bytes.
        unsafe { device.upload(piece.at, data) }.unwrap();
        piece
    }

    pub fn read(&self) -> Vec<u8> {
        let mut data = vec![0; self.bytes];
        // SAFETY: as many bytes.
        unsafe { self.device.download(&mut data, self.at) }.unwrap();
        data
    }
}

impl Drop for Piece<'_> {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, used by nobody else.
        unsafe { self.device.free(self.at) };
    }
}

/// The one sentence of a device's error with all of `parts`.
pub fn sentence<T>(result: Result<T>, parts: &[&str]) -> String {
    let text = match result {
        Err(Error::Device(text)) => text,
        Err(e) => panic!("not a device's error: {e:?}"),
        Ok(_) => panic!("no error, expected {parts:?}"),
    };
    assert_eq!(text.lines().count(), 1, "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    text
}
