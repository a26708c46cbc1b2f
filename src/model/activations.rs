//! All activations of one micro-batch size, allocated once before the first step.

use crate::backend::Backend;
use crate::error::Result;
use crate::layer::{BlockActs, Shared};
use crate::model::Llama;

/// Buffers of forward and backward pass for a fixed number of tokens.
pub struct Activations<B: Backend> {
    /// Embedded tokens.
    pub(super) x0: B::Act,
    /// Per block.
    pub(super) blocks: Vec<BlockActs<B>>,
    /// After the final norm.
    pub xf: B::Act,
    /// Statistics of the final norm.
    pub(super) rstd: B::Act,
    /// Shared by the blocks.
    pub(super) shared: Shared<B>,
    /// Gradients of the residual stream and of `xf`; absent without training.
    pub(super) grads: Option<(B::Act, B::Act)>,
}

impl<B: Backend> Activations<B> {
    /// Buffers for `tokens` tokens; `training` adds those of the backward pass.
    pub fn new(backend: &B, model: &Llama<B>, tokens: usize, training: bool) -> Result<Self> {
        let h = model.config().model.hidden;
        let act = |features| backend.act(features, tokens);
        Ok(Activations {
            x0: act(h)?,
            blocks: model
                .blocks
                .iter()
                .map(|b| BlockActs::new(backend, model.config(), b, tokens))
                .collect::<Result<_>>()?,
            xf: act(h)?,
            rstd: backend.statistics(1, tokens)?,
            shared: Shared::new(backend, model.config(), tokens, training)?,
            grads: if training { Some((act(h)?, act(h)?)) } else { None },
        })
    }

    /// Every buffer.
    fn buffers(&mut self) -> impl Iterator<Item = &mut B::Act> {
        let Activations { x0, blocks, xf, rstd, shared, grads } = self;
        let own = [x0, xf, rstd].into_iter().chain(grads.iter_mut().flat_map(|(a, b)| [a, b]));
        own.chain(blocks.iter_mut().flat_map(|b| b.buffers())).chain(shared.buffers())
    }

    /// Bytes of all buffers.
    pub fn bytes(&mut self, backend: &B) -> usize {
        self.buffers().map(|x| backend.act_bytes(x)).sum()
    }

    /// Zeros everywhere, as at the start. After non-finite numbers: operations leave the positions
    /// beyond the last token as they are, and a NaN there would enter every later sum over tokens.
    pub fn clear(&mut self, backend: &B) -> Result<()> {
        self.buffers().try_for_each(|x| backend.zero_act(x))
    }
}
