//! A browser without a window, by its DevTools protocol.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::PATIENCE;

/// Names under which it is found.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// The program.
pub struct Chromium(PathBuf);

/// A page in it. It ends with this.
pub struct Tab {
    process: Child,
    socket: WebSocketStream<TcpStream>,
    session: String,
    calls: u64,
}

impl Drop for Tab {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Chromium {
    /// `CHROMIUM`, or what is found in `PATH`.
    pub fn find() -> Option<Self> {
        if let Some(named) = std::env::var_os("CHROMIUM") {
            return Some(Self(named.into()));
        }
        let path = std::env::var_os("PATH")?;
        let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        NAMES
            .iter()
            .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
            .find(|file| file.is_file())
            .map(Self)
    }

    /// Opens a page.
    pub async fn open(&self, profile: &Path, url: &str) -> Tab {
        let mut process = Command::new(&self.0)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            // It asks nobody but the page's servers.
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"])
            .args(["--remote-debugging-port=0", "--window-size=800,900"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Chromium starts");
        let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
        let listening = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("DevTools listening on ").map(|(_, address)| address.to_owned()));
        // It goes on writing.
        std::thread::spawn(move || lines.for_each(drop));
        let listening = listening.expect("Chromium says where it listens");
        let host = listening.trim_start_matches("ws://").split('/').next().expect("an address");
        let stream = TcpStream::connect(host).await.expect("it listens");
        let (socket, _) = client_async(&listening, stream).await.expect("a WebSocket");
        let mut tab = Tab { process, socket, session: String::new(), calls: 0 };
        let target = tab.call("Target.createTarget", json!({ "url": url })).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session =
            tab.call("Target.attachToTarget", attach).await["sessionId"].as_str().expect("a session").to_owned();
        tab.session = session;
        tab
    }
}

impl Tab {
    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.socket.send(Message::text(message.to_string())).await.expect("Chromium hears");
        let answer = async {
            loop {
                let message = self.socket.next().await.expect("Chromium answers").expect("Chromium answers");
                let Message::Text(text) = message else { continue };
                let message: Value = serde_json::from_str(&text).expect("JSON");
                if message["id"] == json!(self.calls) {
                    assert!(message["error"].is_null(), "{method}: {message}");
                    return message["result"].clone();
                }
            }
        };
        tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| panic!("{method}: no answer"))
    }

    /// The value of an expression, or of its promise.
    pub async fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let outcome = self.call("Runtime.evaluate", params).await;
        assert!(outcome["exceptionDetails"].is_null(), "{expression}: {outcome}");
        outcome["result"]["value"].clone()
    }

    /// The text of an element.
    pub async fn text(&mut self, id: &str) -> String {
        self.evaluate(&format!("document.getElementById({id:?}).textContent")).await.as_str().expect("text").to_owned()
    }

    /// Waits until an expression is one of these texts.
    pub async fn until(&mut self, expression: &str, values: &[&str]) {
        let start = std::time::Instant::now();
        loop {
            let expression = format!("document.body && document.readyState === 'complete' ? {expression} : ''");
            let found = self.evaluate(&expression).await;
            if values.iter().any(|value| found == **value) {
                return;
            }
            if start.elapsed() > PATIENCE {
                panic!("{expression} is {found}: {}", self.text("status").await);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Draws a line on an element with the mouse, in its own coordinates.
    pub async fn draw(&mut self, id: &str, corners: &[(i32, i32)]) {
        let at = format!("(({{ left, top }}) => [left, top])(document.getElementById({id:?}).getBoundingClientRect())");
        let at: (f64, f64) = serde_json::from_value(self.evaluate(&at).await).expect("a place");
        let mut events = vec![("mousePressed", corners[0])];
        for pair in corners.windows(2) {
            let [from, to] = [pair[0], pair[1]];
            let between = |i: i32| (from.0 + (to.0 - from.0) * i / 8, from.1 + (to.1 - from.1) * i / 8);
            events.extend((1..=8).map(|i| ("mouseMoved", between(i))));
        }
        events.push(("mouseReleased", corners[corners.len() - 1]));
        for (kind, (x, y)) in events {
            let (x, y) = (at.0 + f64::from(x), at.1 + f64::from(y));
            let params = json!({ "type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", params).await;
        }
    }

    /// The page as it looks, a PNG.
    pub async fn picture(&mut self) -> Vec<u8> {
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        base64(picture["data"].as_str().expect("a picture"))
    }
}

fn base64(text: &str) -> Vec<u8> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let letters: Vec<u8> = text.bytes().filter(|&letter| letter != b'=').map(value).collect();
    let bytes = letters.chunks(4).flat_map(|four| {
        let word = four.iter().fold(0u32, |word, &six| word << 6 | u32::from(six)) << (6 * (4 - four.len()));
        word.to_be_bytes()[1..four.len()].to_vec()
    });
    bytes.collect()
}
