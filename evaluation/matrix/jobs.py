"""Jobs of the matrix. Each is a function of files, configuration and names, and leaves its result in the store.

A job that fails tells why instead of ending the run: one attacker must not take the others with it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from evaluation.config import EvaluateConfig, Tier
from evaluation.errors import EvaluationError
from evaluation.image_attackers.base import ImageAttacker
from evaluation.labels import Combination, Level
from evaluation.matrix.keys import content_key, object_code_hash, settings_of, tensor_hash
from evaluation.matrix.remember import remembering
from evaluation.matrix.scoring import (
    COMBINATIONS,
    LINKAGE,
    Labels,
    centre_of,
    centred,
    compare,
    freeze,
)
from evaluation.matrix.store import Store
from evaluation.measures.cost import measured
from evaluation.measures.metrics import Floats
from evaluation.people import PARTS, Part, restore, shown_as
from evaluation.photos import Knowledge, Photos
from evaluation.records import (
    Attacked,
    AttackSeconds,
    Embedded,
    FrozenThreshold,
    Latency,
    Method,
    NotApplicable,
    ProtectedSet,
    from_json,
    to_json,
)
from faces.errors import FaceFailed
from faces.families import Recogniser
from faces.protection import KnownBlur, Protector, Target
from faces.samples import linear_to_srgb, srgb_to_linear
from ground.pool import derived_seed

MakeProtector = Callable[[str], Protector]
MakeAttacker = Callable[[str, Tier], ImageAttacker]
LoadRecogniser = Callable[[str], Recogniser]

#: Photographs in a batch when the throughput is measured.
BATCHES = (1, 2, 4, 8, 16)

#: Seconds after which neither another photograph nor a larger batch is timed.
LATENCY_S = 30.0


@dataclass(frozen=True)
class Site:
    """Where jobs find everything.

    Attributes:
        folder: Run folder, with the faces under ``work/``.
        cache: Folder of the store.
        config: Configuration of the run.
        faces_hash: Hash of the manifest of all faces.
        make_protector: Function of the name of a protector that other processes can import.
        make_attacker: Function of name and tier that other processes can import.
        load_recogniser: Function of a name that other processes can import.
        device: Where protectors, attackers and recognisers work. What they make is kept and compared on the CPU, and
            results of another kind of device are kept apart.
    """

    folder: Path
    cache: Path
    config: EvaluateConfig
    faces_hash: str
    make_protector: MakeProtector
    make_attacker: MakeAttacker
    load_recogniser: LoadRecogniser
    device: str = "cpu"

    @property
    def store(self) -> Store:
        """Where results are kept."""
        kind = torch.device(self.device).type
        return Store(self.cache if kind == "cpu" else self.cache / kind)

    def there(self, photos: Photos) -> Photos:
        """The same photographs where protectors, attackers and recognisers work."""
        return photos.to(self.device)

    def part(self, name: str) -> Part:
        """One part of the split."""
        return restore(self.folder, name)

    def rows(self, key: str) -> dict[str, Floats]:
        """Embeddings in the store, in float64.

        Raises:
            EvaluationError: The result is gone.
        """
        found = self.store.read(key)
        if found is None:
            raise EvaluationError(f"the result {key} is gone from {self.cache}; run again with --resume.")
        return {name: tensor.double().numpy() for name, tensor in found[0].items()}

    def recogniser(self, name: str) -> Recogniser:
        """A recogniser that looks up what it has embedded before."""
        return remembering(self.load_recogniser(name), self.store)


Value = TypeVar("Value")


@dataclass(frozen=True)
class Outcome(Generic[Value]):
    """What a job returns.

    Attributes:
        value: Its result, None if it failed.
        reason: Why it failed, or "".
    """

    value: Value | None
    reason: str = ""


def guarded(function: Callable[..., Value], *arguments: Any) -> Outcome[Value]:
    """Run a job; an exception becomes the reason of its failure."""
    try:
        return Outcome(function(*arguments))
    except Exception as error:  # noqa: BLE001  whatever an attacker or protector does wrong, the others go on
        return Outcome(None, f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def describe(site: Site, protector: str) -> Method:
    """What a protector declares; optics that an attacker may know, and people to pass for, go into the run folder."""
    made = site.make_protector(protector)
    said, blur, target = made.declaration, made.blur, made.target
    if said.surrogates is None:
        raise EvaluationError(
            f"{said.name} does not state which recognisers it uses; set Declaration.surrogates to their names, or to "
            "() where it uses none."
        )
    kept = Store(site.folder / "work")
    if blur is not None:
        facts = {"noise_sd": blur.noise_sd, "planes": blur.planes}
        kept.write(_key("blur", protector), {"psf": blur.psf}, facts)
    if target is not None:
        people = {"images": target.images, "points5": target.points5, "identity": target.identity}
        kept.write(_key("target", protector), people, {})
    return Method.of(said, blur=blur is not None, target=target is not None)


def known_blur(folder: Path, protector: str) -> KnownBlur | None:
    """The optics that :func:`describe` left in the run folder."""
    found = Store(folder / "work").read(_key("blur", protector))
    if found is None:
        return None
    tensors, facts = found
    return KnownBlur(tensors["psf"], facts["noise_sd"], facts["planes"])


def known_target(folder: Path, protector: str) -> Target | None:
    """The people to pass for that :func:`describe` left in the run folder."""
    found = Store(folder / "work").read(_key("target", protector))
    return None if found is None else Target(**found[0])


def _key(kind: str, protector: str) -> str:
    return f"{kind}-{hashlib.sha256(protector.encode()).hexdigest()[:40]}"


def strength(site: Site, recogniser: str, part: str) -> Embedded:
    """Clean embeddings of one part by a recogniser as published: for its threshold and its strength gate."""
    photos = site.there(site.part(part).photos)
    made = site.recogniser(recogniser)
    key = content_key(
        "clean", __name__, recogniser=recogniser, weights=made.weights_hash, faces=site.faces_hash, part=part
    )

    def make() -> tuple[dict[str, Tensor], dict[str, Any]]:
        with torch.no_grad():
            return {"rows": made.embed(photos.images(), photos.points5)}, {}

    site.store.once(key, make)
    return Embedded(
        key=key,
        family=made.family,
        weights_sha256=made.weights_hash,
        reserved=made.reserved,
        differentiable=made.differentiable,
    )


def protect(site: Site, protector: str, part: str, frames: int) -> ProtectedSet:
    """Protected photographs of one part; of several frames their average in linear light.

    A protector that must see a person first is shown the spare photographs of that part. A photograph that it cannot
    protect stays as it was, so that everybody counts it as unprotected.
    """
    faces = site.part(part)
    photos, spare = faces.photos, faces.spare
    made = site.make_protector(protector)
    said = made.declaration
    shown = [photos.faces.images, photos.points5, photos.identity]
    if said.person_specific:
        shown += [spare.faces.images, spare.points5, spare.identity]
    key = content_key(
        "protected",
        __name__,
        name=said.name,
        settings=said.settings,
        protector=protector,
        protector_code=object_code_hash(made),
        pictures=tensor_hash(*shown),
        part=part,
        frames=frames,
        seed=site.config.seed,
    )

    def make() -> tuple[dict[str, Tensor], dict[str, Any]]:
        with measured() as prepared:
            fit(made, site.there(spare), photos, derived_seed(site.config.seed, "fit", protector, part))
        light = torch.zeros(photos.faces.images.shape, dtype=torch.float64)
        left: set[int] = set()
        with measured() as spent:
            for frame in range(frames):
                seed = derived_seed(site.config.seed, "protect", protector, part, str(frame))
                drawn, failed = protected_as_far_as_possible(made, site.there(photos), seed)
                drawn = drawn.cpu()
                left |= failed
                if frames > 1:
                    light += srgb_to_linear(drawn.double())
        levels = drawn if frames == 1 else linear_to_srgb(light / frames)
        facts = {
            "seconds": (spent.seconds or 0.0) / frames,
            "fit_seconds": prepared.seconds,
            "images": len(photos),
            "left": len(left),
            "peak_growth_bytes": spent.peak_growth_bytes,
        }
        return {"levels": (levels * 255).round().to(torch.uint8)}, facts

    _, facts = site.store.once(key, make)
    return ProtectedSet(key, **facts)


def fit(protector: Protector, spare: Photos, photos: Photos, seed: int) -> None:
    """Show a protector the people it must know.

    Raises:
        EvaluationError: Somebody has no spare photograph.
    """
    if not protector.declaration.person_specific:
        return
    strangers = set(photos.identity.tolist()) - set(spare.identity.tolist())
    if strangers:
        raise EvaluationError(
            f"{protector.declaration.name} must see each person first, but {len(strangers)} of {photos.people} people "
            "have no photograph to spare; raise people.fit_captures, or give more photographs of each person."
        )
    protector.fit(spare.images(), spare.points5, spare.identity, torch.Generator().manual_seed(seed))


def protected_images(protector: Protector, photos: Photos, seed: int) -> Tensor:
    """Protected photographs (N, 3, S, S) in 0..1, checked.

    Raises:
        EvaluationError: Another shape, or values that are not finite or out of range.
    """
    images = photos.images()
    generator = torch.Generator().manual_seed(seed)
    drawn = protector.protect(images, photos.points5, photos.identity, generator).detach()
    if drawn.shape != images.shape or not bool(torch.isfinite(drawn).all()):
        raise EvaluationError(
            f"{protector.declaration.name} returned {tuple(drawn.shape)} for {tuple(images.shape)}, or values that are "
            "not finite; mend the protector."
        )
    if float(drawn.min()) < 0 or float(drawn.max()) > 1:
        raise EvaluationError(
            f"{protector.declaration.name} returned values in {float(drawn.min()):.3f}..{float(drawn.max()):.3f}; "
            "clamp them to 0..1."
        )
    return drawn


def protected_as_far_as_possible(protector: Protector, photos: Photos, seed: int) -> tuple[Tensor, set[int]]:
    """As :func:`protected_images`, but a photograph that cannot be protected costs no other.

    The protector names one at a time (:class:`faces.errors.FaceFailed`); it is asked again without those named.

    Returns:
        The photographs (N, 3, S, S) in 0..1, and the rows of those that stand there as they were.
    """
    rows = list(range(len(photos)))
    while rows:
        at = torch.tensor(rows)
        try:
            drawn = protected_images(protector, photos.subset(at), seed)
        except FaceFailed as error:
            if not 0 <= error.index < len(rows):
                raise EvaluationError(
                    f"{protector.declaration.name} named row {error.index} of {len(rows)} as the one that it could not "
                    "protect; mend the protector."
                ) from error
            del rows[error.index]
            continue
        if len(rows) == len(photos):
            return drawn, set()
        result = photos.images().to(drawn)
        result[at] = drawn
        return result, set(range(len(photos))) - set(rows)
    return photos.images(), set(range(len(photos)))


def protected_photos(site: Site, part: str, key: str) -> Photos:
    """The photographs of a part as :func:`protect` left them."""
    found = site.store.read(key)
    if found is None:
        raise EvaluationError(f"the protected photographs {key} are gone from {site.cache}; run again with --resume.")
    return shown_as(site.part(part).photos, found[0]["levels"])


def attack(
    site: Site, protector: str, attacker: str, recogniser: str, protected: Mapping[str, str]
) -> Attacked | NotApplicable:
    """One attacker on one protector through one recogniser: fit, freeze its own thresholds, then look at the test.

    An attacker above K0 changes what embeddings look like, so it sets thresholds of its own: calibration people, clean
    and protected, go through its own pipeline, for each combination of gallery and probe; one at K0 does so for
    linkage alone (:func:`adapts`). The photographs of the test are read after that.

    Args:
        site: Where everything of the run lies.
        protector: Name with settings.
        attacker: Name.
        recogniser: Name.
        protected: Key of the protected photographs of each part, with the attacker's number of frames.
    """
    config = site.config
    made, through = site.make_attacker(attacker, config.tier), site.recogniser(recogniser)
    blur = known_blur(site.folder, protector)
    key = content_key(
        "attack",
        __name__,
        attacker=attacker,
        tier=config.tier,
        recogniser=recogniser,
        attacker_code=object_code_hash(made),
        attacker_settings=settings_of(made),
        weights=through.weights_hash,
        faces=site.faces_hash,
        protected=dict(protected),
        alphas=config.scoring.alphas,
        blur=None if blur is None else [tensor_hash(blur.psf), blur.noise_sd, blur.planes],
        seed=config.seed,
    )
    knowledge: Knowledge | None = None
    if site.store.facts(key) is None:
        clean = {name: site.there(site.part(name).photos) for name in PARTS[:2]}
        shown = {name: site.there(protected_photos(site, name, protected[name])) for name in PARTS[:2]}
        seed = derived_seed(config.seed, "attack", protector, attacker, recogniser)
        knowledge = Knowledge(clean["train"], shown["train"], clean["validation"], shown["validation"], blur, seed)
        reason = made.inapplicable(knowledge, through)
        if reason is not None:
            return NotApplicable(reason)

    def make() -> tuple[dict[str, Tensor], dict[str, Any]]:
        if knowledge is None:
            raise EvaluationError(f"{site.store.path(key)} is damaged; delete it and run again.")
        start = time.perf_counter()
        made.fit(through, knowledge)
        fitted = time.perf_counter()
        tensors: dict[str, Tensor] = {}
        thresholds: dict[Combination, list[dict[str, Any]]] = {}
        photos = site.part("calibration").photos
        shown_calibration = protected_photos(site, "calibration", protected["calibration"])
        rows = {
            False: embedded(made, site.there(photos), protected=False),
            True: embedded(made, site.there(shown_calibration), protected=True),
        }
        centres = {side: centre_of(rows[side if adapts(made.level) else False]) for side in rows}
        sides, labels = centred(rows, centres), Labels.of(photos)
        for name in COMBINATIONS if adapts(made.level) else (LINKAGE,):
            frozen = freeze(compare(sides, labels, name), config.scoring.alphas, site.faces_hash)
            thresholds[name] = [to_json(FrozenThreshold.of(value)) for value in frozen.values()]
        if adapts(made.level):
            tensors = {f"centre-{_side(side)}": torch.from_numpy(value) for side, value in centres.items()}
        calibrated = time.perf_counter()
        tensors["clean"] = torch.from_numpy(embedded(made, site.there(site.part("test").photos), protected=False))
        shown_test = site.there(protected_photos(site, "test", protected["test"]))
        tensors["protected"] = torch.from_numpy(embedded(made, shown_test, protected=True))
        end = time.perf_counter()
        facts = {
            "thresholds": thresholds,
            "seconds": {"fit": fitted - start, "calibrate": calibrated - fitted, "embed": end - calibrated},
        }
        return tensors, facts

    _, facts = site.store.once(key, make)
    own = {
        name: tuple(from_json(FrozenThreshold, one, key) for one in values)
        for name, values in facts["thresholds"].items()
    }
    return Attacked(made.level, made.frames, key, own, AttackSeconds(**facts["seconds"]))


def adapts(level: Level) -> bool:
    """Whether an attacker of that level changes what embeddings look like, and sets its own centre and thresholds.

    A recogniser as published keeps its frozen ones, but not where both sides are protected (:data:`LINKAGE`): to it,
    photographs that went through one strong protector may all look alike, and at the clean threshold every pair of
    strangers would pass for a link.
    """
    return level != "K0"


def _side(protected: bool) -> str:
    return "protected" if protected else "clean"


def embedded(attacker: ImageAttacker, photos: Photos, *, protected: bool) -> Floats:
    """Embeddings (N, D) in float64; a face that the attacker did not acquire is a row of NaN.

    Raises:
        EvaluationError: There is not one row for each photograph.
    """
    rows = attacker.embed(photos, protected=protected)
    if rows.ndim != 2 or len(rows) != len(photos):
        raise EvaluationError(f"{attacker.name} returned {tuple(rows.shape)} for {len(photos)} photographs.")
    return rows.detach().double().cpu().numpy()


def latency(site: Site, protector: str) -> Latency:
    """Seconds of single photographs, and of batches, on a warm protector.

    A slow protector is timed on fewer: no further photograph, and no larger batch, after ``LATENCY_S``.
    """
    faces = site.part("test")
    made, here = site.make_protector(protector), site.there(faces.photos)
    fit(made, site.there(faces.spare), here, derived_seed(site.config.seed, "fit", protector, "test"))

    def seconds(rows: Tensor, seed: int) -> float:
        photos = here.subset(rows)
        start = time.perf_counter()
        protected_as_far_as_possible(made, photos, seed)
        return time.perf_counter() - start

    count = min(site.config.latency_photos, len(faces.photos))
    seconds(torch.arange(1), 0)
    single: list[float] = []
    for row in range(count):
        single.append(seconds(torch.tensor([row]), row))
        if sum(single) > LATENCY_S:
            break
    batches: dict[int, float] = {}
    for size in BATCHES:
        if size <= len(faces.photos) and sum(batches.values()) <= LATENCY_S:
            batches[size] = seconds(torch.arange(size), size)
    return Latency(tuple(single), batches)
