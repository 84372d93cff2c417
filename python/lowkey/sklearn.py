"""Classifiers in the style of scikit-learn, answered privately.

    from lowkey.sklearn import LowkeyClassifier
    from sklearn.neural_network import MLPClassifier

    classifier = LowkeyClassifier(MLPClassifier([64]), bits=8).fit(X, y)
    classifier.score(X_test, y_test)                    # the integer network in the clear
    with lowkey.serve(classifier.model) as server, lowkey.Client(server.address) as client:
        classifier.predict_proba(X_test[:5], client=client)  # privately

Needs the packages scikit-learn and onnx.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import numpy.typing as npt

from ._errors import InputError
from ._model import Model
from ._parties import Client
from ._quantise import quantise

Layers = list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]


class LowkeyClassifier:
    """An MLPClassifier (of activation relu or identity) or a LogisticRegression, as a network of small integers.

    After `fit`: `estimator_` is the fitted estimator, `model` the integer network, `classes_` its classes.
    """

    model: Model
    estimator_: Any
    classes_: npt.NDArray[Any]

    def __init__(self, estimator: Any, bits: int = 8) -> None:
        self.estimator = estimator
        self.bits = bits

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """As scikit-learn wants it."""
        return {"estimator": self.estimator, "bits": self.bits}

    def set_params(self, **params: Any) -> LowkeyClassifier:
        """As scikit-learn wants it."""
        for key, value in params.items():
            setattr(self, key, value)
        return self

    def fit(self, x: npt.ArrayLike, y: npt.ArrayLike) -> LowkeyClassifier:
        """Fits the estimator, and makes a network of small integers of it, calibrated on 1,000 of the inputs at most."""
        clone = importlib.import_module("sklearn.base").clone
        inputs = np.ascontiguousarray(x, dtype=np.float32)
        self.estimator_ = clone(self.estimator).fit(inputs, y)
        self.classes_ = np.asarray(self.estimator_.classes_)
        step = max(1, len(inputs) // 1000)
        names = [str(name) for name in self.classes_]
        self.model = quantise(
            _onnx(_layers(self.estimator_)), inputs[::step], bits=self.bits, classes=names, name=type(self.estimator_).__name__
        )
        return self

    def predict(self, x: npt.ArrayLike, client: Client | None = None) -> npt.NDArray[Any]:
        """Classes: of the integer network in the clear, or privately by a client of its server."""
        self._fitted()
        inputs = np.ascontiguousarray(x, dtype=np.float32)
        if client is None:
            found, _ = self.model.predict_many(inputs)
        else:
            found = np.array([answer.index for answer in client.infer_many(inputs)], dtype=np.int64)
        classes: npt.NDArray[Any] = self.classes_[found]
        return classes

    def predict_proba(self, x: npt.ArrayLike, client: Client | None = None) -> npt.NDArray[np.float64]:
        """Probabilities of the classes, likewise."""
        self._fitted()
        inputs = np.ascontiguousarray(x, dtype=np.float32)
        if client is None:
            answers = [self.model.predict(one) for one in inputs]
        else:
            answers = client.infer_many(inputs)
        return np.stack([_probabilities(answer.probabilities) for answer in answers])

    def score(self, x: npt.ArrayLike, y: npt.ArrayLike) -> float:
        """Accuracy of the integer network in the clear."""
        return float(np.mean(self.predict(x) == np.asarray(y)))

    def _fitted(self) -> None:
        if not hasattr(self, "model"):
            raise InputError("a classifier that is not fitted", "call fit(X, y) first")


def _probabilities(found: npt.NDArray[np.float64] | None) -> npt.NDArray[np.float64]:
    if found is None:
        raise InputError("the class alone was revealed", "connect with reveal='logits'")
    return found


def _layers(estimator: Any) -> Layers:
    """Weights ([out, in]) and biases; ReLU between them. Two classes have two outputs."""
    kind = type(estimator).__name__
    if kind == "MLPClassifier":
        if estimator.activation not in ("relu", "identity") or (estimator.activation == "identity" and estimator.n_layers_ > 3):
            raise InputError(f"an MLPClassifier with activation {estimator.activation!r}", "fit one with activation='relu'")
        layers = [(weights.T, bias) for weights, bias in zip(estimator.coefs_, estimator.intercepts_)]
        if estimator.activation == "identity":
            weights, bias = layers[0]
            for later, shift in layers[1:]:
                weights, bias = later @ weights, later @ bias + shift
            layers = [(weights, bias)]
    elif kind == "LogisticRegression":
        layers = [(estimator.coef_, estimator.intercept_)]
    else:
        raise InputError(f"a {kind}", "give an MLPClassifier or a LogisticRegression")
    weights, bias = layers[-1]
    if len(bias) == 1:
        # sigmoid(z) = softmax(0, z)
        layers[-1] = (np.concatenate([np.zeros_like(weights), weights]), np.concatenate([np.zeros_like(bias), bias]))
    return [(np.asarray(w, np.float32), np.asarray(b, np.float32)) for w, b in layers]


def _onnx(layers: Layers) -> bytes:
    onnx = importlib.import_module("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    nodes, constants, last = [], [], "input"
    for number, (weights, bias) in enumerate(layers):
        constants += [
            numpy_helper.from_array(np.ascontiguousarray(weights), f"weights{number}"),
            numpy_helper.from_array(np.ascontiguousarray(bias), f"bias{number}"),
        ]
        nodes.append(
            helper.make_node("Gemm", [last, f"weights{number}", f"bias{number}"], [f"sum{number}"], f"dense{number}", transB=1)
        )
        last = f"sum{number}"
        if number + 1 < len(layers):
            nodes.append(helper.make_node("Relu", [last], [f"relu{number}"], f"relu{number}"))
            last = f"relu{number}"
    real = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("input", real, [1, layers[0][0].shape[1]])],
        [helper.make_tensor_value_info(last, real, [1, len(layers[-1][1])])],
        constants,
    )
    data: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    return data
