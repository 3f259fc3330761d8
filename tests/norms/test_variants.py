"""What single normalizers promise beyond their formula: noise, schedules, remainders, loading."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from bnbench.base.errors import BnbenchError
from bnbench.norms import norms
from bnbench.norms.batch_noisy import Noise


def layer(name: str, num_features: int = 6, dim: int = 1, **options: object) -> nn.Module:
    built = norms.get(name).factory(num_features, dim, **options)
    assert isinstance(built, nn.Module)
    return built


def noise_of(noisy: nn.Module, x: Tensor) -> Tensor:
    """y / x̂ where the noise has no shift, y - x̂ where it has no scale."""
    plain = copy.deepcopy(noisy)
    plain.noise = Noise(0, 1, 0)
    y, normalized = noisy(x), plain(x)
    return y - normalized if noisy.noise.mean_range else y / normalized


class TestNoisy:
    def test_the_shift_has_the_distribution_of_the_paper(self) -> None:
        noisy = layer("batch_noisy", 2000, scale_max=1, spread=0, mean_range=0.5)
        shift = noise_of(noisy, torch.randn(8, 2000)).detach()
        torch.testing.assert_close(shift.std(0), torch.zeros(2000), atol=1e-5, rtol=0)  # one a channel
        means = shift.mean(0)
        assert means.abs().max() <= 0.5 + 1e-5
        assert means.mean().abs() < 0.03
        assert abs(float(means.std()) - 1 / 12**0.5) < 0.01  # of U(-0.5, 0.5)

    def test_every_value_has_its_own_noise_around_the_channels(self) -> None:
        noisy = layer("batch_noisy", 4, dim=2, mean_range=0)
        scale_and_shift = noisy(torch.zeros(50, 4, 20, 20))  # x̂ is 0: what is left is the shift
        assert scale_and_shift.abs().max() <= 0.1
        assert (scale_and_shift.std((0, 2, 3)) - 0.2 / 12**0.5).abs().max() < 1e-3
        scales = noise_of(layer("batch_noisy", 4, dim=2, mean_range=0, spread=0), torch.randn(50, 4, 20, 20))
        means = scales.nanmean((0, 2, 3))
        assert ((means > 1) & (means < 1.25)).all()
        assert means.unique().numel() == 4

    def test_the_noise_is_the_seeds_and_the_steps_alone(self) -> None:
        torch.manual_seed(3)
        noisy, other = layer("batch_noisy"), layer("batch_noisy")
        x = torch.randn(8, 6)
        twin = copy.deepcopy(noisy)
        torch.manual_seed(99)  # the global generator has no say
        first, second = noisy(x), noisy(x)
        assert torch.equal(first, twin(x))
        assert not torch.allclose(first, second)
        assert not torch.allclose(first, other(x))  # another layer, another noise
        state = torch.random.get_rng_state()
        noisy(x)
        assert torch.equal(torch.random.get_rng_state(), state)

    def test_a_state_dict_brings_back_the_noise_to_come(self) -> None:
        noisy, fresh = layer("batch_noisy"), layer("batch_noisy")
        x = torch.randn(8, 6)
        noisy(x), noisy(x)
        fresh.load_state_dict(noisy.state_dict())
        assert torch.equal(noisy(x), fresh(x))

    def test_inference_is_that_of_batch_norm(self) -> None:
        noisy, batch = layer("batch_noisy"), layer("batch")
        for _ in range(3):
            x = torch.randn(8, 6)
            noisy(x), batch(x)
        torch.testing.assert_close(noisy.eval()(x), batch.eval()(x))


class TestRenorm:
    def test_the_clips_follow_the_papers_schedule(self) -> None:
        renorm = layer("renorm")
        for steps, r_max, d_max in (
            (0, 1, 0),
            (4999, 1, 0),
            (14999, 1 + 2 * 10000 / 35000, 5 * 10000 / 20000),
            (24999, 1 + 2 * 20000 / 35000, 5),
            (39999, 3, 5),
            (10**6, 3, 5),
        ):
            renorm.num_batches_tracked.fill_(steps)
            r, d = renorm.limits()
            assert (float(r), float(d)) == pytest.approx((r_max, d_max), rel=1e-6)

    def test_relaxed_with_running_statistics_of_the_batch_it_trains_as_it_infers(self) -> None:
        renorm = layer("renorm", momentum=1.0, relax_from=0, r_relaxed_at=0, d_relaxed_at=0)
        x = torch.randn(64, 6) * 3 + 1
        renorm(x)
        torch.testing.assert_close(renorm(x), renorm.eval()(x), rtol=1e-5, atol=1e-5)

    def test_a_schedule_that_ends_before_it_begins_is_refused(self) -> None:
        with pytest.raises(BnbenchError, match=r"relax_from=5000 comes after"):
            layer("renorm", r_relaxed_at=100)


class TestGhost:
    @pytest.mark.parametrize(("samples", "sizes"), [(8, [4, 4]), (11, [6, 5]), (3, [3]), (13, [5, 4, 4])])
    def test_a_remainder_is_spread_over_the_ghost_batches(self, samples: int, sizes: list[int]) -> None:
        x = torch.randn(samples, 6)
        y = layer("ghost", ghost_size=4)(x)
        parts = torch.cat([layer("batch")(part) for part in x.split(sizes)])
        torch.testing.assert_close(y, parts, rtol=1e-5, atol=1e-5)


class TestFrozen:
    def test_it_loads_batch_norms_statistics_and_keeps_them_in_training(self) -> None:
        batch, frozen = layer("batch"), layer("frozen")
        for _ in range(3):
            batch(torch.randn(8, 6) * 2 + 1)
        frozen.load_state_dict(batch.state_dict())
        x = torch.randn(8, 6)
        torch.testing.assert_close(frozen.train()(x), batch.eval()(x))
        assert torch.equal(frozen.running_mean, batch.running_mean)
        assert batch.state_dict()["num_batches_tracked"] == 3


def test_sync_equals_batch_in_one_process() -> None:
    sync, batch, x = layer("sync", dim=2), layer("batch", dim=2), torch.randn(8, 6, 3, 3)
    assert torch.equal(sync(x), batch(x))
    assert torch.equal(sync.running_var, batch.running_var)


def test_batch_statistics_at_inference_depend_on_the_batch() -> None:
    built = layer("batch_stats_at_inference").eval()
    x = torch.randn(8, 6)
    torch.testing.assert_close(built(x).mean(0), torch.zeros(6), atol=1e-6, rtol=0)
    assert not torch.allclose(built(x)[:4], built(x[:4]))


def test_what_a_normalizer_leaves_out_is_no_parameter() -> None:
    names = {
        name: {parameter for parameter, _ in layer(name).named_parameters()}
        for name in ("batch", "batch_no_gamma", "batch_no_beta")
    }
    assert names == {
        "batch": {"weight", "bias"},
        "batch_no_gamma": {"bias"},
        "batch_no_beta": {"weight"},
    }
    assert "affine" not in repr(layer("batch_no_gamma"))


def test_a_frn_of_single_values_is_no_sign_function() -> None:
    """(N, C): with eps 1e-6 alone it would be nearly the sign of x; the learnt eps has a gradient."""
    built = layer("filter_response")
    built(torch.full((2, 6), 1e-3)).sum().backward()
    assert built.learnt_eps.grad.abs().min() > 0


@pytest.mark.parametrize(("name", "torchs"), [("layer", nn.LayerNorm), ("rms", nn.RMSNorm)])
@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_over_channels_against_torch_with_the_channels_last(
    name: str, torchs: type[nn.Module], format: torch.memory_format
) -> None:
    ours, theirs = layer(name, 6, 2, axes="channels"), torchs(6, eps=1e-5)
    for parameter in ours.parameters():
        nn.init.uniform_(parameter, 0.5, 2)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 6, 4, 5).contiguous(memory_format=format)
    y = ours(x)
    torch.testing.assert_close(y, theirs(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), rtol=1e-5, atol=1e-6)
    assert y.is_contiguous(memory_format=format)


@pytest.mark.parametrize("name", ["layer", "rms"])
def test_one_channel_is_not_normalized_with_itself(name: str) -> None:
    for dim, axes in ((1, "all"), (2, "channels")):
        with pytest.raises(BnbenchError, match="over 1 channel"):
            layer(name, 1, dim, axes=axes)
    assert layer(name, 1, 2)(torch.randn(2, 1, 3, 3)).isfinite().all()
