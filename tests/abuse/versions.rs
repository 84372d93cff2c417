//! Clients and servers of different versions: each end says which the other has and which its own is.

use lowkey::session::{MAGIC, VERSION, Welcome};
use lowkey_mpc::wire;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

use super::common::block_on;
use super::common::frames::{ABORT, CONTROL, abort_code, frame, frames, rest};
use super::*;

/// The welcome as version 1 reads it: these fields and no other byte.
#[derive(Debug, PartialEq, Deserialize)]
struct WelcomeOfVersion1 {
    version: u32,
    digest: [u8; 32],
    epoch: [u8; 32],
    plan_bytes: u32,
    hint_bytes: u32,
}

#[track_caller]
fn names_both(what: &str, error: &Error, found: u32) {
    let text = error.to_string();
    assert!(text.contains(&format!("version {found} of the protocol")), "{what}: {text}");
    assert!(text.contains(&format!("this program version {VERSION}")), "{what}: {text}");
    assert_eq!((error.fault(), error.abort_code()), (Fault::Peer, Some(AbortCode::Version)), "{what}");
    assert!(error.hint().unwrap().contains("same version"), "{what}");
}

/// Clients of other versions, the first and later ones with longer hellos.
#[test]
fn other_clients() {
    block_on(async {
        let mut site = Site::start(server::Options::default()).await;
        for (version, more) in [(1, 0), (VERSION + 1, 0), (VERSION + 7, 200), (u32::MAX, 1)] {
            let what = format!("a client of version {version}");
            let hello = [&MAGIC[..], &version.to_le_bytes(), &vec![5; more]].concat();
            let mut stream = site.connect().await;
            stream.write_all(&frame(CONTROL, 0, 1, &hello)).await.unwrap();
            let answer = within(&what, rest(&mut stream)).await;
            names_both(&what, &peer_fault(&what, site.outcome(&what).await), version);
            let [welcome, abort] = &frames(&answer)[..] else { panic!("{what}: {answer:?}") };
            assert_eq!((welcome.kind, welcome.stage, welcome.depth), (CONTROL, 0, 2), "{what}");
            let read: WelcomeOfVersion1 = wire::decode(&welcome.payload, 256).unwrap();
            let nothing = [0; 32];
            let expected =
                WelcomeOfVersion1 { version: VERSION, digest: nothing, epoch: nothing, plan_bytes: 0, hint_bytes: 0 };
            assert_eq!(read, expected, "{what}");
            assert_eq!(abort_code(&answer[abort.start..]), Some(AbortCode::Version as u16), "{what}");
        }
        site.still_serves("other clients").await;
    });
}

/// Servers of other versions: the first gives a code and no version, later ones a welcome of the first's form.
#[test]
fn other_servers() {
    let abort = frame(ABORT, 0, 2, &(AbortCode::Version as u16).to_le_bytes());
    let refusal = |version: u32| {
        let welcome = wire::encode(&Welcome { version, ..Welcome::refusal() }).unwrap();
        [frame(CONTROL, 0, 2, &welcome), abort.clone()].concat()
    };
    let servers = [(1, abort.clone()), (VERSION + 1, refusal(VERSION + 1)), (900, refusal(900))];
    block_on(async {
        for (version, answer) in servers {
            let what = format!("a server of version {version}");
            let (here, mut there) = tokio::io::duplex(1 << 16);
            there.write_all(&answer).await.unwrap();
            names_both(&what, &peer_fault(&what, within(&what, open(here)).await), version);
        }
    });
}
