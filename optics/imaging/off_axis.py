"""Points of the scene away from the optical axis: pupil seen at an angle, vignetting, field aberrations.

A field point is named by its image (x, y) on the sensor, in the axes of the read-out image; an object at X on a plane
at distance z lies at ``lens.image_size_m(X, z)``. With r = |(x, y)| and sensor distance d, ``tan(theta) = r / d``.

Pupil. Light reaches the image at the angle theta, so the PSF of a pupil point u (1 = rim) spreads by
``1 / cos(theta)`` across the field direction and ``1 / cos^3(theta)`` along it (the path ``sqrt(d^2 + |x - R u|^2)`` to
first order in u and x). The Fraunhofer integral of :class:`optics.PupilToPsf` takes that into account when the pupil is
drawn foreshortened by cos and cos^3: an ellipse ``v = M u`` of ``cos^4(theta)`` times the area. The law of illumination
is not put in, it comes out: the PSF of a field point adds up to its relative illumination (R. Kingslake,
Illumination in Optical Images, Applied Optics and Optical Engineering II (1965)).

Aberrations, with h = (x, y) / full_field_m and u the pupil point, positive where light arrives late (W. T. Welford,
Aberrations of Optical Systems, ch. 7):

``W = W040 u^4 + W131 u^2 (h.u) + W222 (h.u)^2 + W220 h^2 u^2 + W311 h^2 (h.u)``.

Light leans to where it is late, so positive W131 throws the tail of the coma outwards, and positive W311 moves the
image outwards (pincushion).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import torch
from torch import nn

from optics.elements.base import PupilElement
from optics.errors import OpticsError
from optics.imaging.psf import PupilToPsf
from optics.lens import ThinLens
from optics.pupil import PupilGrid
from optics.pupil_function import element_turns


@dataclass(frozen=True)
class Seidel:
    """Wavefront at the rim of the pupil and full field, in metres; positive where light arrives late.

    Attributes:
        w040_m: Spherical aberration.
        w131_m: Coma.
        w222_m: Astigmatism.
        w220_m: Field curvature, sagittal focus; with ``w222_m`` = 0 the Petzval curvature.
        w311_m: Distortion, as a tilt of the wavefront: use either this or :class:`optics.imaging.BrownConrady`.
    """

    w040_m: float = 0.0
    w131_m: float = 0.0
    w222_m: float = 0.0
    w220_m: float = 0.0
    w311_m: float = 0.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isfinite(value):
                raise OpticsError(f"{name}={value} must be a finite path in metres.")


@dataclass(frozen=True)
class ClearAperture:
    """A second round aperture on the axis, away from the pupil: it cuts the beams of outer field points (vignetting).

    Attributes:
        diameter_m: Diameter in metres.
        distance_m: Distance behind the pupil (towards the sensor) in metres; negative in front of it.
    """

    diameter_m: float
    distance_m: float

    def __post_init__(self) -> None:
        if not (isfinite(self.diameter_m) and self.diameter_m > 0):
            raise OpticsError(f"diameter_m={self.diameter_m} must be a positive length in metres.")
        if not isfinite(self.distance_m):
            raise OpticsError(f"distance_m={self.distance_m} must be a finite length in metres.")


class OffAxis(nn.Module):
    """Transmission, wavefront and element as a batch of field points sees them.

    :meth:`psf` does all in one call.

    Args:
        grid: Pupil.
        lens: Lens; gives the sensor distance, and the object distance for a clear aperture in front of the pupil.
        full_field_m: Image height at which ``seidel`` holds, in metres.
        seidel: Aberrations.
        clear_aperture: Second aperture that vignettes, or None.
        dtype: Type of the results; the work is done in float64.

    Raises:
        OpticsError: full_field_m is not positive, or the clear aperture lies beyond the sensor or the object.
    """

    cells: torch.Tensor
    amplitude: torch.Tensor

    def __init__(
        self,
        grid: PupilGrid,
        lens: ThinLens,
        full_field_m: float,
        *,
        seidel: Seidel | None = None,
        clear_aperture: ClearAperture | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if not (isfinite(full_field_m) and full_field_m > 0):
            raise OpticsError(f"full_field_m={full_field_m} must be a positive length in metres.")
        second = clear_aperture
        if second is not None and not -lens.focus_distance_m < second.distance_m < lens.sensor_distance_m:
            raise OpticsError(
                f"distance_m={second.distance_m:g} of the clear aperture must lie between the object at "
                f"{-lens.focus_distance_m:g} m and the sensor at {lens.sensor_distance_m:g} m."
            )
        self.grid, self.lens, self.full_field_m = grid, lens, full_field_m
        self.seidel = Seidel() if seidel is None else seidel
        self.clear_aperture, self.dtype = clear_aperture, dtype
        rim = grid.diameter_m / 2
        self.register_buffer("cells", torch.stack([grid.x_m, grid.y_m], dim=-1) / rim, persistent=False)
        self.register_buffer("amplitude", grid.amplitude, persistent=False)

    def transmission(self, x_m: torch.Tensor, y_m: torch.Tensor) -> torch.Tensor:
        """Return the amplitude factor on the round pupil: the foreshortened aperture within the clear aperture.

        Each edge is grey: a cell weighs the exact share of it inside. Where both edges cross one cell the shares are
        multiplied.

        Args:
            x_m: Image positions in metres, shape (B,).
            y_m: The same, down.

        Returns:
            Shape (B, 1, P, P), values 0 to 1; 1 on the axis if there is no clear aperture. Where the pupil itself is
            closed this is 0.
        """
        image = self._points(x_m, y_m)
        inverse = self._widening(image)
        open_share = _disc_share(inverse, torch.zeros_like(image), self.grid.samples, self.cells)
        if self.clear_aperture is not None:
            # A ray through u meets that plane at u shrink + image shift; both over the radius there.
            rim, distance = self.grid.diameter_m / 2, self.clear_aperture.distance_m
            far = self.lens.sensor_distance_m if distance >= 0 else -self.lens.focus_distance_m
            radius = self.clear_aperture.diameter_m / 2
            to_edge = inverse * ((1 - distance / far) * rim / radius)
            centre = image * (distance / (self.lens.sensor_distance_m * radius))
            open_share = open_share * _disc_share(to_edge, centre, self.grid.samples, self.cells)
        # PupilToPsf multiplies by the grey edge of the round pupil; the ellipse lies within it.
        share = open_share / self.amplitude.clamp(min=torch.finfo(torch.float64).tiny)
        return (share * (self.amplitude > 0)).clamp(0.0, 1.0).to(self.dtype).unsqueeze(1)

    def relative_illumination(self, x_m: torch.Tensor, y_m: torch.Tensor) -> torch.Tensor:
        """Return the light of each field point over that of the whole aperture on the axis, float64 of shape (B,).

        ``cos^4(theta)`` without a clear aperture. The PSF adds up to it, but for what misses its window.
        """
        open_area = (self.transmission(x_m, y_m)[:, 0].double() * self.amplitude).sum(dim=(-2, -1))
        return open_area / self.amplitude.sum()

    def wavefront_m(self, x_m: torch.Tensor, y_m: torch.Tensor) -> torch.Tensor:
        """Return the Seidel wavefront on the foreshortened pupil in metres, shape (B, 1, P, P).

        Args:
            x_m: Image positions in metres, shape (B,).
            y_m: The same, down.
        """
        image = self._points(x_m, y_m)
        u = self._pupil_points(image)
        h = image / self.full_field_m
        u2, along = (u * u).sum(dim=-1), (u * h[:, None, None]).sum(dim=-1)
        h2 = (h * h).sum(dim=-1)[:, None, None]
        s = self.seidel
        path = u2 * (s.w040_m * u2 + s.w131_m * along + s.w220_m * h2) + along * (s.w222_m * along + s.w311_m * h2)
        return path.to(self.dtype).unsqueeze(1)

    def foreshorten(self, plane: torch.Tensor, x_m: torch.Tensor, y_m: torch.Tensor) -> torch.Tensor:
        """Resample a map on the pupil (the path of an element) to the foreshortened pupil of each field point.

        Bilinear; the gradient flows to the map. On the axis the map returns as it is.

        Args:
            plane: Shape (P, P) or (L, P, P).
            x_m: Image positions in metres, shape (B,).
            y_m: The same, down.

        Returns:
            Shape (B, P, P) or (B, L, P, P).

        Raises:
            OpticsError: The map does not fit the pupil.
        """
        samples = self.grid.samples
        if plane.ndim not in (2, 3) or tuple(plane.shape[-2:]) != (samples, samples):
            raise OpticsError(
                f"plane has shape {tuple(plane.shape)}; this pupil needs ({samples}, {samples}) or "
                f"(L, {samples}, {samples})."
            )
        u = self._pupil_points(self._points(x_m, y_m)).to(plane)
        stack = plane.reshape(-1, samples, samples).expand(len(u), -1, -1, -1)
        warped = nn.functional.grid_sample(stack, u, mode="bilinear", padding_mode="border", align_corners=False)
        return warped.reshape(len(u), *plane.shape)

    def psf(
        self,
        to_psf: PupilToPsf,
        element: PupilElement,
        x_m: torch.Tensor,
        y_m: torch.Tensor,
        object_distance_m: float | None = None,
    ) -> torch.Tensor:
        """Return the PSF about the image of each field point, with all effects of this class.

        Args:
            to_psf: PSF on the same pupil and lens.
            element: What lies in the pupil; it is seen foreshortened, too.
            x_m: Image positions in metres, shape (B,).
            y_m: The same, down.
            object_distance_m: Distance of the object plane in metres; its defocus is that of the point on the axis.

        Returns:
            Shape (B, L, K, K).

        Raises:
            OpticsError: ``to_psf`` has another pupil or lens, or a shape does not fit.
        """
        if (to_psf.grid, to_psf.lens) != (self.grid, self.lens):
            raise OpticsError(
                f"to_psf has {to_psf.grid} and {to_psf.lens}, but this object {self.grid} and {self.lens}; build both "
                "with the same."
            )
        waves, pupil = to_psf.wavelengths_m, to_psf.pupil
        turns = self.foreshorten(element_turns(element, self.grid, waves, pupil.amplitude.dtype), x_m, y_m)
        turns = turns + self.wavefront_m(x_m, y_m) / pupil.wavelength_column_m.to(turns.dtype)
        share, own = self.transmission(x_m, y_m), element.transmission(waves)
        if own is not None:
            seen = self.foreshorten(own, x_m, y_m)
            share = share * (seen if seen.ndim == 4 else seen.unsqueeze(1))
        field = pupil.from_turns(turns, object_distance_m, transmission=share.expand(turns.shape))
        return to_psf.from_field(field)

    def _points(self, x_m: torch.Tensor, y_m: torch.Tensor) -> torch.Tensor:
        """Image points as float64 of shape (B, 2)."""
        if x_m.ndim != 1 or x_m.shape != y_m.shape:
            raise OpticsError(
                f"x_m and y_m have the shapes {tuple(x_m.shape)} and {tuple(y_m.shape)}; both must be (B,)."
            )
        image = torch.stack([x_m, y_m], dim=-1).to(self.cells)
        if not bool(torch.isfinite(image).all()):
            raise OpticsError("x_m or y_m has values that are not finite; change the image positions.")
        return image

    def _widening(self, image: torch.Tensor) -> torch.Tensor:
        """Inverse of the foreshortening M, shape (B, 2, 2): ``t t^T / cos^3 + (1 - t t^T) / cos``, t along the field.

        Written as ``(1 + x x^T / d^2) / cos``, which needs no direction on the axis.
        """
        slope = image / self.lens.sensor_distance_m
        secant = (1 + (slope * slope).sum(dim=-1)).sqrt()
        identity = torch.eye(2, dtype=image.dtype, device=image.device)
        return (identity + slope[:, :, None] * slope[:, None, :]) * secant[:, None, None]

    def _pupil_points(self, image: torch.Tensor) -> torch.Tensor:
        """The point u of the pupil behind each cell of the foreshortened one, shape (B, P, P, 2).

        Held to the square around the pupil: beyond it no light passes, and high powers would overflow.
        """
        u = torch.einsum("bij,yxj->byxi", self._widening(image), self.cells)
        return u.clamp(-1.0, 1.0)


def _disc_share(matrix: torch.Tensor, centre: torch.Tensor, samples: int, cells: torch.Tensor) -> torch.Tensor:
    """Share of each pupil cell v for which ``matrix v + centre`` lies in the unit disc.

    The cell becomes a parallelogram; its area within the disc is the signed sum, over its edges, of the area of the
    triangle from the centre of the disc to the edge, cut at the disc. Exact.

    Args:
        matrix: Shape (B, 2, 2).
        centre: Shape (B, 2).
        samples: Cells P along one side.
        cells: Cell centres, shape (P, P, 2), over -1 to 1.

    Returns:
        Shape (B, P, P).
    """
    half = 1 / samples
    corners = cells.new_tensor([[-half, -half], [half, -half], [half, half], [-half, half]])
    points = torch.einsum("bij,yxkj->byxki", matrix, cells[:, :, None] + corners) + centre[:, None, None, None]
    area = _sector_area(points, points.roll(-1, dims=-2)).sum(dim=-1)
    return (area / (torch.linalg.det(matrix)[:, None, None] * (2 * half) ** 2)).clamp(0.0, 1.0)


def _sector_area(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Signed area of the triangle (0, a, b) within the unit disc, positive from +x to +y; the last axis is (x, y)."""
    edge = b - a
    length2 = (edge * edge).sum(dim=-1)
    # The edge is inside the disc for t between the roots of |a + t edge|^2 = 1.
    middle = -(a * edge).sum(dim=-1) / length2
    reach2 = middle * middle - ((a * a).sum(dim=-1) - 1) / length2
    reach = reach2.clamp(min=0).sqrt()
    enter, leave = (middle - reach).clamp(0.0, 1.0), (middle + reach).clamp(0.0, 1.0)
    p, q = a + enter[..., None] * edge, a + leave[..., None] * edge
    return (_turn(a, p) + _cross(p, q) + _turn(q, b)) / 2


def _cross(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _turn(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Angle from a to b in radians."""
    return torch.atan2(_cross(a, b), (a * b).sum(dim=-1))
