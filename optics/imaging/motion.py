"""Motion of the image during the exposure, and the exposure of a rolling shutter.

A camera that moves, or shakes, moves the whole image along a path while it integrates. The image is then convolved with
the share of the time spent at each place. A place between pixels divides its light by area: a square of one cell there
overlaps its four neighbours by the bilinear weights. :func:`motion_psf` integrates these weights along the path, piece
by piece, exactly (each piece within one cell is a quadratic polynomial of time, for which two Gauss points suffice).

Motion blur of length L has the transfer ``sinc(f L)``, and a vibration of amplitude A over whole periods
``J0(2 pi f A)``; the division by area adds ``sinc^2(f)``, so use cells finer than pixels where that matters.
"""

from __future__ import annotations

from math import ceil, isfinite, pi

import torch

from optics.errors import OpticsError

# Two points make the integral of a cubic exact; the integrand is a quadratic.
_GAUSS = 0.5 / 3**0.5


def straight_path(length_px: float, angle_rad: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x and y of the ends of an even motion about the origin, float64 of shape (2,).

    Args:
        length_px: Way of the image during the exposure in pixels.
        angle_rad: Direction, from +x towards +y (down).

    Raises:
        OpticsError: The length or the angle is not finite.
    """
    if not (isfinite(length_px) and isfinite(angle_rad)):
        raise OpticsError(f"length_px={length_px} and angle_rad={angle_rad} must be finite.")
    way = torch.tensor([-0.5, 0.5], dtype=torch.float64) * length_px
    angle = torch.tensor(angle_rad, dtype=torch.float64)
    return way * angle.cos(), way * angle.sin()


def vibration_path(
    amplitude_px: float, cycles: float, phase_rad: float = 0.0, angle_rad: float = 0.0, points: int = 257
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return x and y of a harmonic vibration ``A sin(2 pi cycles t + phase)``, t from 0 to 1 over the exposure.

    Args:
        amplitude_px: Amplitude A in pixels.
        cycles: Periods during the exposure, ``frequency_hz * exposure_s``.
        phase_rad: Phase at the start.
        angle_rad: Direction, from +x towards +y (down).
        points: Points of the path; between them it is straight.

    Returns:
        Float64 of shape (points,), equally spaced in time.

    Raises:
        OpticsError: A value is not finite, or the points are fewer than 16 in a period.
    """
    for name, value in (
        ("amplitude_px", amplitude_px),
        ("cycles", cycles),
        ("phase_rad", phase_rad),
        ("angle_rad", angle_rad),
    ):
        if not isfinite(value):
            raise OpticsError(f"{name}={value} must be finite.")
    if points < 2 or points - 1 < 16 * abs(cycles):
        enough = max(ceil(16 * abs(cycles)), 1) + 1
        raise OpticsError(f"points={points} is too few for {cycles:g} periods; use at least {enough}.")
    time = torch.linspace(0, 1, points, dtype=torch.float64)
    way = amplitude_px * (2 * pi * cycles * time + phase_rad).sin()
    angle = torch.tensor(angle_rad, dtype=torch.float64)
    return way * angle.cos(), way * angle.sin()


def motion_psf(
    x_px: torch.Tensor, y_px: torch.Tensor, samples: int, *, dwell: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the kernel of a path: the share of the exposure spent in each cell.

    Args:
        x_px: The x of the image along the path in pixels (cells of the frame), shape (T,) or (B, T), T at least 2.
            Between two points the image moves straight and evenly.
        y_px: The y (down), same shape.
        samples: Cells K along one side of the window, odd; the origin is the centre of cell K // 2.
        dwell: Time of each of the T - 1 pieces, shape (T - 1,), any unit; None means equal times.

    Returns:
        Shape (K, K) or (B, K, K), sum 1; the centroid is the mean of the path. The gradient flows to path and dwell.

    Raises:
        OpticsError: A shape does not fit, or the path leaves the window.

    >>> path = torch.tensor([-1.0, 1.0])
    >>> motion_psf(path, torch.zeros(2), 3)[1].tolist()  # two pixels along x: half of the time in the middle one
    [0.25, 0.5, 0.25]
    """
    if x_px.ndim not in (1, 2) or x_px.shape != y_px.shape or x_px.shape[-1] < 2:
        raise OpticsError(
            f"x_px and y_px have the shapes {tuple(x_px.shape)} and {tuple(y_px.shape)}; both must be (T,) or (B, T) "
            "with at least 2 points."
        )
    if samples < 1 or samples % 2 == 0:
        raise OpticsError(f"samples={samples} must be odd, so that the origin is the centre of a cell.")
    path = torch.stack([x_px, y_px]).reshape(2, -1, x_px.shape[-1])  # (2, B, T)
    half = samples // 2
    reach = float(path.detach().abs().max())
    if not reach <= half:
        raise OpticsError(
            f"the path reaches {reach:g} px from the origin, beyond the window of samples={samples}; raise samples or "
            "shift x_px and y_px."
        )
    pieces = path.shape[-1] - 1
    share = path.new_full((pieces,), 1 / pieces) if dwell is None else _shares(dwell, pieces).to(path)
    start, way = path[..., :-1], path.diff(dim=-1)
    # Times at which a piece crosses a grid line: sorted, they cut it into parts within one cell.
    lines = torch.arange(-half, half + 1, dtype=path.dtype, device=path.device)
    still = way == 0
    cuts = (lines - start[..., None]) / torch.where(still, torch.ones_like(way), way)[..., None]
    cuts = torch.where(still[..., None], torch.zeros_like(cuts), cuts).clamp(0.0, 1.0)
    times = torch.cat([cuts[0], cuts[1], torch.zeros_like(cuts[0][..., :1]), torch.ones_like(cuts[0][..., :1])], dim=-1)
    times = times.sort(dim=-1).values
    middle, width = (times[..., 1:] + times[..., :-1]) / 2, times.diff(dim=-1)
    at = torch.stack([middle - _GAUSS * width, middle + _GAUSS * width], dim=-1)  # (B, T - 1, parts, 2)
    place = start[..., None, None] + way[..., None, None] * at + half
    weight = (share[:, None] * width / 2)[..., None].expand_as(at)
    corner = place.detach().floor().clamp(0, max(samples - 2, 0))
    x, y = place - corner
    base = (corner[1] * samples + corner[0]).long()
    batch = base.shape[0]
    kernel = path.new_zeros(batch, samples * samples)
    for step, amount in ((0, (1 - x) * (1 - y)), (1, x * (1 - y)), (samples, (1 - x) * y), (samples + 1, x * y)):
        # A window of one cell has no neighbours; their amounts are 0.
        index = (base + step).clamp(max=samples * samples - 1)
        kernel = kernel.scatter_add(1, index.reshape(batch, -1), (weight * amount).reshape(batch, -1))
    return kernel.reshape(*x_px.shape[:-1], samples, samples)


def _shares(dwell: torch.Tensor, pieces: int) -> torch.Tensor:
    if tuple(dwell.shape) != (pieces,):
        raise OpticsError(f"dwell has shape {tuple(dwell.shape)}; ({pieces},) is needed, one time per piece.")
    total = float(dwell.detach().sum())
    if not (bool((dwell >= 0).all()) and isfinite(total) and total > 0):
        raise OpticsError("dwell must hold times that are not negative, finite, and not all zero.")
    return dwell / dwell.sum()


def expose(frames: torch.Tensor, frame_s: float, exposure_s: float, line_s: float = 0.0) -> torch.Tensor:
    """Expose a moving scene: the mean of its frames over the exposure, row by row for a rolling shutter.

    Frame t shows the scene from ``t frame_s`` to ``(t + 1) frame_s``. Row i integrates from ``i line_s`` for
    ``exposure_s``; each frame counts by the exact overlap in time.

    Args:
        frames: Light per pixel and ``exposure_s``, shape (T, N, C, H, W).
        frame_s: Time of a frame in seconds.
        exposure_s: Exposure of a row in seconds.
        line_s: Delay from a row to the next in seconds; 0 is a global shutter, negative runs upwards.

    Returns:
        Shape (N, C, H, W).

    Raises:
        OpticsError: The shape does not fit, a time is out of range, or the frames end before the exposure does.
    """
    if frames.ndim != 5:
        raise OpticsError(f"frames has shape {tuple(frames.shape)}; (T, N, C, H, W) is needed.")
    for name, value in (("frame_s", frame_s), ("exposure_s", exposure_s)):
        if not (isfinite(value) and value > 0):
            raise OpticsError(f"{name}={value} must be a positive time in seconds.")
    if not isfinite(line_s):
        raise OpticsError(f"line_s={line_s} must be a finite time in seconds.")
    count, height = frames.shape[0], frames.shape[-2]
    needed = abs(line_s) * (height - 1) + exposure_s
    if needed > count * frame_s * (1 + 1e-9):
        raise OpticsError(
            f"{height} rows end {needed:g} s after the start, but {count} frames of frame_s={frame_s:g} last "
            f"{count * frame_s:g} s; give more frames, or reduce line_s or exposure_s."
        )
    row = torch.arange(height, dtype=torch.float64)
    begin = (row if line_s >= 0 else height - 1 - row)[:, None] * abs(line_s)
    frame = torch.arange(count, dtype=torch.float64) * frame_s
    overlap = torch.minimum(begin + exposure_s, frame + frame_s) - torch.maximum(begin, frame)
    weights = (overlap.clamp(min=0) / exposure_s).to(frames)
    return torch.einsum("yt,tncyx->ncyx", weights, frames)
