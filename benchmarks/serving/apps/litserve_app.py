"""LitServe with batching: decoding in its worker, the bundle's network in ONNX Runtime on one thread."""

import os
import sys

import litserve
import numpy as np
from prepared import answer, prepared, session


class Api(litserve.LitAPI):
    def setup(self, device):
        self.session, self.input, self.output = session(os.environ["SERVING_ONNX"])

    def decode_request(self, request):
        return prepared(request["file"].file.read())[0]

    def batch(self, inputs):
        return np.stack(inputs)

    def predict(self, x):
        x = x if x.ndim == 4 else x[None]
        return self.session.run([self.output], {self.input: x})[0]

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return answer(np.squeeze(output))


if __name__ == "__main__":
    api = Api(max_batch_size=8, batch_timeout=0.002)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
