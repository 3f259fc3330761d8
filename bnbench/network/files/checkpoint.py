"""A checkpoint put into a network: all of it or nothing, with a report of what was missing, extra or renamed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bnbench.base.user_code import first_line, raise_interrupt
from bnbench.network.files.checkpoint_file import CheckpointError, read_checkpoint
from bnbench.norms.owner import is_normalizer

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
#: What wrappers put before the names of a network's tensors, or between them.
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_PREFIXES = ("model", "net", "network", "backbone", "encoder", "base_model", "student", "ema")
#: Extra tensors of wrappers and counters, which no network's output depends on.
_HARMLESS = ("n_averaged", "num_batches_tracked", "total_ops", "total_params")
#: Below this share of a network's tensors the checkpoint is another network's.
_FEW = 0.5
_SHOWN = 6


@dataclass(frozen=True)
class NormGap:
    """A normalization of which a checkpoint has a part. missing, present: names of its tensors."""

    name: str
    missing: tuple[str, ...]
    present: tuple[str, ...]

    @property
    def lacks_statistics(self) -> bool:
        """Whether inference would use those of a fresh network."""
        return any(name in STATISTICS[:2] for name in self.missing)


@dataclass(frozen=True)
class CheckpointReport:
    """What became of a checkpoint's tensors. Keys are those of the network, after what was stripped.

    nest: the entry of the file that held them, "" for its top. stripped: what was taken out of the keys.
    loaded: tensors that the network has now. missing: it has, and the file not. extra: the reverse.
    mismatched: key, shape in the file, shape in the network. gaps: normalizations that it has in part. not_finite: keys
    with a NaN or an infinity. said: sentences on all this, for people.
    """

    path: str
    nest: str = ""
    stripped: tuple[str, ...] = ()
    loaded: int = 0
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    gaps: tuple[NormGap, ...] = ()
    not_finite: tuple[str, ...] = ()
    said: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every tensor of the network is from the file, and none of the file is left over."""
        harmless = all(_is_harmless(key) for key in (*self.missing, *self.extra))
        return harmless and not self.mismatched


def load_checkpoint(model: nn.Module, path: str | Path, *, partial: bool = False) -> CheckpointReport:
    """Give a network the tensors of a file: .safetensors, or a state_dict by torch.save.

    partial: load what is there, and report the rest, as `doctor` does; else a missing or an extra tensor is an error.
    Raises CheckpointError, with the network as it was, where the file can't be read, or is another network's.
    """
    path = Path(path)
    contents = read_checkpoint(path)
    own = {key: value for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    tensors, stripped = _renamed(contents.tensors, own)
    report = _report(model, path, own, tensors)
    said = [*contents.said, *_notes(report, contents.nest, stripped), *_casts(own, tensors)]
    report = CheckpointReport(
        **{**vars(report), "nest": contents.nest, "stripped": stripped, "said": tuple(said)}
    )
    _check_likeness(report, own, tensors)
    if report.mismatched or not (partial or report.complete):
        raise _unlike(report, own)
    _load(model, {key: value for key, value in tensors.items() if key in own}, path)
    return report


def _renamed(tensors: Mapping[str, Tensor], own: Iterable[str]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Keys as the network has them: without what wrappers put in. And what was taken out."""
    names, stripped = set(own), list[str]()
    current = dict(tensors)
    while True:
        fitting = len(names & current.keys())
        best, word = current, ""
        for candidate in (*_WRAPPERS, *_PREFIXES):
            shorter = _without(current, candidate, anywhere=candidate in _WRAPPERS)
            found = len(names & shorter.keys()) if shorter else 0
            if shorter and found > fitting:
                best, word, fitting = shorter, candidate, found
            elif shorter and not word and found == fitting == 0 and candidate in _WRAPPERS:
                best, word = shorter, candidate  # "module.model.": neither fits alone
        if not word:
            return current, tuple(f"{name}." for name in stripped)
        current = best
        stripped.append(word)


def _without(tensors: Mapping[str, Tensor], word: str, anywhere: bool) -> dict[str, Tensor] | None:
    """The keys without that part; None where no key has it, or two become one."""
    renamed: dict[str, Tensor] = {}
    changed = False
    for key, value in tensors.items():
        parts = key.split(".")
        new = [part for part in parts if part != word] if anywhere else parts[parts[0] == word :]
        name = ".".join(new)
        if name in renamed or not name:
            return None
        changed |= name != key
        renamed[name] = value
    return renamed if changed else None


def _report(
    model: nn.Module, path: Path, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> CheckpointReport:
    shared = [key for key in own if key in tensors]
    # a tied tensor is there where one of its names is
    there = {_place(own[key]) for key in shared}
    missing = [key for key in own if key not in tensors and _place(own[key]) not in there]
    return CheckpointReport(
        str(path),
        loaded=sum(own[key].shape == tensors[key].shape for key in shared),
        missing=tuple(missing),
        extra=tuple(key for key in tensors if key not in own),
        mismatched=tuple(
            (key, tuple(tensors[key].shape), tuple(own[key].shape))
            for key in shared
            if tensors[key].shape != own[key].shape
        ),
        gaps=tuple(_gaps(model, set(missing), tensors)),
        not_finite=tuple(
            key for key in shared if tensors[key].is_floating_point() and not tensors[key].isfinite().all()
        ),
    )


def _place(tensor: Tensor) -> tuple[object, ...]:
    return (
        (tensor.data_ptr(), tuple(tensor.shape)) if tensor.numel() and not tensor.is_meta else (id(tensor),)
    )


def _gaps(model: nn.Module, missing: set[str], tensors: Mapping[str, Tensor]) -> Iterable[NormGap]:
    for name, module in model.named_modules():
        keys = [
            key for held in (module._parameters, module._buffers) for key in held if held[key] is not None
        ]
        if not keys or not (is_normalizer(module) or set(STATISTICS[:2]) <= set(keys)):
            continue
        full = {key: f"{name}.{key}" if name else key for key in keys}
        lost = tuple(key for key in keys if full[key] in missing)
        if lost and lost != ("num_batches_tracked",):
            yield NormGap(name, lost, tuple(key for key in keys if full[key] in tensors))


def _notes(report: CheckpointReport, nest: str, stripped: tuple[str, ...]) -> Iterable[str]:
    """Sentences on what was renamed, missing and extra."""
    if nest:
        yield f"the weights lie under {nest}"
    if stripped:
        yield f"{' and '.join(stripped)} taken out of the names"
    yield from _gap_notes(report.gaps)
    in_norms = {f"{gap.name}.{key}" if gap.name else key for gap in report.gaps for key in gap.missing}
    others = [key for key in report.missing if key not in in_norms]
    if counters := [key for key in others if _is_harmless(key)]:
        yield f"{len(counters)} counters num_batches_tracked are missing, as in files of torch before 0.4.1"
    if weights := [key for key in others if not _is_harmless(key)]:
        yield f"missing in the file: {_listed(weights)}"
    if report.extra:
        yield f"not in the network: {_listed(report.extra)}"
    if report.mismatched:
        shapes = [
            f"{key} {list(file)} in the file, {list(own)} in the network"
            for key, file, own in report.mismatched
        ]
        yield f"other shapes: {_listed(shapes)}"
    if report.not_finite:
        yield f"NaN or infinity in: {_listed(report.not_finite)}"


def _gap_notes(gaps: tuple[NormGap, ...]) -> Iterable[str]:
    """Which normalizations have lost what."""
    without = [gap for gap in gaps if gap.lacks_statistics]
    affine = [gap for gap in gaps if not gap.lacks_statistics]
    if alone := [gap.name or "the network" for gap in without if gap.present]:
        yield (
            f"running_mean and running_var are missing for {_norms(alone)}, whose other tensors are there: the file "
            "was saved from parameters without buffers, and inference would use 0 and 1"
        )
    if whole := [gap.name or "the network" for gap in without if not gap.present]:
        yield f"every tensor is missing for {_norms(whole)}, running_mean and running_var too"
    if lost := [gap.name or "the network" for gap in affine if set(gap.present) & set(STATISTICS)]:
        yield f"gamma or beta is missing for {_norms(lost)}, whose statistics are there"
    if rest := [gap.name or "the network" for gap in affine if not set(gap.present) & set(STATISTICS)]:
        yield f"gamma or beta is missing for {_norms(rest)}"


def _norms(names: list[str]) -> str:
    return f"{len(names)} norm{'s' * (len(names) > 1)} ({_listed(names)})"


def _casts(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> Iterable[str]:
    kinds = {
        (str(tensors[key].dtype), str(own[key].dtype))
        for key in own
        if key in tensors and tensors[key].dtype != own[key].dtype and own[key].is_floating_point()
    }
    for file, network in sorted(kinds):
        yield f"{file.removeprefix('torch.')} in the file becomes {network.removeprefix('torch.')}"


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _is_harmless(key: str) -> bool:
    return key.rpartition(".")[2] in _HARMLESS


def _check_likeness(
    report: CheckpointReport, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> None:
    """Raises CheckpointError where nearly nothing has the same name and shape."""
    if report.loaded >= _FEW * max(1, len([key for key in own if not key.endswith(STATISTICS)])):
        return
    why = f"The file has {_listed(list(tensors)[:3])}; the network has {_listed(list(own)[:3])}."
    fix = "name the network that it was saved from."
    endings = {key: next((name for name in own if name.endswith(f".{key}")), "") for key in tensors}
    if sum(map(bool, endings.values())) >= _FEW * len(own):
        first = next(key for key, name in endings.items() if name)
        part = endings[first].removesuffix(f".{first}")
        why = f'It is the checkpoint of a part of this network: "{part}." stands before its names.'
        fix = f"name that part as the network, or save the whole network; {part}.load_state_dict(…) takes this file."
    raise CheckpointError(
        f"{report.path}: {report.loaded} of this network's {len(own)} tensors are in it: it is another network's.",
        why,
        fix,
    )


def _unlike(report: CheckpointReport, own: Mapping[str, Tensor]) -> CheckpointError:
    """The error for a checkpoint that is not that of the network."""
    fix = "name the network that it was saved from, or save its state_dict whole: torch.save(model.state_dict(), FILE)."
    heads = {(file[0], network[0]) for _, file, network in report.mismatched if file[:1] and network[:1]}
    if len(heads) == 1 and len({key.rpartition(".")[0] for key, *_ in report.mismatched}) == 1:
        fix = f"--num-classes {heads.pop()[0]}, if that is the size of its output."
    elif report.gaps and all(gap.lacks_statistics for gap in report.gaps) and not report.mismatched:
        fix = "save model.state_dict(), which has the buffers too; bnbench doctor --checkpoint goes on without them."
    return CheckpointError(
        f"{report.path}: {report.loaded} of the network's {len(own)} tensors are in it.",
        "\n".join(report.said),
        fix,
    )


def _load(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """By load_state_dict, which a module may have its own part in; where that fails the network is as it was."""
    before = {
        key: value.detach().clone() for key, value in model.state_dict().items() if isinstance(value, Tensor)
    }
    try:
        with torch.no_grad():
            model.load_state_dict(dict(tensors), strict=False)
    except BaseException as error:
        with torch.no_grad():
            for key, value in model.state_dict().items():
                if key in before:
                    value.copy_(before[key])
        raise_interrupt(error)
        raise CheckpointError(f"{path}: the network does not take it: {first_line(error)}.") from error
