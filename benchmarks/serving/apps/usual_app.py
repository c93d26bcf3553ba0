"""The usual student service: everything inside an `async def`, Pillow, eager torch; its threads are set to one."""

import io
import os

import numpy as np
import torch
from fastapi import FastAPI, File, UploadFile
from PIL import Image
from resnet18 import load

torch.set_num_threads(1)
model = load(os.environ["SERVING_WEIGHTS"])
MEAN, STD = np.array([123.7, 116.3, 103.5]), np.array([58.4, 57.1, 57.4])
app = FastAPI()


@app.post("/predict")
async def predict(file: UploadFile = File(...)):  # noqa: B008 - as everybody writes it
    image = Image.open(io.BytesIO(await file.read())).convert("RGB").resize((224, 224))
    array = (np.array(image) - MEAN) / STD
    tensor = torch.from_numpy(array.transpose(2, 0, 1)).float().unsqueeze(0)
    with torch.no_grad():
        probabilities = torch.softmax(model(tensor)[0], dim=0)
    return {"class": int(probabilities.argmax()), "probabilities": probabilities.tolist()}


@app.get("/ready")
async def ready():
    return {"status": "ready"}
