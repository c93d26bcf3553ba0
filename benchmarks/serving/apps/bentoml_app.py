"""BentoML, one worker: decoding and ONNX Runtime on one thread; without its adaptive batching, which drops requests."""

import os
from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType
from prepared import answer, prepared, session


@bentoml.service(workers=1, traffic={"timeout": 60})
class ResNet:
    def __init__(self) -> None:
        self.session, self.input, self.output = session(os.environ["SERVING_ONNX"])

    @bentoml.api(route="/predict")
    def predict(self, file: Annotated[Path, ContentType("image/jpeg")]) -> dict:
        batch = prepared(Path(file).read_bytes())
        return answer(self.session.run([self.output], {self.input: batch})[0][0])
