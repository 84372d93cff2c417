"""Float networks made integers: near the float network, and privately exactly what they are in the clear."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest

import lowkey


def digits() -> tuple[np.ndarray, np.ndarray]:
    """The bundled digits as real numbers between 0 and 1, a row each."""
    found = lowkey.load("digits").demo()
    assert found is not None
    images, labels = found
    return (images.reshape(len(images), -1) / 16).astype(np.float32), labels


def trained(x: np.ndarray, y: np.ndarray, hidden: int = 24) -> list[tuple[np.ndarray, np.ndarray]]:
    """A small network, by gradient descent."""
    random = np.random.default_rng(7)
    w1, b1 = random.normal(0, 0.2, (hidden, x.shape[1])), np.zeros(hidden)
    w2, b2 = random.normal(0, 0.2, (10, hidden)), np.zeros(10)
    for _ in range(800):
        a = np.maximum(x @ w1.T + b1, 0)
        p = np.exp((z := a @ w2.T + b2) - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        g = (p - np.eye(10)[y]) / len(x)
        back = (g @ w2) * (a > 0)
        w2, b2 = w2 - 0.4 * g.T @ a, b2 - 0.4 * g.sum(0)
        w1, b1 = w1 - 0.4 * back.T @ x, b1 - 0.4 * back.sum(0)
    return [(w1.astype(np.float32), b1.astype(np.float32)), (w2.astype(np.float32), b2.astype(np.float32))]


@pytest.fixture(scope="module")
def network() -> tuple[bytes, np.ndarray, np.ndarray, np.ndarray]:
    pytest.importorskip("onnx")
    from lowkey.sklearn import _onnx

    x, y = digits()
    layers = trained(x[:240], y[:240])
    logits = np.maximum(x @ layers[0][0].T + layers[0][1], 0) @ layers[1][0].T + layers[1][1]
    return _onnx(layers), x, y, logits


@pytest.mark.parametrize(("bits", "same"), [(8, 0.99), (6, 0.97)])
def test_integers_are_near_the_floats(network: tuple, bits: int, same: float) -> None:
    onnx, x, y, logits = network
    model = lowkey.quantise(onnx, x[:240], bits=bits)
    evaluation = model.evaluate(x, y)
    assert (evaluation.predictions == logits.argmax(1)).mean() >= same
    assert [layer.name for layer in model.layers] == ["dense0", "dense1"] and model.notes == []
    scores = np.stack([model.predict(one).scores for one in x[:50]])
    assert np.abs(scores - logits[:50]).max() < 0.1 * np.abs(logits).max() and evaluation.accuracy > 0.85


def test_private_answers_are_exact(network: tuple, tmp_path) -> None:
    onnx, x, _, _ = network
    (tmp_path / "net.onnx").write_bytes(onnx)
    model = lowkey.quantise(tmp_path / "net.onnx", x[:100], bits=4, classes=[f"d{n}" for n in range(10)])
    assert model.name == "net" and any("4 bits" in note for note in model.notes)
    with lowkey.serve(model) as server, lowkey.Client(server.address) as client:
        for one in x[:4]:
            private, clear = client.infer(one), model.predict(one)
            assert private.logits.tolist() == clear.logits.tolist() and private.label == clear.label
            assert private.probabilities.tolist() == clear.probabilities.tolist()


def test_what_cannot_be_quantised_is_told_with_all_obstacles() -> None:
    onnx = pytest.importorskip("onnx")
    real, helper = onnx.TensorProto.FLOAT, onnx.helper
    nodes = [helper.make_node("Erf", ["input"], ["a"], "one"), helper.make_node("Mul", ["a", "input"], ["b"], "two")]
    ends = [helper.make_tensor_value_info(name, real, [1, 8]) for name in ("input", "b")]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:]), opset_imports=[helper.make_opsetid("", 17)])
    with pytest.raises(lowkey.ImportRefused) as refused:
        lowkey.quantise(model, np.ones((4, 8), np.float32))
    assert any(obstacle.node == "one" and obstacle.operator == "Erf" for obstacle in refused.value.obstacles)
    for wrong in (object(), "nowhere.onnx"):
        with pytest.raises(lowkey.InputError):
            lowkey.quantise(wrong, np.zeros((4, 8), np.float32))
    with pytest.raises(lowkey.InputError, match="not finite"):
        lowkey.quantise(model, np.full((4, 8), np.nan, np.float32))
    for bits in (1, 9, -1, "4"):
        with pytest.raises(lowkey.InputError, match="bits="):
            lowkey.quantise(model, np.ones((4, 8), np.float32), bits=bits)
    with pytest.raises(lowkey.InputError, match="calibration data of type str"):
        lowkey.quantise(model, "abc")


def test_classifiers_of_scikit_learn() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("sklearn")
    from lowkey.sklearn import LowkeyClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    x, y = digits()
    for estimator in (MLPClassifier([32], max_iter=300, random_state=1), LogisticRegression(max_iter=500)):
        classifier = LowkeyClassifier(estimator).fit(x[:240], y[:240])
        same = classifier.predict(x) == classifier.estimator_.predict(x)
        assert same.mean() > 0.98 and classifier.score(x[240:], y[240:]) > 0.8
        near = np.abs(classifier.predict_proba(x[:20]) - classifier.estimator_.predict_proba(x[:20]))
        assert near.max() < 0.1
        with lowkey.serve(classifier.model) as server, lowkey.Client(server.address) as client:
            private = classifier.predict_proba(x[:3], client=client)
        assert private.tolist() == classifier.predict_proba(x[:3]).tolist()
    with pytest.raises(lowkey.InputError, match="not fitted"):
        LowkeyClassifier(LogisticRegression()).predict(x)
    two = LowkeyClassifier(LogisticRegression()).fit(x[y < 2], np.array(["no", "yes"])[y[y < 2]])
    assert set(two.predict(x[y < 2])) == {"no", "yes"} and two.score(x[y < 2], np.array(["no", "yes"])[y[y < 2]]) > 0.95


def test_a_classifier_is_one_of_scikit_learn() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("sklearn")
    from lowkey.sklearn import LowkeyClassifier
    from sklearn.base import clone, is_classifier
    from sklearn.ensemble import VotingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = digits()
    classifier = LowkeyClassifier(LogisticRegression(max_iter=300))
    assert is_classifier(classifier)
    assert make_pipeline(StandardScaler(), classifier).fit(x[:240], y[:240]).score(x[240:], y[240:]) > 0.8
    floats = cross_val_score(classifier.estimator, x, y, cv=3)
    assert np.abs(cross_val_score(classifier, x, y, cv=3) - floats).max() < 0.03

    classifier.set_params(estimator__C=1e-9, bits=6)
    assert (classifier.estimator.C, classifier.bits) == (1e-9, 6)
    assert clone(classifier).get_params()["estimator__C"] == 1e-9
    with pytest.raises(ValueError, match="bit"):
        classifier.set_params(bit=2)
    search = GridSearchCV(classifier, {"estimator__C": [1e-9, 1.0], "bits": [2, 8]}, cv=2).fit(x, y)
    assert search.best_params_ == {"estimator__C": 1.0, "bits": 8} and search.best_estimator_.model.name == "LogisticRegression"
    with lowkey.serve(search.best_estimator_.model) as server, lowkey.Client(server.address) as client:
        private = search.best_estimator_.predict(x[:3], client=client)
    assert private.tolist() == search.predict(x[:3]).tolist()
    estimators = [LogisticRegression(), MLPClassifier([16], random_state=1)]
    voting = VotingClassifier([(str(one), LowkeyClassifier(one)) for one in estimators], voting="soft")
    assert voting.fit(x[:240], y[:240]).score(x[240:], y[240:]) > 0.8


def test_scikit_learn_finds_nothing_wrong_with_a_classifier() -> None:
    pytest.importorskip("onnx")
    checks = pytest.importorskip("sklearn.utils.estimator_checks")
    from lowkey.sklearn import LowkeyClassifier
    from sklearn.linear_model import LogisticRegression

    # The units are chosen on the inputs, and they are others where inputs are repeated in place of weighed.
    units = "units of the calibration"
    expected = {"check_sample_weight_equivalence_on_dense_data": units}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = checks.check_estimator(LowkeyClassifier(LogisticRegression()), expected_failed_checks=expected, on_fail=None)
    failed = [(check["check_name"], check["exception"]) for check in found if check["status"] == "failed"]
    assert not failed and sum(check["status"] == "passed" for check in found) > 40


def test_weights_of_samples_are_the_estimators() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("sklearn")
    from lowkey.sklearn import LowkeyClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    class Unweighed(MLPClassifier):
        def fit(self, X, y):  # noqa: ANN001, ANN201
            return super().fit(X, y)

    Unweighed.__name__ = "MLPClassifier"
    x, y = digits()
    x, y = x[y < 3], y[y < 3]
    classifier = LowkeyClassifier(LogisticRegression()).fit(x, y, sample_weight=(y != 2).astype(float))
    assert set(classifier.predict(x)) == {0, 1}, "what weighs nothing is not learnt"
    with pytest.raises(lowkey.InputError, match="sample_weight, and this MLPClassifier takes none"):
        LowkeyClassifier(Unweighed([4])).fit(x, y, sample_weight=np.ones(len(y)))


def test_what_is_no_network_of_one_label_is_refused() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("sklearn")
    from lowkey.sklearn import LowkeyClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC

    x, y = digits()
    several = np.stack([y % 2, y > 4, y == 3], axis=1).astype(int)
    for labels, estimator, why in [
        (several, MLPClassifier([8]), r"labels of shape \(360, 3\): several for each input"),
        (several, LogisticRegression(), r"labels of shape \(360, 3\)"),
        (np.zeros(360, int), MLPClassifier([8], max_iter=2), r"labels of one class, \[0\]"),
        (y + 0.5, MLPClassifier([8]), "continuous"),
        (y, MLPClassifier([8], activation="tanh"), "activation 'tanh'\nhint: take activation='relu' or 'identity'"),
        (y, SVC(), "a SVC\nhint: give an MLPClassifier or a LogisticRegression"),
        (y[1:], LogisticRegression(), "inconsistent numbers of samples"),
    ]:
        classifier = LowkeyClassifier(estimator)
        with pytest.raises(lowkey.InputError, match=why):
            classifier.fit(x, labels)
        assert not hasattr(classifier, "model")
    with pytest.raises(lowkey.InputError, match="bits=9"):
        LowkeyClassifier(LogisticRegression(), bits=9).fit(x, y)
    fitted = LowkeyClassifier(LogisticRegression()).fit(x, y)
    with pytest.raises(lowkey.InputError, match="63 features"):
        fitted.predict(x[:, 1:])


def test_layers_with_nothing_between_them_are_one() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("sklearn")
    from lowkey.sklearn import LowkeyClassifier
    from sklearn.neural_network import MLPClassifier

    x, y = digits()
    for labels in (y, y % 2):
        estimator = MLPClassifier([16, 8], activation="identity", max_iter=200, random_state=1)
        classifier = LowkeyClassifier(estimator).fit(x, labels)
        assert [layer.name for layer in classifier.model.layers] == ["dense0"]
        assert (classifier.predict(x) == classifier.estimator_.predict(x)).mean() > 0.97
        assert np.abs(classifier.predict_proba(x[:50]) - classifier.estimator_.predict_proba(x[:50])).max() < 0.2


def test_a_fitted_classifier_is_kept() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("sklearn")
    from lowkey.sklearn import LowkeyClassifier
    from sklearn.linear_model import LogisticRegression

    x, y = digits()
    classifier = LowkeyClassifier(LogisticRegression(), bits=4).fit(x, y)
    again = pickle.loads(pickle.dumps(classifier))
    assert again.predict_proba(x[:20]).tolist() == classifier.predict_proba(x[:20]).tolist()
    assert again.model.notes == classifier.model.notes and again.model.layers == classifier.model.layers


def test_the_quick_start_of_concrete_ml() -> None:
    """The second columns of docs/concrete-ml.md, on the data of that quick start."""
    pytest.importorskip("onnx")
    pytest.importorskip("sklearn")
    from lowkey.sklearn import LowkeyClassifier
    from sklearn.datasets import make_classification
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split

    x, y = make_classification(n_samples=100, class_sep=2, n_features=30, random_state=42)
    X_train, X_test, y_train, y_test = train_test_split(x, y, test_size=0.2, random_state=42)
    model = LowkeyClassifier(LogisticRegression(), bits=8)
    model.fit(X_train, y_train)
    y_pred_clear = model.predict(X_test)
    in_floats = model.estimator_.predict(X_test.astype(np.float32))
    assert (y_pred_clear == in_floats).all() and (y_pred_clear == y_test).mean() > 0.8
    assert model.model.plan().bytes > 0
    with lowkey.serve(model.model) as server, lowkey.Client(server.address) as client:
        y_pred = model.predict(X_test, client=client)
        assert (y_pred == y_pred_clear).mean() == 1
        private, clear = model.predict_proba(X_test[[0]], client=client), model.predict_proba(X_test[[0]])
        answer = client.infer(X_test[0])
    assert private.tolist() == clear.tolist() == [answer.probabilities.tolist()]
    assert answer.logits.tolist() == model.model.predict(X_test[0]).logits.tolist()


def test_modules_of_torch() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    nn = torch.nn
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10)
    )
    x = torch.rand(200, 1, 8, 8)
    module(x)  # the batch norm's statistics
    model = lowkey.quantise(module, calibration=x, bits=8)
    assert module.training, "left as it was"
    module.eval()
    wanted = module(x).argmax(1).numpy()
    assert (model.predict_many(x)[0] == wanted).mean() > 0.95
    with lowkey.serve(model) as server, lowkey.Client(server.address, prepare=1) as client:
        answer = client.infer(x[0])
        assert answer.logits.tolist() == model.predict(x[0]).logits.tolist()
        assert len(client.infer_many(x[:3])) == 3
    with pytest.raises(lowkey.InputError, match=r"does not take inputs of shape \(1, 3, 8, 8\)"):
        lowkey.quantise(module, torch.rand(4, 3, 8, 8))
    with pytest.raises(lowkey.InputError, match="the class ReLU"):
        lowkey.quantise(nn.ReLU, x)
    with pytest.raises(lowkey.InputError, match="not numbers"):
        model.predict(x[0] * float("nan"))
    assert any("as floats" in note for note in lowkey.quantise(module, (255 * x).to(torch.uint8)).notes)


def test_exported_programs_of_torch() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    torch.manual_seed(3)
    nn = torch.nn
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)).eval()
    x = torch.rand(100, 1, 8, 8)
    wanted = lowkey.quantise(module, x).predict_many(x)[1].tolist()
    for size in (1, 3):
        program = torch.export.export(module, (x[:size],))
        assert lowkey.quantise(program, x).predict_many(x)[1].tolist() == wanted
    with pytest.raises(lowkey.ImportRefused, match="still trained"):
        lowkey.quantise(torch.export.export(module.train(), (x[:2],)), x)
