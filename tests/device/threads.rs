//! Contexts belong to threads, devices do not.

use std::ffi::c_void;
use std::sync::Arc;

use chtsl::backend::cuda::device::Device;
use chtsl::backend::cuda::runtime::Runtime;

use crate::products::{Case, product};
use crate::stand_ins::{Piece, launchers, on_stand_ins, open, open_driver};

/// Every call works as a thread's first, the last one too.
#[test]
fn threads_that_never_had_the_context() {
    on_stand_ins("threads::threads_that_never_had_the_context", &[], |stub| {
        fn on_new_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
            std::thread::scope(|s| s.spawn(work).join().unwrap())
        }
        let driver = on_new_thread(|| open_driver().unwrap());
        let device = Arc::new(on_new_thread(|| Device::new(driver, launchers()).unwrap()));
        let d = &device;
        let allocate = || on_new_thread(|| d.allocate(64).unwrap() as usize) as *mut c_void;
        let (a, b) = (allocate(), allocate());
        let (a_at, b_at) = (a as usize, b as usize);
        let data: Vec<u8> = (1..65).collect();
        // SAFETY: 64 bytes everywhere.
        unsafe {
            on_new_thread(|| d.upload(a_at as *mut c_void, &data)).unwrap();
            on_new_thread(|| d.copy(b_at as *mut c_void, a_at as *const c_void, 64)).unwrap();
            on_new_thread(|| d.clear(a_at as *mut c_void, 64)).unwrap();
            on_new_thread(|| d.synchronize()).unwrap();
            let mut read = vec![0; 64];
            on_new_thread(|| d.download(&mut read, b_at as *const c_void)).unwrap();
            assert_eq!(read, data);
            on_new_thread(|| d.time(&mut || ())).unwrap();
            on_new_thread(|| product(d, &Case::default()));
            on_new_thread(|| d.free(a_at as *mut c_void));
            on_new_thread(|| d.free(b_at as *mut c_void));
        }
        on_new_thread(move || drop(device));
        assert_eq!(stub.misuses(), 0);
    });
}

/// Threads that share a device, all at once.
#[test]
fn threads_do_not_disturb_each_other() {
    on_stand_ins("threads::threads_do_not_disturb_each_other", &[], |_| {
        let device = open().unwrap();
        std::thread::scope(|s| {
            for t in 0..4u8 {
                let device = &device;
                s.spawn(move || {
                    for i in 0..20u8 {
                        let data = vec![t * 20 + i; 300];
                        let from = Piece::holding(device, &data);
                        let to = Piece::new(device, 300);
                        // SAFETY: 300 bytes.
                        unsafe { device.copy(to.at, from.at, 300) }.unwrap();
                        product(device, &Case { m: 1 + i as usize % 3, ..Case::default() });
                        assert_eq!(to.read(), data);
                    }
                });
            }
        });
    });
}
