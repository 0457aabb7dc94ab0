"""Tencent Cloud face recognition through tencentcloud-sdk-python-iai."""

from __future__ import annotations

import base64
from typing import Any

from evaluation.errors import EvaluationError
from evaluation.services.base import Answer, FaceService, environment
from evaluation.services.images import Limits

# The answer holds no thresholds; these are constants of the documentation of each model.
_THRESHOLDS = {
    "3.0": {1e-3: 40.0, 1e-4: 50.0, 1e-5: 60.0},
    "2.0": {1e-3: 70.0, 1e-4: 80.0, 1e-5: 90.0},
}
_SOURCE = "documentation of CompareFaceResponse.Score in tencentcloud-sdk-python-iai 3.1.191, read 2026-11-25"


class Tencent(FaceService):
    """CompareFace of Tencent Cloud; score 0..100, thresholds by false match rate from the documentation.

    The face found with most confidence in each image counts; images are not filtered by quality.

    Credentials: the package's default chain (TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY, its profile file, the
    role of the machine). Region: the variable TENCENTCLOUD_REGION. Limits and codes: the same package, which states
    5 MB *after* base64, that is 3.75 MB of file.
    """

    provider = "tencent"
    call = "CompareFace QualityControl=0"
    default_version = "3.0"
    limits = Limits(min_side_px=64, max_bytes=5 * 1024**2 * 3 // 4, max_side_px=(("jpeg", 4000), ("png", 2000)))
    sdk_logger = "tencentcloud_sdk_common"
    throttle_codes = ("RequestLimitExceeded", "FailedOperation.RequestLimitExceeded")
    no_face_codes = ("InvalidParameterValue.NoFaceInPhoto", "FailedOperation.ImageFacedetectFailed")
    size_codes = (
        "FailedOperation.FaceSizeTooSmall",
        "FailedOperation.ImageResolutionExceed",
        "FailedOperation.ImageResolutionTooSmall",
        "FailedOperation.ImageSizeExceed",
    )

    def _connect(self) -> tuple[Any, tuple[type[Exception], ...]]:
        from tencentcloud.common.credential import DefaultCredentialProvider
        from tencentcloud.common.exception import TencentCloudSDKException
        from tencentcloud.iai.v20200303.iai_client import IaiClient

        region = environment("TENCENTCLOUD_REGION", "the region that is to receive the photographs")
        try:
            credential = DefaultCredentialProvider().get_credential()
        except (TencentCloudSDKException, OSError) as error:
            raise EvaluationError(
                f"tencent cannot be used ({error}); set TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY."
            ) from error
        return IaiClient(credential, region), (TencentCloudSDKException,)

    def _describe(self, error: Exception) -> tuple[str, str]:
        return str(getattr(error, "code", type(error).__name__)), str(getattr(error, "message", error))

    def _ask(self, first: bytes, second: bytes) -> Answer:
        from tencentcloud.iai.v20200303.models import CompareFaceRequest

        request = CompareFaceRequest()
        request.ImageA = base64.b64encode(first).decode()
        request.ImageB = base64.b64encode(second).decode()
        request.FaceModelVersion = self.model_version
        request.QualityControl = 0
        answer = self._send(lambda: self._client.CompareFace(request))
        self._check_version(answer.FaceModelVersion)
        thresholds = _THRESHOLDS.get(self.model_version)
        return Answer("scored", self._check_score(answer.Score), thresholds, _SOURCE if thresholds else None)
