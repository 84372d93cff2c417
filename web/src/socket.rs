//! The page's WebSocket as a stream of bytes.
//!
//! A page's objects belong to its thread and its events come when it idles, so two tasks move the bytes: of messages that have come to
//! the stream, and of the stream into messages. The peer decides how much comes: what waits here is bounded.

use std::cell::Cell;
use std::rc::Rc;

use js_sys::{ArrayBuffer, Uint8Array};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::{BinaryType, CloseEvent, MessageEvent, WebSocket};

/// The longest message that a server takes, in bytes: `lowkey::net::websocket::MAX_MESSAGE`.
const MAX_MESSAGE: usize = 64 * 1024;
/// Most bytes that wait to be read: the longest frame of a session, and a little.
const MAX_WAITING: usize = (256 << 20) + MAX_MESSAGE;

/// What a socket tells.
enum Event {
    Opened,
    Came(Vec<u8>),
    /// With the code of RFC 6455, 7.4, and the peer's reason.
    Closed(u16, String),
    /// The peer does what no server does.
    Broken(&'static str),
}

/// Connects. The stream ends when either end closes.
///
/// # Errors
/// When the URL is none, or nothing answers there: a page is not told why.
pub async fn connect(url: &str) -> Result<DuplexStream, JsError> {
    let refused =
        |_| JsError::new(&format!("{url:?} is no address of a WebSocket: ws://HOST:PORT, or wss:// with TLS"));
    let socket = WebSocket::new(url).map_err(refused)?;
    socket.set_binary_type(BinaryType::Arraybuffer);
    let waiting = Rc::new(Cell::new(0));
    let (tell, mut events) = mpsc::unbounded_channel();
    let heard = Heard::listen(&socket, &tell, &waiting);
    if !matches!(events.recv().await, Some(Event::Opened)) {
        return Err(JsError::new(&format!(
            "nothing answers at {url}, or it does not answer this page: the server names the origins of pages that it does"
        )));
    }
    let (near, far) = tokio::io::duplex(MAX_MESSAGE);
    let (reader, writer) = tokio::io::split(far);
    spawn_local(send(socket.clone(), reader));
    spawn_local(async move {
        receive(&mut events, writer, &waiting).await;
        drop(heard);
        // Nothing is left to say to it.
        let _ = socket.close();
    });
    Ok(near)
}

/// What is called when something happens; nothing is once it is dropped.
struct Heard {
    socket: WebSocket,
    _open: Closure<dyn FnMut()>,
    _message: Closure<dyn FnMut(MessageEvent)>,
    _close: Closure<dyn FnMut(CloseEvent)>,
}

impl Heard {
    fn listen(socket: &WebSocket, tell: &UnboundedSender<Event>, waiting: &Rc<Cell<usize>>) -> Self {
        let to = tell.clone();
        let open = Closure::<dyn FnMut()>::new(move || drop(to.send(Event::Opened)));
        let (to, waiting) = (tell.clone(), waiting.clone());
        let message = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            let Ok(buffer) = event.data().dyn_into::<ArrayBuffer>() else {
                return drop(to.send(Event::Broken("a text message")));
            };
            let bytes = Uint8Array::new(&buffer);
            let all = waiting.get().saturating_add(bytes.length() as usize);
            if all > MAX_WAITING {
                return drop(to.send(Event::Broken("more than was asked for")));
            }
            waiting.set(all);
            drop(to.send(Event::Came(bytes.to_vec())));
        });
        let to = tell.clone();
        let close = Closure::<dyn FnMut(CloseEvent)>::new(move |event: CloseEvent| {
            drop(to.send(Event::Closed(event.code(), event.reason())));
        });
        socket.set_onopen(Some(open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(close.as_ref().unchecked_ref()));
        Self { socket: socket.clone(), _open: open, _message: message, _close: close }
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.socket.set_onopen(None);
        self.socket.set_onmessage(None);
        self.socket.set_onclose(None);
    }
}

/// Hands over what comes, until either end closes.
async fn receive(events: &mut UnboundedReceiver<Event>, mut writer: WriteHalf<DuplexStream>, waiting: &Cell<usize>) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Opened => {}
            Event::Came(bytes) => {
                waiting.set(waiting.get() - bytes.len());
                if writer.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            Event::Closed(1000 | 1005, _) => break,
            Event::Closed(code, reason) => {
                super::log(&format!("lowkey: the connection was closed with {code} {reason}"));
                break;
            }
            Event::Broken(what) => {
                super::log(&format!("lowkey: the server sent {what}"));
                break;
            }
        }
    }
    // The session hears that nothing more comes.
    let _ = writer.shutdown().await;
}

/// Sends what the session writes, until it is done.
async fn send(socket: WebSocket, mut reader: ReadHalf<DuplexStream>) {
    let mut buffer = vec![0; MAX_MESSAGE];
    while let Ok(read @ 1..) = reader.read(&mut buffer).await {
        if socket.send_with_u8_array(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = socket.close();
}
