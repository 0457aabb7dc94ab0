"""What a commercial face service makes of protected photographs, asked at a stand-in on this machine.

The adapter is the real one for Amazon Rekognition (extra ``aws``). It is sent to an address on this machine, where a
small server compares pictures; rendered heads take the place of people. To ask the service itself, leave out the part
"The stand-in", set your own credentials, photographs and consent, and look up today's price.
"""

import base64
import json
import os
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import cv2
import numpy as np
import torch

from evaluation import korn_graubard
from evaluation.services import Spending, encode_images, service
from faces.samples import five_points
from faces.synthetic import generate
from protectors.registry import make_protector


# %% The stand-in: answers CompareFaces with how alike two pictures are, 0 to 100.
def likeness(first: str, second: str) -> float:
    """Correlation of two encoded pictures, reduced to 24 x 24 grey samples, as a percentage."""
    rows = []
    for text in (first, second):
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_GRAYSCALE)
        if picture is None:
            raise ValueError("a picture cannot be decoded; send JPEG or PNG.")
        rows.append(cv2.resize(picture, (24, 24), interpolation=cv2.INTER_AREA).ravel())
    return 100 * max(0.0, float(np.corrcoef(rows[0], rows[1])[0, 1]))


class StandIn(BaseHTTPRequestHandler):
    """One operation of the service."""

    def do_POST(self) -> None:
        """Compare the two pictures of a request."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        score = likeness(asked["SourceImage"]["Bytes"], asked["TargetImage"]["Bytes"])
        answer = json.dumps({"FaceMatches": [{"Similarity": score}], "UnmatchedFaces": []}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nothing: images and their hashes do not belong on a terminal."""


server = HTTPServer(("127.0.0.1", 0), StandIn)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ["AWS_ENDPOINT_URL_REKOGNITION"] = f"http://127.0.0.1:{server.server_port}"
os.environ |= {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "eu-west-1"}

# %% People, and a protector whose work is judged.
faces = generate(12, 1, size=112, seed=3, first_identity=9_000_000)
photos = faces.images.float() / 255
protector = make_protector("pixelate:cells=6")
protected = protector.protect(photos, five_points(faces.landmarks), faces.identity, torch.Generator().manual_seed(0))

# %% The service: consent is required, no more requests are sent than are paid for, and answers are kept.
with tempfile.TemporaryDirectory() as folder:
    spending = Spending(max_calls=60, price_per_call=0.001)
    asked = service("aws", consent="Rendered heads, nobody's face, 2026-11-30", budget=spending, cache_dir=Path(folder))
    known = encode_images(photos)
    shown = {"clean": photos, "protected": protected}
    # A photograph that was uploaded elsewhere comes back compressed.
    answers = {name: asked.compare(known, encode_images(images, "jpeg", quality=75)) for name, images in shown.items()}
    # Strangers set the threshold, for this provider states no false match rate.
    strangers = asked.compare(known, encode_images(photos.roll(1, dims=0)))
    print(f"{spending.calls} requests, {spending.spent:.3f} spent")

# %% Who is matched better than every pair of strangers. "no-face" is an answer of its own, never a non-match.
threshold = max(answer.score for answer in strangers if answer.score is not None)
for name, found in answers.items():
    hits = [float(answer.score is not None and answer.score > threshold) for answer in found]
    share = korn_graubard(hits, faces.identity)
    lost = sum(answer.outcome != "scored" for answer in found)
    # Pixels of this size keep the coarse light and dark, which is all that the stand-in looks at.
    print(f"{name}: {share.value:.2f} recognised ({share.low:.2f} to {share.high:.2f}), {lost} without a score")
server.shutdown()
server.server_close()
