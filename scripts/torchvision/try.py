"""Imports what make.py wrote, compares it with ONNX Runtime's answers bit for bit, and has one image answered privately.

    python try.py FOLDER [NETWORK|VARIANT ...] [--bin target/debug] [--approximate] [--images N] [--again] [--no-private]
              [--json]

A word selects a network, a variant, or a part of a variant's name. Results are kept beside the files: what was tried is not tried again
without --again. Needs `cargo build --bin lowkey` and `cargo build -p lowkey-models --example clear`.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# Variants that are compared on all images; the others on two.
THOROUGH = ("u8s8-tensor-qdq", "u8s8-channel-qoperator")
FEW = 2
# How far outputs that nothing quantises may be from the runtime's, as a part of the largest.
ROUNDINGS = 1e-6
# Characters of a refusal in the table.
WIDTH = 200


def run(command, **options):
    """Exit code, standard output, standard error, seconds, MB at most."""
    start = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = subprocess.Popen(command, stdout=out, stderr=err, **options)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        return child.returncode, out.read(), err.read(), time.monotonic() - start, usage.ru_maxrss / 1024


def lines(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def compare(answers, wanted):
    """How many answers equal the runtime's in all outputs, and how far the others are off.

    Outputs that nothing quantises are sums of floats in the runtime: they are equal but for a few roundings.
    """
    found = np.float32([answer["outputs"] for answer in answers])
    near = np.abs(found - wanted) <= ROUNDINGS * np.abs(wanted).max()
    unit = max((abs(answer["outputs"][i] / z) for answer in answers for i, z in enumerate(answer["logits"]) if z), default=1.0)
    return {
        "equal": int(near.all(1).sum()),
        "bit_equal": int((found == wanted).all(1).sum()),
        "of": len(wanted),
        "outputs_equal": float(near.mean()),
        "worst_steps": int(np.rint(np.abs(found - wanted).max() / unit)),
        "class_equal": float(np.mean(found.argmax(1) == wanted.argmax(1))),
        "different_answers": len({want.tobytes() for want in wanted}),
    }


def private(lowkey, model, images, wanted):
    """One image answered by a server process: whether it is the plaintext network's answer, and what it cost."""
    with tempfile.TemporaryDirectory() as home:
        places = {"LOWKEY_CACHE": home, "HOME": home, "XDG_STATE_HOME": home, "XDG_CACHE_HOME": home}
        with open(Path(home, "log"), "w+") as log:
            serve = [lowkey, "serve", "--model", model, "--listen", "127.0.0.1:0"]
            server = subprocess.Popen(serve, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **places})
            try:
                address = None
                while address is None and server.poll() is None:
                    found = re.search(r"127\.0\.0\.1:([1-9]\d*)", Path(log.name).read_text())
                    address = found and found.group(0)
                    time.sleep(0.1)
                if not address:
                    return {"private": "no server", "why": Path(log.name).read_text()[-300:]}
                infer = [lowkey, "infer", "--server", address, "--input", images, "--json"]
                code, out, err, seconds, memory = run(infer, env={**os.environ, **places})
            finally:
                server.terminate()
                server.wait()
    if code:
        return {"private": "failed", "why": err[-300:]}
    (answer,) = lines(out)
    stages = [answer["stages"][name] for name in ("offline", "online")]
    return {
        "private": "equal" if answer["logits"] == wanted else "WRONG",
        "bytes": sum(stage["bytes_sent"] + stage["bytes_received"] for stage in stages),
        "setup_bytes": sum(answer["stages"]["setup"][key] for key in ("bytes_sent", "bytes_received")),
        "infer_s": round(seconds, 1),
        "client_mb": round(memory),
    }


def attempt(path, options):
    result = {"network": path.parent.name, "variant": path.stem}
    cases = np.load(path.with_suffix(".npz"))
    count = options.images or (len(cases["images"]) if path.stem in THOROUGH else FEW)
    lowkey, clear = options.bin / "lowkey", options.bin / "examples" / "clear"
    with tempfile.TemporaryDirectory() as folder:
        model, images = Path(folder, "model.lowkey"), Path(folder, "images.npy")
        flags = ["--approximate"] if options.approximate else []
        flags += ["--rounding", "int8"] if path.stem.endswith("int8") else []
        code, out, err, seconds, memory = run([lowkey, "import", path, "-o", model, *flags])
        result |= {"import_s": round(seconds, 1), "import_mb": round(memory)}
        if code:
            return result | {"verdict": "refused", "why": err.strip()}
        result |= {"verdict": "accepted", "report": out.strip().splitlines()}
        np.save(images, cases["images"][:count])
        code, out, err, seconds, memory = run([clear, model, images])
        if code:
            return result | {"verdict": "BROKEN", "why": err.strip()[-300:]}
        answers = lines(out)
        result |= compare(answers, cases["outputs"][:count]) | {"clear_s": round(seconds, 1)}
        if options.private:
            np.save(images, cases["images"][:1])
            result |= private(lowkey, model, images, answers[0]["logits"])
    return result


def short(result):
    what = result["verdict"]
    if what != "accepted":
        reasons = [line.strip() for line in re.sub(r"^error: \S+ ", "", result["why"]).splitlines()]
        return f"{what}: {' '.join(reasons)[:WIDTH]}"
    text = f"accepted, equal {result['equal']} of {result['of']}"
    if result["equal"] < result["of"]:
        text += f" ({100 * result['outputs_equal']:.1f} % of outputs, worst {result['worst_steps']} steps,"
        text += f" class {100 * result['class_equal']:.0f} %)"
    if "private" in result:
        text += f", private {result['private']}"
    if "bytes" in result:
        text += f", {result['bytes'] / 1e6:.1f} MB"
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--bin", type=Path, default=Path(__file__).parents[2] / "target/debug")
    parser.add_argument("--approximate", action="store_true")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--images", type=int, help="how many are compared")
    parser.add_argument("--no-private", dest="private", action="store_false")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_intermixed_args()
    paths = sorted(options.folder.glob("*/*-*-*.onnx"))
    networks = {path.parent.name for path in paths}
    nets = [word for word in options.words if word in networks]
    parts = [word for word in options.words if word not in networks]
    bad = False
    for path in paths:
        if (nets and path.parent.name not in nets) or not all(part in path.stem for part in parts):
            continue
        kept = path.with_suffix(".near.json" if options.approximate else ".json")
        if kept.exists() and not options.again:
            result = json.loads(kept.read_text())
        else:
            result = attempt(path, options)
            kept.write_text(json.dumps(result))
        wrong = result["verdict"] == "BROKEN" or result.get("private", "equal") != "equal"
        bad |= wrong or (not options.approximate and result.get("equal") != result.get("of"))
        text = json.dumps(result) if options.json else f"{result['network']:20} {result['variant']:24} {short(result)}"
        print(text, flush=True)
    sys.exit(bad)


main()
