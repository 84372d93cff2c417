//! Over a transport of one's own, here one that counts: `cargo run --release --example custom_transport`.
//!
//! Whatever is `AsyncRead + AsyncWrite` joins the parties: a Unix socket, a WebSocket, a tunnel. It need not be safe for the input's
//! sake, but whoever can change bytes on the way can break an answer: bring encryption along, or use [`lowkey::net`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use lowkey::{Client, Model, Server};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// A connection that knows what went out over it.
struct Counting<S> {
    inner: S,
    sent: Arc<AtomicU64>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counting<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counting<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            self.sent.fetch_add(*count as u64, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

fn failed(error: io::Error) -> lowkey::Error {
    lowkey::Error::Connect { address: "loopback".into(), source: error }
}

#[tokio::main]
async fn main() -> lowkey::Result<()> {
    let model = Model::open("digits")?;
    let image = model.demo().and_then(|demo| demo.inputs.get(0)).expect("digits come with it");
    let server = Server::builder(model).build().await?;

    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.map_err(failed)?;
        server.serve(stream).await
    });

    let sent = Arc::new(AtomicU64::new(0));
    let inner = TcpStream::connect(address).await.map_err(failed)?;
    let mut client = Client::builder().over(Counting { inner, sent: sent.clone() }, address).await?;
    let answer = client.infer(&image).await?;
    let reported = [client.setup(), &answer.report.offline, &answer.report.online].map(|stage| stage.socket_bytes_sent);
    client.close().await?;
    serving.await.expect("no panic")?;
    println!(
        "class {:?}; {} bytes sent, of which {} for the answer and before",
        answer.class,
        sent.load(Ordering::Relaxed),
        reported.iter().sum::<u64>()
    );
    Ok(())
}
