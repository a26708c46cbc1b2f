"""Configuration of a model whose projections are O = S + L, as exported by `chtsl export`."""

from transformers import LlamaConfig


class ChtslConfig(LlamaConfig):
    """LLaMA's configuration, and what each projection is made of.

    sparsity: `links` (number of links per projection), `rank`, `scale` and `activation` of the
        low-rank branch.
    keep_csr: compute with `torch.sparse_csr` tensors instead of matrices that hold the zeros too;
        saves memory, seldom time. On a CPU torch has these products for float32 and float64 only.
    """

    model_type = "chtsl"

    def __init__(self, sparsity=None, keep_csr=False, **kwargs):
        self.sparsity = sparsity or {}
        self.keep_csr = keep_csr
        super().__init__(**kwargs)
