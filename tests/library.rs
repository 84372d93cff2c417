//! The library as one links it: models from files, a server, clients, what they refuse, how they end.

#[path = "common/certificate.rs"]
mod certificate;

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread::ThreadId;
use std::time::Duration;

use lowkey::error::AbortCode;
use lowkey::models::{import, zoo};
use lowkey::{Answer, Client, Error, Fault, Inputs, Model, Result, Reveal, Schedule, Server, Values};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::task::JoinHandle;

/// Nothing here takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn within<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: no end after {PATIENCE:?}"))
}

fn onnx() -> Model {
    Model::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits.onnx")).unwrap()
}

/// Pixels 0..=15 of the bundled digits.
fn pixels(index: usize) -> Vec<u8> {
    zoo::find("digits").unwrap().demo().unwrap().inputs.stored().nth(index).unwrap().to_vec()
}

/// What the ONNX file was trained on.
fn reals(index: usize) -> Vec<f32> {
    pixels(index).iter().map(|&pixel| f32::from(pixel) / 15.0).collect()
}

fn is_plaintext(answer: &Answer, plain: &Answer) {
    assert_eq!((answer.class, &answer.name), (plain.class, &plain.name));
    assert_eq!((&answer.logits, &answer.quantised), (&plain.logits, &plain.quantised));
    assert_eq!(answer.scores, plain.scores);
}

/// Serves on a free port.
async fn start(server: &Server) -> JoinHandle<Result<()>> {
    tokio::spawn(server.clone().run())
}

async fn digits() -> (Model, Server, JoinHandle<Result<()>>) {
    let model = Model::open("digits").unwrap();
    let server = Server::builder(model.clone()).bind("127.0.0.1:0").await.unwrap();
    let running = start(&server).await;
    (model, server, running)
}

fn fails<T>(outcome: Result<T>, fault: Fault, wrong: &str) -> Error {
    let Err(error) = outcome else { panic!("{wrong:?} was expected") };
    assert_eq!(error.fault(), fault, "{error}");
    assert!(error.to_string().contains(wrong), "{wrong:?} is not in: {error}");
    assert!(error.hint().is_some(), "{error}");
    error
}

#[tokio::test]
async fn an_onnx_file_answers_privately() {
    let model = onnx();
    assert!(model.report().is_some());
    let names = "zero one two three four five six seven eight nine".split(' ').map(str::to_owned).collect();
    let model = model.with_classes(names).unwrap();
    let server = Server::builder(model.clone()).bind("127.0.0.1:0").await.unwrap();
    let running = start(&server).await;
    let mut client = Client::builder().digest(server.digest()).connect(server.address().unwrap()).await.unwrap();
    assert_eq!(client.architecture().classes, model.architecture().classes);
    assert_eq!(client.architecture().input, model.architecture().input);
    for index in [311, 321] {
        let answer = client.infer(&reals(index)).await.unwrap();
        is_plaintext(&answer, &model.answer(&reals(index)).unwrap());
        let class = answer.class.unwrap();
        assert_eq!(class, usize::from(zoo::find("digits").unwrap().demo().unwrap().labels[index]));
        assert_eq!(answer.name.as_ref(), model.architecture().classes.get(class));
        let scores = answer.scores.unwrap();
        assert!(
            (scores.iter().sum::<f64>() - 1.0).abs() < 1e-9 && scores.iter().all(|&s| s <= scores[class]),
            "a softmax: {scores:?}"
        );
        assert!(answer.report.offline.bytes() > 0 && answer.report.online.bytes() > 0);
    }
    client.close().await.unwrap();
    server.shutdown().await;
    running.await.unwrap().unwrap();
}

/// A network by its name, the same as a file, and back from that.
#[tokio::test]
async fn names_and_files_are_models() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::open("mnist-cryptonets-w1a1").unwrap();
    let file = folder.path().join("net.lowkey");
    model.write(&file).unwrap();
    assert_eq!(Model::open(&file).unwrap().network(), model.network());
    assert!(model.demo().is_none());
    let image = vec![1u8; 28 * 28];
    let server = Server::builder(model.clone()).build().await.unwrap();
    for (schedule, reveal) in [(Schedule::Prepared, Reveal::Class), (Schedule::Direct, Reveal::Logits)] {
        let (here, there) = tokio::io::duplex(1 << 20);
        let serving = tokio::spawn({
            let server = server.clone();
            async move { server.serve(there).await }
        });
        let mut client = Client::builder().schedule(schedule).reveal(reveal).over(here, "memory").await.unwrap();
        let (answer, plain) = (client.infer(&image).await.unwrap(), model.answer(&image).unwrap());
        assert_eq!(answer.class, plain.class);
        assert_eq!(answer.logits, plain.logits.filter(|_| reveal == Reveal::Logits));
        assert_eq!(answer.scores.is_some(), reveal == Reveal::Logits && plain.scores.is_some());
        client.close().await.unwrap();
        assert_eq!(serving.await.unwrap().unwrap().inferences, 1);
    }

    let missing = fails(Model::open("no-such-model"), Fault::User, "no such file");
    assert!(missing.hint().unwrap().contains("digits"));
    // A file that is misspelt is none of the bundled ones.
    for path in ["no-such-model.onnx", "folder/no-such-model"] {
        let missing = fails(Model::open(path), Fault::User, "no such file");
        assert!(missing.hint().is_some_and(|hint| hint.contains("spelling") && !hint.contains("digits")));
    }
    std::fs::write(folder.path().join("bad.lowkey"), b"nothing").unwrap();
    fails(Model::open(folder.path().join("bad.lowkey")), Fault::User, "bad.lowkey");
    std::fs::write(folder.path().join("bad.onnx"), b"\x08\x08nothing").unwrap();
    fails(Model::open(folder.path().join("bad.onnx")), Fault::User, "bad.onnx");
    fails(
        Model::open("digits").unwrap().with_classes(vec!["one".into()]),
        Fault::User,
        "it names 1 class, the output has 10",
    );
}

/// The bytes of a file are the model of the file; what is no model, or wants files beside it, is refused.
#[test]
fn a_model_of_bytes_is_the_one_of_its_file() {
    let (model, folder) = (Model::open("digits").unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("digits.lowkey");
    model.write(&path).unwrap();
    let bytes = model.to_bytes().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    let again = Model::from_bytes(&bytes).unwrap();
    assert_eq!(again.to_bytes().unwrap(), bytes);
    assert_eq!(again.answer(&pixels(3)).unwrap().logits, model.answer(&pixels(3)).unwrap().logits);

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits.onnx");
    let (bytes, file) = (std::fs::read(&path).unwrap(), Model::open(&path).unwrap());
    let named = |name: Option<&str>| {
        let options = import::Options { name: name.map(ToOwned::to_owned), ..import::Options::default() };
        Model::from_bytes_with(&bytes, &options).unwrap()
    };
    assert_eq!(named(Some(file.name())).to_bytes().unwrap(), file.to_bytes().unwrap());
    assert_eq!(named(None).name(), "network");
    assert_eq!(named(None).report().unwrap().notes, file.report().unwrap().notes);

    fails(Model::from_bytes(b""), Fault::User, "");
    fails(Model::from_bytes(b"nothing of the kind"), Fault::User, "");
    let mut cut = model.to_bytes().unwrap();
    cut.truncate(cut.len() / 2);
    fails(Model::from_bytes(&cut), Fault::User, "");
    let mut flipped = model.to_bytes().unwrap();
    *flipped.last_mut().unwrap() ^= 1;
    fails(Model::from_bytes(&flipped), Fault::User, "damaged");
}

/// Values of another count, type or range: named, and the session goes on as if nothing had happened.
#[tokio::test]
async fn inputs_that_do_not_fit_are_refused() {
    let (model, server, running) = digits().await;
    let image = pixels(3);
    let mut client = Client::connect(server.address().unwrap()).await.unwrap();
    client.prepare(1).await.unwrap();
    let socket = |answer: &Answer| answer.report.online.socket_bytes_sent;
    fails(client.infer(&image[..63]).await, Fault::User, "63 values");
    fails(client.infer(&[image.clone(), image.clone()].concat()).await, Fault::User, "2 inputs");
    fails(client.infer(&[0i64; 65]).await, Fault::User, "65 values");
    fails(client.infer(&[16u8; 64]).await, Fault::User, "16");
    fails(client.infer(&[-1i8; 64]).await, Fault::User, "-1");
    fails(client.infer(&[99i64; 64]).await, Fault::User, "99");
    fails(client.infer(&[0f32; 64]).await, Fault::User, "float32");
    fails(client.infer(&Vec::<u8>::new()).await, Fault::User, "0 values");
    assert_eq!(client.ready(), 1, "the slot is still there");
    let answer = client.infer(&image).await.unwrap();
    is_plaintext(&answer, &model.answer(&image).unwrap());
    assert_eq!((client.ready(), answer.report.offline.flights > 0), (0, true));

    // As every kind of value that it can come in.
    let inputs = Inputs::from_quantised(&image, &model.architecture().input).unwrap();
    let tensor = inputs.get(0).unwrap();
    let integers: Vec<i64> = tensor.iter().copied().collect();
    let picture: Vec<u8> = image.iter().map(|pixel| pixel * 16 + 7).collect();
    for values in [Values::from(&tensor), Values::from(&integers), Values::Pixels(&picture)] {
        let again = client.infer(values).await.unwrap();
        is_plaintext(&again, &answer);
        assert_eq!(socket(&again), socket(&answer));
    }
    client.close().await.unwrap();

    // The integers of the file's own tensor, and no others.
    let model = onnx();
    fails(model.answer(&[f32::NAN; 64]), Fault::User, "not a number");
    fails(model.answer(&[0f32; 60]), Fault::User, "60 values, the network reads 64");
    server.shutdown().await;
    running.await.unwrap().unwrap();
}

/// A stream of the client's that says when something comes back, and on which thread it is read.
struct Watched {
    inner: DuplexStream,
    arrived: Arc<tokio::sync::Notify>,
    readers: Arc<Mutex<Vec<ThreadId>>>,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if outcome.is_ready() {
            self.arrived.notify_one();
            self.readers.lock().unwrap().push(std::thread::current().id());
        }
        outcome
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

type Serving = JoinHandle<Result<lowkey::server::SessionReport>>;

/// A session in memory; the notice comes with every piece that the client reads.
async fn watched(server: &Server, schedule: Schedule) -> (Client, Serving, Arc<tokio::sync::Notify>) {
    let (here, there) = tokio::io::duplex(1 << 20);
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve(there).await }
    });
    let arrived = Arc::new(tokio::sync::Notify::new());
    let stream = Watched { inner: here, arrived: arrived.clone(), readers: Arc::default() };
    let client = Client::builder().schedule(schedule).over(stream, "memory").await.unwrap();
    (client, serving, arrived)
}

/// What a client is told whose session the server has ended.
fn was_stopped<T>(outcome: Result<T>) {
    let code = lowkey_mpc::error::Error::PeerAborted(AbortCode::Stopping as u16);
    let Err(Error::Session(error)) = outcome else { panic!("the session was not over") };
    assert_eq!(format!("{error:?}"), format!("{code:?}"));
}

#[tokio::test]
async fn a_shutdown_waits_for_the_inference_that_runs() {
    let model = Model::open("digits").unwrap();
    let image = pixels(5);
    let server = Server::builder(model.clone()).build().await.unwrap();
    let (mut client, serving, arrived) = watched(&server, Schedule::Direct).await;
    // One notice may be left from the set-up.
    poll_fn(|cx| {
        let _ = std::pin::pin!(arrived.notified()).as_mut().poll(cx);
        Poll::Ready(())
    })
    .await;
    let inference = tokio::spawn(async move { (client.infer(&image).await, client) });
    within("the server's first message", arrived.notified()).await;
    within("shutdown", server.shutdown()).await;
    let (answer, mut client) = inference.await.unwrap();
    is_plaintext(&answer.unwrap(), &model.answer(&pixels(5)).unwrap());
    assert_eq!(within("the session", serving).await.unwrap().unwrap().inferences, 1);
    assert_eq!(client.infer(&pixels(6)).await.unwrap_err().fault(), Fault::Peer);
    fails(client.infer(&pixels(6)).await, Fault::User, "over");
    let (_here, there) = tokio::io::duplex(1 << 10);
    fails(server.serve(there).await, Fault::User, "shut down");
}

#[tokio::test]
async fn a_shutdown_leaves_prepared_slots_their_use() {
    let model = Model::open("digits").unwrap();
    let server = Server::builder(model.clone()).build().await.unwrap();
    let (mut client, serving, _) = watched(&server, Schedule::Prepared).await;
    client.prepare(1).await.unwrap();
    let stopping = tokio::spawn({
        let server = server.clone();
        async move { server.shutdown().await }
    });
    tokio::task::yield_now().await;
    is_plaintext(&client.infer(&pixels(5)).await.unwrap(), &model.answer(&pixels(5)).unwrap());
    was_stopped(client.prepare(1).await);
    within("shutdown", stopping).await.unwrap();
    assert_eq!(serving.await.unwrap().unwrap().inferences, 1);
}

#[tokio::test]
async fn a_shutdown_ends_idle_sessions_and_the_socket() {
    let (_, server, running) = digits().await;
    let address = server.address().unwrap();
    let _idle = Client::connect(address).await.unwrap();
    let mut with_slots = Client::connect(address).await.unwrap();
    with_slots.prepare(2).await.unwrap();
    within("shutdown", server.shutdown()).await;
    within("the server", running).await.unwrap().unwrap();
    drop(server);
    fails(Client::connect(address).await, Fault::Peer, "refused");
}

/// Whoever gives up waiting ends the session, at both ends.
#[tokio::test]
async fn an_inference_can_be_given_up() {
    let server = Server::builder(Model::open("digits").unwrap()).sessions(1).build().await.unwrap();
    let (mut client, serving, _) = watched(&server, Schedule::Prepared).await;
    let image = pixels(0);
    let mut inference = Box::pin(client.infer(&image));
    poll_fn(|cx| {
        assert!(inference.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    drop(inference);
    fails(client.infer(&image).await, Fault::User, "over");
    drop(client);
    fails(within("the session", serving).await.unwrap(), Fault::Peer, "");
    within("shutdown", server.shutdown()).await;
}

/// On a runtime of one thread: what computes does not run there.
#[tokio::test]
async fn computing_happens_on_other_threads() {
    let here = std::thread::current().id();
    let threads: Arc<Mutex<Vec<ThreadId>>> = Arc::default();
    let note = |threads: &Arc<Mutex<Vec<ThreadId>>>| {
        let threads = threads.clone();
        move |_, _| threads.lock().unwrap().push(std::thread::current().id())
    };
    let model = Model::open("digits").unwrap();
    let server = Server::builder(model).progress(note(&threads)).build().await.unwrap();
    let (near, far) = tokio::io::duplex(1 << 20);
    let serving = tokio::spawn(async move { server.serve(far).await });
    let stream = Watched { inner: near, arrived: Arc::default(), readers: threads.clone() };
    let mut client = Client::builder().progress(note(&threads)).over(stream, "memory").await.unwrap();
    client.infer(&pixels(0)).await.unwrap();
    client.close().await.unwrap();
    serving.await.unwrap().unwrap();
    let threads = threads.lock().unwrap();
    assert!(threads.len() > 10 && threads.iter().all(|&thread| thread != here), "{here:?} among {threads:?}");
}

/// A key that stays means a digest that stays; a client with a folder refuses another.
#[tokio::test]
async fn digests_are_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let [keys, notes] = ["server", "client"].map(|name| folder.path().join(name));
    let model = Model::open("digits").unwrap();
    let publish = async |state: Option<&Path>| {
        let builder = Server::builder(model.clone());
        let builder = match state {
            Some(state) => builder.state(state),
            None => builder,
        };
        builder.build().await.unwrap()
    };
    let visit = async |server: &Server| {
        let (here, there) = tokio::io::duplex(1 << 20);
        let serving = tokio::spawn({
            let server = server.clone();
            async move { server.serve(there).await }
        });
        let client = Client::builder().state(&notes).over(here, "somewhere:1").await?;
        let hint = client.setup().bytes_received;
        client.close().await?;
        serving.await.unwrap().map(|_| hint)
    };
    let first = publish(Some(&keys)).await;
    let hints = [visit(&first).await.unwrap(), visit(&first).await.unwrap()];
    assert!(hints[0] - hints[1] >= first.model().plan.hint_bytes() as u64, "the hint was kept: {hints:?}");
    drop(first);
    let again = publish(Some(&keys)).await;
    visit(&again).await.unwrap();
    let other = publish(None).await;
    assert_ne!(other.digest(), again.digest());
    fails(visit(&other).await, Fault::Safety, "digest");
    assert_eq!(again.uses().unwrap().record().unwrap().inferences, 0);
    assert!(other.uses().is_none());
}

#[tokio::test]
async fn what_others_can_reach_is_protected() {
    let model = Model::open("digits").unwrap();
    fails(Server::builder(model.clone()).bind("0.0.0.0:0").await, Fault::Safety, "certificate");
    fails(Client::connect("192.0.2.1:80").await, Fault::Safety, "nothing says how to recognise");
    let server = Server::builder(model.clone()).build().await.unwrap();
    fails(server.run().await, Fault::User, "listens nowhere");

    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = certificate::write(folder.path());
    let server = Server::builder(model.clone()).tls(&certificate, &key).bind("127.0.0.1:0").await.unwrap();
    let running = start(&server).await;
    let address = format!("localhost:{}", server.address().unwrap().port());
    let builder = || Client::builder().timeout(Duration::from_secs(20));
    for trusting in [builder().pin(server.pin().unwrap()), builder().authority(&certificate)] {
        let mut client = trusting.connect(&address).await.unwrap();
        is_plaintext(&client.infer(&pixels(1)).await.unwrap(), &model.answer(&pixels(1)).unwrap());
        client.close().await.unwrap();
    }
    fails(builder().pin([0; 32]).connect(&address).await, Fault::Safety, "certificate");
    server.shutdown().await;
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_allows_what_it_was_told() {
    let model = Model::open("digits").unwrap();
    let one = std::num::NonZeroU32::new(1).unwrap();
    let server = Server::builder(model).reveal(Reveal::Class).quota(one).bind("127.0.0.1:0").await.unwrap();
    let running = start(&server).await;
    let address = server.address().unwrap();
    let mut curious = Client::connect(address).await.unwrap();
    fails(curious.infer(&pixels(0)).await, Fault::Peer, "class only");
    let mut client = Client::builder().reveal(Reveal::Class).connect(address).await.unwrap();
    assert!(client.infer(&pixels(0)).await.unwrap().class.is_some());
    fails(client.infer(&pixels(0)).await, Fault::Peer, "quota");
    server.shutdown().await;
    running.await.unwrap().unwrap();
}

/// The other twin, on a thread of no runtime and on one that belongs to one.
mod blocking {
    use lowkey::blocking::{Client, Server};

    use super::*;

    fn round_trip() {
        let model = onnx();
        let told = Arc::new(AtomicUsize::new(0));
        let counter = told.clone();
        let builder = Server::builder(model.clone());
        let server =
            builder.progress(move |done, _| counter.store(done, Ordering::Relaxed)).bind("127.0.0.1:0").unwrap();
        assert_eq!(told.load(Ordering::Relaxed), server.model().plan.linear.len());
        let running = std::thread::spawn({
            let server = server.clone();
            move || server.run()
        });
        let address = server.address().unwrap();
        let mut client = Client::builder().digest(server.digest()).connect(address).unwrap();
        client.prepare(1).unwrap();
        assert_eq!(client.ready(), 1);
        is_plaintext(&client.infer(&reals(2)).unwrap(), &model.answer(&reals(2)).unwrap());
        fails(client.infer(&[0f32; 3]), Fault::User, "3 values");
        client.close().unwrap();
        server.shutdown();
        running.join().unwrap().unwrap();
        fails(Client::connect("127.0.0.1:1"), Fault::Peer, "127.0.0.1:1");
        fails(Client::builder().digest([0; 32]).connect(address), Fault::Peer, "");
    }

    /// The methods that a file gives a type.
    fn methods<'a>(file: &'a str, of: &str) -> BTreeSet<&'a str> {
        let own = file.split("\nimpl").filter_map(|part| part.strip_prefix(&format!(" {of} {{")));
        let own = own.flat_map(|part| part.split("\n}").next()).flat_map(str::lines);
        let names =
            own.filter_map(|line| line.strip_prefix("    pub ")?.trim_start_matches("async ").strip_prefix("fn "));
        names.filter_map(|name| name.split(['(', '<']).next()).collect()
    }

    #[test]
    fn the_twins_have_the_same_methods() {
        let twin = include_str!("../src/api/blocking.rs");
        let pairs = [
            ("Client", include_str!("../src/api/client.rs")),
            ("ClientBuilder", include_str!("../src/api/client.rs")),
            // What begins to build one is with its builder.
            ("Server", concat!(include_str!("../src/api/server.rs"), include_str!("../src/api/server_builder.rs"))),
            ("ServerBuilder", include_str!("../src/api/server_builder.rs")),
        ];
        for (name, file) in pairs {
            assert!(methods(file, name).len() > 1, "{name}");
            let mut here = methods(file, name);
            if name == "Server" {
                // For whoever makes a runtime; the twin makes its own.
                assert!(here.remove("threads"));
            }
            assert_eq!(here, methods(twin, name), "{name}");
        }
    }

    #[test]
    fn on_any_thread() {
        round_trip();
    }

    #[tokio::test]
    async fn inside_of_a_runtime() {
        round_trip();
        tokio::task::spawn_blocking(round_trip).await.unwrap();
    }
}
