//! Decoding with cached keys and values: one new token for each of several sequences at a time.

use crate::backend::{AttentionShape, Backend};
use crate::error::{Error, Result};
use crate::model::Llama;

/// State of some sequences that grow by one token per call.
pub struct Decoder<B: Backend> {
    sequences: usize,
    position: usize,
    caches: Vec<B::Cache>,
    x: B::Act,
    x2: B::Act,
    xn: B::Act,
    out: [B::Act; 4],
    wide: [B::Act; 3],
    u: Option<B::Act>,
    rstd: B::Act,
    logits: B::Act,
}

impl<B: Backend> Decoder<B> {
    /// Room for `sequences` sequences of at most `max_len` tokens.
    pub fn new(backend: &B, model: &Llama<B>, sequences: usize, max_len: usize) -> Result<Self> {
        let m = &model.config().model;
        let act = |features| backend.act(features, sequences);
        let rank = model.blocks.first().map_or(0, |b| b.projections[0].rank());
        Ok(Decoder {
            sequences,
            position: 0,
            caches: (0..m.layers)
                .map(|_| backend.cache(sequences, max_len, m.hidden))
                .collect::<Result<_>>()?,
            x: act(m.hidden)?,
            x2: act(m.hidden)?,
            xn: act(m.hidden)?,
            out: [act(m.hidden)?, act(m.hidden)?, act(m.hidden)?, act(m.hidden)?],
            wide: [act(m.intermediate)?, act(m.intermediate)?, act(m.intermediate)?],
            u: if rank > 0 { Some(act(rank)?) } else { None },
            rstd: backend.statistics(1, sequences)?,
            logits: act(m.vocab)?,
        })
    }

    /// Tokens seen so far per sequence.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Appends one token per sequence; logits are then read with [`Decoder::logits`].
    pub fn push(&mut self, backend: &B, model: &Llama<B>, ids: &[u32]) -> Result<()> {
        if ids.len() != self.sequences {
            let expected = format!("{} tokens", self.sequences);
            return Err(Error::shape("decode", expected, ids.len()));
        }
        let m = &model.config().model;
        let eps = m.rms_eps as f32;
        let shape = AttentionShape {
            sequences: self.sequences,
            seq_len: 1,
            heads: m.heads,
            head_dim: m.head_dim(),
            starts: None,
        };
        let Decoder { x, x2, xn, out, wide, u, rstd, .. } = self;
        let [q, k, v, o] = out;
        let [gate, up, product] = wide;
        backend.embedding_forward(&model.embedding.values, ids, x)?;
        for (block, cache) in model.blocks.iter().zip(&mut self.caches) {
            let p = &block.projections;
            backend.rmsnorm_forward(x, &block.norm1.values, eps, xn, rstd)?;
            p[0].forward(backend, xn, u.as_mut(), q, None)?;
            p[1].forward(backend, xn, u.as_mut(), k, None)?;
            p[2].forward(backend, xn, u.as_mut(), v, None)?;
            let at = self.position;
            backend.attention_decode(shape, m.rope_base, at, q, k, v, cache, o)?;
            p[3].forward(backend, o, u.as_mut(), q, None)?;
            backend.add(x, q, x2)?;
            backend.rmsnorm_forward(x2, &block.norm2.values, eps, xn, rstd)?;
            p[4].forward(backend, xn, u.as_mut(), gate, None)?;
            p[5].forward(backend, xn, u.as_mut(), up, None)?;
            backend.swiglu_forward(gate, up, product)?;
            p[6].forward(backend, product, u.as_mut(), q, None)?;
            backend.add(x2, q, x)?;
        }
        backend.rmsnorm_forward(x, &model.norm.values, eps, xn, rstd)?;
        backend.dense_forward(&model.head.values, xn, &mut self.logits)?;
        self.position += 1;
        Ok(())
    }

    /// Logits of the token after the last one of `sequence`.
    pub fn logits(&self, backend: &B, sequence: usize) -> Result<Vec<f32>> {
        backend.read_token(&self.logits, sequence)
    }
}
