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

from .fit import Trained, TrainedLayer, fit
from .loop import Epoch

__all__ = ["Epoch", "Trained", "TrainedLayer", "fit"]
