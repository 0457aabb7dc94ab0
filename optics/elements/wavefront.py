"""Lenses and aberrations given by their wavefront: a measured map or Zernike coefficients.

The path error adds to that of :class:`optics.ThinLens`, which stays ideal; positive means light is late.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from optics.checks import check_wavelengths
from optics.elements.base import PupilElement
from optics.elements.masks.heights import sample_map
from optics.elements.zernike import ZernikeBasis
from optics.elements.zernike_index import ZernikeNorm, ZernikeOrder, convert_coefficients
from optics.errors import OpticsError
from optics.pupil import PupilGrid


class _Spectral(PupilElement):
    """A path error that is one for all wavelengths, or one of a list for each."""

    def __init__(
        self, grid: PupilGrid, wavelengths_m: Sequence[float] | None, rows: int | None, dtype: torch.dtype
    ) -> None:
        super().__init__(grid, dtype)
        self.wavelengths_m = None if wavelengths_m is None else check_wavelengths(wavelengths_m)
        known = None if self.wavelengths_m is None else len(self.wavelengths_m)
        if known != rows:
            raise OpticsError(
                f"wavelengths_m names {known or 'no'} wavelengths but the wavefront has "
                f"{'no axis for them' if rows is None else f'{rows} rows'}; pass one wavelength per row, or one "
                "wavefront and no wavelengths."
            )

    def _pick(self, paths: torch.Tensor, wavelengths_m: Sequence[float]) -> torch.Tensor:
        """Select (L, P, P) from (P, P) or (rows, P, P)."""
        wanted = check_wavelengths(wavelengths_m)
        if self.wavelengths_m is None:
            return paths.expand(len(wanted), -1, -1)
        rows = []
        for wavelength in wanted:
            distance, row = min((abs(w - wavelength), i) for i, w in enumerate(self.wavelengths_m))
            if distance > 1e-6 * wavelength:
                raise OpticsError(
                    f"the wavefront is not known at {wavelength:g} m but at {self.wavelengths_m}; pass one of these in "
                    "wavelengths_m."
                )
            rows.append(row)
        return paths[rows]


class MeasuredWavefront(_Spectral):
    """A wavefront from a map of the path error.

    Args:
        grid: Pupil.
        opd_m: Path error in metres, shape (H, W), or (L, H, W) with ``wavelengths_m``; the optical axis in the middle,
            NaN allowed outside the aperture. A Parameter of shape (P, P) or (L, P, P) is trained as it stands.
        wavelengths_m: Wavelength of each map in metres; None means one map for all.
        pitch_m: Distance of the points in metres; None means one per pupil sample.
        dtype: Type of the result.

    Raises:
        OpticsError: The map is smaller than the aperture or NaN inside it, or wavelengths do not match.
    """

    opd: torch.Tensor

    def __init__(
        self,
        grid: PupilGrid,
        opd_m: torch.Tensor,
        wavelengths_m: Sequence[float] | None = None,
        pitch_m: float | None = None,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if opd_m.ndim not in (2, 3):
            raise OpticsError(f"opd_m has shape {tuple(opd_m.shape)}; it must be (H, W) or (L, H, W).")
        super().__init__(grid, wavelengths_m, opd_m.shape[0] if opd_m.ndim == 3 else None, dtype)
        shape = (*opd_m.shape[:-2], grid.samples, grid.samples)
        given = opd_m if isinstance(opd_m, nn.Parameter) else sample_map(opd_m, grid, pitch_m, "opd_m")
        self._hold("opd", given, shape)

    def path_m(self, wavelengths_m: Sequence[float]) -> torch.Tensor:
        """Return the path error in metres, shape (L, P, P)."""
        return self._pick(self.opd, wavelengths_m)


class ZernikeWavefront(_Spectral):
    """A wavefront from Zernike coefficients in metres.

    Args:
        grid: Pupil.
        coefficients_m: Parameter (trained) or tensor (fixed) of shape (J,), or (L, J) with ``wavelengths_m``.
        order: Order of the coefficients.
        norm: ``"rms"`` or ``"peak"``; None means what :mod:`optics.elements.zernike_index` assumes for the order.
        wavelengths_m: Wavelength of each row in metres; None means one wavefront for all.
        dtype: Type of coefficients and basis.
    """

    coefficients_m: torch.Tensor

    def __init__(
        self,
        grid: PupilGrid,
        coefficients_m: torch.Tensor,
        order: ZernikeOrder = "noll",
        *,
        norm: ZernikeNorm | None = None,
        wavelengths_m: Sequence[float] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if coefficients_m.ndim not in (1, 2):
            raise OpticsError(f"coefficients_m has shape {tuple(coefficients_m.shape)}; it must be (J,) or (L, J).")
        rows = coefficients_m.shape[0] if coefficients_m.ndim == 2 else None
        super().__init__(grid, wavelengths_m, rows, dtype)
        self.order: ZernikeOrder = order
        self.norm = norm
        self._hold("coefficients_m", coefficients_m, tuple(coefficients_m.shape))
        self.basis = ZernikeBasis(self._noll().shape[-1], grid, dtype)
        self._follow(coefficients_m)

    def _noll(self) -> torch.Tensor:
        return convert_coefficients(self.coefficients_m, self.order, "noll", source_norm=self.norm)

    def path_m(self, wavelengths_m: Sequence[float]) -> torch.Tensor:
        """Return the path error in metres, shape (L, P, P)."""
        return self._pick(self.basis(self._noll()), wavelengths_m)
