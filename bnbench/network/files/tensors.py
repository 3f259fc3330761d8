"""The tensors of a network in a .safetensors file, and back: ties, layouts in memory, dtypes, all of them kept.

safetensors refuses tensors that share memory. So each tied tensor is written once, and its other names are listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from bnbench.base.errors import ResultsError
from bnbench.base.files import check_regular

#: Layouts that a convolution's arithmetic may depend on.
_LAYOUTS = {"channels_last": torch.channels_last, "channels_last_3d": torch.channels_last_3d}


@dataclass(frozen=True)
class State:
    """tensors: contiguous, on the CPU, by key. aliases: other keys, and the key that has their tensor.

    layouts: of the tensors that are not contiguous. frozen: parameters without gradients. others: the dtypes of
    buffers that the state_dict leaves out.
    """

    tensors: Mapping[str, Tensor]
    aliases: Mapping[str, str] = field(default_factory=dict)
    layouts: Mapping[str, str] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()
    others: Mapping[str, str] = field(default_factory=dict)


def state_of(model: nn.Module) -> State:
    """Raises ResultsError for what a file of tensors can't hold."""
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ResultsError(
                f"{name or 'the network'} can't be saved: it is a ScriptModule, whose Python is gone.",
                fix="give the network before torch.jit.script or trace, or save it by torch.jit.save.",
            )
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    layouts: dict[str, str] = {}
    seen: dict[tuple[object, ...], str] = {}
    for key, value in model.state_dict().items():
        _check(key, value)
        where = _where(value)
        if where in seen:
            aliases[key] = seen[where]
            continue
        seen[where] = key
        layout = next((name for name, form in _LAYOUTS.items() if _has(value, form)), "")
        if layout and not value.is_contiguous():
            layouts[key] = layout
        # a copy of its own: views of one storage would be refused
        tensors[key] = torch.empty_like(value, device="cpu", memory_format=torch.contiguous_format).copy_(
            value
        )
    unlike = set(tensors) ^ set(dict(_slots(model))) ^ set(aliases)
    if unlike:
        raise ResultsError(
            f"{min(unlike)}: the network's state_dict has other keys than its modules have.",
            "A hook or a method of its own changes them, so that they can't be put back by name.",
            "save the network's state_dict by torch.save.",
        )
    frozen = tuple(name for name, parameter in _all(model) if not parameter.requires_grad)
    others = {
        name: dtype_name(buffer)
        for name, buffer in model.named_buffers(remove_duplicate=False)
        if name not in tensors and name not in aliases
    }
    return State(tensors, aliases, layouts, frozen, others)


def _check(key: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise ResultsError(
            f"{key} is no tensor: a module's get_extra_state gave {type(value).__name__}.",
            "A .safetensors file holds tensors alone.",
            "keep that state in a buffer, or save the network by torch.save.",
        )
    why = ""
    if is_lazy(value):
        why = "it has no shape yet: run the network once"
    elif value.is_meta:
        why = "it is on the meta device and has no values"
    elif value.layout is not torch.strided or value.is_quantized:
        why = f"it is {'quantized' if value.is_quantized else value.layout}"
    elif type(value) not in (Tensor, nn.Parameter):
        why = f"it is a {type(value).__name__}"
    if why:
        raise ResultsError(f"{key} can't be saved: {why}.", fix="make it a plain tensor first.")


def _where(value: Tensor) -> tuple[object, ...]:
    """The same for two keys of one tensor; an empty tensor is alone."""
    if value.numel() == 0:
        return (id(value),)
    return value.data_ptr(), tuple(value.shape), value.stride(), value.dtype, value.device


def _has(value: Tensor, form: torch.memory_format) -> bool:
    dims = {torch.channels_last: 4, torch.channels_last_3d: 5}[form]
    return value.dim() == dims and value.is_contiguous(memory_format=form)


def _all(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return iter(model.named_parameters(remove_duplicate=False))


def dtype_name(tensor: Tensor) -> str:
    """For example "float32"."""
    return str(tensor.dtype).removeprefix("torch.")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file. Raises ResultsError where it can't be read or is cut."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        check_regular(path)
        return {key: tensor.clone() for key, tensor in load_file(path).items()}
    except OSError as error:
        raise ResultsError(f"{path}: can't be read: {error.strerror or error}.") from None
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        text = str(error).partition("\n")[0]
        raise ResultsError(
            f"{path}: it is no whole .safetensors file: {text}", fix="copy it or save it again."
        ) from None


def put_state(model: nn.Module, state: State, path: Path) -> None:
    """Let the tensors of the file be those of a network, bit for bit. Raises ResultsError where the keys differ.

    Nothing is changed where it raises.
    """
    slots = dict(_slots(model))
    everything = {**state.tensors, **_aliased(state, path)}
    _compare_keys(slots, everything, path)
    if unknown := sorted(set(state.frozen) - {name for name, _ in _all(model)}):
        raise ResultsError(
            f"{path}: the network has no parameter {unknown[0]}, which is frozen in the table."
        )
    taken: set[int] = set()
    placed: dict[int, Tensor] = {}
    for key, (held, name) in slots.items():
        value, old = everything[key], held[name]
        if id(value) not in placed:  # else tied: one tensor under several names
            form = _LAYOUTS.get(state.layouts.get(state.aliases.get(key, key), ""), torch.contiguous_format)
            fresh = old.is_meta or id(old) in taken
            placed[id(value)] = _placed(old, value.contiguous(memory_format=form), fresh)
            taken.add(id(old))
        held[name] = placed[id(value)]
    for name, parameter in _all(model):
        can_learn = parameter.is_floating_point() or parameter.is_complex()
        parameter.requires_grad_(name not in state.frozen and can_learn)
    _cast_others(model, state.others)


def _placed(old: Tensor, value: Tensor, fresh: bool) -> Tensor:
    """The old tensor with these values; a fresh one where it has no memory, or is that of another key."""
    if fresh:
        return nn.Parameter(value) if isinstance(old, nn.Parameter) else value
    old.data = value
    return old


def _slots(model: nn.Module) -> Iterator[tuple[str, tuple[dict[str, Any], str]]]:
    """Where the module keeps each tensor of its state_dict, by key."""
    for place, module in model.named_modules(remove_duplicate=False):
        left_out = module._non_persistent_buffers_set
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None and not (held is module._buffers and name in left_out):
                    yield (f"{place}.{name}" if place else name), (held, name)


def _aliased(state: State, path: Path) -> dict[str, Tensor]:
    unknown = [name for name in state.aliases.values() if name not in state.tensors]
    if unknown:
        raise ResultsError(f"{path}: {unknown[0]} is missing, whose tensor has other names, too.")
    return {key: state.tensors[name] for key, name in state.aliases.items()}


def _compare_keys(slots: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> None:
    if lazy := next((key for key, (held, name) in slots.items() if is_lazy(held[name])), ""):
        raise ResultsError(
            f"{path}: {lazy} of the network has no shape before its first call.",
            fix="run the network once and name it itself: net = Net(); net(inputs); bnbench.rebuild(net, ...).",
        )
    problems = [f"{key}: missing in the file" for key in slots if key not in tensors]
    problems += [f"{key}: the network has no such tensor" for key in tensors if key not in slots]
    for key, (held, name) in slots.items():
        if key in tensors and held[name].shape != tensors[key].shape:
            shapes = tuple(tensors[key].shape), tuple(held[name].shape)
            problems.append(f"{key}: {shapes[0]} in the file, {shapes[1]} in the network")
    if problems:
        more = f"\n(and {len(problems) - 8} more)" if len(problems) > 8 else ""
        raise ResultsError(
            f"{path}: its tensors are not those of this network:\n" + "\n".join(problems[:8]) + more,
            fix="name the network that the file was saved from.",
        )


def _cast_others(model: nn.Module, others: Mapping[str, str]) -> None:
    for place, module in model.named_modules(remove_duplicate=False):
        for name in module._non_persistent_buffers_set:
            dtype = getattr(torch, str(others.get(f"{place}.{name}" if place else name, "")), None)
            buffer = module._buffers.get(name)
            if isinstance(dtype, torch.dtype) and buffer is not None and buffer.dtype != dtype:
                module._buffers[name] = buffer.to(dtype)
