"""Alibaba Cloud (Aliyun) Face and Body through alibabacloud-facebody20191230."""

from __future__ import annotations

import base64
import re
from typing import Any

from evaluation.services.base import Answer, FaceService
from evaluation.services.images import Limits

# False match rates of the three thresholds in an answer.
_RATES = (1e-3, 1e-4, 1e-5)
_NO_FACE = re.compile(
    r"no[\s_]*(human[\s_]*)?face|face.{0,20}not.{0,4}(found|detected)|(未|没有).{0,6}人脸", re.I | re.S
)


class Aliyun(FaceService):
    """CompareFace of Alibaba Cloud Face and Body; confidence 0..100, thresholds by false match rate in each answer.

    The largest face of each image counts. The service does not name its model, so the version is that of the
    interface. Its list of codes names none for an image without a face: an answer without a score and without the box
    of a face counts as "no-face", and so does an error that says it in words.

    Credentials: the package's default chain (ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, its
    profile files, the role of the machine). The service exists in Shanghai only. Limits: faces of at least 64 x 64
    pixels, files of at most 5 MB.
    """

    provider = "aliyun"
    call = "CompareFace"
    default_version = "2019-12-30"
    limits = Limits(min_side_px=64, max_bytes=5 * 1024**2)
    sdk_logger = "alibabacloud-tea"
    throttle_codes = ("Throttling",)
    size_codes = ("InvalidFile.Resolution", "InvalidFile.Size")

    def _connect(self) -> tuple[Any, tuple[type[Exception], ...]]:
        from alibabacloud_credentials.client import Client as Credentials
        from alibabacloud_facebody20191230.client import Client
        from alibabacloud_tea_openapi.models import Config
        from Tea.exceptions import TeaException

        config = Config(credential=Credentials(), region_id="cn-shanghai", endpoint="facebody.cn-shanghai.aliyuncs.com")
        return Client(config), (TeaException,)

    def _describe(self, error: Exception) -> tuple[str, str]:
        return str(getattr(error, "code", None) or type(error).__name__), str(getattr(error, "message", error))

    def _says_no_face(self, code: str, text: str) -> bool:
        return _NO_FACE.search(f"{code} {text}") is not None

    def _ask(self, first: bytes, second: bytes) -> Answer:
        from alibabacloud_facebody20191230.models import CompareFaceRequest

        request = CompareFaceRequest(
            image_data_a=base64.b64encode(first).decode(), image_data_b=base64.b64encode(second).decode()
        )
        data = self._send(lambda: self._client.compare_face(request)).body.data
        if data is not None and not data.confidence and not (any(data.rect_alist or ()) and any(data.rect_blist or ())):
            return Answer("no-face")
        score = self._check_score(None if data is None else data.confidence)
        stated = data.thresholds or ()
        # Another number of thresholds could not be assigned to false match rates.
        if len(stated) != len(_RATES):
            return Answer("scored", score)
        return Answer(
            "scored", score, {rate: float(value) for rate, value in zip(_RATES, stated, strict=True)}, "answer"
        )
