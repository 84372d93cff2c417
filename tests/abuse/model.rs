//! Servers whose model, plan or digest is not acceptable, and files of the client that were damaged.

use std::collections::BTreeMap;
use std::time::Instant;

use lowkey::publication::read_plan;
use lowkey::session::{Accept, Hello, MAX_CONTROL, VERSION, Welcome};
use lowkey::store::{Digest, Store};
use lowkey::{Link, Package};
use lowkey_models::random::{self, Size};
use lowkey_mpc::channel::{Channel, FrameKind};
use lowkey_mpc::party::Party;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;
use serde_json::{Value, json};

use super::common::{self, block_on};
use super::*;

/// A server that publishes whatever it is given; it stops where it would set up OTs.
struct Impostor {
    welcome: Welcome,
    plan: Vec<u8>,
    hint: Vec<u8>,
}

impl Impostor {
    /// Publishes a package, honestly up to here.
    fn of(package: &Package) -> Self {
        let (plan_bytes, hint_bytes) = (package.plan.len() as u32, package.hint.len() as u32);
        let welcome =
            Welcome { version: VERSION, digest: package.digest(), epoch: package.epoch, plan_bytes, hint_bytes };
        Self { welcome, plan: package.plan.clone(), hint: package.hint.clone() }
    }

    /// Publishes another plan under its own digest.
    fn planning(plan: &Value) -> Self {
        let package = &digits().model.package;
        Self::of(&Package { plan: plan.to_string().into_bytes(), ..package.clone() })
    }

    /// Meets a client; returns what the client had to say to the plan, and how its session ended.
    async fn meet(self, options: Options) -> (Result<Accept, ProtocolError>, Error) {
        let (here, there) = tokio::io::duplex(1 << 20);
        let server = tokio::spawn(async move {
            let mut channel = Channel::new(there, Party::Server, Limits::default());
            let _: Hello = channel.recv_control(MAX_CONTROL).await?;
            channel.send_control(&self.welcome).await?;
            channel.send(FrameKind::Control, self.plan).await?;
            let accept: Accept = channel.recv_control(MAX_CONTROL).await?;
            if accept.send_hint {
                channel.send(FrameKind::Hint, self.hint).await?;
            }
            // Until the client has had enough.
            let _ = channel.recv_at_most(FrameKind::OtBatch, 1 << 20).await;
            Ok(accept)
        });
        let outcome = within("an impostor", Session::open_seeded(Box::new(here), options, common::seed())).await;
        let error = outcome.err().expect("no session with an impostor");
        (within("the impostor", server).await.unwrap(), error)
    }

    /// Checks that the client refuses before it asks for the hint, with this code, and returns its error.
    async fn refused(self, what: &str, code: AbortCode) -> Error {
        let (answer, error) = self.meet(forgetful(Duration::from_secs(20))).await;
        match answer {
            Err(ProtocolError::PeerAborted(found)) => assert_eq!(found, code as u16, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
        assert_eq!((error.fault(), error.abort_code()), (Fault::Peer, Some(code)), "{what}: {error}");
        error
    }
}

fn plan() -> Value {
    serde_json::from_slice(&digits().model.package.plan).unwrap()
}

/// A plan with some values replaced.
fn plan_with(changes: &[(&str, Value)]) -> Value {
    let mut plan = plan();
    for (pointer, value) in changes {
        *plan.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value.clone();
    }
    plan
}

#[test]
fn plans_out_of_bounds() {
    let layouts = plan()["choices"]["layouts"].as_array().unwrap().clone();
    let mut extra = layouts.clone();
    extra.push(layouts[0].clone());
    let cases = [
        ("a foreign parameter set", "/choices/linear/0/set", json!(200)),
        ("no parameter set", "/choices/linear/0/set", json!(null)),
        ("a set that is not listed", "/choices/sets", json!([])),
        ("a foreign set in the list", "/choices/sets/0/set", json!(99)),
        ("an ell of 0", "/choices/linear/0/ell", json!(0)),
        ("an ell of 1", "/choices/linear/0/ell", json!(1)),
        ("an ell of 49", "/choices/linear/0/ell", json!(49)),
        ("an ell of 2^32 - 1", "/choices/linear/0/ell", json!(u32::MAX)),
        ("a rounding of the bodies", "/choices/linear/0/body_rounding", json!(32)),
        ("a rounding of the hint", "/choices/linear/0/hint_rounding", json!(255)),
        ("a rounding of b0", "/choices/sets/0/b0_rounding", json!(32)),
        ("no layouts", "/choices/layouts", json!([])),
        ("a layout too few", "/choices/layouts", json!(layouts[1..])),
        ("a layout too many", "/choices/layouts", json!(extra)),
        ("layouts in another order", "/choices/layouts", json!(layouts.iter().rev().collect::<Vec<_>>())),
        ("a layout without digits", "/choices/layouts/0/requantise/layout/low", json!([])),
        ("a digit of 255 bits", "/choices/layouts/0/requantise/layout/low", json!([{"Digit": 255}])),
        ("a layer too few", "/choices/linear", json!([plan()["choices"]["linear"][0]])),
    ];
    block_on(async {
        for (what, pointer, value) in cases {
            let error = Impostor::planning(&plan_with(&[(pointer, value)])).refused(what, AbortCode::Plan).await;
            assert!(matches!(error, Error::Refused(_)), "{what}: {error}");
        }
    });
}

#[test]
fn architectures_out_of_bounds() {
    let cases = [
        ("an image of 2^63 pixels", "/architecture/input/shape", json!([1, 1u64 << 32, 1u64 << 31])),
        ("an image of 2^30 pixels", "/architecture/input/shape", json!([1, 1 << 15, 1 << 15])),
        ("an image of nothing", "/architecture/input/shape", json!([1, 0, 0])),
        ("pixels of 64 bits", "/architecture/input/bits", json!(64)),
        ("an output that is no tensor", "/architecture/output", json!(1_000_000)),
        ("no nodes", "/architecture/nodes", json!([])),
        ("an operation that does not exist", "/architecture/nodes/0/op", json!("exec")),
        ("no architecture", "/architecture", json!(null)),
        ("a text", "/architecture", json!("digits")),
    ];
    block_on(async {
        for (what, pointer, value) in cases {
            let error = Impostor::planning(&plan_with(&[(pointer, value)])).refused(what, AbortCode::Protocol).await;
            assert!(matches!(error, Error::Peer(..)), "{what}: {error}");
        }
        for text in ["", "null", "[]", "{}", "{\"architecture\":{}}", &"[".repeat(10_000)] {
            let package = Package { plan: text.into(), ..digits().model.package.clone() };
            Impostor::of(&package).refused(text, AbortCode::Protocol).await;
        }
    });
}

/// In the plan of one network after another, a number becomes any of these, an entry of a list is dropped or doubled, or a
/// field is another's: each such plan is read in a short time, without a panic, and most are refused. LOWKEY_RANDOM_NETWORKS
/// sets how many networks, LOWKEY_RANDOM_SEED the first seed.
#[test]
fn plans_with_something_changed() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let (count, first) = (number("LOWKEY_RANDOM_NETWORKS", 8), number("LOWKEY_RANDOM_SEED", 1));
    let mut outcomes = BTreeMap::new();
    let digits = digits().model.clone();
    for seed in first..first + count {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let size = Size { clips: true, ..Size::default() };
        let model = match seed {
            1 => digits.clone(),
            2 => common::publish_for(&common::convolution_and_pool(&mut rng), Link::Metered),
            _ => common::publish(&random::network(&mut rng, &size)),
        };
        for _ in 0..100 {
            let mut plan = serde_json::from_slice(&model.package.plan).unwrap();
            let what = format!("seed {seed}: {}", change_something(&mut plan, &mut rng));
            *outcomes.entry(read(&what, &plan, model.package.hint.len())).or_insert(0) += 1;
        }
    }
    assert!(outcomes["refused"] > 10 * count && outcomes["not a plan of this hint"] > 10 * count, "{outcomes:?}");
}

/// A max pool before its clip and the layer before it are chosen together, or refused.
#[test]
fn pools_and_their_layers_go_together() {
    let network = zoo::find("mnist-minionn-w4a4").unwrap().network();
    let [plain, pooled] = [Link::Lan, Link::Metered].map(|link| common::publish_for(&network, link));
    let hint = pooled.package.hint.len();
    let text = |model: &ServerModel| -> Value { serde_json::from_slice(&model.package.plan).unwrap() };
    let (plain, pooled) = (text(&plain), text(&pooled));
    let layout = |plan: &Value, index: usize| plan["choices"]["layouts"][index].clone();
    assert!(layout(&pooled, 0)["carries"].is_array() && layout(&pooled, 1)["pooled"].is_object());
    assert_eq!(read("as published", &pooled, hint), "accepted");
    let game = &layout(&pooled, 1)["pooled"]["game"];
    let cases = [
        ("a clip before and after", "0", layout(&plain, 0)),
        ("no clip at all", "1", layout(&plain, 1)),
        ("carries of a pool", "1", layout(&pooled, 0)),
        ("a pool of a layer", "0", layout(&pooled, 1)),
        ("carries that nothing pools", "4", layout(&pooled, 0)),
        ("carries of nothing", "0/carries", json!([])),
        ("carries of 255 bits", "0/carries", json!([{"Digit": 255}])),
        ("a game of too many digits", "1/pooled/game", json!([game, game])),
        ("a game of no digits", "1/pooled/game", json!([])),
        ("low digits in a clip", "1/pooled/clip/low", json!([{"Digit": 1}])),
        ("a clip of no digits", "1/pooled/clip/mid", json!([])),
    ];
    for (what, pointer, value) in cases {
        let mut plan = pooled.clone();
        *plan.pointer_mut(&format!("/choices/layouts/{pointer}")).unwrap() = value;
        assert_ne!(read(what, &plan, hint), "accepted", "{what}");
    }
}

/// Reads a plan; says what came of it.
fn read(what: &str, plan: &Value, hint_bytes: usize) -> &'static str {
    let (clock, text) = (Instant::now(), plan.to_string());
    let outcome = std::panic::catch_unwind(|| read_plan(text.as_bytes(), hint_bytes));
    let outcome = outcome.unwrap_or_else(|_| panic!("{what}: a panic"));
    assert!(clock.elapsed() < Duration::from_secs(10), "{what}: {:?}", clock.elapsed());
    match outcome {
        Ok(_) => "accepted",
        Err(Error::Refused(_)) => "refused",
        Err(Error::Peer(..)) => "not a plan of this hint",
        Err(error) => panic!("{what}: {error}"),
    }
}

/// Changes one place of a plan; says which.
fn change_something(plan: &mut Value, rng: &mut ChaCha20Rng) -> String {
    const NUMBERS: [i64; 20] =
        [0, 1, 2, 3, 4, 7, 8, 16, 31, 33, 49, 63, 64, 65, 255, 256, 65_536, u32::MAX as i64, i64::MAX, -1];
    let mut places = Vec::new();
    visit("", plan, &mut |pointer, value| {
        if value.is_number() || value.as_array().is_some_and(|entries| !entries.is_empty()) {
            places.push(pointer.to_owned());
        }
    });
    let pointer = &places[rng.random_range(0..places.len())];
    let other = plan.pointer(&places[rng.random_range(0..places.len())]).unwrap().clone();
    let value = plan.pointer_mut(pointer).unwrap();
    match (rng.random_range(0..8), value) {
        (0, value) => *value = other,
        (_, Value::Array(entries)) => {
            let index = rng.random_range(0..entries.len());
            match rng.random_range(0..3) {
                0 => drop(entries.remove(index)),
                1 => entries.insert(index, entries[index].clone()),
                _ => entries.swap(0, index),
            }
        }
        (1 | 2, value) => *value = json!(value.as_i64().unwrap_or(0).wrapping_add(rng.random_range(-3..=3))),
        (_, value) => *value = json!(NUMBERS[rng.random_range(0..NUMBERS.len())]),
    }
    format!("{pointer} is {}", plan.pointer(pointer).unwrap())
}

/// Calls `f` with the JSON pointer of every value.
fn visit(pointer: &str, value: &Value, f: &mut impl FnMut(&str, &Value)) {
    f(pointer, value);
    match value {
        Value::Array(entries) => {
            entries.iter().enumerate().for_each(|(index, entry)| visit(&format!("{pointer}/{index}"), entry, f));
        }
        Value::Object(fields) => fields.iter().for_each(|(key, field)| visit(&format!("{pointer}/{key}"), field, f)),
        _ => {}
    }
}

/// A client neither waits nor makes room for what a plan does not justify.
#[test]
fn sizes_beyond_the_plan() {
    block_on(async {
        let package = &digits().model.package;
        for hint_bytes in [0, 1, package.hint.len() as u32 + 1, 1 << 31, u32::MAX] {
            let mut impostor = Impostor::of(package);
            impostor.welcome.hint_bytes = hint_bytes;
            impostor.refused(&format!("a hint of {hint_bytes} bytes"), AbortCode::Protocol).await;
        }
        for plan_bytes in [(16 << 20) + 1, u32::MAX] {
            let mut impostor = Impostor::of(package);
            impostor.welcome.plan_bytes = plan_bytes;
            impostor.refused(&format!("a plan of {plan_bytes} bytes"), AbortCode::Protocol).await;
        }
    });
}

/// The digest is that of the bytes: a server that announces one and sends other bytes is found out, and nothing is kept.
#[test]
fn a_digest_of_other_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path().into())).unwrap();
    let honest = &digits().model.package;
    let changed = |change: fn(&mut Package)| {
        let mut package = honest.clone();
        change(&mut package);
        package
    };
    let cases = [
        ("hint", changed(|package| package.hint[1000] ^= 1)),
        ("epoch", changed(|package| package.epoch[31] ^= 1)),
        ("plan", changed(|package| package.plan.push(b' '))),
    ];
    block_on(async {
        for (what, package) in cases {
            let mut impostor = Impostor::of(&package);
            impostor.welcome.digest = honest.digest();
            let options = Options { store: Some(store.clone()), ..forgetful(Duration::from_secs(20)) };
            let (_, error) = impostor.meet(options).await;
            assert!(matches!(error, Error::Peer(..)), "{what}: {error}");
            assert_eq!(
                (store.known("here").unwrap(), store.model(&honest.digest(), package.to_bytes().len() as u64)),
                (None, None),
                "{what}"
            );
        }
    });
}

/// A session with a server of its own; returns the bytes of its setup. The answer must be the model's.
async fn session_with(model: &Arc<ServerModel>, store: &Store, digest: Option<Digest>) -> Result<u64> {
    let (here, there) = tokio::io::duplex(1 << 20);
    let server = server::serve_seeded(Box::new(there), model.clone(), server::Options::default(), common::seed());
    let server = tokio::spawn(server);
    let options = Options { digest, store: Some(store.clone()), ..forgetful(Duration::from_secs(20)) };
    let opened = within("open", Session::open_seeded(Box::new(here), options, common::seed())).await;
    let mut client = match opened {
        Ok(client) => client,
        Err(error) => {
            let told = error.abort_code().expect("the server can hear");
            aborted("the server", server.await.unwrap(), told);
            return Err(error);
        }
    };
    let answer = client.answer(Schedule::Prepared, Reveal::Logits, &digits().images[2]).await?;
    if model.digest == digits().model.digest {
        assert_eq!(answer.output, digits().logits[2]);
    }
    let setup = client.setup().bytes();
    client.close().await?;
    server.await.unwrap()?;
    Ok(setup)
}

/// The model seen first at an address stays the model of that address until somebody says otherwise.
#[test]
fn a_changed_model() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path().into())).unwrap();
    let (model, other) = (&digits().model, &retrained());
    assert_ne!(model.digest, other.digest);
    let digest_error = |outcome: Result<u64>| match outcome {
        Err(error @ Error::Digest { found, expected, .. }) => {
            assert_eq!(error.fault(), Fault::Safety);
            (found, expected, error.hint().unwrap())
        }
        other => panic!("{other:?}"),
    };
    block_on(async {
        // Pinned, at the first contact already.
        let (found, expected, _) = digest_error(session_with(other, &store, Some(model.digest)).await);
        assert_eq!((found, expected), (other.digest, model.digest));
        assert_eq!(store.known("here").unwrap(), None);
        // Noted at the first contact.
        let first = session_with(model, &store, None).await.unwrap();
        assert_eq!(store.known("here").unwrap(), Some(model.digest));
        let again = session_with(model, &store, None).await.unwrap();
        assert_eq!(first - again, model.package.hint.len() as u64 + 8, "the hint is kept");
        let (_, _, hint) = digest_error(session_with(other, &store, None).await);
        assert!(hint.contains("forget the one noted of here"), "{hint}");
        assert_eq!(store.known("here").unwrap(), Some(model.digest), "a refusal changes nothing");
        // Accepted by its digest, and noted then.
        session_with(other, &store, Some(other.digest)).await.unwrap();
        session_with(other, &store, None).await.unwrap();
        digest_error(session_with(model, &store, None).await);
    });
}

/// Whatever became of the file: it is fetched again, and the answer is right.
#[test]
fn a_damaged_package_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path().into())).unwrap();
    let model = &digits().model;
    let good = model.package.to_bytes();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let huge = [&u64::MAX.to_le_bytes()[..], &good[8..]].concat();
    let damaged = [
        vec![],
        vec![0; 7],
        good[..good.len() - 1].to_vec(),
        [&good[..], &[0]].concat(),
        flipped(0),
        flipped(8),
        flipped(good.len() / 2),
        flipped(good.len() - 1),
        huge,
        retrained().package.to_bytes(),
    ];
    block_on(async {
        let first = session_with(model, &store, None).await.unwrap();
        for (case, bytes) in damaged.into_iter().enumerate() {
            store.keep_model(&model.digest, &bytes).unwrap();
            assert_eq!(session_with(model, &store, None).await.unwrap(), first, "case {case}: the hint came again");
            assert!(
                store.model(&model.digest, good.len() as u64).unwrap() == good,
                "case {case}: the file is whole again"
            );
        }
        assert!(session_with(model, &store, None).await.unwrap() < first);
    });
}
