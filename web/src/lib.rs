//! The client in a browser: what the page's worker calls. Docs: `docs/browser.md`; words are in `docs/words.md`.
//!
//! Everything that is secret stays within the module's memory, which is the worker's own: pixels come in, an answer goes out, and what a
//! server sees are the frames that every client sends. Results are JSON.

#![cfg(target_arch = "wasm32")]

mod socket;

use lowkey::report::StageReport;
use lowkey::{Answer, Client, Error, Values};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;
use zeroize::Zeroizing;

/// A session with a server.
#[wasm_bindgen]
pub struct Session {
    client: Client,
}

/// Says on the console where the program stopped, if it does; such a message has no values of a session in it.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|stopped| log(&stopped.to_string())));
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn log(message: &str);
}

/// Opens a session with the server at `url` (`ws://` or `wss://`). `digest` is that of the only model to accept, in hex, and `model` the
/// name of the one to ask for, where there are several.
///
/// # Errors
/// When nothing answers there, it is no server of this version, or its model is not the expected one.
#[wasm_bindgen]
pub async fn open(url: String, digest: Option<String>, model: Option<String>) -> Result<Session, JsError> {
    let mut builder = Client::builder();
    if let Some(digest) = digest.filter(|digest| !digest.is_empty()) {
        builder = builder.digest(read_digest(&digest)?);
    }
    if let Some(model) = model.filter(|model| !model.is_empty()) {
        builder = builder.model(model);
    }
    let stream = socket::connect(&url).await?;
    let client = builder.over(stream, url).await.map_err(failed)?;
    Ok(Session { client })
}

fn read_digest(text: &str) -> Result<[u8; 32], JsError> {
    let bytes = hex::decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| JsError::new("a digest is 64 hexadecimal digits"))
}

#[wasm_bindgen]
impl Session {
    /// What the server has published: name, digest, the input's channels, height and width, the classes' names, and what opening took.
    pub fn about(&self) -> String {
        let architecture = self.client.architecture();
        json!({
            "name": architecture.name,
            "digest": hex::encode(self.client.digest()),
            "input": architecture.input.shape,
            "classes": architecture.classes,
            "setup": stage(self.client.setup()),
        })
        .to_string()
    }

    /// Does everything for one more answer that does not depend on its input.
    ///
    /// # Errors
    /// When the connection or the server fails; the session is over then.
    pub async fn prepare(&mut self) -> Result<(), JsError> {
        self.client.prepare(1).await.map_err(failed)
    }

    /// Answers that are prepared.
    pub fn ready(&self) -> usize {
        self.client.ready()
    }

    /// Answers a picture: pixels of 8 bits, row by row, the channels of a pixel side by side.
    ///
    /// # Errors
    /// When it is not of the network's size (nothing is sent), or the connection or the server fails (the session is over).
    pub async fn ask(&mut self, pixels: Vec<u8>) -> Result<String, JsError> {
        let pixels = Zeroizing::new(pixels);
        let answer = self.client.infer(Values::Pixels(&pixels)).await.map_err(failed)?;
        Ok(self.told(&answer).to_string())
    }

    fn told(&self, answer: &Answer) -> Value {
        json!({
            "class": answer.class,
            "name": answer.name,
            "logits": answer.logits,
            "probabilities": answer.probabilities(self.client.architecture()),
            "offline": stage(&answer.report.offline),
            "online": stage(&answer.report.online),
        })
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn close(self) -> Result<(), JsError> {
        self.client.close().await.map_err(failed)
    }
}

fn stage(stage: &StageReport) -> Value {
    json!({ "ms": stage.ms, "sent": stage.bytes_sent, "received": stage.bytes_received, "flights": stage.flights })
}

/// What went wrong and what to do, in words.
fn failed(error: Error) -> JsError {
    match error.remedy() {
        Some(remedy) => JsError::new(&format!("{error}; {remedy}")),
        None => JsError::new(&error.to_string()),
    }
}
