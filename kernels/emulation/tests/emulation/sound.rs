//! Sound kernels pass, in every order and on several host threads.

use chtsl_emulation as emulation;
use emulation::{Options, Order};

use crate::planted::{Planted, family, orders};

fn named(name: &str) -> Planted {
    let all = family("sound").into_iter().chain(family("loose"));
    all.into_iter().find(|p| p.kernel == name).unwrap()
}

#[test]
fn sound_kernels_pass() {
    for planted in family("sound") {
        for options in orders() {
            emulation::clear_fault();
            let (status, out) = planted.run(options);
            let fault = emulation::last_fault().map(|f| f.text);
            assert!(
                status == 0 && fault.is_none(),
                "{} {:?}: {status} {fault:?}",
                planted.kernel,
                options.order
            );
            let wrong: Vec<usize> = (0..256).filter(|&i| out[i] != 1.0).collect();
            assert!(wrong.is_empty(), "{} {:?}: wrong at {wrong:?}", planted.kernel, options.order);
        }
    }
}

#[test]
fn blocks_spread_over_host_threads() {
    let planted = named("several_blocks");
    for order in [Order::Forward, Order::Reverse, Order::Random(3)] {
        for host_threads in [2, 4, 9] {
            let (status, out) = planted.run(Options { order, host_threads, ..Options::default() });
            assert_eq!((status, out), (0, vec![1.0; 256]));
        }
    }
}

#[test]
fn a_fault_on_another_host_thread_comes_back() {
    let planted = family("global").into_iter().find(|p| p.kernel == "blocks_overlap").unwrap();
    emulation::clear_fault();
    let (status, _) = planted.run(Options { host_threads: 2, ..Options::default() });
    assert_eq!(status, emulation::LAUNCH_FAILURE);
    assert_eq!(emulation::last_fault().unwrap().kind, "blocks overlap");
}

#[test]
fn float_atomics_show_their_order() {
    let planted = named("sum_in_any_order");
    let sums = orders().map(|options| planted.run(options).1[0]);
    assert!(sums.iter().all(|sum| (sum - sums[0]).abs() < 1e-5), "{sums:?}");
    assert!(sums[0] != sums[1] || sums[0] != sums[2], "{sums:?}");
    let again = orders().map(|options| planted.run(options).1[0]);
    assert_eq!(sums, again, "an order is a function of the options");
}

#[test]
fn blocks_may_meet_when_they_are_allowed_to() {
    let planted = named("sum_of_blocks");
    let (status, _) = planted.run(Options::default());
    assert_eq!(status, emulation::LAUNCH_FAILURE);
    let (status, out) = planted.run(Options { blocks_disjoint: false, ..Options::default() });
    assert_eq!((status, out[0]), (0, 192.0));
}

#[test]
fn bank_passes_are_counted() {
    for (kernel, passes) in [("matrix_rows<16>", 1), ("matrix_rows<128>", 8)] {
        let before = emulation::counters();
        assert_eq!(named(kernel).run(Options::default()).0, 0);
        let after = emulation::counters();
        assert_eq!(after.matrices - before.matrices, 2, "{kernel}: one per warp");
        assert_eq!(after.matrix_passes - before.matrix_passes, 2 * passes, "{kernel}");
        assert!(after.fiber_switches > before.fiber_switches);
    }
}
