//! Bad input straight to launchers, past the checks of the Rust side: a status comes back, nothing is
//! launched. What no launcher can see, an index that points outside, is a fault that the emulator names.

use std::ffi::c_void;
use std::sync::Arc;

use chtsl::backend::cuda::bindings::{
    CHTSL_BAD_ALIGNMENT, CHTSL_BAD_SHAPE, CHTSL_BF16, CHTSL_F32, CHTSL_OK, CHTSL_TOO_LARGE,
    CHTSL_UNSUPPORTED, chtsl_act, chtsl_adam_step, chtsl_attention, chtsl_links, chtsl_matrix,
};
use chtsl::backend::cuda::memory::Memory;
use chtsl::backend::cuda::runtime::Runtime;
use chtsl_emulation::Order;

use crate::support::emulated::Emulated;

const BEYOND: u32 = 1 << 31;

/// Zeroed memory that any operand of these tests fits in.
struct Room {
    runtime: Arc<dyn Runtime>,
    pieces: Vec<Memory>,
}

impl Room {
    fn new() -> Self {
        Room { runtime: Emulated::machine(Order::Forward), pieces: vec![] }
    }

    fn memory<T>(&mut self) -> *mut T {
        self.pieces.push(Memory::zeroed(&self.runtime, 1 << 14).expect("memory"));
        self.pieces.last().expect("just pushed").pointer().cast()
    }

    fn act(&mut self, features: u32) -> chtsl_act {
        let data = self.memory::<c_void>();
        chtsl_act { data, features, tokens: 9, stride: 128, type_: CHTSL_F32 as i32 }
    }

    fn matrix(&mut self, rows: u32, cols: u32, stride: u32) -> chtsl_matrix {
        chtsl_matrix { data: self.memory(), rows, cols, stride, type_: CHTSL_F32 as i32 }
    }

    /// Three links of a (4, 5) matrix, all in its first row, or in its first column as CSC.
    fn links(&mut self) -> chtsl_links {
        let list = |data: &[u32]| Memory::from_slice(&self.runtime, data).expect("memory");
        let lists = [list(&[0, 3, 3, 3, 3, 3]), list(&[0, 1, 2])];
        let [offsets, indices] = lists.each_ref().map(|m| m.pointer().cast_const().cast());
        self.pieces.extend(lists);
        chtsl_links { offsets, indices, rows: 4, cols: 5, nnz: 3 }
    }
}

/// Broken versions of an activation with the status that each must get.
fn broken(x: chtsl_act) -> Vec<(chtsl_act, i32)> {
    let off = x.data.wrapping_byte_add(4);
    vec![
        (chtsl_act { features: x.features + 1, ..x }, CHTSL_BAD_SHAPE),
        (chtsl_act { tokens: x.tokens + 1, ..x }, CHTSL_BAD_SHAPE),
        (chtsl_act { stride: 8, ..x }, CHTSL_BAD_SHAPE),
        (chtsl_act { stride: 130, ..x }, CHTSL_BAD_ALIGNMENT),
        (chtsl_act { stride: BEYOND, ..x }, CHTSL_TOO_LARGE),
        (chtsl_act { data: off, ..x }, CHTSL_BAD_ALIGNMENT),
        (chtsl_act { data: std::ptr::null_mut(), ..x }, CHTSL_BAD_SHAPE),
        (chtsl_act { type_: 7, ..x }, CHTSL_UNSUPPORTED),
        (chtsl_act { type_: CHTSL_BF16 as i32, ..x }, CHTSL_UNSUPPORTED),
    ]
}

/// Broken links; `null` values are tried by the callers.
fn broken_links(w: chtsl_links) -> Vec<(chtsl_links, i32)> {
    vec![
        (chtsl_links { offsets: std::ptr::null(), ..w }, CHTSL_BAD_SHAPE),
        (chtsl_links { indices: std::ptr::null(), ..w }, CHTSL_BAD_SHAPE),
        (chtsl_links { nnz: 21, ..w }, CHTSL_BAD_SHAPE),
        (chtsl_links { nnz: BEYOND, rows: u32::MAX, ..w }, CHTSL_TOO_LARGE),
        (chtsl_links { rows: BEYOND, ..w }, CHTSL_TOO_LARGE),
        (chtsl_links { cols: BEYOND, ..w }, CHTSL_TOO_LARGE),
    ]
}

#[test]
fn sparse_products_refuse_what_they_cannot_take() {
    let mut room = Room::new();
    let (w, x, y) = (room.links(), room.act(5), room.act(4));
    let (values, source, zeros) =
        (room.memory::<f32>(), room.memory::<u32>(), room.memory::<u32>());
    let table = room.runtime.launchers();
    let stream = room.runtime.stream();
    let forward = |w, values: *mut f32, x, y, version| {
        // SAFETY: sound operands have the memory they claim; broken ones must not be touched.
        unsafe { table.spmm_forward.unwrap()(w, values.cast(), x, y, version, stream) }
    };
    let back = |w, source: *mut u32, dy, dx| {
        // SAFETY: as above.
        unsafe { table.spmm_transposed.unwrap()(w, source, values.cast(), dy, dx, 0, 0, stream) }
    };
    let gradient = |w, dy, x, dvalues: *mut f32, version| {
        // SAFETY: as above.
        unsafe { table.sddmm.unwrap()(w, dy, x, dvalues, version, stream) }
    };
    for version in [0, 1, 2, 3] {
        assert_eq!(forward(w, values, x, y, version), CHTSL_OK);
    }
    assert_eq!(forward(w, values, x, y, 9), CHTSL_UNSUPPORTED);
    assert_eq!(forward(w, std::ptr::null_mut(), x, y, 0), CHTSL_BAD_SHAPE);
    // Without links there need be no lists of them.
    let none = chtsl_links { nnz: 0, offsets: zeros, indices: std::ptr::null(), ..w };
    assert_eq!(forward(none, std::ptr::null_mut(), x, y, 0), CHTSL_OK);
    assert_eq!(back(w, source, y, x), CHTSL_OK);
    assert_eq!(back(w, std::ptr::null_mut(), y, x), CHTSL_BAD_SHAPE);
    assert_eq!(gradient(w, y, x, values, 0), CHTSL_OK);
    assert_eq!(gradient(w, y, x, values, 9), CHTSL_UNSUPPORTED);
    assert_eq!(gradient(w, y, x, std::ptr::null_mut(), 0), CHTSL_BAD_SHAPE);
    for (w, status) in broken_links(w) {
        assert_eq!(forward(w, values, x, y, 0), status, "{w:?}");
        assert_eq!(back(w, source, y, x), status, "{w:?}");
        assert_eq!(gradient(w, y, x, values, 0), status, "{w:?}");
    }
    for (x, status) in broken(x) {
        // The number of tokens is the first operand's: another one shows at the second.
        assert_eq!(forward(w, values, x, y, 0), status, "x {x:?}");
        assert_eq!(gradient(w, y, x, values, 0), status, "x {x:?}");
        assert_eq!(back(w, source, y, x), status, "dx {x:?}");
    }
    for (y, status) in broken(y) {
        assert_eq!(forward(w, values, x, y, 0), status, "y {y:?}");
        assert_eq!(gradient(w, y, x, values, 0), status, "dy {y:?}");
    }
}

#[test]
fn dense_helpers_refuse_what_they_cannot_take() {
    let mut room = Room::new();
    let (w, values) = (room.links(), room.memory::<f32>());
    let (from, to) = (room.matrix(4, 5, 5), room.matrix(4, 5, 8));
    let table = room.runtime.launchers();
    let stream = room.runtime.stream();
    // SAFETY: as in the test above, here and below.
    let cast = |from, to| unsafe { table.elementwise_cast.unwrap()(from, to, stream) };
    // SAFETY: as above.
    let scatter_as = |w, to, v| unsafe { table.scatter_values.unwrap()(w, values, to, v, stream) };
    // SAFETY: as above.
    let gather_as =
        |w, from, v| unsafe { table.scatter_gather.unwrap()(w, from, values, v, stream) };
    let (scatter, gather) = (|w, to| scatter_as(w, to, 0), |w, from| gather_as(w, from, 0));
    assert_eq!((cast(from, to), scatter(w, to), gather(w, to)), (CHTSL_OK, CHTSL_OK, CHTSL_OK));
    for (version, status) in
        [(1, CHTSL_OK), (2, CHTSL_OK), (3, CHTSL_UNSUPPORTED), (-1, CHTSL_UNSUPPORTED)]
    {
        assert_eq!((scatter_as(w, to, version), gather_as(w, to, version)), (status, status));
    }
    for (m, status) in [
        (chtsl_matrix { rows: 3, ..to }, CHTSL_BAD_SHAPE),
        (chtsl_matrix { cols: 6, ..to }, CHTSL_BAD_SHAPE),
        (chtsl_matrix { stride: 4, ..to }, CHTSL_BAD_SHAPE),
        (chtsl_matrix { stride: BEYOND, ..to }, CHTSL_TOO_LARGE),
        (chtsl_matrix { data: std::ptr::null_mut(), ..to }, CHTSL_BAD_SHAPE),
        (chtsl_matrix { type_: 9, ..to }, CHTSL_UNSUPPORTED),
    ] {
        assert_eq!((cast(from, m), scatter(w, m)), (status, status), "{m:?}");
        assert_eq!(gather(w, m), status, "{m:?}");
    }
    let bf16 = chtsl_matrix { type_: CHTSL_BF16 as i32, ..to };
    assert_eq!((cast(bf16, to), gather(w, bf16)), (CHTSL_UNSUPPORTED, CHTSL_UNSUPPORTED));
    assert_eq!(scatter(w, chtsl_matrix { stride: 7, ..to }), CHTSL_BAD_ALIGNMENT);
    for (w, status) in broken_links(w) {
        assert_eq!((scatter(w, to), gather(w, to)), (status, status), "{w:?}");
    }
}

#[test]
fn the_rest_of_the_model_refuses_what_it_cannot_take() {
    let mut room = Room::new();
    let [x, y] = [0; 2].map(|_| room.act(4));
    let (rstd, list, floats) = (room.act(1), room.memory::<u32>(), room.memory::<f32>());
    let wide = room.memory::<f64>();
    let table = room.runtime.launchers();
    let stream = room.runtime.stream();
    // SAFETY: as in the tests above, here and below.
    let norm =
        |x, y, rstd| unsafe { table.rmsnorm_forward.unwrap()(x, floats, 1e-6, y, rstd, stream) };
    // SAFETY: as above.
    let add = |a, b, y| unsafe { table.elementwise_add.unwrap()(a, b, y, stream) };
    // SAFETY: as above.
    let loss = |logits, targets| unsafe {
        table.cross_entropy_loss.unwrap()(logits, targets, floats, floats.add(256), wide, stream)
    };
    // SAFETY: as above.
    let embed = |ids, x| unsafe { table.embedding_forward.unwrap()(floats, 3, ids, x, stream) };
    assert_eq!((norm(x, y, rstd), add(x, x, y)), (CHTSL_OK, CHTSL_OK));
    assert_eq!((loss(x, list), embed(list, x)), (CHTSL_OK, CHTSL_OK));
    assert_eq!((loss(x, std::ptr::null_mut()), embed(std::ptr::null(), x)), (-1, -1));
    for (bad, status) in broken(y) {
        assert_eq!((norm(x, bad, rstd), add(x, x, bad)), (status, status), "{bad:?}");
    }
    for (bad, status) in broken(rstd) {
        assert_eq!(norm(x, y, bad), status, "{bad:?}");
    }
    let shape = chtsl_attention {
        sequences: 3,
        seq_len: 3,
        heads: 2,
        head_dim: 2,
        starts: std::ptr::null(),
        rope: floats,
    };
    let lse = room.act(2);
    let attend = |shape, out| {
        // SAFETY: as above.
        unsafe { table.attention_forward.unwrap()(shape, x, x, x, out, lse, stream) }
    };
    assert_eq!(attend(shape, y), CHTSL_OK);
    for (bad, status) in [
        (chtsl_attention { head_dim: 3, ..shape }, CHTSL_UNSUPPORTED),
        (chtsl_attention { head_dim: 0, ..shape }, CHTSL_UNSUPPORTED),
        (chtsl_attention { head_dim: 130, ..shape }, CHTSL_UNSUPPORTED),
        (chtsl_attention { heads: 3, ..shape }, CHTSL_BAD_SHAPE),
        (chtsl_attention { heads: BEYOND, ..shape }, CHTSL_TOO_LARGE),
        (chtsl_attention { sequences: BEYOND, ..shape }, CHTSL_TOO_LARGE),
        (chtsl_attention { rope: std::ptr::null(), ..shape }, CHTSL_BAD_SHAPE),
    ] {
        assert_eq!(attend(bad, y), status, "{bad:?}");
    }
    let step = chtsl_adam_step {
        one_minus_beta1: 0.1,
        beta2: 0.9,
        one_minus_beta2: 0.1,
        eps: 1e-8,
        grad_scale: 1.0,
        coupled_decay: 0.0,
        shrink: 1.0,
        lr: 1e-3,
        step_size: 1e-3,
        root_correction: 1.0,
    };
    let none = chtsl_matrix { data: std::ptr::null_mut(), rows: 0, cols: 0, stride: 0, type_: 0 };
    let [p, g, m, v] = [0; 4].map(|_| room.memory::<f32>());
    let adam = |p, ages: *mut f32, len, operand, version| {
        let table_of_ages = std::ptr::null();
        // SAFETY: as above.
        unsafe {
            let adam = table.adam.unwrap();
            adam(p, g, m, v, ages, table_of_ages, 0, len, step, operand, version, stream)
        }
    };
    assert_eq!(adam(p, std::ptr::null_mut(), 10, none, 0), CHTSL_OK);
    assert_eq!(adam(std::ptr::null_mut(), std::ptr::null_mut(), 0, none, 0), CHTSL_OK);
    assert_eq!(adam(std::ptr::null_mut(), std::ptr::null_mut(), 10, none, 0), CHTSL_BAD_SHAPE);
    assert_eq!(adam(p.wrapping_add(1), std::ptr::null_mut(), 10, none, 0), CHTSL_BAD_ALIGNMENT);
    assert_eq!(adam(p, floats, 10, none, 0), CHTSL_BAD_SHAPE, "ages without their table");
    assert_eq!(adam(p, std::ptr::null_mut(), 10, none, 7), CHTSL_UNSUPPORTED);
    assert_eq!(adam(p, std::ptr::null_mut(), 1 << 45, none, 0), CHTSL_TOO_LARGE);
    let operand = chtsl_matrix { data: floats.cast(), rows: 3, cols: 4, stride: 8, type_: 1 };
    assert_eq!(adam(p, std::ptr::null_mut(), 10, operand, 0), CHTSL_BAD_SHAPE);
}

/// An index that points outside cannot get past `Pattern`; planted behind its back it is caught where
/// it is used, with the kernel's name.
#[test]
fn an_index_out_of_range_is_named() {
    let mut room = Room::new();
    let (mut w, x, y) = (room.links(), room.act(5), room.act(4));
    let offsets = Memory::from_slice(&room.runtime, &[0u32, 1, 1, 1, 1]).unwrap();
    let indices = Memory::from_slice(&room.runtime, &[4_000_000u32; 3]).unwrap();
    (w.offsets, w.indices) = (offsets.pointer().cast(), indices.pointer().cast());
    let values = room.memory::<c_void>();
    let table = room.runtime.launchers();
    for version in [1, 2] {
        // SAFETY: the index is wrong on purpose; the emulator refuses the access.
        let status =
            unsafe { table.spmm_forward.unwrap()(w, values, x, y, version, room.runtime.stream()) };
        let text = room.runtime.fault(status);
        assert!(status > 0 && text.contains("out of bounds"), "{status} {text}");
        assert!(text.contains("product_"), "{text}");
    }
}
