//! What a stream in messages takes and refuses, frame by frame.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

/// RFC 6455, 5.2: opcodes of the first byte, with the bit of a last fragment.
const LAST: u8 = 0x80;
const CONTINUED: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const PING: u8 = 9;

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A masked frame that says it has `length` bytes.
fn headed(first: u8, length: usize, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match length {
        0..126 => frame.push(0x80 | length as u8),
        126..65536 => frame.extend([&[0xfe][..], &(length as u16).to_be_bytes()].concat()),
        _ => frame.extend([&[0xff][..], &(length as u64).to_be_bytes()].concat()),
    }
    frame.extend([1, 2, 3, 4]);
    frame.extend(payload.iter().zip([1, 2, 3, 4].into_iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    headed(first, payload.len(), payload)
}

/// A server's end, and the bytes of a client that has just done its handshake.
async fn opened() -> (Messages<DuplexStream>, DuplexStream) {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    client.write_all(format!("{REQUEST}\r\n").as_bytes()).await.unwrap();
    let server = accept(server, &Origins::default()).await.unwrap();
    let mut answer = [0; 1024];
    let read = client.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("extensions"), "nothing is compressed: {answer}");
    (server, client)
}

/// What the server's end makes of these bytes: what it read, and how that ended.
async fn read(sent: &[u8]) -> (Vec<u8>, io::Result<()>) {
    let (mut server, mut client) = opened().await;
    client.write_all(sent).await.unwrap();
    // Whoever sends pings stays to hear the answers.
    client.shutdown().await.unwrap();
    let mut bytes = Vec::new();
    let outcome = server.read_to_end(&mut bytes).await.map(drop);
    (bytes, outcome)
}

fn violation(outcome: io::Result<()>) -> Violation {
    let error = outcome.expect_err("a violation");
    *error.into_inner().expect("of ours").downcast::<Violation>().unwrap_or_else(|other| panic!("{other}"))
}

#[tokio::test]
async fn bytes_come_whole_however_they_are_cut() {
    let whole = [frame(BINARY | LAST, b"one"), frame(PING | LAST, b"?"), frame(BINARY | LAST, b"two")].concat();
    let (bytes, outcome) = read(&whole).await;
    outcome.unwrap();
    assert_eq!(bytes, b"onetwo");
    let fragments = [frame(BINARY, b"on"), frame(PING | LAST, b"?"), frame(CONTINUED, b""), frame(LAST, b"e")].concat();
    let (bytes, outcome) = read(&fragments).await;
    outcome.unwrap();
    assert_eq!(bytes, b"one");
    let longest = vec![7; MAX_MESSAGE];
    assert_eq!(read(&frame(BINARY | LAST, &longest)).await.0, longest);
}

#[tokio::test]
async fn what_is_no_session_is_a_typed_error() {
    let long = vec![0; MAX_MESSAGE + 1];
    let (half, more) = long.split_at(MAX_MESSAGE);
    let fragmented = [frame(BINARY, half), frame(LAST, more)].concat();
    for (sent, what) in [
        (frame(TEXT | LAST, b"hello"), "text"),
        (frame(BINARY | LAST, &long), "one message too long"),
        (headed(BINARY | LAST, 1 << 40, b""), "a length of a terabyte, before its first byte"),
        (fragmented, "too long in fragments"),
        (frame(PING | LAST, b"?").repeat(MAX_IDLE_MESSAGES as usize + 1), "pings"),
        (frame(BINARY | LAST, b"").repeat(MAX_IDLE_MESSAGES as usize + 1), "empty messages"),
        (frame(LAST, b"1"), "a fragment of nothing"),
        (frame(0x40 | BINARY | LAST, b"1"), "a compressed message"),
        (frame(3 | LAST, b"1"), "an unknown kind"),
        (vec![BINARY | LAST, 1, b'1'], "without a mask"),
    ] {
        let found = violation(read(&sent).await.1);
        let expected = match what {
            "text" => matches!(found, Violation::Text),
            "pings" | "empty messages" => matches!(found, Violation::Idle),
            _ if what.contains("long") || what.contains("terabyte") => matches!(found, Violation::TooLong),
            _ => matches!(found, Violation::Framing(_)),
        };
        assert!(expected, "{what}: {found:?}");
    }
    // Pings between the bytes of a session may go on for ever.
    let pings = frame(PING | LAST, b"?").repeat(MAX_IDLE_MESSAGES as usize - 1);
    let (bytes, outcome) =
        read(&[pings.clone(), frame(BINARY | LAST, b"1"), pings, frame(BINARY | LAST, b"2")].concat()).await;
    outcome.unwrap();
    assert_eq!(bytes, b"12");
}

/// They carry nothing and never end: whoever waits for bytes sees none, so that its patience is what ends it.
#[tokio::test]
async fn endless_fragments_bring_nothing() {
    let (mut server, mut client) = opened().await;
    client.write_all(&frame(BINARY, b"")).await.unwrap();
    let flood = async {
        loop {
            client.write_all(&frame(CONTINUED, b"")).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let read = tokio::time::timeout(Duration::from_millis(50), server.read_u8());
    tokio::select! {
        read = read => assert!(read.is_err(), "{read:?}"),
        () = flood => unreachable!(),
    }
}

#[tokio::test]
async fn a_handshake_that_is_none() {
    let endless = format!("GET / HTTP/1.1\r\nHost: {}", "h".repeat(1 << 20));
    let old = format!("{}\r\n", REQUEST.replace("version: 13", "version: 8").replace("Version: 13", "Version: 8"));
    for request in ["\0\0\0\0\r\n\r\n", "POST / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", &old, &endless]
    {
        let (mut client, server) = tokio::io::duplex(1 << 21);
        client.write_all(request.as_bytes()).await.unwrap();
        let outcome = accept(server, &Origins::default()).await.map(drop);
        assert!(matches!(violation(outcome), Violation::Handshake(_)), "{:.40}", request);
    }
}

#[test]
fn which_pages_are_answered() {
    let (near, far) = (Origins::new([], true).unwrap(), Origins::new([], false).unwrap());
    for origin in
        ["http://localhost:8000", "https://localhost", "http://127.0.0.1:8000", "http://[::1]:8000", "http://127.9.9.9"]
    {
        assert!(near.allow(Some(origin)), "{origin}");
        assert!(!far.allow(Some(origin)), "{origin}");
    }
    for origin in [
        "https://example.org",
        "http://localhost.example.org",
        "http://127.0.0.1.example.org",
        "http://[::1].example.org",
        "http://localhost:evil",
        "file://localhost",
        "null",
        "",
    ] {
        assert!(!near.allow(Some(origin)), "{origin}");
    }
    assert!(near.allow(None) && far.allow(None), "no browser");

    let named = Origins::new(["https://example.org".to_owned(), "http://[2001:db8::1]:81".to_owned()], true).unwrap();
    assert!(named.allow(Some("https://example.org")) && named.allow(Some("http://[2001:db8::1]:81")));
    for origin in
        ["http://example.org", "https://example.org:444", "https://www.example.org", "http://localhost", "null"]
    {
        assert!(!named.allow(Some(origin)), "{origin}");
    }
    for none in [
        "",
        "*",
        "null",
        "example.org",
        "ftp://example.org",
        "https://",
        "https://example.org/",
        "https://example.org/page",
        "https://Example.org",
        "https://a@example.org",
        "https://example.org:port",
        "https://exa mple.org",
    ] {
        assert!(Origins::new([none.to_owned()], true).is_err(), "{none:?}");
    }
}

#[tokio::test]
async fn another_page_is_told_no() {
    let (client, server) = tokio::io::duplex(1 << 16);
    let origins = Origins::new([], true).unwrap();
    let (accepted, connected) =
        tokio::join!(accept(server, &origins), connect(client, "localhost:1", Some("https://example.org")));
    assert!(matches!(violation(accepted.map(drop)), Violation::Origin(origin) if origin == "https://example.org"));
    let refused = violation(connected.map(drop));
    assert!(refused.to_string().contains("403"), "{refused}");
}

#[tokio::test]
async fn both_ends_close_and_what_was_sent_arrives() {
    let (client, server) = tokio::io::duplex(1 << 16);
    let origins = Origins::default();
    let (server, client) = tokio::join!(accept(server, &origins), connect(client, "localhost:1", None));
    let (mut server, mut client) = (server.unwrap(), client.unwrap());
    // Longer than a message, and than what lies in between.
    let sent: Vec<u8> = (0..300_000).map(|i| i as u8).collect();
    let write = async {
        server.write_all(&sent).await.unwrap();
        server.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let (_, read) = tokio::join!(write, client.read_to_end(&mut received));
    read.unwrap();
    assert_eq!(received, sent);
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0, "the client said goodbye too");
    assert!(client.write_all(&[1]).await.is_err());
}
