"""How good generated images are, measured without a download: in the features of bnbench's own classifier.

All of it is in float64 on the CPU. `image_quality` compares as many generated images as there are real ones, at most
MOST_IMAGES of each: the Fréchet distance falls with the number of images even where both sets are of one kind, so only
numbers of equally many images can be compared. In a study all variants have the same number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from bnbench.base.metrics import Metric
from bnbench.base.process_state import left_as_found
from bnbench.tasks.feature_network import FeatureNetwork, evenly, feature_network

#: What a task of generated images measures beside its losses. "recall" alone is the name of the recall by class.
IMAGE_QUALITY = (
    Metric("frechet", "lower"),
    Metric("kernel", "lower", lowest=None),
    Metric("image_precision", "higher", percent=True),
    Metric("image_recall", "higher", percent=True),
    Metric("coverage", "higher", percent=True),
)
#: Images of each kind at most that are compared.
MOST_IMAGES = 2000
#: The nearest neighbour whose distance is the radius of a ball, as in section 4 of Kynkäänniemi et al. 2019.
NEIGHBOUR = 3
#: A class is covered where it has at least this share of its real images' number among the generated ones.
COVERED = 0.1
#: Rows of a matrix of distances that are in memory at once.
_ROWS = 500


def image_quality(made: Tensor, real: Tensor, network: FeatureNetwork) -> dict[str, float]:
    """Every metric of IMAGE_QUALITY by its name.

    made, real: images (N, C, H, W) in 0..1. Of more than MOST_IMAGES, so many spread evenly are taken. All are NaN
    where an image has a pixel that is not finite, or where there are fewer than two of either kind; `coverage` is NaN
    where the data set has fewer than two classes.
    """
    made, real = (images[evenly(len(images), MOST_IMAGES).to(images.device)] for images in (made, real))
    if min(len(made), len(real)) < 2 or not (made.isfinite().all() and real.isfinite().all()):
        return {metric.name: math.nan for metric in IMAGE_QUALITY}
    (of_made, found), (of_real, expected) = network.look(made), network.look(real)
    with left_as_found(torch.device("cpu")):
        torch.set_num_threads(1)
        return {
            "frechet": frechet_distance(of_made, of_real),
            "kernel": kernel_distance(of_made, of_real),
            "image_precision": within(of_made, of_real),
            "image_recall": within(of_real, of_made),
            "coverage": class_coverage(found, expected) if network.classes else math.nan,
        }


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Squared Fréchet distance of the Gaussians with the means and covariances of two sets of vectors.

    one, other: (N, D) and (M, D), N and M at least 2. |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^(1/2)): Dowson and Landau
    1982, as in equation 6 of Heusel et al. 2017; covariances with n-1. The trace of the root is the sum of the
    singular values of C1^(1/2) C2^(1/2), which are real and not negative for singular covariances, too. Never
    negative, and 0 for equal sets to rounding.
    """
    means = (one.mean(0) - other.mean(0)).square().sum()
    first, second = _covariance(one), _covariance(other)
    shared = torch.linalg.svdvals(_root(first) @ _root(second)).sum()
    return max(0.0, float(means + first.trace() + second.trace() - 2 * shared))


def _covariance(vectors: Tensor) -> Tensor:
    centred = vectors - vectors.mean(0)
    return centred.T @ centred / (len(vectors) - 1)


def _root(covariance: Tensor) -> Tensor:
    """The symmetric root of a symmetric matrix without negative eigenvalues but for rounding."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root


def kernel_distance(one: Tensor, other: Tensor) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy with the kernel (x·y / D + 1)³.

    one, other: (N, D) and (M, D), N and M at least 2. Bińkowski et al. 2018, section 4 and equation 4, over all pairs
    of different vectors of a set, and over all pairs between the sets. As it has no bias it is negative at times
    where both sets are of one kind.
    """

    def total(left: Tensor, right: Tensor) -> float:
        rows = (
            float((rows @ right.T / right.shape[1] + 1).pow(3).sum()) for rows in torch.split(left, _ROWS)
        )
        return math.fsum(rows)

    def inside(vectors: Tensor) -> float:
        with_itself = (vectors.square().sum(1) / vectors.shape[1] + 1).pow(3).sum()
        return (total(vectors, vectors) - float(with_itself)) / (len(vectors) * (len(vectors) - 1))

    return inside(one) + inside(other) - 2 * total(one, other) / (len(one) * len(other))


def within(one: Tensor, other: Tensor, neighbour: int = NEIGHBOUR) -> float:
    """The share of the vectors of `one` that lie in a ball around a vector of `other`.

    one, other: (N, D) and (M, D), M at least 2. A ball reaches to the 3rd nearest other vector of its own set (to the
    farthest where there are fewer). Equations 1 and 2 of Kynkäänniemi et al. 2019, "Improved precision and recall
    metric": of made images in real ones it is precision, of real ones in made ones recall. 1 for equal sets.
    """
    count = min(neighbour, len(other) - 1)
    radii = torch.cat([rows.kthvalue(count + 1, dim=1).values for rows in _distances(other, other)])
    inside = [(rows <= radii).any(1) for rows in _distances(one, other)]
    return float(torch.cat(inside).double().mean())


def _distances(one: Tensor, other: Tensor) -> Iterator[Tensor]:
    """Rows of the matrix of distances; without a matrix product, so that equal vectors are 0 apart."""
    for rows in torch.split(one, _ROWS):
        yield torch.cdist(rows, other, compute_mode="donot_use_mm_for_euclid_dist")


def class_coverage(made: Tensor, real: Tensor) -> float:
    """The share of the classes of the real images that the classifier finds among the generated ones.

    made, real: its probabilities, (N, classes) and (M, classes). An image is of its most probable class. A class is
    found where its share of the generated images is at least a tenth of its share of the real ones.
    """
    found, expected = (
        vectors.argmax(1).bincount(minlength=vectors.shape[1]).double() / len(vectors)
        for vectors in (made, real)
    )
    there = expected > 0
    return float((found >= COVERED * expected)[there].double().mean())


__all__ = ["IMAGE_QUALITY", "FeatureNetwork", "feature_network", "image_quality"]
