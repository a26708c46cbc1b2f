//! The same inputs a hundred times must give the same bits, whatever the schedule of blocks.

use chtsl::backend::{
    AttentionShape, Backend, Csr, Cuda, Hybrid, HybridGrads, LowRank, branch_sums, cuda::Strategy,
};
use chtsl::config::{Activation, Precision};
use chtsl::error::Result;
use chtsl::rng::{Purpose, Stream};
use chtsl::topology::init::er;

use crate::record::Record;

const TIMES: usize = 100;
const ROWS: usize = 520;
const COLS: usize = 1376;
const RANK: usize = 48;
const TOKENS: usize = 3000;

fn normal(seed: u32, n: usize) -> Vec<f32> {
    let s = Stream::new(11, Purpose::Init, seed, 0);
    (0..n as u64).map(|i| 0.1 * s.normal(i) as f32).collect()
}

/// All outputs of one round, as bits.
fn round(cuda: &Cuda) -> Result<Vec<(&'static str, Vec<u32>)>> {
    let bits = |x: Vec<f32>| x.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
    let act = |seed, features| -> Result<<Cuda as Backend>::Act> {
        let mut x = cuda.act(features, TOKENS)?;
        cuda.write_act(&mut x, &normal(seed, features * TOKENS))?;
        Ok(x)
    };
    let buf = |seed, n| -> Result<<Cuda as Backend>::Buf> {
        let mut x = cuda.buf(n)?;
        cuda.write(&mut x, &normal(seed, n))?;
        Ok(x)
    };
    let mut all = vec![];
    let nnz = ROWS * COLS / 12;
    let s = Csr::new(cuda, er::links(2, 0, ROWS, COLS, nnz)?, &normal(1, nnz))?;
    let (a, b) = (buf(2, RANK * COLS)?, buf(3, ROWS * RANK)?);
    let activation = Activation::Silu;
    let low_rank = Some(LowRank { a: &a, b: &b, rank: RANK, activation, scale: 1.0 });
    let w = Hybrid { sparse: Some(&s), low_rank, rows: ROWS, cols: COLS };
    let x = act(4, COLS)?;
    let (mut u, mut o, mut dx) = (act(5, RANK)?, act(6, ROWS)?, act(7, COLS)?);
    let mut sums = cuda.statistics(branch_sums::COUNT, TOKENS)?;
    cuda.hybrid_forward(&w, &x, Some(&mut u), &mut o, Some(&mut sums))?;
    let mut c = cuda.statistics(1, TOKENS)?;
    cuda.write_act(&mut c, &normal(8, TOKENS))?;
    let mut d_o = act(9, ROWS)?;
    let (mut dv, mut da, mut db) = (buf(10, nnz)?, buf(11, RANK * COLS)?, buf(12, ROWS * RANK)?);
    let grads = HybridGrads { values: Some(&mut dv), a: Some(&mut da), b: Some(&mut db) };
    cuda.hybrid_backward(&w, &x, Some(&u), &o, Some(&c), &mut d_o, &mut dx, true, grads)?;
    all.push(("O", bits(cuda.read_act(&o)?)));
    all.push(("branch sums", bits(cuda.read_act(&sums)?)));
    all.push(("dx", bits(cuda.read_act(&dx)?)));
    all.push(("dvalues", bits(cuda.read(&dv)?)));
    all.push(("dA", bits(cuda.read(&da)?)));
    all.push(("dB", bits(cuda.read(&db)?)));

    let gain = buf(13, COLS)?;
    let mut dgain = buf(14, COLS)?;
    let (mut y, mut rstd) = (cuda.act(COLS, TOKENS)?, cuda.statistics(1, TOKENS)?);
    cuda.rmsnorm_forward(&x, &gain, 1e-6, &mut y, &mut rstd)?;
    cuda.rmsnorm_backward(&dx, &x, &gain, &rstd, &mut y, &mut dgain)?;
    all.push(("rmsnorm", bits(cuda.read_act(&y)?)));
    all.push(("dgain", bits(cuda.read(&dgain)?)));

    let (heads, head_dim, seq_len) = (8, 64, 250);
    let shape = AttentionShape { sequences: 12, seq_len, heads, head_dim, starts: None };
    let (q, k, v, d) = (act(15, 512)?, act(16, 512)?, act(17, 512)?, act(18, 512)?);
    let mut out = cuda.act(512, TOKENS)?;
    let mut lse = cuda.statistics(heads, TOKENS)?;
    let (mut dq, mut dk, mut dvv) =
        (cuda.act(512, TOKENS)?, cuda.act(512, TOKENS)?, cuda.act(512, TOKENS)?);
    cuda.attention_forward(shape, 1e4, &q, &k, &v, &mut out, &mut lse)?;
    cuda.attention_backward(shape, 1e4, &q, &k, &v, &out, &lse, &d, &mut dq, &mut dk, &mut dvv)?;
    for (name, x) in [("attention", &out), ("dq", &dq), ("dk", &dk), ("dv", &dvv)] {
        all.push((name, bits(cuda.read_act(x)?)));
    }

    let vocab = 5000;
    let head = buf(19, vocab * 512)?;
    let (mut dhead, mut dxh) = (buf(20, vocab * 512)?, cuda.act(512, TOKENS)?);
    let targets: Vec<u32> = (0..TOKENS as u32).map(|i| i * 37 % vocab as u32).collect();
    let loss = cuda.cross_entropy_train(&head, &q, &targets, 1e-3, &mut dxh, &mut dhead)?;
    cuda.embedding_backward(&targets, &dxh, &mut dhead)?;
    let wide = loss.loss.to_bits();
    all.push(("loss", vec![wide as u32, (wide >> 32) as u32]));
    all.push(("head gradient", bits(cuda.read(&dhead)?)));
    let squares = cuda.sum_squares(&dhead)?.to_bits();
    all.push(("sum of squares", vec![squares as u32, (squares >> 32) as u32]));
    Ok(all)
}

pub fn all(_: &Cuda, record: &mut Record) -> Result<()> {
    for precision in [Precision::F32, Precision::Bf16Master] {
        for strategy in [Strategy::Links, Strategy::Dense] {
            let cuda = Cuda::open(precision)?.with_strategy(strategy);
            let first = round(&cuda)?;
            let mut differing: Vec<&str> = vec![];
            for _ in 1..TIMES {
                for (a, b) in first.iter().zip(round(&cuda)?) {
                    if a.1 != b.1 && !differing.contains(&a.0) {
                        differing.push(a.0);
                    }
                }
            }
            let what = format!("{precision}, {strategy:?}");
            match differing.is_empty() {
                true => println!("{TIMES} repeats give the same bits: {what}"),
                false => {
                    record.note(&format!("bits differ between repeats ({what}): {differing:?}"))
                }
            }
        }
    }
    Ok(())
}
