//! A stream of bytes within binary messages of a WebSocket, for browsers, which have no other connections.
//!
//! The bytes are those of TCP: the frames of a session, cut into messages wherever it suits. What a peer sends beyond that is refused
//! before a session sees it: no message is longer than [`MAX_MESSAGE`], in one piece or in fragments, none is text, and pings are
//! counted. Nothing is compressed: lengths would depend on what is sent.
//!
//! **Who may connect.** A browser names the page's origin in its handshake, and any page may try any address that its visitor can
//! reach; [`Origins`] says which pages are answered. Programs that are no browsers name none, and could as well come over TCP.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::{Sink, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Error as SocketError, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config, client_async_with_config};

use super::Stream;
use crate::error::{Error, Result};

/// The longest message, in bytes, sent or received.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Most messages in a row that carry no byte: pings, pongs, empty ones.
pub const MAX_IDLE_MESSAGES: u32 = 1000;

/// What ends a connection: the peer does not keep to what is spoken here.
#[derive(Debug, thiserror::Error)]
pub enum Violation {
    /// A page of this origin is not answered.
    #[error("a page of the origin {0:?} is not answered")]
    Origin(String),
    /// The handshake is none.
    #[error("no WebSocket handshake: {0}")]
    Handshake(String),
    /// A text message.
    #[error("a text message; sessions are in binary ones")]
    Text,
    /// A message, or the fragments of one, beyond [`MAX_MESSAGE`].
    #[error("a message of more than {MAX_MESSAGE} bytes")]
    TooLong,
    /// More than [`MAX_IDLE_MESSAGES`] of them.
    #[error("more than {MAX_IDLE_MESSAGES} messages in a row without a byte of a session")]
    Idle,
    /// Not as RFC 6455 has it.
    #[error("not as a WebSocket speaks: {0}")]
    Framing(String),
}

impl From<Violation> for io::Error {
    fn from(violation: Violation) -> Self {
        Self::new(io::ErrorKind::InvalidData, violation)
    }
}

/// The pages that are answered, by their origins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    named: Vec<String>,
    /// Pages of this machine, whatever their port.
    local: bool,
}

impl Origins {
    /// Those that are named, as browsers write them: `https://example.org`, with the port if it is not the scheme's own. If none is,
    /// and the server listens on a loopback address, pages of this machine are answered; elsewhere no page is.
    ///
    /// # Errors
    /// When one is not an origin: another scheme than http and https, or more than scheme, host and port.
    pub fn new(named: impl IntoIterator<Item = String>, loopback: bool) -> Result<Self> {
        let named: Vec<String> = named.into_iter().map(checked).collect::<Result<_>>()?;
        let local = named.is_empty() && loopback;
        Ok(Self { named, local })
    }

    /// True if a page of this origin is answered; `None` is no page.
    pub fn allow(&self, origin: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        self.named.iter().any(|named| named == origin) || self.local && is_local(origin)
    }
}

/// An origin as browsers write it.
fn checked(origin: String) -> Result<String> {
    let host = host(&origin).filter(|host| !host.is_empty() && !origin.ends_with('/'));
    let plain = |c: char| c.is_ascii_graphic() && !c.is_ascii_uppercase() && !"/?#@\\".contains(c);
    match host {
        Some(_) if authority(&origin).is_some_and(|authority| authority.chars().all(plain)) => Ok(origin),
        _ => Err(Error::usage(
            format!("{origin:?} is no origin of a page"),
            "write scheme and host in small letters, and the port unless it is the scheme's own: https://example.org:8443",
        )),
    }
}

/// What follows the scheme.
fn authority(origin: &str) -> Option<&str> {
    origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))
}

/// The host, without its port.
fn host(origin: &str) -> Option<&str> {
    let authority = authority(origin)?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    port.is_none_or(|port| port.parse::<u16>().is_ok()).then_some(host)
}

/// True of pages that come from this machine.
fn is_local(origin: &str) -> bool {
    let Some(host) = host(origin) else { return false };
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The same limits on both ends, from the first byte on.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * MAX_MESSAGE)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

/// The server's end: waits for a browser's handshake. Who takes long is the caller's concern.
///
/// # Errors
/// A [`Violation`] where the peer speaks something else or its page is not answered; or the stream failed.
pub async fn accept<S: Stream>(stream: S, origins: &Origins) -> io::Result<Messages<S>> {
    let mut refused = None;
    #[expect(clippy::result_large_err, reason = "the crate's callback answers with a response")]
    let look = |request: &Request, response: Response| {
        // One that is not text is none that was named.
        let origin = request.headers().get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or("?"));
        if origins.allow(origin) {
            return Ok(response);
        }
        refused = origin.map(str::to_owned);
        let mut refusal = ErrorResponse::new(Some("pages of this origin are not answered\n".into()));
        *refusal.status_mut() = StatusCode::FORBIDDEN;
        Err(refusal)
    };
    let accepted = accept_hdr_async_with_config(stream, look, Some(config())).await;
    match (accepted, refused) {
        (Ok(socket), _) => Ok(Messages::new(socket)),
        (Err(_), Some(origin)) => Err(Violation::Origin(origin).into()),
        (Err(error), None) => Err(of_handshake(error)),
    }
}

/// A client's end, for programs that are no browsers: `host` (host:port) and the page's origin, if there is one, stand in the handshake.
///
/// # Errors
/// A [`Violation`] where the peer is no such server or refuses; or the stream failed.
pub async fn connect<S: Stream>(stream: S, host: &str, origin: Option<&str>) -> io::Result<Messages<S>> {
    let mut request = tokio_tungstenite::tungstenite::http::Request::builder()
        .uri(format!("ws://{host}/"))
        .header(header::HOST, host)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, generate_key());
    if let Some(origin) = origin {
        request = request.header(header::ORIGIN, origin);
    }
    let request = request.body(()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let (socket, _) = client_async_with_config(request, stream, Some(config())).await.map_err(of_handshake)?;
    Ok(Messages::new(socket))
}

/// A handshake that failed.
fn of_handshake(error: SocketError) -> io::Error {
    match error {
        SocketError::Io(error) => error,
        error => Violation::Handshake(error.to_string()).into(),
    }
}

/// A stream of bytes in messages.
pub struct Messages<S> {
    socket: WebSocketStream<S>,
    /// Of the last message, what was not read yet.
    rest: Bytes,
    /// Messages in a row that carried no byte.
    idle: u32,
}

impl<S> fmt::Debug for Messages<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
}

impl<S: Stream> Messages<S> {
    fn new(socket: WebSocketStream<S>) -> Self {
        Self { socket, rest: Bytes::new(), idle: 0 }
    }

    /// Waits until there are bytes; `false` at the end.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)).transpose().map_err(of_socket) {
                Ok(Some(Message::Binary(bytes))) if !bytes.is_empty() => {
                    self.rest = bytes;
                    self.idle = 0;
                }
                Ok(Some(Message::Text(_))) => return Poll::Ready(Err(Violation::Text.into())),
                Ok(Some(Message::Close(_))) => {
                    // The reply to a goodbye goes if it can: nobody has to read again for it.
                    let _ = Pin::new(&mut self.socket).poll_flush(cx);
                    return Poll::Ready(Ok(false));
                }
                Ok(None) => return Poll::Ready(Ok(false)),
                Ok(Some(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                    self.idle += 1;
                    if self.idle > MAX_IDLE_MESSAGES {
                        return Poll::Ready(Err(Violation::Idle.into()));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(false)),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(true))
    }
}

/// A connection that failed, or a peer that does not speak as it should. That it ends without a goodbye is as with TCP: frames have their
/// lengths.
fn of_socket(error: SocketError) -> io::Error {
    use tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
    match error {
        SocketError::Io(error) => error,
        SocketError::Protocol(ResetWithoutClosingHandshake)
        | SocketError::ConnectionClosed
        | SocketError::AlreadyClosed => io::ErrorKind::UnexpectedEof.into(),
        SocketError::Capacity(CapacityError::MessageTooLong { .. }) => Violation::TooLong.into(),
        error => Violation::Framing(error.to_string()).into(),
    }
}

/// A connection that cannot be written to any more.
fn of_writing(error: SocketError) -> io::Error {
    match of_socket(error) {
        error if error.kind() == io::ErrorKind::UnexpectedEof => io::ErrorKind::BrokenPipe.into(),
        error => error,
    }
}

impl<S: Stream> AsyncRead for Messages<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buffer.remaining() > 0 && ready!(this.poll_bytes(cx))? {
            let bytes = this.rest.split_to(this.rest.len().min(buffer.remaining()));
            buffer.put_slice(&bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Stream> AsyncWrite for Messages<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let bytes = &bytes[..bytes.len().min(MAX_MESSAGE)];
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(of_writing)?;
        let message = Message::Binary(Bytes::copy_from_slice(bytes));
        Pin::new(&mut self.socket).start_send(message).map_err(of_writing)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(of_writing)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let goodbye = ready!(Pin::new(&mut self.socket).poll_close(cx)).map_err(of_writing);
        // A peer that has gone needs none.
        Poll::Ready(
            goodbye.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }),
        )
    }
}

#[cfg(test)]
mod tests;
