//! Connections: TLS 1.3 with a certificate authority or a pinned certificate, or plain TCP where that was asked for; for browsers the same
//! with messages of a WebSocket in between. In a browser there are no sockets: whoever runs a client there brings a stream of bytes.

#[cfg(target_arch = "wasm32")]
mod nowhere;
#[cfg(not(target_arch = "wasm32"))]
mod tcp;
#[cfg(all(feature = "websocket", not(target_arch = "wasm32")))]
pub mod websocket;

use std::path::PathBuf;

use tokio::io::{AsyncRead, AsyncWrite};

#[cfg(target_arch = "wasm32")]
pub(crate) use nowhere::{connect_as, is_loopback};
#[cfg(not(target_arch = "wasm32"))]
pub use tcp::{
    Credentials, Incoming, Listener, ServerIdentity, certificates, connect, connect_as, connect_within, is_loopback,
    pin_of,
};

/// A stream of bytes to the other party.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How a client knows that it talks to the right server.
#[derive(Clone, Debug)]
pub enum Trust {
    /// TLS 1.3; the certificate is signed by an authority in this PEM file.
    Authority(PathBuf),
    /// TLS 1.3; the certificate is signed by an authority that this system trusts.
    System,
    /// TLS 1.3; the certificate has this SHA-256 (of its DER form). Neither its dates nor its names are looked at, nor who signed it.
    Pin([u8; 32]),
    /// Plain TCP.
    Plain,
}
