"""Networks of the zoo, made cheaper: distortions, a choice for each budget, right answers on all test images.

    LOWKEY_DATA=<folder> python benches/choice/study.py [--lowkey target/release/lowkey] [--work target/choice] [--only TEXT]
    LOWKEY_DATA=<folder> python benches/choice/study.py --add tuned.lowkey --from cifar10-resnet20-w4a4 --link lan [--way trained]

Files go to the folder of --work, what is there is not made again. Records go to benches/results/choice/networks.json, which
`lowkey models --plot docs/choose.svg --cheaper benches/results/choice/networks.json` draws. --add measures a network that was made
otherwise: trained with its choices (models/train/finetune.py), or with blocks (docs/quantise.md). It takes some hours; --only takes
the runs whose name has TEXT.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

RESULTS = pathlib.Path(__file__).parent.parent / "results" / "choice" / "networks.json"
#: The images that distortions are measured on, by data set.
COUNT = {"mnist": 256, "cifar10": 128}
RESNET, SMALL, MNIST = "cifar10-resnet20-w4a4", "cifar10-minionn-w4a4", "mnist-minionn-w4a4"
#: The ways that have one kind of change, by its name in a file of distortions.
ALONE = {"rings": "spare", "widths": "fewer", "tosses": "coin"}
#: (network, link, way, what an inference may take, from much to little).
RUNS = [
    (RESNET, "lan", "coins", ["75%", "60%", "2MB", "1.75MB"]),
    (RESNET, "metered", "coins", ["75%", "60%", "1.75MB"]),
    (RESNET, "lan", "exact", ["75%", "60%"]),
    (RESNET, "metered", "exact", ["75%"]),
    (RESNET, "lan", "rings", ["85%", "75%"]),
    (RESNET, "lan", "widths", ["85%", "75%"]),
    (RESNET, "lan", "tosses", ["85%", "75%"]),
    (SMALL, "lan", "coins", ["75%", "50%", "35%"]),
    (SMALL, "metered", "coins", ["75%", "50%", "35%"]),
    (MNIST, "lan", "coins", ["75%", "50%", "35%"]),
    (MNIST, "metered", "coins", ["75%", "50%", "35%"]),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lowkey", default="target/release/lowkey", help="the command")
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("target/choice"), help="where files go")
    parser.add_argument("--only", default="", metavar="TEXT", help="runs whose name has this")
    parser.add_argument("--add", type=pathlib.Path, metavar="FILE", help="a network that was made otherwise")
    parser.add_argument("--from", dest="source", help="the network of the zoo that it was made from")
    parser.add_argument("--link", choices=["loopback", "lan", "wan", "metered"], help="the line that it is planned for")
    parser.add_argument("--way", default="trained", choices=["trained", "blocks"], help="how --add's was made")
    options = parser.parse_args()
    if "LOWKEY_DATA" not in os.environ:
        sys.exit("LOWKEY_DATA must name the folder that holds mnist/ and cifar10/")
    options.work.mkdir(parents=True, exist_ok=True)
    if options.add:
        if not (options.source and options.link):
            parser.error("--add needs --from and --link")
        keep(options.add.stem, measured(options, options.add, options.source, options.link, options.way))
        return
    for network, link, way, budgets in RUNS:
        name = f"{network}-{link}-{way}"
        if options.only in name:
            chosen(options, name, network, link, way, budgets)


def chosen(options, name, network, link, way, budgets):
    """Finds the networks of some budgets, and keeps their records; what no choice takes as little as is said, and ends a run."""
    left = [budget for budget in budgets if f"{name}-{budget}" not in known()]
    if not left:
        return
    file = options.work / f"{name}.lowkey"
    command = ["optimise", network, "--distortion", str(distortions(options, network, way)), "--budget", ",".join(left), "--link", link]
    run = subprocess.run([options.lowkey, *command, "-o", str(file), "--json", "--count", "1"], stdout=subprocess.PIPE, text=True)
    for number, (budget, line) in enumerate(zip(left, run.stdout.splitlines()), 1):
        own = file if len(left) == 1 else file.with_name(f"{name}-{number}.lowkey")
        made = measured(options, own, network, link, way)
        keep(f"{name}-{budget}", made | {"distortion": json.loads(line)["distortion"]})


def distortions(options, network, way):
    """The file of a network's distortions under the changes of a way: of one kind alone, those of the file with coins."""
    data = network.split("-")[0]
    file = options.work / f"{network}-{'coins' if way in ALONE else way}.json"
    coins = [] if way == "exact" else ["--coins", "0"]
    # What it has already is not measured again.
    said(options, "distort", network, "--count", str(COUNT[data]), "--fewer", "2", *coins, "-o", str(file))
    if way not in ALONE:
        return file
    record = json.loads(file.read_text())
    record["variables"] = [one for one in record["variables"] if ALONE[way] in one["options"][0]["change"]]
    file = options.work / f"{network}-{way}.json"
    file.write_text(json.dumps(record))
    return file


def measured(options, file, network, link, way):
    """Bytes, flights and right answers of a network."""
    data = pathlib.Path(os.environ["LOWKEY_DATA"]) / network.split("-")[0]
    plan = json.loads(said(options, "plan", str(file), "--link", link, "--json"))
    total = plan["total"]
    answers = json.loads(said(options, "eval", "--model", str(file), "--data", str(data), "--json"))
    return {
        "from": network,
        "link": link,
        "way": way,
        "bytes": total["offline_bytes"] + total["online_bytes"],
        "flights": total["flights"],
        "tossed": plan.get("tossed", 0),
        "wraps": answers.get("wraps", {}).get("sums", 0),
        "right": answers["correct"],
        "images": answers["images"],
    }


def said(options, *command):
    run = subprocess.run([options.lowkey, *command], stdout=subprocess.PIPE, text=True)
    if run.returncode:
        sys.exit(f"{' '.join(command)}: exit code {run.returncode}")
    return run.stdout


def known():
    return {record["name"] for record in read()}


def read():
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


def keep(name, record):
    """Writes a record, in place of an older one of that name."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    records = [one for one in read() if one["name"] != name] + [{"name": name} | record]
    RESULTS.write_text("[\n" + ",\n".join(json.dumps(one) for one in records) + "\n]\n")
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
