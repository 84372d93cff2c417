//! `train`: both parties as processes, on the bundled digits.

use super::*;
use std::io::Write;
use std::net::TcpStream;

/// A model owner that waits.
struct Owner {
    child: Child,
    address: String,
    out: BufReader<ChildStdout>,
}

impl Owner {
    fn start(arguments: &[&str]) -> Self {
        Self::of(&[&["--net", "64-10"], arguments].concat())
    }

    fn of(arguments: &[&str]) -> Self {
        let mut command = command(&[&["train", "--listen", "127.0.0.1:0"], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Self { child, address, out }
    }

    /// `lowkey train` of the data owner.
    fn with(&self, arguments: &[&str]) -> Ran {
        lowkey(&[&["train", "--server", &self.address, "--net", "64-10"], arguments].concat())
    }

    /// What it printed in the end.
    fn ends(mut self) -> Ran {
        let code = ends(&mut self.child).code();
        let [mut out, mut err] = [const { String::new() }; 2];
        self.out.read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        Ran { code, out, err }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The digits as a data set with both parts.
fn data() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    digits().data_set(folder.path(), 300..360);
    let pictures = files::idx_images(Digits::SIZE, &digits().pixels(0..300));
    files::write(folder.path(), "train-images-idx3-ubyte", &pictures);
    files::write(folder.path(), "train-labels-idx1-ubyte", &files::idx_labels(&digits().labels[0..300]));
    folder
}

/// Both get the network, which is one file, knows digits, and is what `eval` and a private answer say of it.
#[test]
fn both_get_the_network() {
    let data = data();
    let [own, theirs] = ["own.lowkey", "theirs.lowkey"].map(|name| data.path().join(name));
    let owner = Owner::start(&["--weights-to", "both", "-o", text(&own), "--epochs", "15"]);
    let ran = owner.with(&[
        "--weights-to",
        "both",
        "-o",
        text(&theirs),
        "--data",
        text(data.path()),
        "--rate",
        "3,4",
        "--json",
    ]);
    let records = ran.records();
    assert_eq!(records.len(), 16);
    let names = "epoch steps_done steps seconds seconds_per_step bytes_per_step seconds_left";
    assert_eq!(keys(&records[14]), named(names));
    assert_eq!((records[14]["steps_done"].as_u64(), records[14]["seconds_left"].as_f64()), (Some(30), Some(0.0)));
    let last = &records[15];
    let names = "net samples epochs steps weights_to steps_here seconds bytes setup ots online closing output held_out \
                 peak_memory_bytes";
    assert_eq!(keys(last), named(names));
    let accuracy = last["held_out"]["accuracy"].as_f64().unwrap();
    assert!(accuracy > 75.0, "{last}");

    let said = owner.ends();
    assert_eq!((said.code, &said.err[..]), (Some(0), ""), "{}", said.out);
    assert!(said.out.contains("64-10 on 300 samples: 30 of 30 steps, 15 epochs"), "{}", said.out);
    assert_eq!(std::fs::read(&own).unwrap(), std::fs::read(&theirs).unwrap());
    let eval = lowkey(&["eval", "--model", text(&own), "--data", text(data.path()), "--private", "3", "--json"]);
    let eval = &eval.records()[0];
    assert_eq!((eval["accuracy"].as_f64(), eval["private"]["mismatches"].as_u64()), (Some(accuracy), Some(0)));

    // What the plan says of a step is what it took, but for whole batches of OTs.
    let plan =
        &lowkey(&["train", "--plan", "--net", "64-10", "--rate", "4", "--samples", "300", "--json"]).records()[0];
    let part = |name: &str| plan[name].as_u64().unwrap();
    let step: u64 = named("products guard_bits rectifiers extensions softmax headers").into_iter().map(part).sum();
    // The first epoch is at another rate, and its extensions are wider.
    let online = ["bytes_sent", "bytes_received"].map(|way| last["online"][way].as_u64().unwrap()).iter().sum::<u64>();
    let plan =
        &lowkey(&["train", "--plan", "--net", "64-10", "--rate", "3", "--samples", "300", "--json"]).records()[0];
    let part = |name: &str| plan[name].as_u64().unwrap();
    let first: u64 = named("products guard_bits rectifiers extensions softmax headers").into_iter().map(part).sum();
    assert_eq!(online, 2 * first + 28 * step);
    let (flights, most) = (last["online"]["flights"].as_u64().unwrap(), 30 * part("flights_per_step"));
    assert!((most - 30..=most).contains(&flights), "{flights} flights, at most {most}");
}

/// Both have digits: the network is trained on those of both, each is told how many there are, and an evaluation of its shares counts the
/// held-out ones of both.
#[test]
fn both_have_data() {
    let folders = [0..140, 140..300].map(|range| {
        let folder = tempfile::tempdir().unwrap();
        digits().data_set(folder.path(), 300..360);
        let pictures = files::idx_images(Digits::SIZE, &digits().pixels(range.clone()));
        files::write(folder.path(), "train-images-idx3-ubyte", &pictures);
        files::write(folder.path(), "train-labels-idx1-ubyte", &files::idx_labels(&digits().labels[range]));
        folder
    });
    let file = |party: usize, name: &str| folders[party].path().join(name);
    let [own, theirs] = [file(0, "shares"), file(1, "shares")];
    let data = folders.each_ref().map(|folder| ["--data", text(folder.path())]);
    let network = file(1, "n.lowkey");
    let to_server = ["--weights-to", "server", "--checkpoint"];
    let owner = Owner::start(&[&to_server[..], &[text(&theirs), "-o", text(&network)], &data[1]].concat());
    let client = [&to_server[..], &[text(&own), "--epochs", "15", "--rate", "3,4"], &data[0]].concat();
    let last = owner.with(&[&client[..], &["--json"]].concat()).records().pop().unwrap();
    assert_eq!((last["samples"].as_u64(), last["samples_of_server"].as_u64()), (Some(300), Some(160)));
    let said = owner.ends().prints();
    let accuracy = said.split_once(" correct, ").and_then(|(_, rest)| rest.split_once(" %")).unwrap().0;
    assert!(accuracy.parse::<f64>().unwrap() > 75.0, "{said}");
    assert!(said.contains("64-10 on 300 samples (160 the server's): 30 of 30 steps"), "{said}");
    fits(said.split_once("wrote ").unwrap().0);

    let evaluate = ["--evaluate", "--score-to", "both", "--checkpoint"];
    let owner = Owner::start(&[&evaluate[..], &[text(&theirs)], &data[1]].concat());
    let record = owner.with(&[&evaluate[..], &[text(&own), "--json"], &data[0]].concat()).records().pop().unwrap();
    let said = owner.ends().prints();
    assert!(said.contains("64-10 on 120 samples (60 the server's), on shares"), "{said}");
    let score = &record["score"];
    assert!(score["samples"] == 120 && score["accuracy"].as_f64().unwrap() > 75.0, "{score}");

    // The plan has the steps of both.
    let plan = ["train", "--plan", "--net", "64-10", "--samples", "140", "--server-samples"];
    let json = |count: &str| lowkey(&[&plan[..], &[count, "--json"]].concat()).records().pop().unwrap();
    let (one, three) = (json("160"), json("390"));
    assert_eq!((one["steps_per_epoch"].as_u64(), three["steps_per_epoch"].as_u64()), (Some(2), Some(4)));
    assert_eq!(one["bytes_per_step"], one["bytes_per_step_of_server"]);
    assert_eq!(2 * one["bytes_per_epoch"].as_u64().unwrap(), three["bytes_per_epoch"].as_u64().unwrap());
    let head = ["train", "--plan", "--net", "head", "--model", "digits", "--samples", "140", "--server-samples", "160"];
    let said = lowkey(&head).prints();
    assert!(said.contains("the same of the server's samples: "), "{said}");
    fits(&said);

    // What is wrong with the server's is found before anybody can come.
    let listen = ["train", "--listen", "127.0.0.1:0", "-o", text(&network)];
    let images = files::write(folders[1].path(), "some.npy", &files::npy(&[130, 8, 8], &vec![3; 130 * 64]));
    let refused = |net: &[&str], labels: &[u8], says: &str| {
        let labels = files::write(folders[1].path(), "some-labels", &files::idx_labels(labels));
        let of = ["--data", text(&images), "--labels", text(&labels)];
        lowkey(&[&listen[..], net, &of].concat()).fails(2, says, "");
    };
    refused(&["--net", "64-10"], &[10; 130], "the label of sample 0 is no class");
    refused(&["--net", "64-10"], &[1; 129], "130 inputs but 129 labels");
    refused(&["--net", "A"], &[1; 130], "1 x 28 x 28 (");
    refused(&["--net", "head", "--model", "digits"], &[1; 129], "130 inputs but 129 labels");
    refused(&["--net", "head", "--model", "mnist-minionn-w4a4"], &[1; 130], "1 x 28 x 28 (");
    refused(&["--net", "64-10", "--resume", "--checkpoint", text(&theirs)], &[1; 130], "made with other samples");
}

/// A training and an inference know each other, and say so at both ends; a model owner goes on waiting.
#[test]
fn a_training_is_no_inference() {
    let data = data();
    let server = Serving::digits(&[]);
    let ask = ["train", "--server", &server.address, "--net", "64-10", "--data", text(data.path())];
    let ran = lowkey(&ask);
    ran.fails(3, "answers inferences and trains nothing", "`lowkey train --listen ADDR`");
    let file = data.path().join("trained.lowkey");
    let mut owner = Owner::start(&["-o", text(&file)]);
    let image = data.path().join("image.png");
    files::write(data.path(), "image.png", &files::png(Digits::SIZE, &digits().pixels(0..1)));
    for ask in [&["infer", "--input", text(&image)][..], &["models"]] {
        let ran = lowkey(&[ask, &["--server", &owner.address]].concat());
        ran.fails(3, "trains with a data owner and answers no inferences", "`lowkey serve`");
    }
    owner.child.kill().unwrap();
    let told = owner.ends().err;
    assert_eq!(told.matches("waiting for another data owner").count(), 2, "{told}");
}

/// The model owner is killed; both go on from their checkpoints, and only the data owner gets the weights.
#[test]
fn a_killed_party_resumes() {
    let data = data();
    let [own, theirs, network] = ["own", "theirs", "network.lowkey"].map(|name| data.path().join(name));
    let owner = ["--weights-to", "client", "--checkpoint", text(&own)];
    let client = ["--weights-to", "client", "--checkpoint", text(&theirs), "--data", text(data.path())];
    let client = [&client[..], &["-o", text(&network), "--every", "3", "--epochs", "20"]].concat();
    let mut first = Owner::start(&owner);
    let arguments = [&["train", "--server", &first.address, "--net", "64-10"], &client[..]].concat();
    let mut other = command(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while !own.with_extension("before").exists() {
        assert!(start.elapsed() < PATIENCE, "no checkpoint");
        std::thread::sleep(Duration::from_millis(2));
    }
    first.child.kill().unwrap();
    assert_eq!(ends(&mut other).code(), Some(3));
    drop(first);

    let listen = ["train", "--listen", "127.0.0.1:0", "--net", "64-10"];
    lowkey(&[&listen[..], &owner].concat()).fails(2, "a checkpoint is there", "");
    let again = Owner::start(&[&owner[..], &["--resume"]].concat());
    let ran = again.with(&[&client[..], &["--resume", "--json"]].concat());
    let records = ran.records();
    let last = records.last().unwrap();
    let here = last["steps_here"].as_u64().unwrap();
    assert!((1..40).contains(&here) && (40 - here).is_multiple_of(3), "{last}");
    let said = again.ends();
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(network.exists() && !said.out.contains("wrote"), "{}", said.out);
}

/// What is wrong is said before anything is sent, or before anything but what both ask for is.
#[test]
fn refusals() {
    let data = data();
    let folder = text(data.path());
    let output = data.path().join("n.lowkey");
    let output = ["-o", text(&output)];
    // Nobody listens there: the data are looked at first.
    let alone =
        |arguments: &[&str]| lowkey(&[&["train", "--server", "127.0.0.1:9", "--net", "64-10"], arguments].concat());
    lowkey(&["train", "--server", "127.0.0.1:9", "--data", folder]).fails(2, "the network reads 1 x 28 x 28", "");
    alone(&["--data", folder]).fails(3, "127.0.0.1:9", "");
    let images = files::write(data.path(), "some.npy", &files::npy(&[130, 8, 8], &vec![3; 130 * 64]));
    let refused = |images: &Path, labels: &[u8], says: &str| {
        let labels = files::write(data.path(), "some-labels", &files::idx_labels(labels));
        alone(&["--data", text(images), "--labels", text(&labels)]).fails(2, says, "");
    };
    let mut wrong = vec![0; 130];
    wrong[129] = 10;
    refused(&images, &wrong, "the label of sample 129 is no class");
    refused(&images, &[1; 129], "130 inputs but 129 labels");
    let bright = files::write(data.path(), "bright.npy", &files::npy(&[130, 8, 8], &vec![17; 130 * 64]));
    refused(&bright, &[1; 130], "it holds the value 17, the network reads 0..=16");
    alone(&["--data", text(&images)]).fails(2, "a file of images without labels", "--labels");
    let labels = files::write(data.path(), "some-labels", &files::idx_labels(&[1; 130]));
    for wrong in [1.5, -0.25, 255.0] {
        let mut reals = vec![0.5; 130 * 64];
        reals[64 * 77 + 3] = wrong;
        let reals = files::write(data.path(), "reals.npy", &files::npy_of_reals(&[130, 8, 8], &reals));
        let given = ["--net", "64-10", "--data", text(&reals), "--labels", text(&labels)];
        for role in [&["--server", "127.0.0.1:9"][..], &["--rehearse"]] {
            let ran = lowkey(&[&["train"], role, &given].concat());
            ran.fails(2, &format!("sample 77 has the value {wrong}, and training reads 0 to 1"), "divide");
        }
    }
    let reals = files::npy_of_reals(&[130, 8, 8], &[[0.0, 1.0], [1.000_001, 0.3]].as_flattened().repeat(130 * 16));
    let reals = files::write(data.path(), "reals.npy", &reals);
    alone(&["--data", text(&reals), "--labels", text(&labels)]).fails(3, "127.0.0.1:9", "");

    // What is no evaluation.
    let shares = data.path().join("shares");
    let evaluate = ["--data", folder, "--evaluate"];
    alone(&[&evaluate[..], &["--score-to", "client"]].concat()).fails(2, "no shares of weights", "--checkpoint");
    let evaluate = [&evaluate[..], &["--checkpoint", text(&shares)]].concat();
    alone(&evaluate).fails(2, "nobody is told", "--score-to");
    let evaluate = [&evaluate[..], &["--score-to", "client"]].concat();
    alone(&evaluate).fails(2, "no checkpoint there", "");
    alone(&[&evaluate[..], &["--epochs", "2"]].concat()).fails(2, "cannot be used with", "");
    alone(&[&evaluate[..], &["--data", text(&images)]].concat()).fails(2, "cannot be used multiple times", "");
    let bare = tempfile::tempdir().unwrap();
    let nothing = ["--data", text(bare.path()), "--evaluate", "--score-to", "client", "--checkpoint", text(&shares)];
    alone(&nothing).fails(2, "no samples to evaluate on", "t10k");
    alone(&["--data", folder, "--weights-to", "client"]).fails(2, "no file for them", "--output");
    alone(&["--data", folder, "--weights-to", "none"]).fails(2, "no file for them", "--checkpoint");
    alone(&[&["--data", folder], &output[..]].concat()).fails(2, "gives this party no weights", "");

    // What cannot be written is found out now, not after hours.
    let file = files::write(data.path(), "a-file", b"-");
    let within = file.join("n");
    alone(&["--data", folder, "--weights-to", "client", "-o", folder]).fails(2, "directory", "");
    alone(&["--data", folder, "--checkpoint", text(&within)]).fails(2, "a-file", "");
    let listen = ["train", "--listen", "127.0.0.1:0", "--net", "64-10", "-o"];
    lowkey(&[&listen[..], &[text(&within)]].concat()).fails(2, "a-file", "");
    lowkey(&[&listen[..], &[output[1], "--checkpoint", text(&within)]].concat()).fails(2, "a-file", "");

    // Both are told in what they differ.
    let owner = Owner::start(&[&output[..], &["--epochs", "2"]].concat());
    owner.with(&["--data", folder, "--epochs", "3"]).fails(2, "epochs: this end asks for 3, the server for 2", "both");
    owner.ends().fails(2, "epochs: this end asks for 2, the client for 3", "both");
    let owner = Owner::start(&output);
    owner.with(&["--data", folder, "--weights-to", "both", output[0], output[1]]).fails(2, "who gets the weights", "");
    owner.ends().fails(2, "who gets the weights", "");

    // Whoever speaks of something else is not waited for.
    let owner = Owner::start(&[&output[..], &["--epochs", "1"]].concat());
    // Nor is whoever says nothing.
    let silent = TcpStream::connect(&owner.address).unwrap();
    let mut stranger = TcpStream::connect(&owner.address).unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    drop(stranger);
    lowkey(&["infer", "--server", &owner.address, "--input", "models/zoo/digits-images.npy"]).fails(3, "", "");
    owner.with(&["--data", folder]).prints();
    drop(silent);
    let said = owner.ends();
    assert_eq!((said.code, said.err.matches("waiting for another data owner").count()), (Some(0), 2), "{}", said.err);
}

/// The same trust as of `serve` and `infer`: another certificate is refused for safety, and the owner waits on.
#[test]
fn over_tls() {
    let (data, identity) = (data(), Identity::make());
    let output = data.path().join("n.lowkey");
    let (cert, key) = (identity.file("cert.pem"), identity.file("key.pem"));
    let mut owner = Owner::start(&["-o", text(&output), "--cert", &cert, "--key", &key]);
    let mut line = String::new();
    owner.out.read_line(&mut line).unwrap();
    let pin = line.trim_end().strip_prefix("certificate pin ").unwrap_or_else(|| panic!("{line:?}"));
    let folder = ["--data", text(data.path())];
    owner.with(&[&folder[..], &["--pin", &"0".repeat(64)]].concat()).fails(4, "not the trusted one", "");
    owner.with(&[&folder[..], &["--pin", pin]].concat()).prints();
    assert_eq!(owner.ends().code, Some(0));
    lowkey(&["train", "--listen", "0.0.0.0:0", "--net", "64-10", "-o", text(&output)]).fails(4, "no certificate", "");
}

/// A head for a bundled network, on data that its owner does not see; the file is a network like any other.
#[test]
fn a_head() {
    let data = data();
    let output = data.path().join("n.lowkey");
    let head = ["--net", "head", "--epochs", "15", "--rate", "3,4"];
    let owner = Owner::of(&[&head[..2], &["--model", "digits", "-o", text(&output)]].concat());
    let ran =
        lowkey(&[&["train", "--server", &owner.address], &head[..], &["--data", text(data.path()), "--json"]].concat());
    let last = ran.records().pop().unwrap();
    assert_eq!((last["net"].as_str(), last["steps"].as_u64()), (Some("head"), Some(30)));
    let features = ["socket_bytes_sent", "socket_bytes_received"].map(|way| last["features"][way].as_u64().unwrap());
    let said = owner.ends();
    assert_eq!((said.code, &said.err[..]), (Some(0), ""), "{}", said.out);
    assert!(said.out.contains("features") && said.out.contains("next: lowkey serve"), "{}", said.out);

    let eval = ["eval", "--model", text(&output), "--data", text(data.path()), "--private", "2", "--json"];
    let eval = &lowkey(&eval).records()[0];
    assert!(eval["accuracy"].as_f64().unwrap() > 70.0, "{eval}");
    assert_eq!(eval["private"]["mismatches"].as_u64(), Some(0));

    let plan = lowkey(&["train", "--plan", "--net", "head", "--model", "digits", "--samples", "300", "--json"]);
    let plan = &plan.records()[0];
    let (planned, took) = (plan["features_bytes"].as_u64().unwrap(), features.iter().sum::<u64>());
    // Batches of OTs are whole.
    assert!(took > planned * 9 / 10 && took < planned + (1 << 21), "{took} for {planned}");
    let text = lowkey(&["train", "--plan", "--net", "head", "--model", "digits", "--samples", "300"]).prints();
    assert!(text.contains("features, once: "), "{text}");
    fits(&text);

    let listen = ["train", "--listen", "127.0.0.1:0", "--net", "head", "-o", "n.lowkey"];
    lowkey(&listen).fails(2, "no network that it belongs to", "--model");
    lowkey(&["train", "--plan", "--net", "head"]).fails(2, "no network that it belongs to", "--model");
}

/// In the clear, alone.
#[test]
fn a_rehearsal() {
    let data = data();
    let rehearse =
        ["train", "--rehearse", "--net", "64-10", "--data", text(data.path()), "--epochs", "15", "--rate", "3,4"];
    let records = lowkey(&[&rehearse[..], &["--json"]].concat()).records();
    assert_eq!(records.len(), 16);
    assert_eq!(keys(&records[14]), named("epoch steps_done steps score"));
    let loss = |at: usize| records[at]["score"]["loss"].as_f64().unwrap();
    assert!(records[14]["epoch"] == 15 && loss(14) < loss(0), "{}", records[14]);
    let record = &records[15];
    assert_eq!(keys(record), named("net samples steps overflows spare_bits held_out"));
    assert_eq!((record["steps"].as_u64(), record["overflows"].as_u64()), (Some(30), Some(0)));
    assert!(record["held_out"]["accuracy"].as_f64().unwrap() > 75.0, "{record}");
    let said = lowkey(&rehearse).prints();
    assert!(said.contains("no value out of range") && said.contains("held out: "), "{said}");
    fits(&said);
}

/// A training whose weights nobody gets: the party that both name is told a score after each epoch, and of an evaluation of the shares; then
/// the weights are opened, and `eval` finds the same of the network but for roundings.
#[test]
fn shares_are_evaluated() {
    let data = data();
    let [own, theirs, network] = ["own", "theirs", "n.lowkey"].map(|name| data.path().join(name));
    let folder = ["--data", text(data.path())];
    let none = ["--weights-to", "none", "--score-to", "client"];
    let owner = Owner::start(&[&none[..], &["--checkpoint", text(&own), "--epochs", "15"]].concat());
    let client = [&none[..], &folder, &["--checkpoint", text(&theirs), "--rate", "3,4", "--json"]].concat();
    let records = owner.with(&client).records();
    let score = |at: usize| &records[at]["score"];
    assert_eq!(keys(score(14)), named("samples right accuracy loss"));
    assert_eq!(score(14)["samples"].as_u64(), Some(256));
    assert!(score(14)["loss"].as_f64() < score(0)["loss"].as_f64(), "{} {}", score(0), score(14));
    let said = owner.ends();
    assert_eq!((said.code, &said.err[..], said.out.contains("loss")), (Some(0), "", false), "{}", said.out);

    let files = || [&own, &theirs].map(|file| std::fs::read(file).unwrap());
    let before = files();
    let evaluate = |to: &str| {
        let of = ["--evaluate", "--score-to", to, "--checkpoint"];
        let owner = Owner::start(&[&of[..], &[text(&own)]].concat());
        let ran = owner.with(&[&of[..], &[text(&theirs), "--json"], &folder].concat());
        (ran, owner.ends())
    };
    let (ran, said) = evaluate("client");
    let record = &ran.records()[0];
    let names = "net samples score_to score seconds bytes setup ots online peak_memory_bytes";
    assert_eq!(keys(record), named(names));
    let accuracy = record["score"]["accuracy"].as_f64().unwrap();
    assert!(accuracy > 75.0 && record["samples"].as_u64() == Some(60), "{record}");
    assert!(said.code == Some(0) && said.out.contains("the score went to the client"), "{}", said.out);
    fits(&said.out);
    let (ran, said) = evaluate("both");
    assert!(ran.records()[0]["score"].is_object());
    assert!(said.out.contains(" of 60 right, ") && said.out.contains(" %, loss "), "{}", said.out);
    fits(&said.out);
    assert!(files() == before);

    // What the plan says is what it took.
    let plan = ["train", "--plan", "--evaluate", "--net", "64-10", "--samples", "128"];
    let json = &lowkey(&[&plan[..], &["--json"]].concat()).records()[0];
    let part = |name: &str| json[name].as_u64().unwrap();
    let step: u64 =
        named("products guard_bits rectifiers extensions softmax score headers").into_iter().map(part).sum();
    let online = ["bytes_sent", "bytes_received"].map(|way| record["online"][way].as_u64().unwrap());
    assert_eq!(online.iter().sum::<u64>(), step + 4 * 16 + 18);
    let said = lowkey(&plan).prints();
    assert!(said.contains("128 samples of an evaluation") && said.contains("score"), "{said}");
    fits(&said);

    // Both have to mean it.
    let owner = Owner::start(&["--evaluate", "--score-to", "server", "--checkpoint", text(&own)]);
    let other = ["--evaluate", "--score-to", "both", "--checkpoint", text(&theirs)];
    owner.with(&[&other[..], &folder].concat()).fails(2, "who is told a score", "");
    owner.ends().fails(2, "who is told a score", "");

    let open = ["--weights-to", "server", "--resume", "--checkpoint"];
    let owner = Owner::start(&[&open[..], &[text(&own), "-o", text(&network)]].concat());
    owner.with(&[&open[..], &[text(&theirs), "--epochs", "15", "--rate", "3,4"], &folder].concat()).prints();
    assert_eq!(owner.ends().code, Some(0));
    let eval = &lowkey(&["eval", "--model", text(&network), "--data", text(data.path()), "--json"]).records()[0];
    let wanted = eval["accuracy"].as_f64().unwrap();
    assert!((accuracy - wanted).abs() < 8.0, "{accuracy} on shares, {wanted} in the clear");
}
