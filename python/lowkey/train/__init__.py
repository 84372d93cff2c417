"""Training of networks of small integers, in torch.

    import lowkey.train

    model = lowkey.train.fit(module, (X, y), bits=4)
    print(model.evaluate(X_test, y_test))
    with lowkey.serve(model) as server, lowkey.Client(server.address) as client:
        print(client.infer(X_test[0]).label)

A module is trained in floats first, then taken apart (`trace`), its batch normalisation folded, its weights and activations quantised
(`quantise`) and training goes on in the very integers of the private network (`layers`), the float module being the teacher
(`loop`). What comes out (`export`) equals the trained network bit for bit. Needs the package torch: `pip install './python[train]'`.
"""

import importlib.util as _util

for _package in ("torch", "safetensors"):
    if _util.find_spec(_package) is None:
        raise ModuleNotFoundError(
            f"lowkey.train needs the package {_package}: pip install './python[train]' in a clone of the repository", name=_package
        )

from .fit import Trained, TrainedLayer, fit  # noqa: E402
from .loop import Epoch  # noqa: E402

__all__ = ["Epoch", "Trained", "TrainedLayer", "fit"]
