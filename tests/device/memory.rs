//! Memory, the order of work on it, its time.

use std::sync::Arc;
use std::time::Duration;

use chtsl::backend::cuda::runtime::Runtime;
use chtsl::backend::{Activity, Backend, Cuda, Times, Work};
use chtsl::config::Precision;
use chtsl::error::Error;

use crate::products::{Case, product};
use crate::stand_ins::{Piece, Stub, launchers, on_stand_ins, open, sentence};

fn memory_is_used_in_order_body(_: &Stub) {
    let device = open().unwrap();
    assert!(std::ptr::eq(device.launchers(), launchers()));
    let first: Vec<u8> = (0..1000).map(|i| i as u8).collect();
    let second: Vec<u8> = (0..1000).map(|i| (i * 7 + 3) as u8).collect();
    let mut source = first.clone();
    let a = Piece::new(&device, 1000);
    let b = Piece::new(&device, 1000);
    assert_eq!((a.at as usize % 256, b.at as usize % 256), (0, 0));
    // SAFETY: 1000 bytes everywhere, or less.
    unsafe {
        device.upload(a.at, &source).unwrap();
        // The source may be used again, whenever the device gets to the copy.
        source.copy_from_slice(&second);
        device.copy(b.at, a.at, 1000).unwrap();
        device.upload(a.at, &source).unwrap();
        source.fill(0);
        device.clear(b.at, 10).unwrap();
        device.copy(a.at.wrapping_byte_add(900), b.at.wrapping_byte_add(5), 100).unwrap();
        device.clear(b.at.wrapping_byte_add(999), 1).unwrap();
    }
    let mut expected_b = first.clone();
    expected_b[..10].fill(0);
    let mut expected_a = second.clone();
    expected_a[900..].copy_from_slice(&expected_b[5..105]);
    expected_b[999] = 0;
    assert_eq!(a.read(), expected_a);
    assert_eq!(b.read(), expected_b);
    // Memory may go while work that uses it is still to come.
    let c = Piece::new(&device, 1000);
    // SAFETY: 1000 bytes.
    unsafe { device.copy(c.at, a.at, 1000).unwrap() };
    drop(a);
    assert_eq!(c.read(), expected_a);
}

#[test]
fn memory_is_used_in_order() {
    for tables in ["0", "1"] {
        let env = [("STUB_HOST_PAGE_TABLES", tables)];
        on_stand_ins("memory::memory_is_used_in_order", &env, memory_is_used_in_order_body);
    }
}

#[test]
fn work_is_timed() {
    on_stand_ins("memory::work_is_timed", &[], |stub| {
        let device = open().unwrap();
        let a = Piece::new(&device, 8);
        // SAFETY: 8 bytes.
        let clear = || unsafe { device.clear(a.at, 8) }.unwrap();
        clear();
        let time = device.time(&mut || (0..3).for_each(|_| clear())).unwrap();
        clear();
        assert_eq!(time, Duration::from_millis(3));
        assert_eq!(stub.live("events"), 0);
    });
}

/// The stand-in's device takes a millisecond for everything.
#[test]
fn marks_divide_the_time_of_the_device() {
    on_stand_ins("memory::marks_divide_the_time_of_the_device", &[], |stub| {
        let cuda = Cuda::new(Arc::new(open().unwrap()), Precision::F32).unwrap();
        let mut x = cuda.buf(8).unwrap();
        let mut clear = |n: usize| (0..n).for_each(|_| cuda.zero(&mut x).unwrap());
        clear(5);
        assert_eq!(cuda.times().unwrap(), Times::default(), "nothing was marked yet");
        cuda.mark(Activity::Attention.into());
        clear(2);
        cuda.mark(Work::branches(3, 1));
        clear(4);
        let mut want = Times::default();
        want.add(Activity::Attention.into(), 0.002);
        want.add(Activity::Sparse.into(), 0.003);
        want.add(Activity::LowRank.into(), 0.001);
        let told = |t: Times| Activity::ALL.map(|a| (1e6 * t.of(a)).round());
        assert_eq!(told(cuda.times().unwrap()), told(want));
        clear(1);
        want.add(Work::branches(3, 1), 0.001);
        assert_eq!(told(cuda.times().unwrap()), told(want));
        // More marks than are kept.
        for _ in 0..20_000 {
            cuda.mark(Activity::Head.into());
        }
        assert_eq!(told(cuda.times().unwrap()), told(want));
        let (taken, free) = cuda.device_memory().unwrap();
        assert!(taken > 32 << 20 && free > taken, "{taken} {free}");
        drop(x);
        drop(cuda);
        assert_eq!(stub.live("events"), 0);
    });
}

#[test]
fn memory_that_is_not_there() {
    on_stand_ins("memory::memory_that_is_not_there", &[], |stub| {
        let device = open().unwrap();
        let a = Piece::new(&device, 1 << 20);
        // 39 of 40 GiB are free, less the library's 32 MiB and the piece above.
        for _ in 0..2 {
            let Err(Error::Memory(text)) = device.allocate(50_000_000_000) else { panic!() };
            let told =
                "Stub A100: cannot allocate 50000.0 MB, 41841.3 of 42949.7 MB are free; lower";
            assert!(text.starts_with(told) && text.lines().count() == 1, "{text}");
        }
        // It is no fault of the device's.
        product(&device, &Case::default());
        drop(a);
        // Before there is a device, it is the reason why there is none.
        drop(device);
        for name in ["cuMemAlloc_v2", "cuStreamCreate"] {
            stub.fail(name, 1, 2);
            sentence(open(), &["the device is out of memory: error 2", "or use --device cpu"]);
        }
    });
}
