"""What all face services have in common: consent, budget, size limits, patience and a cache.

Photographs of people leave the machine here, and money is spent. Therefore nothing is sent without a written consent,
every request counts against a budget before it is sent, and what has been paid for is kept on disk. Images themselves
are neither stored nor logged, only their SHA-256.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args

from evaluation.errors import EvaluationError
from evaluation.services.images import Limits
from ground.files import write_atomic

Outcome = Literal["scored", "no-face", "refused-size"]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Answer:
    """What a provider said about one pair.

    Attributes:
        outcome: "scored"; "no-face" where the provider found no face in an image, which is *not* a non-match;
            "refused-size" where it refused an image for the size of its face, sides or file.
        score: The provider's similarity on its own scale, None unless the outcome is "scored".
        thresholds: Score at each false match rate that the provider states, None if it states none.
        threshold_source: Where the thresholds come from: "answer", or the documentation that states them.
    """

    outcome: Outcome
    score: float | None = None
    thresholds: dict[float, float] | None = None
    threshold_source: str | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison(Answer):
    """The comparison of two images by a face service.

    Attributes:
        provider: Short name of the service.
        model_version: Recognition model, or version of the interface where the provider does not name its model.
        image_sha256: Hex SHA-256 of the two encoded images.
        answered_at: When the provider answered (UTC, ISO 8601); earlier than now if the result was in the cache.
    """

    provider: str
    model_version: str
    image_sha256: tuple[str, str]
    answered_at: str


class Spending:
    """Requests that may be sent, and what the requests sent so far cost.

    Every request counts, also a repeated one that was turned away for its rate: the cap is on what could be billed.

    Args:
        max_calls: Requests that may be sent in all.
        price_per_call: Price of one request in a currency of your choice, from the provider's price list of today.

    Raises:
        EvaluationError: Either is negative.
    """

    def __init__(self, max_calls: int, price_per_call: float) -> None:
        if max_calls < 0 or not price_per_call >= 0:
            raise EvaluationError(
                f"max_calls is {max_calls}, price_per_call {price_per_call}; neither may be negative."
            )
        self.max_calls = max_calls
        self.price_per_call = price_per_call
        self.calls = 0

    @property
    def spent(self) -> float:
        """Price of the requests sent so far."""
        return self.calls * self.price_per_call

    def take(self) -> None:
        """Count one more request.

        Raises:
            EvaluationError: The budget is used up.
        """
        if self.calls >= self.max_calls:
            raise EvaluationError(
                f"the budget of {self.max_calls} requests is used up ({self.spent:g} spent at {self.price_per_call:g} "
                "each); raise max_calls to go on, answers so far are in the cache."
            )
        self.calls += 1


class _Refused(Exception):
    """A request that the provider answered with a code that is an outcome of its own."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome: Outcome = outcome


@contextmanager
def sdk(extra: str) -> Iterator[None]:
    """Turn the absence of a provider's package, imported in the block, into an error that names the extra."""
    try:
        yield
    except ImportError as error:
        raise EvaluationError(
            f"the package {error.name or extra} is missing; install the extra: pip install 'optishield[{extra}]'."
        ) from error


def environment(name: str, what: str) -> str:
    """A variable of the environment that must be set.

    Raises:
        EvaluationError: It is unset or empty.
    """
    value = os.environ.get(name, "").strip()
    if not value:
        raise EvaluationError(f"the environment variable {name} is not set; set it to {what}.")
    return value


class FaceService(ABC):
    """Compares pairs of face images through one provider's official package.

    Credentials come from the provider's own environment variables and files, never from here. A provider that turns a
    request away for its rate is asked again after first_wait_s, 2 first_wait_s, 4 first_wait_s, ...; the package's
    own repetitions are switched off, because they would be neither counted nor bounded.

    Args:
        consent: Who agreed to the upload of these photographs and when, with a date as YYYY-MM-DD. It is kept with
            every answer.
        budget: Requests that may be sent.
        cache_dir: Folder for the answers; an answer there is never paid for again.
        model_version: Another model than ``default_version``. Where the provider does not name its model, any text
            that tells earlier answers from later ones, for instance the date of an announced change.
        max_tries: Requests for one answer before giving up; the default waits for about a minute in all.
        first_wait_s: First wait in seconds.
        sleep: Waits a number of seconds.
        clock: Seconds since 1970 (UTC).

    Raises:
        EvaluationError: Consent without a name or date, nonsensical numbers, a missing package or setting.
    """

    provider: ClassVar[str]
    call: ClassVar[str]  # part of the cache's key: the operation and those of its settings that can change the answer
    default_version: ClassVar[str]
    limits: ClassVar[Limits]
    sdk_logger: ClassVar[str]
    # Codes of errors; one stands for its sub-codes too, as in "Throttling" and "Throttling.User".
    throttle_codes: ClassVar[tuple[str, ...]]
    no_face_codes: ClassVar[tuple[str, ...]] = ()
    size_codes: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *,
        consent: str,
        budget: Spending,
        cache_dir: Path,
        model_version: str | None = None,
        max_tries: int = 7,
        first_wait_s: float = 1.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        _check_consent(consent)
        if max_tries < 1 or not first_wait_s > 0:
            raise EvaluationError(f"max_tries is {max_tries}, first_wait_s {first_wait_s}; both must be above 0.")
        self.consent = consent
        self.budget = budget
        self.cache_dir = Path(cache_dir)
        self.model_version = self.default_version if model_version is None else model_version
        self._max_tries = max_tries
        self._first_wait_s = first_wait_s
        self._sleep = sleep
        self._clock = clock
        with sdk(self.provider):
            self._client, self._errors = self._connect()

    @abstractmethod
    def _connect(self) -> tuple[Any, tuple[type[Exception], ...]]:
        """The provider's client, its own repetitions off, and the exceptions that its calls raise."""

    @abstractmethod
    def _ask(self, first: bytes, second: bytes) -> Answer:
        """The provider's answer; every request in it goes through ``_send``."""

    @abstractmethod
    def _describe(self, error: Exception) -> tuple[str, str]:
        """Code and text of one of the client's exceptions."""

    def _says_no_face(self, code: str, text: str) -> bool:
        return _covers(self.no_face_codes, code)

    def _advice(self, code: str) -> str:
        return "check credentials, region and account; answers so far are in the cache."

    def compare(self, first: Sequence[bytes], second: Sequence[bytes]) -> list[Comparison]:
        """Compare images pairwise, first[i] with second[i].

        All images are checked before the first one is sent. Each answer is on disk before the next request, so a call
        that failed half-way can be repeated and pays for the rest only.

        Args:
            first: N encoded images (PNG or JPEG), see :func:`evaluation.services.encode_images`.
            second: N encoded images.

        Returns:
            N comparisons.

        Raises:
            EvaluationError: Lengths differ, an image breaks the provider's limits, the budget is used up, the provider
                keeps turning requests away or refuses one, its answer is incomplete, or a cache file is damaged.
        """
        if len(first) != len(second):
            raise EvaluationError(f"pairs need two equally long lists of images, got {len(first)} and {len(second)}.")
        for name, images in (("first", first), ("second", second)):
            for place, image in enumerate(images):
                self.limits.check(image, f"{name}[{place}]", self.provider)
        return [self._compare_pair(*pair) for pair in zip(first, second, strict=True)]

    def _compare_pair(self, first: bytes, second: bytes) -> Comparison:
        hashes = (sha256(first), sha256(second))
        key = {
            "provider": self.provider,
            "model_version": self.model_version,
            "call": self.call,
            "image_sha256": list(hashes),
        }
        path = self.cache_dir / self.provider / f"{sha256(json.dumps(key, sort_keys=True).encode())}.json"
        if path.is_file():
            return _read(path, key)
        try:
            answer = self._ask(first, second)
        except _Refused as refusal:
            answer = Answer(refusal.outcome)
        result = Comparison(
            answer.outcome,
            answer.score,
            answer.thresholds,
            answer.threshold_source,
            provider=self.provider,
            model_version=self.model_version,
            image_sha256=hashes,
            answered_at=datetime.datetime.fromtimestamp(self._clock(), datetime.UTC).isoformat(),
        )
        _write(path, key, result, self.consent)
        return result

    def _send(self, request: Callable[[], _T]) -> _T:
        """The result of one request, which is counted and, if turned away for its rate, repeated."""
        text = ""
        for attempt in range(self._max_tries):
            if attempt:
                self._sleep(self._first_wait_s * 2 ** (attempt - 1))
            self.budget.take()
            try:
                with _without_debug(self.sdk_logger):
                    return request()
            except self._errors as error:
                code, text = self._describe(error)
                text = " ".join(text.split())
                if self._says_no_face(code, text):
                    raise _Refused("no-face") from error
                if _covers(self.size_codes, code):
                    raise _Refused("refused-size") from error
                if not _covers(self.throttle_codes, code):
                    raise EvaluationError(
                        f"{self.provider} did not answer ({code}: {text}); {self._advice(code)}"
                    ) from error
        raise EvaluationError(
            f"{self.provider} turned {self._max_tries} requests in a row away for their rate ({text}); go on later, "
            "answers so far are in the cache, or raise max_tries."
        )

    def _check_version(self, stated: str | None) -> None:
        """Refuse an answer of another model than the one asked for: its scores are not comparable."""
        if stated != self.model_version:
            raise EvaluationError(
                f"{self.provider} answered with the model {stated!r}, asked was {self.model_version!r}; "
                "give the model that your account offers as model_version."
            )

    def _check_score(self, score: float | None) -> float:
        if score is None:
            raise EvaluationError(
                f"{self.provider} answered without a score, so the pair counts as unanswered; repeat the call, and if "
                "that does not help, look for a newer release of the provider's package."
            )
        return float(score)


def _check_consent(consent: str) -> None:
    dates = re.findall(r"\b\d{4}-\d{2}-\d{2}\b", consent)
    try:
        for date in dates:
            datetime.date.fromisoformat(date)
    except ValueError as error:
        raise EvaluationError(f"the consent names the date {date}, which does not exist; correct it.") from error
    if not dates or not re.search(r"[^\W\d_]{2}", consent):
        raise EvaluationError(
            "photographs of people are sent only with consent: give consent= the names of those who agreed and the "
            "date as YYYY-MM-DD."
        )


def _covers(codes: Sequence[str], code: str) -> bool:
    return any(code == known or code.startswith(f"{known}.") for known in codes)


def sha256(data: bytes) -> str:
    """Hex SHA-256, the only trace of an image that is kept."""
    return hashlib.sha256(data).hexdigest()


@contextmanager
def _without_debug(name: str) -> Iterator[None]:
    """Keep a package from writing whole requests, and with them the images, to its debug log."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(max(level, logging.INFO))
    try:
        yield
    finally:
        logger.setLevel(level)


def _read(path: Path, key: dict[str, Any]) -> Comparison:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        found, answer = record["key"], record["answer"]
        thresholds = answer["thresholds"]
        result = Comparison(
            answer["outcome"],
            answer["score"],
            None if thresholds is None else {float(rate): float(score) for rate, score in thresholds},
            answer["threshold_source"],
            provider=key["provider"],
            model_version=key["model_version"],
            image_sha256=(found["image_sha256"][0], found["image_sha256"][1]),
            answered_at=answer["answered_at"],
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise EvaluationError(f"the cached answer {path} is damaged; delete it to ask (and pay) again.") from error
    if found != key or result.outcome not in get_args(Outcome):
        raise EvaluationError(f"the cached answer {path} belongs to another request; delete it to ask (and pay) again.")
    return result


def _write(path: Path, key: dict[str, Any], result: Comparison, consent: str) -> None:
    record = {
        "key": key,
        "consent": consent,
        "answer": {
            "outcome": result.outcome,
            "score": result.score,
            "thresholds": None if result.thresholds is None else list(result.thresholds.items()),
            "threshold_source": result.threshold_source,
            "answered_at": result.answered_at,
        },
    }
    data = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, data)
