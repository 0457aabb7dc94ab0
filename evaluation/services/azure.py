"""Azure AI Face through azure-ai-vision-face."""

from __future__ import annotations

import json
import math
from typing import Any

from evaluation.services.base import Answer, FaceService, environment, sha256
from evaluation.services.images import Limits

# Seconds for which Azure keeps the features of a face; short, because they are features of a person.
_FACE_KEPT_S = 3600
_MARGIN_S = 60


class Azure(FaceService):
    """Detect and Verify of Azure AI Face; confidence 0..1, no false match rates stated (0.5 is called identical).

    One comparison takes up to three requests: the largest face of each image is detected, then both are verified. A
    detected face is used again for an hour, so one image against N takes 2N + 1 requests.

    Endpoint and key: the variables AZURE_FACE_API_ENDPOINT and AZURE_FACE_API_ACCOUNT_KEY, which the samples of the
    package use. Verification is Limited Access: Microsoft must have approved the account. Limits: reference of the
    Detect operation and Face error codes.
    """

    provider = "azure"
    call = "Detect detection_03, VerifyFaceToFace"
    default_version = "recognition_04"
    limits = Limits(min_side_px=36, min_bytes=1024, max_bytes=6 * 1024**2)
    sdk_logger = "azure"
    throttle_codes = ("429",)
    size_codes = ("InvalidImageSize",)

    def _connect(self) -> tuple[Any, tuple[type[Exception], ...]]:
        from azure.ai.vision.face import FaceClient
        from azure.core.credentials import AzureKeyCredential
        from azure.core.exceptions import AzureError

        # With a slash at its end, the address of each operation would hold two.
        endpoint = environment("AZURE_FACE_API_ENDPOINT", "the address of your Face resource").rstrip("/")
        key = environment("AZURE_FACE_API_ACCOUNT_KEY", "the key of your Face resource")
        self._faces: dict[str, tuple[str | None, float]] = {}
        # The package decodes an error as JSON without asking whether it is JSON.
        return FaceClient(endpoint, AzureKeyCredential(key), retry_total=0), (AzureError, json.JSONDecodeError)

    def _describe(self, error: Exception) -> tuple[str, str]:
        status = getattr(error, "status_code", None)
        stated = getattr(getattr(error, "model", None), "error", None)
        code, text = getattr(stated, "code", None), getattr(stated, "message", None)
        if status in (403, 429):
            return str(status), f"{code}, {text}"
        return code or type(error).__name__, text or str(error)

    def _advice(self, code: str) -> str:
        if code == "403":
            return (
                "face verification on Azure is Limited Access: apply for it in Microsoft's Face Recognition intake "
                "form, and use the resource that was approved."
            )
        return super()._advice(code)

    def _ask(self, first: bytes, second: bytes) -> Answer:
        faces = []
        for image in (first, second):
            face = self._detect(image)
            if face is None:
                return Answer("no-face")
            faces.append(face)
        verdict = self._send(lambda: self._client.verify_face_to_face(face_id1=faces[0], face_id2=faces[1]))
        return Answer("scored", self._check_score(verdict.get("confidence")))

    def _detect(self, image: bytes) -> str | None:
        """Identifier of the largest face, None if there is none."""
        now, name = self._clock(), sha256(image)
        known, until = self._faces.get(name, (None, now))
        if now < until:
            return known
        found = self._send(
            lambda: self._client.detect(
                image,
                detection_model="detection_03",
                recognition_model=self.model_version,
                return_face_id=True,
                return_recognition_model=True,
                face_id_time_to_live=_FACE_KEPT_S,
            )
        )
        if not found:
            self._faces[name] = (None, math.inf)
            return None
        self._check_version(found[0].get("recognitionModel"))
        face = str(found[0]["faceId"])
        self._faces[name] = (face, now + _FACE_KEPT_S - _MARGIN_S)
        return face
