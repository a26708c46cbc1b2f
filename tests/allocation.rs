//! Buffers are planned once: after the first updates a training step allocates nothing of the size of
//! an activation, a gradient or a weight.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use chtsl::backend::Cpu;
use chtsl::config::{Precision, layers};
use chtsl::data::{Dataset, DatasetOptions};
use chtsl::train::{RunOptions, Trainer};

/// Smallest buffer that counts: the activations below have 128 KiB and more.
const LARGE: usize = 32 << 10;

struct Counting;

static LARGE_ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes every call on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LARGE {
            LARGE_ALLOCATIONS.fetch_add(1, SeqCst);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_step_makes_no_buffers() {
    for method in ["chtsl", "dense"] {
        let sets = [
            "model.hidden=64",
            "model.intermediate=96",
            "model.layers=2",
            "model.heads=2",
            "model.vocab=300",
            "model.seq_len=64",
            "train.steps=1000",
            "train.warmup=1",
            "train.batch=16",
            "train.micro_batch=8",
            "train.log_interval=1000",
            "method.connectivity_sparsity=0.5",
            "method.rank=4",
            "topology.update_interval=0",
        ];
        let name = format!("method.name={method}");
        let sets: Vec<String> = sets.iter().map(|s| s.to_string()).chain([name]).collect();
        let c = layers::resolve(None, None, &sets).unwrap();
        let ids = (0..20_000u32).map(|i| i.wrapping_mul(2_654_435_761) % 299).collect();
        let options = DatasetOptions { eos: Some(1), ..DatasetOptions::from_config(&c) };
        let data = Dataset::from_tokens(ids, &options).unwrap();
        let backend = Cpu::new(2, Precision::F32).unwrap();
        let stop = AtomicBool::new(false);
        let options = RunOptions { stop_after: Some(3), ..RunOptions::new(&stop) };
        let mut trainer = Trainer::new(&backend, &c, &data, None, options).unwrap();
        assert!(trainer.run().is_err(), "stops after three updates");
        let before = LARGE_ALLOCATIONS.load(SeqCst);
        assert!(before > 20, "the planned buffers themselves are seen: {before}");
        assert!(trainer.run().is_err(), "three more");
        assert_eq!(trainer.state.step, 6);
        assert_eq!(LARGE_ALLOCATIONS.load(SeqCst), before, "{method}: a step allocated a buffer");
    }
}
