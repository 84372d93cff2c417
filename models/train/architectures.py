"""The architectures of the zoo, each as a list of layers: a linear node and what follows it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """A convolution or a matrix, batch normalisation (folded later), an activation unless it is the last, and a pool.

    `skip` adds an earlier tensor before the activation, by how many layers back it lies: 2 means the input of the layer before
    this one. Where its shape is another one, a 1x1 convolution with a stride brings it to the right one.
    """

    kind: str
    """"conv" or "dense"."""
    outputs: int
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    pool: tuple = None
    """("max", k), ("avg", k) or ("sum", k): windows of k x k, side by side."""
    skip: int = None


def conv(outputs, kernel, stride=1, padding=0, pool=None, skip=None):
    return Layer("conv", outputs, kernel, stride, padding, pool, skip)


def dense(outputs):
    return Layer("dense", outputs)


def resnet(blocks, widths):
    """He et al. 2016, section 4.2: three stages of `blocks` blocks of two convolutions; the first block of a stage halves the image."""
    layers = [conv(widths[0], 3, padding=1)]
    for stage, width in enumerate(widths):
        for block in range(blocks):
            layers.append(conv(width, 3, stride=2 if stage > 0 and block == 0 else 1, padding=1))
            layers.append(conv(width, 3, padding=1, skip=2))
    layers[-1] = conv(widths[-1], 3, padding=1, skip=2, pool=("sum", 8))
    return layers + [dense(10)]


#: Optical digits, 1x8x8.
DIGITS = [conv(8, 3, padding=1, pool=("max", 2)), conv(16, 3, padding=1, pool=("max", 2)), dense(10)]
#: MNIST, MiniONN (Liu et al. 2017, figure 12).
MNIST_MINIONN = [conv(16, 5, pool=("max", 2)), conv(16, 5, pool=("max", 2)), dense(100), dense(10)]
#: MNIST, HCNN (Badawi et al. 2018), ReLU instead of squares.
MNIST_HCNN = [conv(5, 5, stride=2), conv(50, 5, stride=2), dense(10)]
#: MNIST, like CryptoNets (Gilad-Bachrach et al. 2016), ReLU instead of squares.
MNIST_CRYPTONETS = [conv(5, 5, stride=2, padding=1), dense(100), dense(10)]
#: CIFAR-10, MiniONN (Liu et al. 2017, figure 13).
CIFAR_MINIONN = [
    conv(64, 3, padding=1),
    conv(64, 3, padding=1, pool=("avg", 2)),
    conv(64, 3, padding=1),
    conv(64, 3, padding=1, pool=("avg", 2)),
    conv(64, 3, padding=1),
    conv(64, 1),
    conv(16, 1),
    dense(10),
]
#: CIFAR-10, ResNet-20 (He et al. 2016).
CIFAR_RESNET20 = resnet(3, [16, 32, 64])
