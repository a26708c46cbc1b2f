"""LLaMA with projections O = S + L: S sparse, L = scale * B * act(A * x) of low rank.

The names in the file are those of the modules below: `q_proj.weight.crow_indices`, `.col_indices` and
`.values` (the arguments of `torch.sparse_csr_tensor`), `q_proj.low_rank.A` and `.B`.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from .configuration_chtsl import ChtslConfig

PROJECTIONS = {
    "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}


class Links(nn.Module):
    """S of shape (rows, cols): one value per link."""

    def __init__(self, rows, cols, links, keep_csr):
        super().__init__()
        self.shape = (rows, cols)
        self.keep_csr = keep_csr
        self.register_buffer("crow_indices", torch.zeros(rows + 1, dtype=torch.int32))
        self.register_buffer("col_indices", torch.zeros(links, dtype=torch.int32))
        self.values = nn.Parameter(torch.zeros(links))
        self._cached = (None, None)

    def dense(self):
        """S with its zeros; differentiable with respect to the values."""
        rows, cols = self.shape
        lengths = (self.crow_indices[1:] - self.crow_indices[:-1]).long()
        row = torch.arange(rows, device=lengths.device).repeat_interleave(lengths)
        at = row * cols + self.col_indices.long()
        return self.values.new_zeros(rows * cols).index_put((at,), self.values).view(rows, cols)

    def csr(self):
        return torch.sparse_csr_tensor(
            self.crow_indices, self.col_indices, self.values, size=self.shape, check_invariants=False
        )

    def matrix(self):
        make = self.csr if self.keep_csr else self.dense
        if torch.is_grad_enabled() and self.values.requires_grad:
            return make()
        # Without gradients the matrix is made once, until the values change or move.
        key = (self.values.data_ptr(), self.values._version, self.values.dtype, self.values.device)
        if self._cached[0] != key:
            self._cached = (key, make())
        return self._cached[1]

    def forward(self, x):
        matrix = self.matrix()
        if not self.keep_csr:
            return F.linear(x, matrix)
        flat = x.reshape(-1, self.shape[1])
        return (matrix @ flat.t()).t().reshape(*x.shape[:-1], self.shape[0])


class LowRank(nn.Module):
    """L = scale * B * act(A * x)."""

    def __init__(self, rows, cols, rank, activation, scale):
        super().__init__()
        self.A = nn.Parameter(torch.zeros(rank, cols))
        self.B = nn.Parameter(torch.zeros(rows, rank))
        self.activation = {"silu": F.silu, "identity": lambda u: u}[activation]
        self.scale = scale

    def forward(self, x):
        return self.scale * F.linear(self.activation(F.linear(x, self.A)), self.B)


class Projection(nn.Module):
    """O = S + L, with either branch."""

    def __init__(self, rows, cols, links, sparsity, keep_csr):
        super().__init__()
        self.out_features, self.in_features = rows, cols
        self.weight = None if links is None else Links(rows, cols, links, keep_csr)
        self.low_rank = None
        if sparsity["rank"] > 0:
            activation, scale = sparsity["activation"], sparsity["scale"]
            self.low_rank = LowRank(rows, cols, sparsity["rank"], activation, scale)

    def forward(self, x):
        if self.low_rank is None:
            return self.weight(x)
        low_rank = self.low_rank(x)
        return low_rank if self.weight is None else self.weight(x) + low_rank


class ChtslForCausalLM(LlamaForCausalLM):
    """`LlamaForCausalLM` with other projections."""

    config_class = ChtslConfig

    def __init__(self, config):
        super().__init__(config)
        if config.sparsity["dense"]:
            return
        for number, layer in enumerate(self.model.layers):
            for part, names in PROJECTIONS.items():
                module = getattr(layer, part)
                for name in names:
                    full = f"model.layers.{number}.{part}.{name}"
                    old = getattr(module, name)
                    links = config.sparsity["links"].get(full)
                    shape = (old.out_features, old.in_features)
                    new = Projection(*shape, links, config.sparsity, config.keep_csr)
                    setattr(module, name, new)
        self.post_init()
