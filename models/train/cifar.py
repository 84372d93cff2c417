"""CIFAR-10 as arrays. `LOWKEY_DATA=<folder> python3 -m train.cifar <out>` writes the test set as .npy files into the folder <out>.

It is read from the zips of PNG files in <folder>/cifar10: {train,test}/<class>/<name>.png, the label being the rank of the class
in alphabetical order, which is the official one. Images are in the order of the zips' directories (by class); the order of the
original batches is not known.
"""

import io
import pathlib
import sys
import zipfile

import numpy as np
from PIL import Image

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def read(path):
    """(images [N, 3, 32, 32] of bytes, labels [N] of bytes) of one zip."""
    images, labels = [], []
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".png"):
                images.append(np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")).transpose(2, 0, 1))
                labels.append(CLASSES.index(name.split("/")[-2]))
    return np.stack(images), np.array(labels, np.uint8)


def train(folder):
    """(images, labels) of the 50,000 training images; `folder` holds cifar10/."""
    parts = [read(folder / "cifar10" / f"train-{i}of5.zip") for i in range(1, 6)]
    return np.concatenate([images for images, _ in parts]), np.concatenate([labels for _, labels in parts])


def test(folder):
    """(images, labels) of the 10,000 test images; `folder` holds cifar10/."""
    return read(folder / "cifar10" / "test.zip")


def main():
    from .data import folder

    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    images, labels = test(folder())
    np.save(out / "cifar10-test-images.npy", images)
    np.save(out / "cifar10-test-labels.npy", labels)


if __name__ == "__main__":
    main()
