"""One contract for all face services, run through each provider's own package."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from evaluation.errors import EvaluationError
from evaluation.services import SERVICES, Spending, encode_images, service

if TYPE_CHECKING:
    from tests.evaluation.services.conftest import Stage

every_provider = pytest.mark.parametrize("stage", SERVICES, indirect=True)

# What each provider's scripted answer "score" holds: score, thresholds, where they come from.
SCORED: dict[str, tuple[float, Any, Any]] = {
    "aliyun": (66.5, {1e-3: 61.0, 1e-4: 69.0, 1e-5: 75.0}, "answer"),
    "aws": (81.25, None, None),
    "azure": (0.75, None, None),
    "tencent": (
        73.5,
        {1e-3: 40.0, 1e-4: 50.0, 1e-5: 60.0},
        "documentation of CompareFaceResponse.Score in tencentcloud-sdk-python-iai 3.1.191, read 2026-11-25",
    ),
}
REQUESTS = {"aliyun": 1, "aws": 1, "azure": 3, "tencent": 1}  # of one comparison
OTHER_VERSION = {"aliyun": "after June", "aws": "after June", "azure": "recognition_03", "tencent": "2.0"}
MODULE = {
    "aliyun": "alibabacloud_facebody20191230",
    "aws": "boto3",
    "azure": "azure.ai.vision.face",
    "tencent": "tencentcloud.iai.v20200303.iai_client",
}


def test_the_table_covers_every_provider() -> None:
    assert set(SERVICES) == set(SCORED) == set(REQUESTS) == set(OTHER_VERSION) == set(MODULE)


@every_provider
def test_score(stage: Stage, photos: list[bytes]) -> None:
    stage.play("score")
    opened = stage.open()
    (result,) = opened.compare(photos[:1], photos[1:2])
    score, thresholds, source = SCORED[stage.provider]
    assert result.outcome == "scored"
    assert result.score == pytest.approx(score)
    assert (result.thresholds, result.threshold_source) == (thresholds, source)
    assert (result.provider, result.model_version) == (stage.provider, type(opened).default_version)
    assert result.image_sha256 == tuple(hashlib.sha256(photo).hexdigest() for photo in photos[:2])
    assert result.answered_at == "2026-11-25T12:00:00+00:00"
    assert len(stage.requests) == opened.budget.calls == REQUESTS[stage.provider]
    assert opened.budget.spent == 0.5 * REQUESTS[stage.provider]
    assert stage.waits == []


@every_provider
def test_a_score_of_zero_is_a_score(stage: Stage, photos: list[bytes]) -> None:
    stage.play("score", score=0.0)
    (result,) = stage.open().compare(photos[:1], photos[1:2])
    assert (result.outcome, result.score) == ("scored", 0.0)


@every_provider
def test_no_face_is_an_outcome_of_its_own_and_is_kept(stage: Stage, photos: list[bytes]) -> None:
    stage.play("no-face")
    opened = stage.open()
    (result,) = opened.compare(photos[:1], photos[1:2])
    assert (result.outcome, result.score, result.thresholds) == ("no-face", None, None)
    assert opened.compare(photos[:1], photos[1:2]) == [result]
    assert len(stage.requests) == 1


@every_provider
def test_a_size_refused_by_the_provider_is_an_outcome_of_its_own(stage: Stage, photos: list[bytes]) -> None:
    stage.play("size")
    (result,) = stage.open().compare(photos[:1], photos[1:2])
    assert (result.outcome, result.score) == ("refused-size", None)


@every_provider
def test_throttled_requests_wait_longer_each_time_and_then_succeed(stage: Stage, photos: list[bytes]) -> None:
    stage.play("throttle", "throttle", "throttle", "score")
    opened = stage.open(first_wait_s=0.5)
    (result,) = opened.compare(photos[:1], photos[1:2])
    assert result.score == pytest.approx(SCORED[stage.provider][0])
    assert stage.waits == [0.5, 1.0, 2.0]
    assert len(stage.requests) == opened.budget.calls == 3 + REQUESTS[stage.provider]


@every_provider
def test_throttled_out(stage: Stage, photos: list[bytes]) -> None:
    stage.play("throttle", "throttle", "throttle")
    with pytest.raises(EvaluationError, match=rf"{stage.provider} turned 3 requests in a row away .* raise max_tries"):
        stage.open(max_tries=3).compare(photos[:1], photos[1:2])
    assert stage.waits == [1.0, 2.0]
    assert stage.cached() == []


@every_provider
def test_other_refusals_are_errors_with_the_code_and_are_not_repeated(stage: Stage, photos: list[bytes]) -> None:
    stage.play("denied")
    codes = {"aliyun": "InvalidAccessKeyId.NotFound", "aws": "AccessDeniedException", "azure": "403",
             "tencent": "AuthFailure.SecretIdNotFound"}  # fmt: skip
    with pytest.raises(EvaluationError, match=rf"{stage.provider} did not answer \({codes[stage.provider]}: .*\); "):
        stage.open().compare(photos[:1], photos[1:2])
    assert (len(stage.requests), stage.waits, stage.cached()) == (1, [], [])


@every_provider
def test_a_broken_connection_is_an_error_and_is_not_repeated(
    stage: Stage, photos: list[bytes], no_network: list[Any]
) -> None:
    stage.play("offline")
    with pytest.raises(EvaluationError, match=rf"{stage.provider} did not answer \(.*no route"):
        stage.open().compare(photos[:1], photos[1:2])
    assert (len(stage.requests), stage.waits, stage.cached()) == (1, [], [])


@pytest.mark.parametrize(
    ("provider", "side_px", "megabytes"),
    [("aliyun", 64, 5), ("aws", 80, 5), ("azure", 36, 6), ("tencent", 64, 3.75)],  # Tencent: 5 as base64, 4 for 3
)
def test_limits_are_those_of_the_documentation(provider: str, side_px: int, megabytes: float) -> None:
    limits = SERVICES[provider].limits
    assert (limits.min_side_px, limits.max_bytes) == (side_px, megabytes * 2**20)


@every_provider
def test_images_that_are_too_small_or_too_large_are_never_sent(stage: Stage, photos: list[bytes]) -> None:
    opened = stage.open()
    side = opened.limits.min_side_px
    short = encode_images(_noise(side - 1, 120))
    with pytest.raises(EvaluationError, match=rf"second\[1\] has a height of {side - 1} pixels; {stage.provider} takes "
                                              rf"at least {side}.*: enlarge the height"):  # fmt: skip
        opened.compare(photos[:2], [photos[1], *short])
    narrow = encode_images(_noise(120, side - 1))
    with pytest.raises(EvaluationError, match=rf"first\[0\] has a width of {side - 1} pixels.*: enlarge the width"):
        opened.compare(narrow, photos[:1])
    # Decoders ignore what follows the end of the image, so padding makes any size of file.
    padded = photos[0] + bytes(opened.limits.max_bytes + 1 - len(photos[0]))
    with pytest.raises(EvaluationError, match=rf"has {len(padded)} bytes; .* to {len(padded) - 1}: make it smaller or"):
        opened.compare([padded], photos[:1])
    assert (stage.requests, opened.budget.calls) == ([], 0)
    stage.play("score", "score" if stage.provider != "azure" else "face, verdict")
    opened.compare([*encode_images(_noise(side, 120)), padded[:-1]], photos[:1] * 2)


@pytest.mark.parametrize("stage", ["tencent"], indirect=True)
def test_long_sides_are_never_sent(stage: Stage, photos: list[bytes]) -> None:
    wide = encode_images(_noise(64, 2001))
    with pytest.raises(EvaluationError, match=r"a width of 2001 pixels; .* at most 2000 \(png\): reduce the width"):
        stage.open().compare(wide, photos[:1])
    stage.play("score", "score")
    accepted = encode_images(_noise(64, 2000)) + encode_images(_noise(64, 4000), "jpeg")
    stage.open().compare(accepted, photos[:2])


@pytest.mark.parametrize("stage", ["azure"], indirect=True)
def test_tiny_files_are_never_sent(stage: Stage, photos: list[bytes]) -> None:
    grey = encode_images(_noise(40, 40) * 0 + 0.5)
    with pytest.raises(EvaluationError, match=rf"has {len(grey[0])} bytes; azure takes 1024 to .*: enlarge the image"):
        stage.open().compare(grey, photos[:1])


@every_provider
def test_another_model_version_is_asked_anew(stage: Stage, photos: list[bytes]) -> None:
    other = OTHER_VERSION[stage.provider]
    stage.play("score")
    stage.play("score", version=other, score=0.25)
    (old,) = stage.open().compare(photos[:1], photos[1:2])
    (new,) = stage.open(model_version=other).compare(photos[:1], photos[1:2])
    assert (new.score, new.model_version) == (0.25, other)
    assert len(stage.requests) == 2 * REQUESTS[stage.provider]
    assert stage.open().compare(photos[:1], photos[1:2]) == [old]


@pytest.mark.parametrize("stage", ["azure", "tencent"], indirect=True)
def test_an_answer_of_another_model_is_refused(stage: Stage, photos: list[bytes]) -> None:
    stage.play("score", version=OTHER_VERSION[stage.provider])
    with pytest.raises(EvaluationError, match=f"answered with the model '{OTHER_VERSION[stage.provider]}', asked was"):
        stage.open().compare(photos[:1], photos[1:2])
    assert stage.cached() == []
    stage.answers.clear()


@every_provider
def test_missing_thresholds_stay_missing(stage: Stage, photos: list[bytes]) -> None:
    # Tencent's thresholds come from its documentation: missing means a model that it does not describe.
    version = "9.9" if stage.provider == "tencent" else None
    stage.play("no-thresholds", version=version or "")
    (result,) = stage.open(model_version=version).compare(photos[:1], photos[1:2])
    assert result.outcome == "scored"
    assert (result.thresholds, result.threshold_source) == (None, None)


@every_provider
def test_an_answer_without_a_score_is_an_error(stage: Stage, photos: list[bytes]) -> None:
    stage.play("no-score")
    with pytest.raises(EvaluationError, match=f"{stage.provider} answered without a score"):
        stage.open().compare(photos[:1], photos[1:2])
    assert stage.cached() == []


@every_provider
@pytest.mark.parametrize("consent", ["", "yes", "Ada Example agreed", "2026-11-25", "Ada Example, 25.11.2026"])
def test_nothing_is_opened_without_consent(stage: Stage, consent: str) -> None:
    with pytest.raises(EvaluationError, match=r"only with consent: give consent= .* date as YYYY-MM-DD"):
        stage.open(consent=consent)


@every_provider
def test_consent_on_a_day_that_never_was(stage: Stage) -> None:
    with pytest.raises(EvaluationError, match="names the date 2026-02-30, which does not exist"):
        stage.open(consent="Ada Example, 2026-02-30")


@every_provider
def test_budget_is_checked_before_each_request(stage: Stage, photos: list[bytes]) -> None:
    calls = REQUESTS[stage.provider]
    stage.play("score")
    opened = stage.open(max_calls=calls)
    with pytest.raises(EvaluationError, match=rf"budget of {calls} requests is used up \({calls * 0.5:g} spent at 0.5"):
        opened.compare(photos[:2], photos[1:])
    assert len(stage.requests) == calls
    # The pair that was paid for is in the cache; a request that was turned away counts like any other.
    assert stage.open(max_calls=0).compare(photos[:1], photos[1:2])[0].outcome == "scored"
    stage.play("throttle", "throttle")
    with pytest.raises(EvaluationError, match="budget of 2 requests is used up"):
        stage.open(max_calls=2).compare(photos[1:2], photos[2:])


@every_provider
def test_cached_answers_cost_nothing(stage: Stage, photos: list[bytes]) -> None:
    stage.play("score")
    opened = stage.open()
    first = opened.compare([photos[0], photos[0]], [photos[1], photos[1]])
    stage.now_s += 1e6
    assert stage.open(max_calls=0).compare(photos[:1], photos[1:2]) == first[:1] == first[1:]
    assert len(stage.requests) == REQUESTS[stage.provider]
    # The other way round is another request: providers need not be symmetric.
    with pytest.raises(EvaluationError, match="budget of 0 requests"):
        stage.open(max_calls=0).compare(photos[1:2], photos[:1])


@every_provider
def test_neither_logs_nor_files_hold_an_image(
    stage: Stage, photos: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    traces = stage.traces(photos[:2])
    stage.play("score", score=0.5)
    opened = stage.open()
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, logger=opened.sdk_logger):
        opened.compare(photos[:1], photos[1:2])
        level = logging.getLogger(opened.sdk_logger).level
    assert level == logging.DEBUG  # as it was before the call
    (path,) = stage.cached()
    for text in (caplog.text, path.read_text(encoding="utf-8")):
        assert not [trace for trace in traces if trace in text]
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["consent"] == stage.consent
    assert record["key"]["image_sha256"] == [hashlib.sha256(photo).hexdigest() for photo in photos[:2]]


@every_provider
def test_a_damaged_cache_file_is_named(stage: Stage, photos: list[bytes]) -> None:
    stage.play("score")
    stage.open().compare(photos[:1], photos[1:2])
    (path,) = stage.cached()
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole[: len(whole) // 2], encoding="utf-8")
    with pytest.raises(EvaluationError, match=rf"{re.escape(path.name)} is damaged; delete it"):
        stage.open().compare(photos[:1], photos[1:2])
    path.write_text(whole.replace(f'"provider": "{stage.provider}"', '"provider": "other"'), encoding="utf-8")
    with pytest.raises(EvaluationError, match=rf"{re.escape(path.name)} belongs to another request; delete it"):
        stage.open().compare(photos[:1], photos[1:2])


@every_provider
def test_an_interrupted_write_leaves_nothing_behind(
    stage: Stage, photos: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    stage.play("score")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        stage.open().compare(photos[:1], photos[1:2])
    assert stage.cached() == []


@every_provider
def test_a_missing_package_names_the_extra(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(MODULE[stage.provider])]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, MODULE[stage.provider], None)
    with pytest.raises(
        EvaluationError, match=rf"is missing; install the extra: pip install 'optishield\[{stage.provider}\]'"
    ):
        stage.open()


@every_provider
def test_lists_of_pairs_must_be_equally_long(stage: Stage, photos: list[bytes]) -> None:
    with pytest.raises(EvaluationError, match="two equally long lists of images, got 2 and 1"):
        stage.open().compare(photos[:2], photos[:1])
    assert stage.open().compare([], []) == []


@every_provider
def test_options_that_cannot_be_used(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"max_tries is 0, first_wait_s 1\.0; both must be above 0"):
        stage.open(max_tries=0)
    with pytest.raises(EvaluationError, match=r"max_tries is 7, first_wait_s nan; both must be above 0"):
        stage.open(first_wait_s=float("nan"))


def test_unknown_service_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no face service 'oracle'; choose one of aliyun, aws, azure, tencent"):
        service("oracle", consent="", budget=Spending(0, 0), cache_dir=tmp_path)


@pytest.mark.parametrize(("calls", "price"), [(-1, 1.0), (1, -0.5), (1, float("nan"))])
def test_budgets_that_cannot_be(calls: int, price: float) -> None:
    with pytest.raises(EvaluationError, match="neither may be negative"):
        Spending(calls, price)


def test_the_guard_sees_a_connection(no_network: list[Any]) -> None:
    with pytest.raises(pytest.fail.Exception, match="connection to the network"):
        socket.create_connection(("192.0.2.1", 443))
    with socket.socket() as client, pytest.raises(pytest.fail.Exception, match="connection to the network"):
        client.connect(("192.0.2.1", 443))
    assert len(no_network) == 2
    no_network.clear()


def _noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).random((1, 3, height, width))
