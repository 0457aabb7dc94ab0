"""Every face service plays against recorded answers here; a connection to the network fails the test."""

from __future__ import annotations

import base64
import json
import re
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import responses
from botocore.exceptions import EndpointConnectionError
from botocore.stub import Stubber

from evaluation.services import FaceService, Spending, encode_images, service

CONSENT = "Test rendering without a person, agreed by the test suite on 2026-11-25"
NOW_S = 1_795_608_000.0  # 2026-11-25T12:00:00+00:00

_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test-id",
    "AWS_SECRET_ACCESS_KEY": "test-secret",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AZURE_FACE_API_ENDPOINT": "https://face.example/",
    "AZURE_FACE_API_ACCOUNT_KEY": "test-key",
    "TENCENTCLOUD_SECRET_ID": "test-id",
    "TENCENTCLOUD_SECRET_KEY": "test-secret",
    "TENCENTCLOUD_REGION": "ap-guangzhou",
    "ALIBABA_CLOUD_ACCESS_KEY_ID": "test-id",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "test-secret",
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Sockets that fail the test, also where a package swallows the exception."""
    attempts: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> None:
        attempts.append(arguments)
        pytest.fail(f"connection to the network: {arguments}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)
    yield attempts
    assert not attempts


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Invented credentials, and no others within reach."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN", "ALIBABA_CLOUD_SECURITY_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "absent"))
    for name, value in _ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@dataclass
class Stage:
    """One provider with a queue of answers: what it is asked, how long it waits, and its clock."""

    provider: str
    folder: Path
    answers: deque[Any] = field(default_factory=deque)
    consent: str = CONSENT
    requests: list[Any] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    now_s: float = NOW_S

    def open(self, *, max_calls: int = 100, **options: Any) -> FaceService:
        """The adapter, wired to this stage."""
        settings: dict[str, Any] = {
            "consent": CONSENT, "budget": Spending(max_calls, 0.5), "cache_dir": self.folder,
            "sleep": self.waits.append, "clock": lambda: self.now_s,
        }  # fmt: skip
        opened = service(self.provider, **(settings | options))
        if self.provider == "aws":
            self._stub(opened)
        return opened

    def play(self, *events: str, version: str = "", score: float | None = None) -> None:
        """Queue what the provider answers next: "score", "no-face", "throttle", ..."""
        for event in events:
            self.answers.extend(SCRIPTS[self.provider](event, version, score))

    def cached(self) -> list[Path]:
        """Files of the cache, half-written ones included."""
        return [path for path in self.folder.rglob("*") if path.is_file()]

    @staticmethod
    def traces(images: list[bytes]) -> list[str]:
        """Texts in which these images could appear in a log or a file."""
        coded = [base64.b64encode(image).decode()[80:120] for image in images]
        return coded + [repr(image[60:100])[2:-1] for image in images]

    def _stub(self, opened: FaceService) -> None:
        # Parameters are validated as in a real call, and the stubber holds each answer against the service's model.
        stubber, client = Stubber(opened._client), opened._client
        client.meta.events.register("provide-client-params.rekognition", self._provide(stubber))
        stubber.activate()

    def _provide(self, stubber: Stubber) -> Any:
        def provide(params: dict[str, Any], **_: Any) -> None:
            self.requests.append(params)
            kind, *content = self.answers.popleft() if self.answers else pytest.fail("a request too many")
            if kind == "offline":
                raise EndpointConnectionError(endpoint_url="no route")
            if kind == "error":
                stubber.add_client_error("compare_faces", content[0], "Request has invalid parameters", 400)
            else:
                stubber.add_response("compare_faces", content[0])

        return provide

    def answer_http(self, request: Any) -> tuple[int, dict[str, str], str]:
        """Callback of the intercepted HTTP library."""
        self.requests.append(request)
        status, body = self.answers.popleft() if self.answers else pytest.fail("a request too many")
        if status == 0:
            raise requests.ConnectionError("no route")
        # Azure's package repeats a request by itself where the answer tells it when.
        headers = {"Retry-After": "1"} if status == 429 else {}
        if isinstance(body, str):
            return status, headers | {"Content-Type": "text/html"}, body
        return status, headers, json.dumps(body)


def _aws(event: str, version: str, score: float | None) -> list[Any]:
    match = {"Similarity": 81.25 if score is None else score, "Face": {"Confidence": 99.0}}
    face = {"Confidence": 99.0}
    events: dict[str, list[Any]] = {
        "score": [("answer", {"SourceImageFace": face, "FaceMatches": [match], "UnmatchedFaces": []})],
        "no-thresholds": [("answer", {"SourceImageFace": face, "FaceMatches": [match], "UnmatchedFaces": []})],
        "no-score": [("answer", {"SourceImageFace": face, "FaceMatches": [], "UnmatchedFaces": [face]})],
        "no-face": [("error", "InvalidParameterException")],
        "throttle": [("error", "ThrottlingException")],
        "size": [("error", "ImageTooLargeException")],
        "denied": [("error", "AccessDeniedException")],
        "offline": [("offline",)],
    }
    return events[event]


def _azure(event: str, version: str, score: float | None) -> list[Any]:
    face = [{"faceId": "0" * 8, "recognitionModel": version or "recognition_04", "faceRectangle": {
        "top": 1, "left": 1, "width": 60, "height": 60}}]  # fmt: skip
    verdict = {"isIdentical": True, "confidence": 0.75 if score is None else score}
    events: dict[str, list[Any]] = {
        "score": [(200, face), (200, face), (200, verdict)],
        "no-thresholds": [(200, face), (200, face), (200, verdict)],
        "no-score": [(200, face), (200, face), (200, {"isIdentical": True})],
        "verdict": [(200, verdict)],
        "face, verdict": [(200, face), (200, verdict)],
        "no-face": [(200, [])],
        "no second face": [(200, face), (200, [])],
        "throttle": [(429, {"error": {"code": "429", "message": "Rate limit is exceeded."}})],
        "size": [(400, {"error": {"code": "InvalidImageSize", "message": "Image size is too small."}})],
        "denied": [(403, {"error": {"code": "InvalidRequest", "innererror": {"code": "UnsupportedFeature"},
            "message": "Missing approval for Verification."}})],
        "offline": [(0, "")],
    }  # fmt: skip
    return events[event]


def _tencent(event: str, version: str, score: float | None) -> list[Any]:
    def error(code: str) -> list[Any]:
        return [(200, {"Response": {"Error": {"Code": code, "Message": "message"}, "RequestId": "r"}})]

    answer = {"Score": 73.5 if score is None else score, "FaceModelVersion": version or "3.0", "RequestId": "r"}
    events: dict[str, list[Any]] = {
        "score": [(200, {"Response": answer})],
        "no-thresholds": [(200, {"Response": answer})],
        "no-score": [(200, {"Response": answer | {"Score": None}})],
        "no-face": error("InvalidParameterValue.NoFaceInPhoto"),
        "throttle": error("RequestLimitExceeded.UinLimitExceeded"),
        "size": error("FailedOperation.FaceSizeTooSmall"),
        "denied": error("AuthFailure.SecretIdNotFound"),
        "offline": [(0, "")],
    }
    return events[event]


def _aliyun(event: str, version: str, score: float | None) -> list[Any]:
    def error(status: int, code: str) -> list[Any]:
        return [(status, {"Code": code, "Message": "message", "RequestId": "r"})]

    data = {"Confidence": 66.5 if score is None else score, "Thresholds": [61.0, 69.0, 75.0],
        "RectAList": [4, 4, 80, 80], "RectBList": [5, 5, 80, 80]}  # fmt: skip
    events: dict[str, list[Any]] = {
        "score": [(200, {"Data": data, "RequestId": "r"})],
        "no-thresholds": [(200, {"Data": data | {"Thresholds": [61.0]}, "RequestId": "r"})],
        "no-score": [(200, {"Data": data | {"Confidence": None}, "RequestId": "r"})],
        "no-face": [(200, {"Data": {"Confidence": 0, "RectAList": [0, 0, 0, 0], "RectBList": []}, "RequestId": "r"})],
        "score without boxes": [(200, {"Data": {"Confidence": 12.5, "RectAList": []}, "RequestId": "r"})],
        "no-face error": [(400, {"Code": "InvalidFile.Content", "Message": "no face in image A", "RequestId": "r"})],
        "throttle": error(400, "Throttling.User"),
        "size": error(400, "InvalidFile.Resolution"),
        "denied": error(403, "InvalidAccessKeyId.NotFound"),
        "offline": [(0, "")],
    }
    return events[event]


SCRIPTS = {"aliyun": _aliyun, "aws": _aws, "azure": _azure, "tencent": _tencent}


@pytest.fixture
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """The stage of the provider that the test names by ``indirect`` parametrisation."""
    played = Stage(request.param, tmp_path / "answers")
    with responses.RequestsMock(assert_all_requests_are_fired=False) as http:
        http.add_callback("POST", re.compile(".*"), played.answer_http, content_type="application/json")
        yield played
    assert not played.answers, "answers that were never asked for"


@pytest.fixture(scope="session")
def photos() -> list[bytes]:
    """Three PNG files of 96 x 96 pixels of noise."""
    return encode_images(np.random.default_rng(0).random((3, 3, 96, 96)))
