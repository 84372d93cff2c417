//! As much HTTP as a probe and a Prometheus need: GET, one answer, the end. Few connections at once, and little time and room for each.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections at once; more are closed.
const MOST: usize = 16;
/// From the first byte of a request to the last of its answer.
const TIME: Duration = Duration::from_secs(5);
/// Bytes of a request.
const REQUEST: usize = 4096;

/// An answer.
pub struct Page {
    pub status: &'static str,
    pub kind: &'static str,
    pub body: String,
}

impl Page {
    pub fn text(status: &'static str, body: impl Into<String>) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: body.into() }
    }
}

/// Answers requests for paths, for ever.
pub async fn serve(listener: TcpListener, answer: impl Fn(&str) -> Page + Send + Sync + 'static) {
    let (answer, seats) = (Arc::new(answer), Arc::new(Semaphore::new(MOST)));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, say.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(seat) = seats.clone().try_acquire_owned() else { continue };
        let answer = answer.clone();
        tokio::spawn(async move {
            // Whoever is late or gone is nobody's loss.
            let _ = tokio::time::timeout(TIME, respond(stream, &*answer)).await;
            drop(seat);
        });
    }
}

async fn respond(mut stream: TcpStream, answer: &(dyn Fn(&str) -> Page + Send + Sync)) -> std::io::Result<()> {
    let page = match request(&mut stream).await? {
        Some(path) => answer(&path),
        None => Page::text("400 Bad Request", "GET /metrics, /healthz or /readyz\n"),
    };
    let head = format!(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        page.status,
        page.kind,
        page.body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(page.body.as_bytes()).await?;
    stream.shutdown().await
}

/// The path of a GET; `None` of anything else.
async fn request(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut stream = BufReader::new(stream.take(REQUEST as u64));
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut head).await? == 0 {
            return Ok(None);
        }
    }
    Ok(path(&head))
}

/// The path in a request's first line, without what stands behind a question mark.
fn path(head: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(head).ok()?.lines().next()?;
    let mut words = line.split(' ');
    let (Some("GET"), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return None;
    };
    target.split('?').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let of = |line: &str| path(format!("{line}\r\nHost: x\r\n\r\n").as_bytes());
        assert_eq!(of("GET /metrics HTTP/1.1").as_deref(), Some("/metrics"));
        assert_eq!(of("GET /metrics?format=text HTTP/1.0").as_deref(), Some("/metrics"));
        for line in ["", "GET", "GET /", "POST / HTTP/1.1", "GET / HTTP/2", "GET / HTTP/1.1 x", "get / HTTP/1.1"] {
            assert_eq!(of(line), None, "{line}");
        }
        assert_eq!(path(b"GET /\xff HTTP/1.1\r\n\r\n"), None);
    }
}
