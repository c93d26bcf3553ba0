"""Ray Serve with one replica and batching: decoding and ONNX Runtime on one thread."""

import os
import sys
import time
from pathlib import Path

import numpy as np
import ray
from prepared import answer, prepared, session
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.5})
class ResNet:
    def __init__(self) -> None:
        self.session, self.input, self.output = session(os.environ["SERVING_ONNX"])

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.0)
    async def infer(self, batches: list) -> list:
        return list(self.session.run([self.output], {self.input: np.concatenate(batches)})[0])

    async def __call__(self, request: Request):
        if request.method == "GET":
            return {"status": "ready"}
        form = await request.form()
        return answer(await self.infer(prepared(await form["file"].read())))


if __name__ == "__main__":
    here = str(Path(__file__).resolve().parent)
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
        runtime_env={"env_vars": {"PYTHONPATH": here, "SERVING_ONNX": os.environ["SERVING_ONNX"]}},
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(ResNet.bind(), route_prefix="/predict")
    while True:
        time.sleep(3600)
