#!/usr/bin/env python3
"""Images of a zip archive with a folder for each class as images.npy and labels.npy, for `lowkey train --net head`.

    pictures.py ARCHIVE [COUNT] [BITS]     COUNT images of each class (200), the upper BITS bits of each pixel (5)

Needs numpy and pillow. Classes are numbered in the order of their names, images are the first ones by name.
"""

import io
import sys
import zipfile

import numpy as np
from PIL import Image


def main(archive, count=200, bits=5):
    files = zipfile.ZipFile(archive)
    classes = {}
    for name in sorted(name for name in files.namelist() if name.endswith(".png")):
        classes.setdefault(name.split("/")[-2], []).append(name)
    chosen = [(label, name) for label, (_, names) in enumerate(sorted(classes.items())) for name in names[:count]]
    images = [np.asarray(Image.open(io.BytesIO(files.read(name))).convert("RGB")) for _, name in chosen]
    np.save("images.npy", np.stack(images).transpose(0, 3, 1, 2) >> (8 - bits))
    np.save("labels.npy", np.array([label for label, _ in chosen], np.uint8))
    print(f"{len(chosen)} images of {len(classes)} classes")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:4]))
