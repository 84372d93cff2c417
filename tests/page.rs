//! The page for browsers, in a browser: what it says of a drawing is what the network computes, and the server's log tells nothing of it.
//!
//! Skipped, saying so, where there is no Chromium, or the page was not built (`web/build.sh`). With `LOWKEY_SHOT=FILE.png` the page is
//! written there as it looks at the end.

#[path = "page/chromium.rs"]
mod chromium;
#[path = "common/command.rs"]
mod command;
#[path = "page/files.rs"]
mod files;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use chromium::{Chromium, Tab};
use command::lowkey;
use lowkey::{Answer, Model, Values};
use serde_json::Value;

/// Nothing here takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("web/page")
}

fn model() -> Model {
    Model::open("digits").unwrap()
}

/// `lowkey serve` for browsers, which tells all that it ever tells.
struct Served {
    process: Child,
    /// For clients over TCP.
    listening: String,
    /// For browsers.
    address: String,
    digest: String,
}

impl Served {
    fn start(folder: &Path) -> Self {
        let mut command =
            lowkey(&["serve", "--model", "digits", "--listen", "127.0.0.1:0", "--websocket", "127.0.0.1:0", "-vv"]);
        command.env("LOWKEY_CACHE", folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the command runs");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let mut after = |what: &str| {
            let line = lines.by_ref().map_while(Result::ok).find_map(|line| line.strip_prefix(what).map(str::to_owned));
            line.unwrap_or_else(|| panic!("the server says {what}"))
        };
        let listening = after("listening on ");
        let digest = after("model digits digest ");
        let address = after("browsers on ");
        Self { process, listening, address, digest }
    }

    /// Its log.
    fn end(mut self) -> String {
        self.process.kill().expect("it ends");
        self.process.wait().expect("it ends");
        let mut log = String::new();
        self.process.stderr.take().expect("piped").read_to_string(&mut log).expect("its log");
        log
    }
}

/// What the page says of these pixels.
async fn ask(tab: &mut Tab, pixels: &[u8]) -> Value {
    let answer = tab.evaluate(&format!("lowkey.ask(new Uint8Array({pixels:?})).then(JSON.stringify)")).await;
    serde_json::from_str(answer.as_str().expect("JSON")).expect("JSON")
}

/// Median times of the page and of a client of this program at the same server, for people. In milliseconds.
async fn tell_times(tab: &mut Tab, listening: &str, pixels: &[u8]) {
    let mut client = lowkey::Client::connect(listening).await.unwrap();
    let (mut page, mut own) = (Vec::new(), Vec::new());
    for _ in 0..11 {
        tab.evaluate("lowkey.prepared()").await;
        let answer = ask(tab, pixels).await;
        page.push(["offline", "online"].map(|stage| answer[stage]["ms"].as_f64().unwrap()));
        let report = client.infer(Values::Pixels(pixels)).await.unwrap().report;
        own.push([report.offline.ms, report.online.ms]);
    }
    let setup = tab.text("setup-ms").await;
    println!("page: session {setup}, offline {:.1}, online {:.1}", median(&page, 0), median(&page, 1));
    println!(
        "command: session {:.0} ms, offline {:.1}, online {:.1}",
        client.setup().ms,
        median(&own, 0),
        median(&own, 1)
    );
    client.close().await.unwrap();
}

fn median(times: &[[f64; 2]], stage: usize) -> f64 {
    let mut times: Vec<f64> = times.iter().map(|both| both[stage]).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn assert_equal(said: &Value, expected: &Answer) {
    assert_eq!(said["class"], serde_json::json!(expected.class), "{said}");
    assert_eq!(said["logits"], serde_json::json!(expected.logits), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drawing_is_answered_as_the_network_would() {
    if !page().join("pkg/lowkey_web_bg.wasm").exists() {
        eprintln!("skipped: the page is not built (web/build.sh)");
        return;
    }
    let Some(chromium) = Chromium::find() else {
        eprintln!("skipped: no Chromium");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(&folder.path().join("state"));
    let site = files::serve(page()).await;
    let (address, digest) = (&served.address, &served.digest);
    let url = format!("http://{site}/index.html?server=ws://{address}&digest={digest}");
    let mut tab = chromium.open(&folder.path().join("profile"), &url).await;

    tab.until("document.body.dataset.state", &["ready"]).await;
    assert_eq!(tab.text("digest").await, *digest);
    let (model, mut asked) = (model(), Vec::new());
    let demo = model.demo().unwrap();
    for index in [0, 7, 41] {
        let pixels: Vec<u8> = demo.inputs.get(index).unwrap().iter().map(|&value| (17 * value) as u8).collect();
        let expected = model.answer(Values::Pixels(&pixels)).unwrap();
        assert_equal(&ask(&mut tab, &pixels).await, &expected);
        assert_eq!(tab.text("label").await, expected.name.clone().unwrap_or(expected.class.unwrap().to_string()));
        asked.push((pixels, expected));
    }

    tell_times(&mut tab, &served.listening, &asked[0].0).await;

    // With the mouse: a three.
    let answers: u32 = tab.evaluate("document.body.dataset.answers").await.as_str().unwrap().parse().unwrap();
    tab.draw("ink", &[(80, 60), (140, 40), (195, 75), (135, 130), (200, 180), (150, 240), (75, 215)]).await;
    tab.until("document.body.dataset.answers", &[&(answers + 1).to_string()]).await;
    let pixels = tab.evaluate("Array.from(lowkey.fit())").await;
    let pixels: Vec<u8> = serde_json::from_value(pixels).unwrap();
    assert!(pixels.iter().any(|&pixel| pixel > 200), "{pixels:?}");
    let expected = model.answer(Values::Pixels(&pixels)).unwrap();
    assert_eq!(tab.text("label").await, expected.class.unwrap().to_string());
    asked.push((pixels, expected));
    if let Some(file) = std::env::var_os("LOWKEY_SHOT") {
        std::fs::write(file, tab.picture().await).unwrap();
    }

    // Too few pixels are refused here, and the page says so.
    let refused = tab.evaluate("lowkey.ask(new Uint8Array(3)).catch((error) => error.message)").await;
    assert!(refused.as_str().unwrap().contains("64"), "{refused}");

    // Another model is not accepted.
    tab.evaluate(&format!("document.getElementById('expected').value = '{}'; lowkey.connect()", "0".repeat(64))).await;
    tab.until("document.body.dataset.state", &["failed"]).await;
    assert!(tab.text("status").await.contains(digest), "{}", tab.text("status").await);

    let log = served.end();
    assert!(log.contains("inference"), "{log}");
    for (pixels, answer) in asked {
        let logits = answer.logits.unwrap();
        for secret in [format!("{:?}", &pixels[10..20]), format!("{:?}", &logits[..4])] {
            let secret = secret.trim_matches(['[', ']']);
            assert!(!log.contains(secret), "{secret} in {log}");
        }
    }
    assert!(!log.contains("tungstenite"), "{log}");
}
