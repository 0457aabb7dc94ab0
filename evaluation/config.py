"""What a user may set for ``optishield evaluate``: who is judged, by whom, and on whom, with presets by tier."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ground.settings import Section

Tier = Literal["smoke", "standard", "full"]
Preset = Literal["S1", "S2"]


# Upper bounds are far beyond what is useful. They catch slips of the exponent before anything is computed.
_PEOPLE = 100_000  # of each part; synthetic people are numbered in millions
_CAPTURES = 1000
Rate = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Photos = Annotated[int, Field(ge=1, le=_CAPTURES)]


class PeopleConfig(Section):
    """How many people in each part, and how many photographs of each."""

    train_people: int = Field(ge=4, le=_PEOPLE, description="The attacker's own, to train on.")
    validation_people: int = Field(ge=4, le=_PEOPLE, description="The attacker's own, to choose among settings.")
    calibration_people: int = Field(ge=4, le=_PEOPLE, description="Set the thresholds.")
    test_people: int = Field(ge=4, le=_PEOPLE)
    captures: int = Field(ge=2, le=_CAPTURES, description="Gallery and probe photographs of each person.")
    gallery_captures: int = Field(ge=1, le=_CAPTURES, description="Of these, enrolled; the others are probes.")
    fit_captures: int = Field(
        2,
        ge=0,
        le=_CAPTURES,
        description="Further photographs, for protectors that must see a person first; never judged.",
    )
    size_px: int = Field(112, ge=32, le=256, description="Side of the frames.")

    @model_validator(mode="after")
    def _probes(self) -> Self:
        if self.gallery_captures >= self.captures:
            raise ValueError("gallery_captures must be smaller than captures, or no probe is left")
        return self


class ScoringConfig(Section):
    """At which settings embeddings are scored. Scoring is cheap: nothing here makes a picture anew."""

    alphas: tuple[Rate, ...] = Field(
        (0.01, 0.1, 0.001), min_length=1, description="False match rates; the first one is the primary."
    )
    template_photos: tuple[Photos, ...] = Field((1, 3, 5, 10), description="Gallery photographs in a template.")
    clean_shares: tuple[Share, ...] = Field(
        (0.0, 0.05, 0.1, 0.2, 0.5), description="Shares of clean photographs leaked into a protected gallery."
    )


class EvaluateConfig(Section):
    """Everything that decides the result of ``optishield evaluate``."""

    tier: Tier
    preset: Preset | None = Field(None, description="Protocol of the survey that is repeated, if any.")
    seed: int = Field(0, ge=0, lt=2**63)
    faces: str = Field("synthetic", description="'synthetic', or a folder with one folder of photos per person.")
    protectors: tuple[str, ...] = Field(min_length=1, description="The controls are run whether named or not.")
    attackers: tuple[str, ...] = Field(min_length=1)
    recognisers: tuple[str, ...] = Field(min_length=1)
    people: PeopleConfig
    scoring: ScoringConfig = ScoringConfig()
    latency_photos: int = Field(
        20, ge=2, le=_CAPTURES, description="Photographs protected one by one, for the latency."
    )
    engine: Literal["local", "dask"] = Field("local", description="The result does not depend on it.")
    workers: int = Field(2, ge=1, le=1024, description="Processes; the result does not depend on it.")
    dask_scheduler: str = Field(
        "", description="Address of a running Dask scheduler whose workers share this file system; empty: start one."
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for key in ("protectors", "attackers", "recognisers"):
            names: tuple[str, ...] = getattr(self, key)
            if len(set(names)) < len(names):
                raise ValueError(f"{key} names one of {', '.join(names)} twice")
        return self

    @classmethod
    def for_tier(cls, name: str) -> EvaluateConfig:
        """The preset of a tier: ``smoke`` (minutes), ``standard`` (a night) or ``full`` (days).

        It judges the cloak of one photograph, with the controls beside it.

        Raises:
            ValueError: If there is no such tier.
        """
        if name not in _PRESETS:
            raise ValueError(f"no tier is called {name!r}; choose one of {', '.join(_PRESETS)}")
        return cls.model_validate({"tier": name, **_PRESETS[name]})

    @classmethod
    def for_preset(cls, name: str, tier: str) -> EvaluateConfig:
        """The survey's experiment ``S1`` or ``S2`` and its methods, with the attackers and controls of a tier.

        The tier ``smoke`` has fewer people. Deviations from the publication are named in the result, see
        :mod:`evaluation.verdicts.presets`.

        Raises:
            ValueError: If there is no such preset or tier.
        """
        if name not in _SURVEY:
            raise ValueError(f"no preset is called {name!r}; choose one of {', '.join(_SURVEY)}")
        base = cls.for_tier(tier).model_dump()
        chosen = _SURVEY[name]
        people = {**base["people"], **chosen["people"], **(chosen["smoke"] if tier == "smoke" else {})}
        changes: dict[str, Any] = {"preset": name, "protectors": chosen["protectors"], "people": people}
        if tier != "smoke":
            changes["attackers"] = _ALL_ATTACKERS
        return cls.model_validate({**base, **changes})

    def with_optics(self, optics: str) -> EvaluateConfig:
        """The same settings with the optics of a run among the protectors.

        Where no protectors are named, the optics stand in the place of the cloak that the tier judges; where no
        attackers are named, those who average several captures of a scene join them.

        Args:
            optics: Name of the protector with its settings.
        """
        if optics in self.protectors:
            return self
        usual = self.for_tier(self.tier)
        protectors = self.protectors if self.protectors != usual.protectors else controls(self.people.size_px)
        video = VIDEO_ATTACKERS[:1] if self.tier == "smoke" else VIDEO_ATTACKERS
        attackers = self.attackers if self.attackers != usual.attackers else (*usual.attackers, *video)
        changed = {"protectors": (*protectors, optics), "attackers": attackers}
        return self.model_validate({**self.model_dump(), **changed})


def controls(size_px: int) -> tuple[str, ...]:
    """Controls of the evaluation itself, for frames of that size; they are run whether named or not.

    The pixelation is light, the blur mild and without noise: attackers who know them must see through. The noise has
    the survey's uniform budget of .03.
    """
    return ("identity", f"gaussian-blur:sd=0.05,px={size_px}", "pixelate:cells=28", "noise:linf=0.03")


#: Methods and people of the survey's experiments; of S2 the survey states no budget, so methods keep their own.
_SURVEY: dict[str, dict[str, Any]] = {
    "S1": {
        "protectors": tuple(f"{name}:budget=uniform" for name in ("em", "rem", "opom", "dfpp")),
        "people": {"test_people": 50, "captures": 10, "gallery_captures": 8, "size_px": 112},
        "smoke": {
            "train_people": 6, "validation_people": 4, "calibration_people": 40, "test_people": 30, "fit_captures": 4,
        },
    },
    "S2": {
        "protectors": ("apf", "fawkes", "tip-im"),
        "people": {"test_people": 500, "captures": 2, "gallery_captures": 1, "size_px": 112},
        "smoke": {"train_people": 6, "validation_people": 4, "calibration_people": 40, "test_people": 30},
    },
}  # fmt: skip
#: Attackers on the average of several captures of one scene: each needs every photograph protected as often.
VIDEO_ATTACKERS = ("video-average-4", "video-average-16")
_STILL_ATTACKERS = [
    "as-published", "preprocess", "flip-tta", "realign", "generic-restorer",
    "purifier", "restorer", "linear-protected", "fine-tuned-protected", "end-to-end-protected", "scratch-protected",
    "pixels-discriminant", "known-psf", "known-psf-wrong-10", "known-psf-wrong-20", "known-psf-linear",
    "subtract-average",
]  # fmt: skip
_ALL_ATTACKERS = [_STILL_ATTACKERS[0], *VIDEO_ATTACKERS, *_STILL_ATTACKERS[1:]]
#: The method that is judged where none is named; in the tier smoke with a tenth of its work.
_CLOAK, _QUICK_CLOAK = "photo-cloak", "photo-cloak:steps=10,eot=1,surrogates=sface"
_PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "protectors": (*controls(112), _QUICK_CLOAK),
        "attackers": ["as-published", "linear-protected", "known-psf"],
        "recognisers": ["sface"],
        "people": {
            "train_people": 20, "validation_people": 6, "calibration_people": 40, "test_people": 40,
            "captures": 3, "gallery_captures": 2, "fit_captures": 1,
        },
        "scoring": {"template_photos": [1, 2]},
        "latency_photos": 5,
    },
    "standard": {
        "protectors": (*controls(112), _CLOAK),
        "attackers": _STILL_ATTACKERS,
        "recognisers": ["sface", "dlib-resnet", "faceres"],
        "people": {
            "train_people": 200, "validation_people": 40, "calibration_people": 60, "test_people": 50,
            "captures": 10, "gallery_captures": 5, "fit_captures": 10,
        },
    },
    "full": {
        "protectors": (*controls(112), _CLOAK),
        "attackers": _STILL_ATTACKERS,
        "recognisers": ["sface", "dlib-resnet", "faceres"],
        "people": {
            "train_people": 600, "validation_people": 80, "calibration_people": 250, "test_people": 150,
            "captures": 20, "gallery_captures": 10, "fit_captures": 10,
        },
    },
}  # fmt: skip
