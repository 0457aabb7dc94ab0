"""A stand-in for an accelerator, so that a machine without one still finds what forgets the device of its input.

Inside :class:`SecondDevice`, tensors moved to :data:`ELSEWHERE` are held by the processor, but say that they lie
elsewhere, and an operation that mixes them with tensors of the processor is an error, as it is on a real accelerator:
only single numbers and positions for indexing may come from the processor. Values, and therefore results, are those of
the processor.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

#: The device that is acted. Nothing else in the tests uses it.
ELSEWHERE = torch.device("meta")

_aten = torch.ops.aten
#: Operations that may take tensors of both devices.
_MIXED = {
    _aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default,
    _aten.copy_.default, _aten._to_copy.default,
}  # fmt: skip


class Elsewhere(Tensor):
    """A tensor that says it lies elsewhere."""

    held: Tensor

    @staticmethod
    def __new__(cls: type[Elsewhere], held: Tensor) -> Elsewhere:
        # A conjugate is a mark on a view, which only its own tensor knows of.
        held = held.resolve_conj().resolve_neg()
        made: Elsewhere = Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=ELSEWHERE,
        )  # fmt: skip
        made.held = held
        return made

    def tolist(self) -> Any:
        """As of any tensor; torch leaves it out for subclasses."""
        return self.held.tolist()

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]  # torch has no annotation
        return f"Elsewhere({self.held!r})"

    @classmethod  # torch asks for a class method and annotates a function
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _apply(func, args, kwargs or {})


class SecondDevice(TorchDispatchMode):
    """While it is active, tensors can be made on and moved to :data:`ELSEWHERE`."""

    def __enter__(self) -> SecondDevice:
        self._numbers = _Numbers()
        self._numbers.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._numbers.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _apply(func, args, kwargs or {})


class _Numbers(TorchFunctionMode):
    """Tensors made of Python's numbers: for the device whose name is used here torch would leave the numbers out."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.tensor and torch.device(kwargs.get("device") or "cpu") == ELSEWHERE:
            return func(*args, **{**kwargs, "device": "cpu"}).to(ELSEWHERE)
        if func is Tensor.new_tensor and isinstance(args[0], Elsewhere):
            return func(args[0].held, *args[1:], **kwargs).to(ELSEWHERE)
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], Elsewhere):
            at = args[1] if isinstance(args[1], tuple) else (args[1],)
            at = tuple(torch.tensor(one) if isinstance(one, list) else one for one in at)
            return func(args[0], at, *args[2:])
        return func(*args, **kwargs)


def _apply(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    given, _ = tree_flatten((args, kwargs))
    there = any(isinstance(one, Elsewhere) for one in given)
    asked = kwargs.get("device")
    if not there and asked != ELSEWHERE:
        return func(*args, **kwargs)
    if there and func not in _MIXED:
        strangers = [
            one for one in given if isinstance(one, Tensor) and not isinstance(one, Elsewhere) and one.ndim > 0
        ]
        if strangers:
            raise RuntimeError(
                f"{func} mixes tensors of two devices: one of shape {tuple(strangers[0].shape)} was left on the "
                "processor."
            )
    wrapped = {id(one.held): one for one in given if isinstance(one, Elsewhere)}
    if asked is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    inside_args, inside_kwargs = tree_map(lambda one: one.held if isinstance(one, Elsewhere) else one, (args, kwargs))
    result = func(*inside_args, **inside_kwargs)
    stays = asked == ELSEWHERE if asked is not None else not (func is _aten.copy_.default and not _is_there(args[0]))
    if not stays:
        return result
    parts, layout = tree_flatten(result)
    # Where an operation works in place, what comes back is what was given.
    parts = [wrapped.get(id(one), one) for one in parts]
    parts = [Elsewhere(one) if isinstance(one, Tensor) and not isinstance(one, Elsewhere) else one for one in parts]
    return tree_unflatten(parts, layout)


def _is_there(one: Any) -> bool:
    return isinstance(one, Elsewhere)
