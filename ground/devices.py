"""A run stays on the kind of device that it was begun on."""

from __future__ import annotations

from ground.errors import GroundError
from ground.protocols import RunStore


def stay_on(run: RunStore, kind: str) -> None:
    """Note the kind of device of a fresh run, and refuse another one when it goes on.

    Between kinds of devices figures differ by rounding, so a run that changed would end with figures that neither kind
    gives. Call it before the first stage, whose name is ``faces``.

    Args:
        run: Folder of the run.
        kind: ``cpu`` or ``cuda``.

    Raises:
        GroundError: The run was begun on another kind.
    """
    noted = run.stage_done("device")
    if noted is None:
        # Runs of versions that noted no device were all computed on the processor.
        begun = kind if run.stage_done("faces") is None else "cpu"
        run.mark_stage("device", {"device": begun})
    else:
        begun = str(noted.get("device"))
    if begun != kind:
        raise GroundError(
            f"{run.path} was begun on {begun} and figures would not be the same on {kind}; resume it with --device "
            f"{begun}, or start a new run."
        )
