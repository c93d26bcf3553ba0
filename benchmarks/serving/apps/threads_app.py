"""FastAPI with a plain `def`, so that it runs on the thread pool; torch in its best eager form, on one thread."""

import os

import torch
from fastapi import FastAPI, File, UploadFile
from prepared import answer, prepared
from resnet18 import load

torch.set_num_threads(1)
torch.set_num_interop_threads(1)
model = load(os.environ["SERVING_WEIGHTS"]).to(memory_format=torch.channels_last)
app = FastAPI()


@app.post("/predict")
def predict(file: UploadFile = File(...)):  # noqa: B008 - as everybody writes it
    tensor = torch.from_numpy(prepared(file.file.read())).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        logits = model(tensor)[0].numpy()
    return answer(logits)


@app.get("/ready")
def ready():
    return {"status": "ready"}
