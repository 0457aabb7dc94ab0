"""The checklist in front of a session: one instruction after another, each with its gate."""

from __future__ import annotations

import select
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from firmware_bridge.errors import BridgeError
from firmware_bridge.protocols import CameraSettings, Origin, Pattern
from firmware_bridge.session.bench import Bench
from firmware_bridge.session.conditions import GRAB_S
from firmware_bridge.session.plan import Plan, check_plan, patterns, shots
from firmware_bridge.session.setting import configure
from ground.gates import Gate
from optishield.bench.selftest import device_checks
from optishield.bench.view import Look, dark_gate, focus_gate, gate_text, light_gate, look_at, screen


def expose_as(
    opened: Bench,
    settings: CameraSettings,
    pattern: Pattern | None,
    light_share: float | None,
    position_m: float | None,
) -> None:
    """Expose, move, show and light as told; the devices are there."""
    opened.camera.stop()
    configure(opened.camera, settings)
    opened.camera.start()
    if position_m is not None and opened.stage:
        opened.stage.move_to(position_m)
    if pattern is not None and opened.mask:
        opened.mask.stage(pattern)
        opened.mask.commit()
    if light_share is not None and opened.light:
        opened.light.set(light_share)


class Guide:
    """Asks the operator at the terminal. With ``--yes`` it asks nobody and checks each gate once.

    Args:
        origin: Origin of the devices, which is shown with every frame.
        yes: Whether nobody is asked.
        quiet: Whether nothing is shown.

    Attributes:
        gates: The gates that were decided, in their order.
        asks: Whether somebody is asked.
    """

    def __init__(self, origin: str, *, yes: bool, quiet: bool) -> None:
        self._origin = origin
        self._yes = yes
        self.asks = not yes
        self._console = Console(stderr=True, quiet=quiet)
        self.gates: list[Gate] = []

    def step(self, instruction: str, check: Callable[[], Gate]) -> bool:
        """Give one instruction, and tell whether the work may go on: its gate is met, or could not be tried."""
        while True:
            self._console.print(f"{len(self.gates) + 1}. {instruction}", markup=False, highlight=False)
            if not self._yes:
                self._wait("Enter when done")
            gate = check()
            self._console.print(gate_text(gate))
            if gate.passed is not False or self._yes or self._wait("Enter to try again, q to stop") == "q":
                self.gates.append(gate)
                return gate.passed is not False

    def watch(self, grab: Callable[[], Look]) -> list[Look]:
        """Frames until Enter; one frame where there is nobody."""
        seen = [grab()]
        if not self._yes:
            self._console.print("   Enter to go on")
            with screen(self._origin) as show:
                while not select.select([sys.stdin], [], [], 0)[0]:
                    seen.append(grab())
                    show(seen[-1])
            self._read()
        return seen

    def _wait(self, question: str) -> str:
        self._console.print(f"   {question} ", end="", markup=False, highlight=False)
        return self._read()

    @staticmethod
    def _read() -> str:
        line = sys.stdin.readline()
        if not line:
            raise KeyboardInterrupt
        return line.strip().lower()


def checklist(opened: Bench, plan: Plan, sources: Path, name: str, guide: Guide, *, fixed_focus: bool = False) -> bool:
    """One instruction after another, each with its gate, and the bench safe at the end.

    Args:
        opened: Devices, which are safe.
        plan: What is to be captured.
        sources: Folder of the files of its patterns.
        name: Name of the operator.
        guide: Asks the operator.
        fixed_focus: Whether the lens has no focus that could be turned.

    Returns:
        Whether no gate is unmet.
    """
    exposed = plan.sentinel or plan.steps[0]
    settings = plan.settings(exposed)
    dark: list[Look] = []

    def grab() -> Look:
        return look_at(opened.camera.grab(settings.exposure_s + GRAB_S))

    def devices() -> Gate:
        wrong = [f"{check.name}: {check.reason}" for check in device_checks(opened) if check.passed is False]
        opened.safe()
        return Gate("devices", not wrong, "; ".join(wrong) or f"{len(opened.devices)} devices, origin {opened.origin}")

    def planned() -> Gate:
        frames = len(shots(plan, check_plan(plan, opened, sources)))
        return Gate("plan", True, f"{plan.name}: {frames} frames")

    def darkness() -> Gate:
        expose_as(opened, settings, None, None, None)
        dark[:] = guide.watch(grab)[-1:]
        return dark_gate(dark[0])

    def brightness() -> Gate:
        opened.arm(name)
        mask = opened.mask.capabilities() if opened.mask else None
        expose_as(
            opened, settings, next(patterns(exposed, sources, mask), None), exposed.light_share, exposed.position_m
        )
        return light_gate(guide.watch(grab)[-1], dark[0] if dark else None)

    unturned = _unturned(opened, guide, fixed_focus)

    def focus() -> Gate:
        seen = [look.focus for look in guide.watch(grab)]
        if unturned is None:
            return focus_gate(seen)
        return Gate("focus", None, f"{seen[-1]:.4g}, taken as it is: {unturned}", {"last": seen[-1]})

    steps = [
        (f"Switch on every device of {opened.file.name}; they are tested now, without light.", "devices", devices),
        (
            f"Put in front of the camera what {plan.name} is for; its steps are compared with the bench.",
            "plan",
            planned,
        ),
    ]
    if opened.light:
        steps.append(("Close the room or cover the bench: there is no light now.", "dark", darkness))
    steps.append(("Clear the beam, and leave it: light comes on now.", "light", brightness))
    turn = "Turn the focus through its best place until the bar falls on the other side, then back until it is full."
    steps.append((turn if unturned is None else "Look at the focus, which stays as it is.", "focus", focus))
    try:
        return all(guide.step(instruction, _guarded(what, act)) for instruction, what, act in steps)
    finally:
        opened.camera.stop()
        opened.safe()


def _unturned(opened: Bench, guide: Guide, fixed_focus: bool) -> str | None:
    """Why nobody turns the focus, or None where the operator does."""
    if fixed_focus:
        return "it cannot be turned, --fixed-focus says"
    if opened.origin in (Origin.simulated, Origin.emulated):
        return f"a bench of origin {opened.origin} has none to turn"
    return None if guide.asks else "with --yes there is nobody to turn it"


def _guarded(name: str, act: Callable[[], Gate]) -> Callable[[], Gate]:
    """A gate that is unmet, with the reason, where the bench fails while it is looked at."""

    def check() -> Gate:
        try:
            return act()
        except BridgeError as error:
            return Gate(name, False, str(error))

    return check
