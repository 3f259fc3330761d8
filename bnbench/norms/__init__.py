"""The normalizers. To add one: one file here, with one factory registered by name.

A factory is `factory(num_features, dim, **options) -> torch.nn.Module`:
    num_features: channels C of the input. dim: 1 for inputs (N, C), 2 for (N, C, H, W).
    keyword-only parameters: the options that a study may set (`norm: {name: batch, eps: 1e-3}`).
Facts given to `register`:
    absorbs_bias: True where the layer subtracts a mean per channel over a batch, so that a bias
        right before it can't have any effect; models then leave that bias out.
    needs_batch: True where one value per channel has no statistics (a batch of one is refused).
"""

from bnbench.registry import Registry

norms = Registry("normalizer", __name__)
