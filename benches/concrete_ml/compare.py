"""The same network on the same images, by Concrete ML and by lowkey: lines of code apart, what a private answer takes.

    pip install concrete-ml ./python[torch]
    python benches/concrete_ml/compare.py [BITS]

A dense network 64-48-10 for scikit-learn's digits, trained by torch in floats, quantised by either package after training.
"""

import sys
import time

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

BITS = int(sys.argv[1]) if len(sys.argv) > 1 else 4
COUNT = 5


def timed(work):
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def trained(x, y):
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Linear(64, 48), torch.nn.ReLU(), torch.nn.Linear(48, 10))
    optimiser = torch.optim.Adam(network.parameters(), 0.005)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(300):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        optimiser.step()
    return network.eval()


def by_concrete(network, x_train, x_test, y_test):
    from concrete.ml.torch.compile import compile_torch_model

    module, compiling = timed(lambda: compile_torch_model(network, x_train, n_bits=BITS, rounding_threshold_bits=6))
    _, keys = timed(lambda: module.fhe_circuit.keygen(force=True))
    simulated = module.forward(x_test, fhe="simulate").argmax(1)
    private, running = timed(lambda: [module.forward(x[None], fhe="execute") for x in x_test[:COUNT]])
    clear = module.forward(x_test[:COUNT], fhe="disable")
    quantised = module.quantize_input(x_test[:1])
    encrypted = module.fhe_circuit.encrypt(quantised)
    circuit = module.fhe_circuit
    yield "compile, s", compiling
    yield "keys, s", keys
    yield "evaluation keys, bytes", circuit.size_of_bootstrap_keys + circuit.size_of_keyswitch_keys
    yield "an encrypted input, bytes", len(encrypted.serialize())
    yield "an answer, s", running / COUNT
    yield "outputs equal to those in the clear", int(sum(np.array_equal(a[0], b) for a, b in zip(private, clear)))
    yield "accuracy, simulated, %", 100 * float(np.mean(simulated == y_test))
    yield "chance of a wrong look-up, as the compiler says", circuit.p_error


def by_lowkey(network, x_train, x_test, y_test):
    import lowkey

    model, quantising = timed(lambda: lowkey.quantise(network, calibration=x_train, bits=BITS))
    evaluation = model.evaluate(x_test, y_test)
    with lowkey.serve(model) as server:
        client, opening = timed(lambda: lowkey.Client(server.address))
        with client:
            private, running = timed(lambda: [client.infer(x) for x in x_test[:COUNT]])
    clear = [model.predict(x) for x in x_test[:COUNT]]
    yield "quantise, s", quantising
    yield "first contact, s", opening
    yield "first contact, bytes", client.setup.bytes
    yield "an answer, both directions, bytes", private[0].report.bytes
    yield "an answer, s", running / COUNT
    yield "outputs equal to those in the clear", int(sum(np.array_equal(a.logits, b.logits) for a, b in zip(private, clear)))
    yield "accuracy, %", 100 * evaluation.accuracy


def main():
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split((x / 16).astype(np.float32), y, test_size=360, random_state=1, stratify=y)
    network = trained(x_train, y_train)
    with torch.no_grad():
        in_floats = float((network(torch.from_numpy(x_test)).argmax(1).numpy() == y_test).mean())
    print(f"accuracy in floats {100 * in_floats:.2f} %, {BITS} bits, {COUNT} images")
    for name, package in [("Concrete ML", by_concrete), ("lowkey", by_lowkey)]:
        print(name)
        for what, value in package(network, x_train, x_test, y_test):
            print(f"  {what}: {value:.4g}" if isinstance(value, float) else f"  {what}: {value}")


main()
