//! Memory, options and faults as host code sees them.

use chtsl_emulation as emulation;
use emulation::{Options, Order};

use crate::planted::family;

#[test]
fn memory_begins_as_nan_on_256_bytes() {
    for bytes in [1, 2, 255, 4096, 1 << 20] {
        let memory = emulation::alloc(bytes);
        assert_eq!(memory as usize % 256, 0);
        // SAFETY: the buffer has `bytes` bytes and is not used after it is freed.
        unsafe {
            assert!(
                std::slice::from_raw_parts(memory.cast::<u8>(), bytes).iter().all(|&b| b == 0xFF)
            );
            emulation::fill(memory, 3, bytes).unwrap();
            assert!(std::slice::from_raw_parts(memory.cast::<u8>(), bytes).iter().all(|&b| b == 3));
            assert!(emulation::fill(memory, 3, bytes + 1).is_err());
            assert!(emulation::fill(memory.byte_sub(1), 3, 1).is_err());
            emulation::free(memory).unwrap();
        }
    }
    assert!(emulation::alloc(usize::MAX / 2).is_null());
}

#[test]
fn a_touched_margin_is_found() {
    for offset in [-256isize, -1, 1000, 1255] {
        let memory = emulation::alloc(1000);
        // SAFETY: at least 256 bytes on both sides are mapped; that they may not be written is the point.
        unsafe {
            memory.cast::<u8>().offset(offset).write(7);
            let text = emulation::free(memory).unwrap_err();
            assert!(text.contains("overwritten"), "{text}");
        }
    }
}

#[test]
fn only_buffers_can_be_freed() {
    let mut local = 0u8;
    let memory = emulation::alloc(16);
    // SAFETY: nothing is used after it is freed.
    unsafe {
        assert!(emulation::free((&raw mut local).cast()).is_err());
        assert!(emulation::free(memory.byte_add(1)).is_err());
        emulation::free(memory).unwrap();
        assert!(emulation::free(memory).is_err(), "twice");
    }
}

#[test]
fn options_belong_to_the_thread_and_come_back() {
    let reverse = Options { order: Order::Reverse, host_threads: 2, blocks_disjoint: false };
    emulation::set_options(reverse);
    assert_eq!(emulation::options(), reverse);
    std::thread::spawn(|| assert_eq!(emulation::options(), Options::default())).join().unwrap();
    let random = Options { order: Order::Random(5), ..Options::default() };
    emulation::with_options(random, || assert_eq!(emulation::options(), random));
    assert_eq!(emulation::options(), reverse);
    let panicked =
        std::panic::catch_unwind(|| emulation::with_options(random, || panic!("on purpose")));
    assert!(panicked.is_err());
    assert_eq!(emulation::options(), reverse);
}

#[test]
fn parallel_threads_do_not_meet() {
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                let (faulty, sound) = (family("shared"), family("sound"));
                for round in 0..20 {
                    emulation::clear_fault();
                    if (thread + round) % 2 == 0 {
                        let planted = &faulty[round % faulty.len()];
                        assert_eq!(
                            planted.run(Options::default()).0,
                            emulation::LAUNCH_FAILURE,
                            "{}",
                            planted.kernel
                        );
                        assert!(emulation::last_fault().unwrap().text.contains(&planted.kernel));
                    } else {
                        let planted = &sound[round % sound.len()];
                        assert_eq!(
                            planted.run(Options::default()),
                            (0, vec![1.0; 256]),
                            "{}",
                            planted.kernel
                        );
                        assert_eq!(emulation::last_fault(), None);
                    }
                }
            });
        }
    });
}
