// Made by bindgen from include/launchers.h; do not edit. To make it again:
// CHTSL_BLESS=1 cargo test --features bindgen --test bindings

pub const CHTSL_NO_TARGET: u32 = 4294967295;
pub const CHTSL_NONE: u32 = 4294967295;
/** 0: the work was put on the stream. Positive: an error of the CUDA runtime, by its own number.
 Negative: an argument was refused before anything was launched, one of the codes below.*/
pub type chtsl_status = i32;
pub const CHTSL_OK: chtsl_status_code = 0;
/// Extents disagree, a pointer that is needed is null, or a stride is shorter than its row.
pub const CHTSL_BAD_SHAPE: chtsl_status_code = -1;
/// A pointer or stride is not a multiple of 16 bytes.
pub const CHTSL_BAD_ALIGNMENT: chtsl_status_code = -2;
/// An extent, or the grid it asks for, is beyond what the kernel can index.
pub const CHTSL_TOO_LARGE: chtsl_status_code = -3;
/// A type, rank or version that this launcher does not have.
pub const CHTSL_UNSUPPORTED: chtsl_status_code = -4;
pub type chtsl_status_code = ::core::ffi::c_int;
pub const CHTSL_F32: chtsl_element = 0;
pub const CHTSL_BF16: chtsl_element = 1;
/// Element types.
pub type chtsl_element = ::core::ffi::c_uint;
/// An activation (features, tokens) of f32 or bf16.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct chtsl_act {
    pub data: *mut ::core::ffi::c_void,
    pub features: u32,
    pub tokens: u32,
    pub stride: u32,
    pub type_: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of chtsl_act"][::core::mem::size_of::<chtsl_act>() - 24usize];
    ["Alignment of chtsl_act"][::core::mem::align_of::<chtsl_act>() - 8usize];
    [
        "Offset of field: chtsl_act::data",
    ][::core::mem::offset_of!(chtsl_act, data) - 0usize];
    [
        "Offset of field: chtsl_act::features",
    ][::core::mem::offset_of!(chtsl_act, features) - 8usize];
    [
        "Offset of field: chtsl_act::tokens",
    ][::core::mem::offset_of!(chtsl_act, tokens) - 12usize];
    [
        "Offset of field: chtsl_act::stride",
    ][::core::mem::offset_of!(chtsl_act, stride) - 16usize];
    [
        "Offset of field: chtsl_act::type_",
    ][::core::mem::offset_of!(chtsl_act, type_) - 20usize];
};
/** Links of a sparse matrix (rows, cols) in compressed form. As CSR: `offsets` has rows + 1 entries,
 `indices` are columns, increasing within a row. As CSC: cols + 1 offsets, `indices` are rows.*/
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct chtsl_links {
    pub offsets: *const u32,
    pub indices: *const u32,
    pub rows: u32,
    pub cols: u32,
    pub nnz: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of chtsl_links"][::core::mem::size_of::<chtsl_links>() - 32usize];
    ["Alignment of chtsl_links"][::core::mem::align_of::<chtsl_links>() - 8usize];
    [
        "Offset of field: chtsl_links::offsets",
    ][::core::mem::offset_of!(chtsl_links, offsets) - 0usize];
    [
        "Offset of field: chtsl_links::indices",
    ][::core::mem::offset_of!(chtsl_links, indices) - 8usize];
    [
        "Offset of field: chtsl_links::rows",
    ][::core::mem::offset_of!(chtsl_links, rows) - 16usize];
    [
        "Offset of field: chtsl_links::cols",
    ][::core::mem::offset_of!(chtsl_links, cols) - 20usize];
    [
        "Offset of field: chtsl_links::nnz",
    ][::core::mem::offset_of!(chtsl_links, nnz) - 24usize];
};
/// A dense matrix (rows, cols), row-major, `stride` elements from row to row.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct chtsl_matrix {
    pub data: *mut ::core::ffi::c_void,
    pub rows: u32,
    pub cols: u32,
    pub stride: u32,
    pub type_: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of chtsl_matrix"][::core::mem::size_of::<chtsl_matrix>() - 24usize];
    ["Alignment of chtsl_matrix"][::core::mem::align_of::<chtsl_matrix>() - 8usize];
    [
        "Offset of field: chtsl_matrix::data",
    ][::core::mem::offset_of!(chtsl_matrix, data) - 0usize];
    [
        "Offset of field: chtsl_matrix::rows",
    ][::core::mem::offset_of!(chtsl_matrix, rows) - 8usize];
    [
        "Offset of field: chtsl_matrix::cols",
    ][::core::mem::offset_of!(chtsl_matrix, cols) - 12usize];
    [
        "Offset of field: chtsl_matrix::stride",
    ][::core::mem::offset_of!(chtsl_matrix, stride) - 16usize];
    [
        "Offset of field: chtsl_matrix::type_",
    ][::core::mem::offset_of!(chtsl_matrix, type_) - 20usize];
};
/// A CUDA stream.
pub type chtsl_stream = *mut ::core::ffi::c_void;
/// Numbers of one update t (Kingma & Ba, algorithm 1; decoupled decay: Loshchilov & Hutter).
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct chtsl_adam_step {
    pub one_minus_beta1: f32,
    pub beta2: f32,
    pub one_minus_beta2: f32,
    pub eps: f32,
    pub grad_scale: f32,
    /// added to the gradient, times p
    pub coupled_decay: f32,
    /// factor of p: 1 - lr decay when decoupled, else 1
    pub shrink: f32,
    pub lr: f32,
    /// lr / (1 - beta1^t)
    pub step_size: f32,
    /// 1 / sqrt(1 - beta2^t)
    pub root_correction: f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of chtsl_adam_step"][::core::mem::size_of::<chtsl_adam_step>() - 40usize];
    [
        "Alignment of chtsl_adam_step",
    ][::core::mem::align_of::<chtsl_adam_step>() - 4usize];
    [
        "Offset of field: chtsl_adam_step::one_minus_beta1",
    ][::core::mem::offset_of!(chtsl_adam_step, one_minus_beta1) - 0usize];
    [
        "Offset of field: chtsl_adam_step::beta2",
    ][::core::mem::offset_of!(chtsl_adam_step, beta2) - 4usize];
    [
        "Offset of field: chtsl_adam_step::one_minus_beta2",
    ][::core::mem::offset_of!(chtsl_adam_step, one_minus_beta2) - 8usize];
    [
        "Offset of field: chtsl_adam_step::eps",
    ][::core::mem::offset_of!(chtsl_adam_step, eps) - 12usize];
    [
        "Offset of field: chtsl_adam_step::grad_scale",
    ][::core::mem::offset_of!(chtsl_adam_step, grad_scale) - 16usize];
    [
        "Offset of field: chtsl_adam_step::coupled_decay",
    ][::core::mem::offset_of!(chtsl_adam_step, coupled_decay) - 20usize];
    [
        "Offset of field: chtsl_adam_step::shrink",
    ][::core::mem::offset_of!(chtsl_adam_step, shrink) - 24usize];
    [
        "Offset of field: chtsl_adam_step::lr",
    ][::core::mem::offset_of!(chtsl_adam_step, lr) - 28usize];
    [
        "Offset of field: chtsl_adam_step::step_size",
    ][::core::mem::offset_of!(chtsl_adam_step, step_size) - 32usize];
    [
        "Offset of field: chtsl_adam_step::root_correction",
    ][::core::mem::offset_of!(chtsl_adam_step, root_correction) - 36usize];
};
pub type chtsl_adam_fn = ::core::option::Option<
    unsafe extern "C" fn(
        p: *mut f32,
        g: *const f32,
        m: *mut f32,
        v: *mut f32,
        ages: *mut f32,
        table: *const f32,
        table_len: u32,
        len: u64,
        step: chtsl_adam_step,
        operand: chtsl_matrix,
        version: i32,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
/// (S - L)^2
pub const CHTSL_SUM_DIFFERENCE: chtsl_branch_sum = 0;
/// min(|S|, |L|) where S L < 0
pub const CHTSL_SUM_CANCELLED: chtsl_branch_sum = 1;
/// min(|S|, |L|)
pub const CHTSL_SUM_OVERLAP: chtsl_branch_sum = 2;
/// S^2
pub const CHTSL_SUM_SPARSE: chtsl_branch_sum = 3;
/// L^2
pub const CHTSL_SUM_LOW_RANK: chtsl_branch_sum = 4;
pub const CHTSL_SUMS: chtsl_branch_sum = 5;
/// Rows of the branch sums, each per token over all features.
pub type chtsl_branch_sum = ::core::ffi::c_uint;
pub type chtsl_alignment_forward_fn = ::core::option::Option<
    unsafe extern "C" fn(
        s: chtsl_act,
        l: chtsl_act,
        o: chtsl_act,
        sums: chtsl_act,
        version: i32,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_alignment_backward_fn = ::core::option::Option<
    unsafe extern "C" fn(
        d_o: chtsl_act,
        o: chtsl_act,
        l: chtsl_act,
        coefficients: chtsl_act,
        d_s: chtsl_act,
        d_l: chtsl_act,
        version: i32,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
/// Tokens are sequence after sequence; features are head after head.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct chtsl_attention {
    pub sequences: u32,
    pub seq_len: u32,
    pub heads: u32,
    /// even, at most 128
    pub head_dim: u32,
    /// first position of each token's document in its sequence; null: 0
    pub starts: *const u32,
    /// (cos, sin) of position p and pair i at 2 (p head_dim / 2 + i)
    pub rope: *const f32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of chtsl_attention"][::core::mem::size_of::<chtsl_attention>() - 32usize];
    [
        "Alignment of chtsl_attention",
    ][::core::mem::align_of::<chtsl_attention>() - 8usize];
    [
        "Offset of field: chtsl_attention::sequences",
    ][::core::mem::offset_of!(chtsl_attention, sequences) - 0usize];
    [
        "Offset of field: chtsl_attention::seq_len",
    ][::core::mem::offset_of!(chtsl_attention, seq_len) - 4usize];
    [
        "Offset of field: chtsl_attention::heads",
    ][::core::mem::offset_of!(chtsl_attention, heads) - 8usize];
    [
        "Offset of field: chtsl_attention::head_dim",
    ][::core::mem::offset_of!(chtsl_attention, head_dim) - 12usize];
    [
        "Offset of field: chtsl_attention::starts",
    ][::core::mem::offset_of!(chtsl_attention, starts) - 16usize];
    [
        "Offset of field: chtsl_attention::rope",
    ][::core::mem::offset_of!(chtsl_attention, rope) - 24usize];
};
pub type chtsl_attention_forward_fn = ::core::option::Option<
    unsafe extern "C" fn(
        shape: chtsl_attention,
        q: chtsl_act,
        k: chtsl_act,
        v: chtsl_act,
        out: chtsl_act,
        lse: chtsl_act,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_attention_backward_fn = ::core::option::Option<
    unsafe extern "C" fn(
        shape: chtsl_attention,
        q: chtsl_act,
        k: chtsl_act,
        v: chtsl_act,
        out: chtsl_act,
        lse: chtsl_act,
        dout: chtsl_act,
        dq: chtsl_act,
        dk: chtsl_act,
        dv: chtsl_act,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_attention_decode_fn = ::core::option::Option<
    unsafe extern "C" fn(
        shape: chtsl_attention,
        position: u32,
        max_len: u32,
        q: chtsl_act,
        k: chtsl_act,
        v: chtsl_act,
        keys: *mut f32,
        values: *mut f32,
        scores: *mut f32,
        out: chtsl_act,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_cross_entropy_loss_fn = ::core::option::Option<
    unsafe extern "C" fn(
        logits: chtsl_act,
        targets: *const u32,
        lse: *mut f32,
        partial: *mut f32,
        loss: *mut f64,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_cross_entropy_partials_fn = ::core::option::Option<
    unsafe extern "C" fn(vocab: u32, stride: u32) -> u64,
>;
pub type chtsl_cross_entropy_gradient_fn = ::core::option::Option<
    unsafe extern "C" fn(
        logits: chtsl_act,
        targets: *const u32,
        lse: *const f32,
        scale: f32,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_elementwise_cast_fn = ::core::option::Option<
    unsafe extern "C" fn(
        from: chtsl_matrix,
        to: chtsl_matrix,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_elementwise_add_fn = ::core::option::Option<
    unsafe extern "C" fn(
        a: chtsl_act,
        b: chtsl_act,
        y: chtsl_act,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_elementwise_swiglu_forward_fn = ::core::option::Option<
    unsafe extern "C" fn(
        gate: chtsl_act,
        up: chtsl_act,
        y: chtsl_act,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_elementwise_swiglu_backward_fn = ::core::option::Option<
    unsafe extern "C" fn(
        dy: chtsl_act,
        gate: chtsl_act,
        up: chtsl_act,
        dgate: chtsl_act,
        dup: chtsl_act,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_elementwise_sum_squares_fn = ::core::option::Option<
    unsafe extern "C" fn(
        x: *const f32,
        len: u64,
        partial: *mut f64,
        to: *mut f64,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_elementwise_partials_fn = ::core::option::Option<
    unsafe extern "C" fn(len: u64) -> u64,
>;
pub type chtsl_elementwise_column_fn = ::core::option::Option<
    unsafe extern "C" fn(
        x: chtsl_act,
        token: u32,
        to: *mut f32,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_embedding_forward_fn = ::core::option::Option<
    unsafe extern "C" fn(
        table: *const f32,
        vocab: u32,
        ids: *const u32,
        x: chtsl_act,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_embedding_backward_fn = ::core::option::Option<
    unsafe extern "C" fn(
        dx: chtsl_act,
        count: u32,
        distinct: *const u32,
        starts: *const u32,
        tokens: *const u32,
        rows: *mut ::core::ffi::c_void,
        vocab: u32,
        dtable: *mut f32,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub const CHTSL_IDENTITY: chtsl_activation = 0;
pub const CHTSL_SILU: chtsl_activation = 1;
/// phi between the factors.
pub type chtsl_activation = ::core::ffi::c_uint;
/** The branch's parameters: a (rank, in), b (out, rank), of the activations' type, g = scale. In bf16
 rows start on 16 bytes; what lies between cols and stride is finite.*/
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct chtsl_low_rank {
    pub a: chtsl_matrix,
    pub b: chtsl_matrix,
    pub scale: f32,
    pub activation: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of chtsl_low_rank"][::core::mem::size_of::<chtsl_low_rank>() - 56usize];
    ["Alignment of chtsl_low_rank"][::core::mem::align_of::<chtsl_low_rank>() - 8usize];
    [
        "Offset of field: chtsl_low_rank::a",
    ][::core::mem::offset_of!(chtsl_low_rank, a) - 0usize];
    [
        "Offset of field: chtsl_low_rank::b",
    ][::core::mem::offset_of!(chtsl_low_rank, b) - 24usize];
    [
        "Offset of field: chtsl_low_rank::scale",
    ][::core::mem::offset_of!(chtsl_low_rank, scale) - 48usize];
    [
        "Offset of field: chtsl_low_rank::activation",
    ][::core::mem::offset_of!(chtsl_low_rank, activation) - 52usize];
};
pub type chtsl_low_rank_forward_fn = ::core::option::Option<
    unsafe extern "C" fn(
        w: chtsl_low_rank,
        x: chtsl_act,
        u: chtsl_act,
        s: chtsl_act,
        o: chtsl_act,
        sums: chtsl_act,
        version: i32,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_low_rank_backward_fn = ::core::option::Option<
    unsafe extern "C" fn(
        w: chtsl_low_rank,
        u: chtsl_act,
        o: chtsl_act,
        coefficients: chtsl_act,
        d_o: chtsl_act,
        d_l: chtsl_act,
        phi: chtsl_act,
        du: chtsl_act,
        version: i32,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_rmsnorm_forward_fn = ::core::option::Option<
    unsafe extern "C" fn(
        x: chtsl_act,
        gain: *const f32,
        eps: f32,
        y: chtsl_act,
        rstd: chtsl_act,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_rmsnorm_backward_fn = ::core::option::Option<
    unsafe extern "C" fn(
        dy: chtsl_act,
        x: chtsl_act,
        gain: *const f32,
        rstd: chtsl_act,
        dx: chtsl_act,
        dgain: *mut f32,
        partial: *mut f32,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_rmsnorm_partials_fn = ::core::option::Option<
    unsafe extern "C" fn(features: u32, tokens: u32) -> u64,
>;
pub type chtsl_scatter_values_fn = ::core::option::Option<
    unsafe extern "C" fn(
        w: chtsl_links,
        values: *const f32,
        out: chtsl_matrix,
        version: i32,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_scatter_gather_fn = ::core::option::Option<
    unsafe extern "C" fn(
        w: chtsl_links,
        dense: chtsl_matrix,
        dvalues: *mut f32,
        version: i32,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_sddmm_fn = ::core::option::Option<
    unsafe extern "C" fn(
        w: chtsl_links,
        dy: chtsl_act,
        x: chtsl_act,
        dvalues: *mut f32,
        version: i32,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_spmm_forward_fn = ::core::option::Option<
    unsafe extern "C" fn(
        w: chtsl_links,
        values: *const ::core::ffi::c_void,
        x: chtsl_act,
        y: chtsl_act,
        version: i32,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_spmm_transposed_fn = ::core::option::Option<
    unsafe extern "C" fn(
        t: chtsl_links,
        source: *const u32,
        values: *const ::core::ffi::c_void,
        dy: chtsl_act,
        dx: chtsl_act,
        accumulate: i32,
        version: i32,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
/// A stream of Philox 4x32-10 draws at 64-bit indices: the key and the upper half of the counter.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct chtsl_draws {
    pub key_low: u32,
    pub key_high: u32,
    pub purpose: u32,
    pub event: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of chtsl_draws"][::core::mem::size_of::<chtsl_draws>() - 16usize];
    ["Alignment of chtsl_draws"][::core::mem::align_of::<chtsl_draws>() - 4usize];
    [
        "Offset of field: chtsl_draws::key_low",
    ][::core::mem::offset_of!(chtsl_draws, key_low) - 0usize];
    [
        "Offset of field: chtsl_draws::key_high",
    ][::core::mem::offset_of!(chtsl_draws, key_high) - 4usize];
    [
        "Offset of field: chtsl_draws::purpose",
    ][::core::mem::offset_of!(chtsl_draws, purpose) - 8usize];
    [
        "Offset of field: chtsl_draws::event",
    ][::core::mem::offset_of!(chtsl_draws, event) - 12usize];
};
/// How a weight or score x becomes the key that selections compare.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct chtsl_rank {
    pub draws: chtsl_draws,
    pub temperature: f64,
    /// 0: x itself. 1: temperature ln x + a Gumbel draw at the flat position
    pub soft: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of chtsl_rank"][::core::mem::size_of::<chtsl_rank>() - 32usize];
    ["Alignment of chtsl_rank"][::core::mem::align_of::<chtsl_rank>() - 8usize];
    [
        "Offset of field: chtsl_rank::draws",
    ][::core::mem::offset_of!(chtsl_rank, draws) - 0usize];
    [
        "Offset of field: chtsl_rank::temperature",
    ][::core::mem::offset_of!(chtsl_rank, temperature) - 16usize];
    [
        "Offset of field: chtsl_rank::soft",
    ][::core::mem::offset_of!(chtsl_rank, soft) - 24usize];
};
/// What decides between equal keys, before the lower position does.
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct chtsl_ties {
    pub draws: chtsl_draws,
    /// 0: nothing. 1: words 2 and 3 of the draw at the flat position
    pub random: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of chtsl_ties"][::core::mem::size_of::<chtsl_ties>() - 20usize];
    ["Alignment of chtsl_ties"][::core::mem::align_of::<chtsl_ties>() - 4usize];
    [
        "Offset of field: chtsl_ties::draws",
    ][::core::mem::offset_of!(chtsl_ties, draws) - 0usize];
    [
        "Offset of field: chtsl_ties::random",
    ][::core::mem::offset_of!(chtsl_ties, random) - 16usize];
};
pub type chtsl_topology_removal_keys_fn = ::core::option::Option<
    unsafe extern "C" fn(
        w: chtsl_links,
        values: *const f32,
        rank: chtsl_rank,
        keys: *mut u64,
        refused: *mut u32,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_topology_select_fn = ::core::option::Option<
    unsafe extern "C" fn(
        w: chtsl_links,
        keys: *const u64,
        per_link: i32,
        k: u32,
        ties: chtsl_ties,
        cut: *mut ::core::ffi::c_void,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_topology_cut_bytes_fn = ::core::option::Option<
    unsafe extern "C" fn() -> u64,
>;
pub type chtsl_topology_keep_fn = ::core::option::Option<
    unsafe extern "C" fn(
        w: chtsl_links,
        keys: *const u64,
        ties: chtsl_ties,
        cut: *const ::core::ffi::c_void,
        row_offsets: *mut u32,
        column_indices: *mut u32,
        source: *mut u32,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_topology_scores_fn = ::core::option::Option<
    unsafe extern "C" fn(
        w: chtsl_links,
        t: chtsl_links,
        scores: *mut u64,
        positives: *mut u64,
        version: i32,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_topology_regrowth_keys_fn = ::core::option::Option<
    unsafe extern "C" fn(
        rows: u32,
        cols: u32,
        positives: *const u64,
        n: u32,
        rank: chtsl_rank,
        scores: *mut u64,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_topology_join_fn = ::core::option::Option<
    unsafe extern "C" fn(
        old: chtsl_links,
        keys: *const u64,
        ties: chtsl_ties,
        cut: *const ::core::ffi::c_void,
        row_offsets: *mut u32,
        column_indices: *mut u32,
        source: *mut u32,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_topology_transpose_fn = ::core::option::Option<
    unsafe extern "C" fn(
        w: chtsl_links,
        scratch: *mut u32,
        col_offsets: *mut u32,
        row_indices: *mut u32,
        source: *mut u32,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
pub type chtsl_topology_transpose_words_fn = ::core::option::Option<
    unsafe extern "C" fn(rows: u32, cols: u32) -> u64,
>;
pub type chtsl_topology_migrate_fn = ::core::option::Option<
    unsafe extern "C" fn(
        source: *const u32,
        count: u32,
        from: *const f32,
        previous: u32,
        to: *mut f32,
        stream: chtsl_stream,
    ) -> chtsl_status,
>;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct chtsl_launcher_table {
    pub adam: chtsl_adam_fn,
    pub alignment_forward: chtsl_alignment_forward_fn,
    pub alignment_backward: chtsl_alignment_backward_fn,
    pub elementwise_cast: chtsl_elementwise_cast_fn,
    pub elementwise_add: chtsl_elementwise_add_fn,
    pub elementwise_swiglu_forward: chtsl_elementwise_swiglu_forward_fn,
    pub elementwise_swiglu_backward: chtsl_elementwise_swiglu_backward_fn,
    pub elementwise_sum_squares: chtsl_elementwise_sum_squares_fn,
    pub elementwise_partials: chtsl_elementwise_partials_fn,
    pub elementwise_column: chtsl_elementwise_column_fn,
    pub attention_forward: chtsl_attention_forward_fn,
    pub attention_backward: chtsl_attention_backward_fn,
    pub attention_decode: chtsl_attention_decode_fn,
    pub cross_entropy_loss: chtsl_cross_entropy_loss_fn,
    pub cross_entropy_partials: chtsl_cross_entropy_partials_fn,
    pub cross_entropy_gradient: chtsl_cross_entropy_gradient_fn,
    pub embedding_forward: chtsl_embedding_forward_fn,
    pub embedding_backward: chtsl_embedding_backward_fn,
    pub low_rank_forward: chtsl_low_rank_forward_fn,
    pub low_rank_backward: chtsl_low_rank_backward_fn,
    pub rmsnorm_forward: chtsl_rmsnorm_forward_fn,
    pub rmsnorm_backward: chtsl_rmsnorm_backward_fn,
    pub rmsnorm_partials: chtsl_rmsnorm_partials_fn,
    pub scatter_values: chtsl_scatter_values_fn,
    pub scatter_gather: chtsl_scatter_gather_fn,
    pub sddmm: chtsl_sddmm_fn,
    pub spmm_forward: chtsl_spmm_forward_fn,
    pub spmm_transposed: chtsl_spmm_transposed_fn,
    pub topology_removal_keys: chtsl_topology_removal_keys_fn,
    pub topology_select: chtsl_topology_select_fn,
    pub topology_cut_bytes: chtsl_topology_cut_bytes_fn,
    pub topology_keep: chtsl_topology_keep_fn,
    pub topology_scores: chtsl_topology_scores_fn,
    pub topology_regrowth_keys: chtsl_topology_regrowth_keys_fn,
    pub topology_join: chtsl_topology_join_fn,
    pub topology_transpose: chtsl_topology_transpose_fn,
    pub topology_transpose_words: chtsl_topology_transpose_words_fn,
    pub topology_migrate: chtsl_topology_migrate_fn,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of chtsl_launcher_table",
    ][::core::mem::size_of::<chtsl_launcher_table>() - 304usize];
    [
        "Alignment of chtsl_launcher_table",
    ][::core::mem::align_of::<chtsl_launcher_table>() - 8usize];
    [
        "Offset of field: chtsl_launcher_table::adam",
    ][::core::mem::offset_of!(chtsl_launcher_table, adam) - 0usize];
    [
        "Offset of field: chtsl_launcher_table::alignment_forward",
    ][::core::mem::offset_of!(chtsl_launcher_table, alignment_forward) - 8usize];
    [
        "Offset of field: chtsl_launcher_table::alignment_backward",
    ][::core::mem::offset_of!(chtsl_launcher_table, alignment_backward) - 16usize];
    [
        "Offset of field: chtsl_launcher_table::elementwise_cast",
    ][::core::mem::offset_of!(chtsl_launcher_table, elementwise_cast) - 24usize];
    [
        "Offset of field: chtsl_launcher_table::elementwise_add",
    ][::core::mem::offset_of!(chtsl_launcher_table, elementwise_add) - 32usize];
    [
        "Offset of field: chtsl_launcher_table::elementwise_swiglu_forward",
    ][::core::mem::offset_of!(chtsl_launcher_table, elementwise_swiglu_forward)
        - 40usize];
    [
        "Offset of field: chtsl_launcher_table::elementwise_swiglu_backward",
    ][::core::mem::offset_of!(chtsl_launcher_table, elementwise_swiglu_backward)
        - 48usize];
    [
        "Offset of field: chtsl_launcher_table::elementwise_sum_squares",
    ][::core::mem::offset_of!(chtsl_launcher_table, elementwise_sum_squares) - 56usize];
    [
        "Offset of field: chtsl_launcher_table::elementwise_partials",
    ][::core::mem::offset_of!(chtsl_launcher_table, elementwise_partials) - 64usize];
    [
        "Offset of field: chtsl_launcher_table::elementwise_column",
    ][::core::mem::offset_of!(chtsl_launcher_table, elementwise_column) - 72usize];
    [
        "Offset of field: chtsl_launcher_table::attention_forward",
    ][::core::mem::offset_of!(chtsl_launcher_table, attention_forward) - 80usize];
    [
        "Offset of field: chtsl_launcher_table::attention_backward",
    ][::core::mem::offset_of!(chtsl_launcher_table, attention_backward) - 88usize];
    [
        "Offset of field: chtsl_launcher_table::attention_decode",
    ][::core::mem::offset_of!(chtsl_launcher_table, attention_decode) - 96usize];
    [
        "Offset of field: chtsl_launcher_table::cross_entropy_loss",
    ][::core::mem::offset_of!(chtsl_launcher_table, cross_entropy_loss) - 104usize];
    [
        "Offset of field: chtsl_launcher_table::cross_entropy_partials",
    ][::core::mem::offset_of!(chtsl_launcher_table, cross_entropy_partials) - 112usize];
    [
        "Offset of field: chtsl_launcher_table::cross_entropy_gradient",
    ][::core::mem::offset_of!(chtsl_launcher_table, cross_entropy_gradient) - 120usize];
    [
        "Offset of field: chtsl_launcher_table::embedding_forward",
    ][::core::mem::offset_of!(chtsl_launcher_table, embedding_forward) - 128usize];
    [
        "Offset of field: chtsl_launcher_table::embedding_backward",
    ][::core::mem::offset_of!(chtsl_launcher_table, embedding_backward) - 136usize];
    [
        "Offset of field: chtsl_launcher_table::low_rank_forward",
    ][::core::mem::offset_of!(chtsl_launcher_table, low_rank_forward) - 144usize];
    [
        "Offset of field: chtsl_launcher_table::low_rank_backward",
    ][::core::mem::offset_of!(chtsl_launcher_table, low_rank_backward) - 152usize];
    [
        "Offset of field: chtsl_launcher_table::rmsnorm_forward",
    ][::core::mem::offset_of!(chtsl_launcher_table, rmsnorm_forward) - 160usize];
    [
        "Offset of field: chtsl_launcher_table::rmsnorm_backward",
    ][::core::mem::offset_of!(chtsl_launcher_table, rmsnorm_backward) - 168usize];
    [
        "Offset of field: chtsl_launcher_table::rmsnorm_partials",
    ][::core::mem::offset_of!(chtsl_launcher_table, rmsnorm_partials) - 176usize];
    [
        "Offset of field: chtsl_launcher_table::scatter_values",
    ][::core::mem::offset_of!(chtsl_launcher_table, scatter_values) - 184usize];
    [
        "Offset of field: chtsl_launcher_table::scatter_gather",
    ][::core::mem::offset_of!(chtsl_launcher_table, scatter_gather) - 192usize];
    [
        "Offset of field: chtsl_launcher_table::sddmm",
    ][::core::mem::offset_of!(chtsl_launcher_table, sddmm) - 200usize];
    [
        "Offset of field: chtsl_launcher_table::spmm_forward",
    ][::core::mem::offset_of!(chtsl_launcher_table, spmm_forward) - 208usize];
    [
        "Offset of field: chtsl_launcher_table::spmm_transposed",
    ][::core::mem::offset_of!(chtsl_launcher_table, spmm_transposed) - 216usize];
    [
        "Offset of field: chtsl_launcher_table::topology_removal_keys",
    ][::core::mem::offset_of!(chtsl_launcher_table, topology_removal_keys) - 224usize];
    [
        "Offset of field: chtsl_launcher_table::topology_select",
    ][::core::mem::offset_of!(chtsl_launcher_table, topology_select) - 232usize];
    [
        "Offset of field: chtsl_launcher_table::topology_cut_bytes",
    ][::core::mem::offset_of!(chtsl_launcher_table, topology_cut_bytes) - 240usize];
    [
        "Offset of field: chtsl_launcher_table::topology_keep",
    ][::core::mem::offset_of!(chtsl_launcher_table, topology_keep) - 248usize];
    [
        "Offset of field: chtsl_launcher_table::topology_scores",
    ][::core::mem::offset_of!(chtsl_launcher_table, topology_scores) - 256usize];
    [
        "Offset of field: chtsl_launcher_table::topology_regrowth_keys",
    ][::core::mem::offset_of!(chtsl_launcher_table, topology_regrowth_keys) - 264usize];
    [
        "Offset of field: chtsl_launcher_table::topology_join",
    ][::core::mem::offset_of!(chtsl_launcher_table, topology_join) - 272usize];
    [
        "Offset of field: chtsl_launcher_table::topology_transpose",
    ][::core::mem::offset_of!(chtsl_launcher_table, topology_transpose) - 280usize];
    [
        "Offset of field: chtsl_launcher_table::topology_transpose_words",
    ][::core::mem::offset_of!(chtsl_launcher_table, topology_transpose_words)
        - 288usize];
    [
        "Offset of field: chtsl_launcher_table::topology_migrate",
    ][::core::mem::offset_of!(chtsl_launcher_table, topology_migrate) - 296usize];
};
unsafe extern "C" {
    pub fn chtsl_launchers() -> *const chtsl_launcher_table;
}
