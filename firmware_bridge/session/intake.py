"""Frames that were taken and are on their way to the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from firmware_bridge.protocols import Frame
from firmware_bridge.session.folder import FRAMES, FrameRecord, Header
from firmware_bridge.session.frames import FrameWriter, Written
from firmware_bridge.session.journal import Entry, Journal
from firmware_bridge.session.plan import Shot
from firmware_bridge.session.setting import ReadBack


@dataclass(frozen=True)
class _Taken:
    """A frame, and what its line in the journal will say."""

    record: FrameRecord
    facts: Mapping[str, Any]
    written: Written


class Intake:
    """Keeps frames until their files are on the disk, and tells the journal then.

    Args:
        writer: Writes the files of frames.
        journal: Journal of the session.
        header: Settings of the session.
    """

    def __init__(self, writer: FrameWriter, journal: Journal, header: Header) -> None:
        self._writer = writer
        self._journal = journal
        self._header = header
        self._taken: list[_Taken] = []

    def put(self, shot: Shot, frame: Frame, written: Written, read: ReadBack) -> None:
        """Take a frame that is believed.

        Args:
            shot: What was asked for.
            frame: What came.
            written: Its file, that has no name yet.
            read: What the devices said after the exposure.
        """
        record = FrameRecord(
            index=shot.index,
            key=shot.key,
            step=shot.step,
            role=shot.role,
            repeat=shot.repeat,
            file=f"{FRAMES}/{written.name}",
            sha256=written.sha256,
            shape=(frame.levels.shape[0], frame.levels.shape[1]),
            dtype=frame.levels.dtype.name,
            bits=frame.bits,
            pattern_id=read.pattern_id,
            settings=frame.settings,
            light_share=read.light_share,
            position_m=read.position_m,
            origin=frame.origin,
            calibrations=self._header.calibrations,
            firmware={kind: device["firmware"] for kind, device in self._header.devices.items()},
        )
        facts = {
            "frame_id": frame.frame_id,
            "device_time_s": frame.device_time_s,
            "host_time_s": frame.host_time_s,
            "temperature_c": frame.temperature_c,
        }
        self._taken.append(_Taken(record, facts, written))

    def publish(self, keep: int = 0) -> dict[str, FrameRecord]:
        """Give frames their names and write DONE, but for the last ``keep``.

        Returns:
            Those frames, by their keys.
        """
        ready = self._taken[: len(self._taken) - keep]
        if not ready:
            return {}
        self._writer.publish([taken.written for taken in ready])
        bodies = [{"record": taken.record.model_dump(mode="json"), **taken.facts} for taken in ready]
        self._journal.add(Entry.done, bodies)
        del self._taken[: len(ready)]
        return {taken.record.key: taken.record for taken in ready}

    def discard(self) -> None:
        """Forget all; they are to be taken again."""
        self._writer.discard([taken.written for taken in self._taken])
        self._taken.clear()
