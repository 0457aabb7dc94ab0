"""What each provider's package puts on the wire, and what only one provider does."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.awsrequest import AWSResponse
from botocore.stub import Stubber

from evaluation.errors import EvaluationError
from evaluation.services import FaceService, Spending, service

if TYPE_CHECKING:
    from tests.evaluation.services.conftest import Stage


def _only(provider: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("stage", [provider], indirect=True)


def _plain(photo: bytes) -> str:
    return base64.b64encode(photo).decode()


def _aws(tmp_path: Path) -> FaceService:
    return service("aws", consent="Test rendering, 2026-11-25", budget=Spending(9, 0.001), cache_dir=tmp_path)


def test_aws_parameters_and_answer_pass_the_service_model(photos: list[bytes], tmp_path: Path) -> None:
    opened = _aws(tmp_path)
    expected = {
        "SourceImage": {"Bytes": photos[0]},
        "TargetImage": {"Bytes": photos[1]},
        "SimilarityThreshold": 0.0,
        "QualityFilter": "NONE",
    }
    faces = [{"Similarity": 3.5, "Face": {}}, {"Similarity": 12.5, "Face": {}}]
    with Stubber(opened._client) as stubber:
        stubber.add_response("compare_faces", {"FaceMatches": faces, "UnmatchedFaces": []}, expected)
        (result,) = opened.compare(photos[:1], photos[1:2])
        stubber.assert_no_pending_responses()
    assert result.score == 12.5  # the most similar of several faces


def test_aws_request_on_the_wire(photos: list[bytes], tmp_path: Path) -> None:
    opened = _aws(tmp_path)
    sent: list[Any] = []

    class Raw:
        @staticmethod
        def stream() -> Iterator[bytes]:
            return iter([b'{"SourceImageFace": {}, "FaceMatches": [], "UnmatchedFaces": []}'])

    def answer(request: Any, **_: object) -> AWSResponse:
        sent.append(request)
        return AWSResponse(request.url, 200, {}, Raw())

    opened._client.meta.events.register("before-send.rekognition.CompareFaces", answer)
    (result,) = opened.compare(photos[:1], photos[1:2])
    assert result.outcome == "no-face"  # no face at all in the second image
    (request,) = sent
    assert request.url == "https://rekognition.eu-west-1.amazonaws.com/"
    assert request.headers["X-Amz-Target"] == b"RekognitionService.CompareFaces"
    assert b"Credential=test-id/" in request.headers["Authorization"]
    assert json.loads(request.body) == {
        "SourceImage": {"Bytes": _plain(photos[0])},
        "TargetImage": {"Bytes": _plain(photos[1])},
        "SimilarityThreshold": 0.0,
        "QualityFilter": "NONE",
    }


def test_aws_package_does_not_repeat_on_its_own(photos: list[bytes], tmp_path: Path) -> None:
    waits: list[float] = []
    sent: list[Any] = []

    class Raw:
        @staticmethod
        def stream() -> Iterator[bytes]:
            return iter([b'{"__type": "ProvisionedThroughputExceededException", "message": "slower"}'])

    def answer(request: Any, **_: object) -> AWSResponse:
        sent.append(request)
        return AWSResponse(request.url, 400, {}, Raw())

    opened = service(
        "aws", consent="Test rendering, 2026-11-25", budget=Spending(9, 0.001), cache_dir=tmp_path, max_tries=3,
        sleep=waits.append,
    )  # fmt: skip
    opened._client.meta.events.register("before-send.rekognition.CompareFaces", answer)
    with pytest.raises(EvaluationError, match=r"aws turned 3 requests in a row away for their rate \(slower\)"):
        opened.compare(photos[:1], photos[1:2])
    assert (len(sent), waits, opened.budget.calls) == (3, [1.0, 2.0], 3)


def test_aws_package_refuses_wrong_parameters(photos: list[bytes], tmp_path: Path) -> None:
    opened = _aws(tmp_path)
    with pytest.raises(EvaluationError, match=r"ParamValidationError: .*SourceImage\.Bytes"):
        opened._ask(1, photos[0])  # type: ignore[arg-type]


def test_aws_without_a_region(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(EvaluationError, match=r"aws cannot be used .*set AWS_DEFAULT_REGION or a profile"):
        _aws(tmp_path)


@_only("azure")
def test_azure_requests(stage: Stage, photos: list[bytes]) -> None:
    stage.play("score")
    stage.open().compare(photos[:1], photos[1:2])
    *detections, verification = stage.requests
    for request, photo in zip(detections, photos[:2], strict=True):
        address = urlsplit(request.url)
        assert f"{address.scheme}://{address.netloc}{address.path}" == (
            "https://face.example/face/v1.2-preview.1/detect"
        )
        assert parse_qs(address.query) == {
            "detectionModel": ["detection_03"],
            "recognitionModel": ["recognition_04"],
            "returnFaceId": ["true"],
            "returnRecognitionModel": ["true"],
            "faceIdTimeToLive": ["3600"],
        }
        assert request.headers["Content-Type"] == "application/octet-stream"
        assert request.headers["Ocp-Apim-Subscription-Key"] == "test-key"
        assert request.body == photo
    assert verification.url == "https://face.example/face/v1.2-preview.1/verify"
    assert json.loads(verification.body) == {"faceId1": "00000000", "faceId2": "00000000"}


@_only("azure")
def test_azure_detects_each_face_once_an_hour(stage: Stage, photos: list[bytes]) -> None:
    stage.play("score", "face, verdict")
    opened = stage.open()
    opened.compare([photos[0]] * 2, photos[1:])
    assert len(stage.requests) == 5  # two faces and a verdict, one face and a verdict
    stage.play("verdict")
    opened.compare(photos[1:2], photos[2:])
    stage.now_s += 3600
    stage.play("score")
    opened.compare(photos[1:2], photos[:1])
    assert len(stage.requests) == 9


@_only("azure")
def test_azure_remembers_an_image_without_a_face(stage: Stage, photos: list[bytes]) -> None:
    stage.play("no second face", "face, verdict")
    opened = stage.open()
    results = opened.compare([photos[0], photos[1], photos[0]], [photos[1], photos[2], photos[2]])
    assert [result.outcome for result in results] == ["no-face", "no-face", "scored"]
    assert len(stage.requests) == 4


@_only("azure")
def test_azure_says_that_verification_needs_approval(stage: Stage, photos: list[bytes]) -> None:
    stage.play("denied")
    with pytest.raises(EvaluationError, match=r"403: .*Missing approval.*Limited Access: apply for it"):
        stage.open().compare(photos[:1], photos[1:2])


@_only("azure")
def test_azure_answer_that_is_not_json(stage: Stage, photos: list[bytes]) -> None:
    stage.answers.append((502, "<html>gateway</html>"))
    with pytest.raises(EvaluationError, match="azure did not answer"):
        stage.open().compare(photos[:1], photos[1:2])


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("azure", "AZURE_FACE_API_ENDPOINT"),
        ("azure", "AZURE_FACE_API_ACCOUNT_KEY"),
        ("tencent", "TENCENTCLOUD_REGION"),
    ],
    indirect=["stage"],
)
def test_settings_of_the_environment_are_named(stage: Stage, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, " ")
    with pytest.raises(EvaluationError, match=f"the environment variable {name} is not set; set it to the "):
        stage.open()


@_only("tencent")
def test_tencent_request(stage: Stage, photos: list[bytes]) -> None:
    stage.play("score")
    stage.open().compare(photos[:1], photos[1:2])
    (request,) = stage.requests
    assert request.url == "https://iai.tencentcloudapi.com/"
    assert request.headers["X-TC-Action"] == "CompareFace"
    assert request.headers["X-TC-Version"] == "2020-03-03"
    assert request.headers["X-TC-Region"] == "ap-guangzhou"
    assert "Credential=test-id/" in request.headers["Authorization"]
    assert json.loads(request.body) == {
        "ImageA": _plain(photos[0]),
        "ImageB": _plain(photos[1]),
        "FaceModelVersion": "3.0",
        "QualityControl": 0,
    }


@_only("tencent")
def test_tencent_thresholds_follow_the_model(stage: Stage, photos: list[bytes]) -> None:
    stage.play("score", version="2.0")
    (result,) = stage.open(model_version="2.0").compare(photos[:1], photos[1:2])
    assert result.thresholds == {1e-3: 70.0, 1e-4: 80.0, 1e-5: 90.0}


@_only("tencent")
def test_tencent_without_credentials(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_network: list[Any]
) -> None:
    monkeypatch.delenv("TENCENTCLOUD_SECRET_ID")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("tencentcloud.common.credential.CVMRoleCredential.get_credential", lambda _: None)
    with pytest.raises(EvaluationError, match=r"tencent cannot be used .*set TENCENTCLOUD_SECRET_ID and"):
        stage.open()


@_only("aliyun")
def test_aliyun_request(stage: Stage, photos: list[bytes]) -> None:
    stage.play("score")
    stage.open().compare(photos[:1], photos[1:2])
    (request,) = stage.requests
    assert urlsplit(request.url).netloc.split(":")[0] == "facebody.cn-shanghai.aliyuncs.com"
    assert urlsplit(request.url).scheme == "https"
    assert request.headers["x-acs-action"] == "CompareFace"
    assert request.headers["x-acs-version"] == "2019-12-30"
    assert "Credential=test-id," in request.headers["Authorization"]
    assert parse_qs(request.body.decode(), strict_parsing=True) == {
        "ImageDataA": [_plain(photos[0])],
        "ImageDataB": [_plain(photos[1])],
    }


@_only("aliyun")
def test_aliyun_score_without_boxes_is_a_score(stage: Stage, photos: list[bytes]) -> None:
    stage.play("score without boxes")
    (result,) = stage.open().compare(photos[:1], photos[1:2])
    assert (result.outcome, result.score) == ("scored", 12.5)


@_only("aliyun")
def test_aliyun_error_that_says_no_face(stage: Stage, photos: list[bytes]) -> None:
    stage.play("no-face error")
    (result,) = stage.open().compare(photos[:1], photos[1:2])
    assert result.outcome == "no-face"
