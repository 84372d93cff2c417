"""Classifiers in the style of scikit-learn, answered privately.

    from lowkey.sklearn import LowkeyClassifier
    from sklearn.neural_network import MLPClassifier

    classifier = LowkeyClassifier(MLPClassifier([64]), bits=8).fit(X, y)
    classifier.score(X_test, y_test)                    # the integer network in the clear
    with lowkey.serve(classifier.model) as server, lowkey.Client(server.address) as client:
        classifier.predict_proba(X_test[:5], client=client)  # privately

Needs the packages scikit-learn (1.6 or later) and onnx.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import numpy.typing as npt

from ._checks import whole
from ._errors import InputError
from ._model import Model
from ._parties import Client
from ._quantise import quantise

Layers = list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]

_base: Any = importlib.import_module("sklearn.base")
_exceptions: Any = importlib.import_module("sklearn.exceptions")
_validation: Any = importlib.import_module("sklearn.utils.validation")


class NotFitted(InputError, _exceptions.NotFittedError):  # type: ignore[misc]
    """A classifier that was asked before `fit`."""


class LowkeyClassifier(_base.ClassifierMixin, _base.BaseEstimator):  # type: ignore[misc]
    """An MLPClassifier (of activation relu or identity) or a LogisticRegression, as a network of small integers.

    A classifier as any other of scikit-learn: in a pipeline, in cross_val_score, in GridSearchCV (`estimator__alpha` is a parameter of
    the estimator), copied, pickled. One label for each input; of several it says that it has no network for them. After `fit`:
    `estimator_` is the fitted estimator, `model` (and `model_`) the integer network, `classes_` its classes.
    """

    model_: Model
    estimator_: Any
    classes_: npt.NDArray[Any]

    def __init__(self, estimator: Any, bits: int = 8) -> None:
        self.estimator = estimator
        self.bits = bits

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None) -> LowkeyClassifier:
        """Fits a copy of the estimator, and makes a network of small integers of it, calibrated on 1,000 of the inputs at most.

        X: [n, features]. y: [n]. sample_weight: [n], for the estimator, which has to know of weights; the calibration weighs all alike.

        Raises InputError for several labels of an input, one class alone, and an estimator that is no such network.
        """
        bits = whole("bits", self.bits, 2, 8)
        _known(self.estimator)
        inputs, labels = _fitting(self, X, y)
        options = {}
        if sample_weight is not None:
            if not _validation.has_fit_parameter(self.estimator, "sample_weight"):
                raise InputError(
                    f"sample_weight, and this {type(self.estimator).__name__} takes none", "leave it out, or take a newer scikit-learn"
                )
            options["sample_weight"] = sample_weight
        estimator = _base.clone(self.estimator).fit(inputs, labels, **options)
        classes = np.asarray(estimator.classes_)
        layers = _layers(estimator)
        step = max(1, len(inputs) // 1000)
        names = [str(name) for name in classes]
        self.model_ = quantise(_onnx(layers), inputs[::step], bits=bits, classes=names, name=type(estimator).__name__)
        self.estimator_, self.classes_ = estimator, classes
        return self

    def predict(self, X: npt.ArrayLike, client: Client | None = None) -> npt.NDArray[Any]:
        """Classes, [n]: of the integer network in the clear, or privately by a client of its server."""
        inputs = self._inputs(X)
        if client is None:
            found, _ = self.model.predict_many(inputs)
        else:
            found = np.array([answer.index for answer in client.infer_many(inputs)], dtype=np.int64)
        classes: npt.NDArray[Any] = self.classes_[found]
        return classes

    def predict_proba(self, X: npt.ArrayLike, client: Client | None = None) -> npt.NDArray[np.float64]:
        """Probabilities of the classes, [n, classes], likewise."""
        inputs = self._inputs(X)
        if client is None:
            answers = [self.model.predict(one) for one in inputs]
        else:
            answers = client.infer_many(inputs)
        return np.stack([_probabilities(answer.probabilities) for answer in answers])

    @property
    def model(self) -> Model:
        """The integer network, to be served."""
        self._fitted()
        return self.model_

    def _fitted(self) -> None:
        if not hasattr(self, "model_"):
            raise NotFitted("a classifier that is not fitted", "call fit(X, y) first")

    def _inputs(self, X: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """What the network reads, [n, features]: as many, and of the same names, as in `fit`."""
        self._fitted()
        inputs: npt.NDArray[np.float32] = _checked(self, X, reset=False)
        return inputs


def _checked(classifier: LowkeyClassifier, X: npt.ArrayLike, y: npt.ArrayLike | str = "no_validation", reset: bool = True) -> Any:
    """By scikit-learn, with its messages."""
    try:
        if not isinstance(y, str) and y is not None:
            importlib.import_module("sklearn.utils.multiclass").check_classification_targets(y)
        return _validation.validate_data(classifier, X, y, reset=reset, dtype=np.float32, order="C")
    except ValueError as error:
        raise InputError(str(error), "give an array of numbers, [n, features]") from error


def _fitting(classifier: LowkeyClassifier, X: npt.ArrayLike, y: npt.ArrayLike) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any]]:
    """Inputs, [n, features], and the one label of each, [n]."""
    shape = np.asarray(y).shape
    if len(shape) == 2 and shape[1] > 1:
        raise InputError(
            f"labels of shape {shape}: several for each input", "give one for each, [n]; y.argmax(1) of rows of zeros and a one"
        )
    inputs, labels = _checked(classifier, X, y)
    return inputs, labels


def _probabilities(found: npt.NDArray[np.float64] | None) -> npt.NDArray[np.float64]:
    if found is None:
        raise InputError("the class alone was revealed", "connect with reveal='logits'")
    return found


def _known(estimator: Any) -> None:
    """Refuses, before it is fitted, what is no such network."""
    kind = type(estimator).__name__
    if kind not in ("MLPClassifier", "LogisticRegression"):
        raise InputError(f"a {kind}", "give an MLPClassifier or a LogisticRegression")
    if kind == "MLPClassifier" and estimator.activation not in ("relu", "identity"):
        raise InputError(f"an MLPClassifier with activation {estimator.activation!r}", "take activation='relu' or 'identity'")


def _layers(estimator: Any) -> Layers:
    """Weights ([out, in]) and biases of what is fitted; ReLU between them. Two classes have two outputs: the softmax is the answer."""
    classes = len(estimator.classes_)
    if classes < 2:
        raise InputError(f"labels of one class, {estimator.classes_.tolist()}", "fit it on two classes or more")
    if type(estimator).__name__ == "MLPClassifier":
        weights = [one.T.astype(np.float64) for one in estimator.coefs_]
        layers = list(zip(weights, (one.astype(np.float64) for one in estimator.intercepts_), strict=True))
        if estimator.activation == "identity":
            # Layers with nothing between them are one.
            product, sums = layers[0]
            for later, shift in layers[1:]:
                product, sums = later @ product, later @ sums + shift
            layers = [(product, sums)]
        outputs = "softmax" if classes > 2 else "logistic"
        if estimator.out_activation_ != outputs:
            raise InputError(f"an MLPClassifier that ends in {estimator.out_activation_}", "fit it on one label for each input")
    else:
        # Before scikit-learn 1.8 there were classifiers of one class against the rest, whose probabilities are no softmax.
        if classes > 2 and (getattr(estimator, "multi_class", None) == "ovr" or estimator.solver == "liblinear"):
            raise InputError("a LogisticRegression of one class against the rest", "take another solver, and leave multi_class out")
        layers = [(estimator.coef_, estimator.intercept_)]
    last, bias = layers[-1]
    if len(bias) == 1:
        # sigmoid(z) = softmax(0, z)
        layers[-1] = (np.concatenate([np.zeros_like(last), last]), np.concatenate([np.zeros_like(bias), bias]))
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
