"""Amazon Rekognition through boto3."""

from __future__ import annotations

from typing import Any

from evaluation.errors import EvaluationError
from evaluation.services.base import Answer, FaceService
from evaluation.services.images import Limits


class Aws(FaceService):
    """CompareFaces of Amazon Rekognition; similarity 0..100, no false match rates stated.

    The threshold is 0 and no face is filtered out, since the default threshold of 80 would hide every lower score.
    If the second image shows several faces, the most similar one counts, as an attacker would have it. Rekognition does
    not name its model, so the version is that of the interface. It answers InvalidParameterException, the code that its
    documentation gives for "no face", to images that are too small as well, which is why those are never sent.

    Region and credentials: boto3's usual environment variables and files. Limits: guidelines and quotas of the
    developer guide, and the service model of botocore 1.44.
    """

    provider = "aws"
    call = "CompareFaces SimilarityThreshold=0 QualityFilter=NONE"
    default_version = "2016-06-27"
    limits = Limits(min_side_px=80, max_bytes=5 * 1024**2)
    sdk_logger = "botocore"
    throttle_codes = ("ThrottlingException", "ProvisionedThroughputExceededException")
    no_face_codes = ("InvalidParameterException",)
    size_codes = ("ImageTooLargeException",)

    def _connect(self) -> tuple[Any, tuple[type[Exception], ...]]:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            client = boto3.client("rekognition", config=Config(retries={"total_max_attempts": 1, "mode": "standard"}))
        except BotoCoreError as error:
            raise EvaluationError(f"aws cannot be used ({error}); set AWS_DEFAULT_REGION or a profile.") from error
        return client, (ClientError, BotoCoreError)

    def _describe(self, error: Exception) -> tuple[str, str]:
        stated = getattr(error, "response", {}).get("Error", {})
        return stated.get("Code", type(error).__name__), stated.get("Message", str(error))

    def _ask(self, first: bytes, second: bytes) -> Answer:
        answer = self._send(
            lambda: self._client.compare_faces(
                SourceImage={"Bytes": first},
                TargetImage={"Bytes": second},
                SimilarityThreshold=0.0,
                QualityFilter="NONE",
            )
        )
        matches = answer.get("FaceMatches", [])
        if not matches and not answer.get("UnmatchedFaces"):
            return Answer("no-face")
        # With a threshold of 0 every face is a "match"; a face without a score would be an incomplete answer.
        scores = [match["Similarity"] for match in matches if match.get("Similarity") is not None]
        return Answer("scored", self._check_score(max(scores, default=None)))
