"""Zernike coefficients as CSV or JSON, in any of the usual orders.

JSON layout: one object with ``kind``, ``axes``, ``unit`` (m), ``quantity`` (``height`` of a material or ``path``
error), ``diameter_m`` of the unit disc, ``order``, ``norm`` (``rms``: mean square of a term over the disc is 1;
``peak``: a term is +-1 on the rim), ``material`` and ``wavelengths_m`` (or null), and ``terms``: a list of
[index, n, m, coefficient], m > 0 the cosine and m < 0 the sine term, angles from +x towards +y. CSV layout: line 1 is
``# `` and the same object without ``terms``; line 2 the columns ``index,n,m,coefficient_m``; then one line per term.

Import goes by n and m; index and order are for the reader's eye and are checked to agree with them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal, cast

import torch

from optics.elements.zernike import nm_to_noll, noll_to_nm
from optics.elements.zernike_index import ZernikeNorm, ZernikeOrder, index_to_nm, nm_to_index, rms_of_unit_peak
from optics.errors import OpticsError
from optics.fabrication.files import new_file, parse_header, read_lines, with_suffix, write_lines

_KIND = "optishield zernike coefficients 1"
_AXES = "x right, y down, angle from +x towards +y, m > 0 cosine, m < 0 sine"
_COLUMNS = "index,n,m,coefficient_m"


@dataclass(frozen=True, eq=False)
class ZernikeCoefficients:
    """Coefficients in the order and norm of this package: Noll from 1, RMS.

    Attributes:
        coefficients_m: float64 of shape (n_terms,), metres.
        diameter_m: Diameter of the unit disc in metres.
        quantity: ``"height"`` of a material, or ``"path"`` error (positive: late).
        material: Name of the material of a height, or None.
        wavelengths_m: Vacuum wavelengths of the design in metres, or None.
    """

    coefficients_m: torch.Tensor
    diameter_m: float
    quantity: Literal["height", "path"] = "height"
    material: str | None = None
    wavelengths_m: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.coefficients_m.ndim != 1 or not len(self.coefficients_m):
            raise OpticsError(f"coefficients_m has shape {tuple(self.coefficients_m.shape)}; pass (n_terms,).")
        if not bool(torch.isfinite(self.coefficients_m).all()):
            raise OpticsError("coefficients_m holds values that are not finite; replace them.")
        if not (isfinite(self.diameter_m) and self.diameter_m > 0):
            raise OpticsError(f"diameter_m={self.diameter_m} must be a positive length in metres.")
        if self.quantity not in ("height", "path"):
            raise OpticsError(f"quantity={self.quantity!r} must be 'height' or 'path'.")


def export_zernike(
    coefficients: ZernikeCoefficients, path: str | Path, order: ZernikeOrder = "noll", norm: ZernikeNorm = "rms"
) -> None:
    """Write a new file; see the module for its layout.

    Args:
        coefficients: What to write; every term up to the last is written, zeros too.
        path: File to make, ending in .csv or .json.
        order: Order of the indices in the file.
        norm: Normalisation of the terms in the file.

    Raises:
        OpticsError: The file exists, the suffix is another, or the order lacks a term.
    """
    path = Path(path)
    if path.suffix != ".json":
        path = with_suffix(path, ".csv")
    header = {
        "kind": _KIND,
        "axes": _AXES,
        "unit": "m",
        "quantity": coefficients.quantity,
        "diameter_m": coefficients.diameter_m,
        "order": order,
        "norm": norm,
        "material": coefficients.material,
        "wavelengths_m": None if coefficients.wavelengths_m is None else list(coefficients.wavelengths_m),
    }
    terms = []
    for j, value in enumerate(coefficients.coefficients_m.detach().double().tolist(), start=1):
        n, m = noll_to_nm(j)
        terms.append([nm_to_index(n, m, order), n, m, value / _unit(n, m, norm)])
    terms.sort()
    if path.suffix == ".json":
        lines = [json.dumps(header | {"terms": terms}, indent=1)]
    else:
        lines = ["# " + json.dumps(header), _COLUMNS, *(f"{j},{n},{m},{c!r}" for j, n, m, c in terms)]
    with new_file(path) as temporary:
        write_lines(temporary, lines)


def import_zernike(path: str | Path) -> ZernikeCoefficients:
    """Read a file that :func:`export_zernike` wrote, whatever order and norm it has.

    Raises:
        OpticsError: It was not, or an index contradicts its n and m.
    """
    lines = read_lines(path)
    is_json = Path(path).suffix == ".json"
    header = parse_header(path, "\n".join(lines) if is_json else lines[0].removeprefix("# "), _KIND, _AXES)
    try:
        terms = header["terms"] if is_json else [_term(line) for line in lines[2:]]
        order, norm = cast(ZernikeOrder, header["order"]), cast(ZernikeNorm, header["norm"])
        values = {}
        for index, n, m, value in terms:
            if index_to_nm(index, order) != (n, m):
                raise OpticsError(f"{order} index {index} is not n={n}, m={m}; mend the line in {str(path)!r}.")
            values[nm_to_noll(n, m)] = value * _unit(n, m, norm)
        vector = torch.zeros(max(values), dtype=torch.float64)
        vector[torch.tensor(list(values)) - 1] = torch.tensor(list(values.values()), dtype=torch.float64)
        waves: Any = header["wavelengths_m"]
        return ZernikeCoefficients(
            vector,
            header["diameter_m"],
            header["quantity"],
            header["material"],
            None if waves is None else tuple(waves),
        )
    except OpticsError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise OpticsError(f"path={str(path)!r} lacks or garbles {error}; export it again.") from error


def _term(line: str) -> list[Any]:
    index, n, m, value = line.split(",")
    return [int(index), int(n), int(m), float(value)]


def _unit(n: int, m: int, norm: ZernikeNorm) -> float:
    """RMS of a term of this norm."""
    if norm not in ("rms", "peak"):
        raise OpticsError(f"norm={norm!r} must be 'rms' or 'peak'.")
    return 1.0 if norm == "rms" else rms_of_unit_peak(n, m)
