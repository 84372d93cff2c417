"""A network of one's own: trained in PyTorch, quantised by ONNX Runtime, ready for `lowkey import`.

Trains on the digits that come with Lowkey, from the top of the repository; writes float.onnx and mine.onnx, and image.png and
inputs.npy to try them on.
"""

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from PIL import Image

torch.manual_seed(0)
images = torch.tensor(np.load("models/zoo/digits-images.npy")).float() / 15
labels = torch.tensor(np.load("models/zoo/digits-labels.npy")).long()

net = torch.nn.Sequential(
    torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(72, 10)
)
optimizer = torch.optim.Adam(net.parameters(), 1e-2)
for step in range(200):
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(net(images), labels)
    loss.backward()
    optimizer.step()
print(f"loss {loss.item():.3f}")
torch.onnx.export(net.eval(), (images[:1],), "float.onnx", input_names=["input"])


class Calibration(CalibrationDataReader):
    """What the scales of the activations are chosen from."""

    def __init__(self):
        self.images = iter(images[:100])

    def get_next(self):
        image = next(self.images, None)
        return None if image is None else {"input": image[None].numpy()}


quantize_static("float.onnx", "mine.onnx", Calibration())
np.save("inputs.npy", images.numpy())
Image.fromarray((images[0, 0] * 255).byte().numpy()).save("image.png")
