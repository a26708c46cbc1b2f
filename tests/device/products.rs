//! Products in every layout against a plain loop, and the plans behind them.

use std::ffi::c_long;

use chtsl::backend::cuda::device::Device;
use chtsl::backend::cuda::runtime::{Element, Gemm, GemmOperand, Runtime};
use chtsl::error::Error;
use half::bf16;

use crate::stand_ins::{Piece, on_stand_ins, open};

/// One product.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// Whether a and b are stored transposed.
    pub transposed: [bool; 2],
    /// Elements between the end of a row and the next row, of a, b and c.
    pub gaps: [usize; 3],
    /// Of a and b, and of c.
    pub elements: [Element; 2],
    pub alpha: f32,
    pub beta: f32,
    /// Elements before the first one, of a, b and c: less alignment.
    pub offsets: [usize; 3],
}

impl Default for Case {
    fn default() -> Self {
        Case {
            m: 3,
            n: 5,
            k: 4,
            transposed: [false; 2],
            gaps: [0; 3],
            elements: [Element::F32; 2],
            alpha: 1.0,
            beta: 0.0,
            offsets: [0; 3],
        }
    }
}

/// A stored matrix: `rows` of `cols`, `gap` elements between rows, `offset` before all.
struct Stored<'a> {
    piece: Piece<'a>,
    operand: GemmOperand,
    /// What was put there: small whole numbers, so that sums are exact in any order.
    values: Vec<f32>,
    offset: usize,
}

/// What gaps hold; nothing may read or write it.
const GAP: f32 = -77.0;

fn encode(values: &[f32], element: Element) -> Vec<u8> {
    match element {
        Element::F32 => values.iter().flat_map(|x| x.to_ne_bytes()).collect(),
        Element::Bf16 => values.iter().flat_map(|&x| bf16::from_f32(x).to_ne_bytes()).collect(),
    }
}

fn decode(bytes: &[u8], element: Element) -> Vec<f32> {
    let wide = |b: &[u8]| f32::from_ne_bytes(b.try_into().unwrap());
    let narrow = |b: &[u8]| bf16::from_ne_bytes(b.try_into().unwrap()).to_f32();
    match element {
        Element::F32 => bytes.chunks(4).map(wide).collect(),
        Element::Bf16 => bytes.chunks(2).map(narrow).collect(),
    }
}

impl<'a> Stored<'a> {
    fn new(
        device: &'a Device,
        (rows, cols): (usize, usize),
        element: Element,
        [gap, offset, seed]: [usize; 3],
        transposed: bool,
    ) -> Self {
        let (stored_rows, stored_cols) = if transposed { (cols, rows) } else { (rows, cols) };
        let stride = stored_cols + gap;
        let mut values = vec![GAP; offset + (stored_rows - 1) * stride + stored_cols];
        for row in 0..stored_rows {
            for col in 0..stored_cols {
                let hash = (row * 131 + col * 17 + seed * 7919).wrapping_mul(2654435761) >> 7;
                values[offset + row * stride + col] = (hash % 9) as f32 - 4.0;
            }
        }
        let piece = Piece::holding(device, &encode(&values, element));
        let data = piece.at.wrapping_byte_add(offset * element.bytes());
        let operand = GemmOperand { data, element, stride, transposed };
        Stored { piece, operand, values, offset }
    }

    fn at(&self, row: usize, col: usize) -> f32 {
        let (row, col) = if self.operand.transposed { (col, row) } else { (row, col) };
        self.values[self.offset + row * self.operand.stride + col]
    }
}

/// Computes a case on the device and compares it with a plain loop, to the bit.
pub fn product(device: &Device, case: &Case) {
    let Case { m, n, k, transposed, gaps, elements, alpha, beta, offsets } = *case;
    let layout = |i: usize| [gaps[i], offsets[i], i];
    let a = Stored::new(device, (m, k), elements[0], layout(0), transposed[0]);
    let b = Stored::new(device, (k, n), elements[0], layout(1), transposed[1]);
    let mut c = Stored::new(device, (m, n), elements[1], layout(2), false);
    if beta == 0.0 {
        // What c held plays no part, not even as not-a-number.
        for row in 0..m {
            c.values[c.offset + row * c.operand.stride..][..n].fill(f32::NAN);
        }
        // SAFETY: as many bytes.
        unsafe { device.upload(c.piece.at, &encode(&c.values, elements[1])) }.unwrap();
    }
    let mut expected = c.values.clone();
    for row in 0..m {
        for col in 0..n {
            let sum: f32 = (0..k).map(|l| a.at(row, l) * b.at(l, col)).sum();
            let old = if beta == 0.0 { 0.0 } else { beta * c.at(row, col) };
            expected[c.offset + row * c.operand.stride + col] = alpha * sum + old;
        }
    }
    let g = Gemm { m, n, k, a: a.operand, b: b.operand, c: c.operand, alpha, beta };
    // SAFETY: the operands hold their extents.
    unsafe { device.gemm(&g) }.unwrap_or_else(|e| panic!("{case:?}: {e}"));
    let rounded = decode(&encode(&expected, elements[1]), elements[1]);
    assert_eq!(decode(&c.piece.read(), elements[1]), rounded, "{case:?}");
    for (x, element) in [(&a, elements[0]), (&b, elements[0])] {
        assert_eq!(decode(&x.piece.read(), element), x.values, "an operand of {case:?}");
    }
}

#[test]
fn every_layout_of_a_product() {
    on_stand_ins("products::every_layout_of_a_product", &[], |stub| {
        let device = open().unwrap();
        use Element::{Bf16, F32};
        let mut cases = 0;
        for elements in [[F32, F32], [Bf16, Bf16], [Bf16, F32]] {
            for transposed in [[false, false], [false, true], [true, false], [true, true]] {
                for (m, n, k) in [(1, 1, 1), (3, 5, 4), (8, 2, 33), (7, 16, 1), (1, 9, 6)] {
                    for (alpha, beta) in [(1.0, 0.0), (1.0, 1.0), (-0.5, 0.25)] {
                        for (gaps, offsets) in
                            [([0; 3], [0; 3]), ([3, 0, 5], [0, 2, 0]), ([0, 8, 1], [4, 1, 3])]
                        {
                            let case =
                                Case { m, n, k, transposed, gaps, elements, alpha, beta, offsets };
                            product(&device, &case);
                            cases += 1;
                        }
                    }
                }
            }
        }
        assert_eq!(stub.calls("cublasLtMatmul"), cases);
        // One type for a and b, and c as it is.
        let a = Stored::new(&device, (2, 2), F32, [0; 3], false);
        let b = Stored::new(&device, (2, 2), Bf16, [0; 3], false);
        for (b, c) in
            [(b.operand, a.operand), (a.operand, GemmOperand { transposed: true, ..a.operand })]
        {
            let g = Gemm { m: 2, n: 2, k: 2, a: a.operand, b, c, alpha: 1.0, beta: 0.0 };
            // SAFETY: the operands hold their extents.
            let refused = unsafe { device.gemm(&g) };
            assert!(matches!(refused, Err(Error::Shape { op: "gemm", .. })), "{refused:?}");
        }
    });
}

/// The library is asked once for what it has been asked before, and again when its answer could differ.
#[test]
fn plans_are_made_once() {
    on_stand_ins("products::plans_are_made_once", &[], |stub| {
        let device = open().unwrap();
        let asked = || stub.calls("cublasLtMatmulAlgoGetHeuristic");
        let first = Case::default();
        product(&device, &first);
        assert_eq!((asked(), stub.live("descriptors"), stub.live("layouts")), (1, 1, 3));
        assert_eq!(stub.live("preferences"), 0);
        product(&device, &first);
        product(&device, &Case { alpha: 2.0, beta: 1.0, ..first });
        assert_eq!(asked(), 1);
        let others = [
            Case { m: 4, ..first },
            Case { n: 4, ..first },
            Case { k: 5, ..first },
            Case { gaps: [1, 0, 0], ..first },
            Case { gaps: [0, 1, 0], ..first },
            Case { gaps: [0, 0, 1], ..first },
            Case { transposed: [true, false], ..first },
            Case { transposed: [false, true], ..first },
            Case { elements: [Element::Bf16, Element::F32], ..first },
            Case { elements: [Element::Bf16, Element::Bf16], ..first },
            // A plan for aligned operands would be wrong for these.
            Case { offsets: [1, 0, 0], ..first },
            Case { offsets: [0, 2, 0], ..first },
            Case { offsets: [0, 0, 4], ..first },
        ];
        for round in 0..2 {
            for (i, case) in others.iter().enumerate() {
                product(&device, case);
                let expected = if round == 0 { i + 2 } else { others.len() + 1 };
                assert_eq!(asked(), expected as c_long, "{case:?}");
            }
        }
        assert_eq!(stub.live("layouts"), 3 * stub.live("descriptors"));
        assert_eq!(stub.live("descriptors"), asked());
    });
}
