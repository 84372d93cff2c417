//! What a server has on offer: several models by name, their list, and other ones while it runs.

#[path = "common/certificate.rs"]
mod certificate;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lowkey::error::AbortCode;
use lowkey::policy::Refusal;
use lowkey::session::{MAX_MODELS, MAX_NAME};
use lowkey::{Client, Error, Fault, Model, Network, Result, Server, Store, Trust};
use tokio::task::JoinHandle;

/// Nothing here takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn within<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: no end after {PATIENCE:?}"))
}

fn digits() -> Model {
    Model::open("digits").unwrap()
}

/// The digits under the same name, with other weights.
fn retrained(by: i64) -> Model {
    let (architecture, mut weights) = digits().network().clone().into_parts();
    weights.linear.iter_mut().flatten().for_each(|own| own.bias[0] += by);
    Network::new(architecture, weights).unwrap().into()
}

fn image() -> lowkey::Tensor {
    digits().demo().unwrap().inputs.get(7).unwrap()
}

/// That a client gets the answer of this model.
async fn answers(client: &mut Client, model: &Model) {
    let answer = within("an answer", client.infer(&image())).await.unwrap();
    assert_eq!(answer.logits, model.answer(&image()).unwrap().logits);
}

async fn run(server: &Server) -> JoinHandle<Result<()>> {
    let running = tokio::spawn(server.clone().run());
    within("readiness", async {
        while !server.ready() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    running
}

#[track_caller]
fn refused<T>(outcome: Result<T>, refusal: Refusal) {
    let error = outcome.err().expect("it is refused");
    assert!(matches!(error, Error::Declined(found) if found == refusal), "{error:?}");
    assert_eq!(error.fault(), Fault::Peer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_models_are_asked_for_by_name() {
    let other = retrained(3);
    let builder = Server::builder(digits()).with("other", other.clone()).sessions(2);
    let server = builder.bind("127.0.0.1:0").await.unwrap();
    let (running, address) = (run(&server).await, server.address().unwrap());
    let client = |name: &str| Client::builder().model(name).connect(address);
    for (name, model) in [("digits", digits()), ("other", other)] {
        let mut client = within("a session", client(name)).await.unwrap();
        answers(&mut client, &model).await;
        client.close().await.unwrap();
    }
    refused(within("no name", Client::connect(address)).await, Refusal::WhichModel);
    refused(within("an unknown name", client("cats")).await, Refusal::NoModel);
    for name in ["", "a b", &"n".repeat(MAX_NAME + 1)] {
        assert_eq!(client(name).await.unwrap_err().fault(), Fault::User, "{name:?} is not sent");
    }

    let offers = within("the list", Client::builder().models(address)).await.unwrap();
    assert_eq!(offers, server.models());
    let [first, second] = &offers[..] else { panic!("{offers:?}") };
    assert_eq!((&*first.name, &*second.name, first.digest), ("digits", "other", server.digest()));
    assert_ne!(first.digest, second.digest);
    assert_eq!((first.input, first.input_bits, first.outputs), ([1, 8, 8], 4, 10));

    // What the list says of the cost is what is paid.
    let mut client = within("a session", client("other")).await.unwrap();
    let answer = client.infer(&image()).await.unwrap();
    assert_eq!(answer.report.online.bytes(), first.online_bytes);
    assert_eq!(answer.report.offline.bytes(), first.offline_bytes);
    client.close().await.unwrap();
    within("the end", server.shutdown()).await;
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_model_needs_no_name_and_has_one() {
    let server = Server::builder(digits()).named("mine").bind("127.0.0.1:0").await.unwrap();
    let (running, address) = (run(&server).await, server.address().unwrap());
    for builder in [Client::builder(), Client::builder().model("mine")] {
        let mut client = within("a session", builder.connect(address)).await.unwrap();
        answers(&mut client, &digits()).await;
        client.close().await.unwrap();
    }
    refused(Client::builder().model("digits").connect(address).await, Refusal::NoModel);
    within("the end", server.shutdown()).await;
    running.await.unwrap().unwrap();
}

/// Neither the list nor the word that a name is unknown goes to a client that has not been admitted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_tells_nothing_of_its_models() {
    let server = Server::builder(digits()).sessions(1).bind("127.0.0.1:0").await.unwrap();
    let (running, address) = (run(&server).await, server.address().unwrap());
    let mut first = Client::connect(address).await.unwrap();
    answers(&mut first, &digits()).await;
    let full = Refusal::Full { wait_seconds: 5 };
    let (list, unknown) =
        tokio::join!(Client::builder().models(address), Client::builder().model("cats").connect(address));
    refused(list, full);
    refused(unknown, full);
    first.close().await.unwrap();
    assert_eq!(within("the list", Client::builder().models(address)).await.unwrap().len(), 1);
    within("the end", server.shutdown()).await;
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn names_that_cannot_be_asked_for() {
    for (builder, wrong) in [
        (Server::builder(digits()).named("a b"), "no name"),
        (Server::builder(digits()).with("", digits()), "no name"),
        (Server::builder(digits()).with("digits", digits()), "two models of the name digits"),
        ((0..MAX_MODELS).fold(Server::builder(digits()), |all, n| all.with(n.to_string(), digits())), "65 models"),
    ] {
        let error = builder.build().await.unwrap_err();
        assert!(error.fault() == Fault::User && error.to_string().contains(wrong), "{error}");
    }
}

/// A client that knows a model under a name refuses another one under it, and takes a name that it has not met for a new model.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_model_is_told_from_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path().into())).unwrap();
    let ask = async |server: &Server, name: Option<&str>| {
        let (here, there) = tokio::io::duplex(1 << 20);
        let serving = tokio::spawn({
            let server = server.clone();
            async move { server.serve(there).await }
        });
        let mut builder = Client::builder().store(store.clone());
        if let Some(name) = name {
            builder = builder.model(name);
        }
        let outcome = within("a session", builder.over(here, "host:1")).await;
        let outcome = match outcome {
            Ok(client) => client.close().await,
            Err(error) => Err(error),
        };
        let _ = within("the server", serving).await.unwrap();
        outcome
    };
    let first = Server::builder(digits()).with("b", retrained(1)).build().await.unwrap();
    ask(&first, Some("digits")).await.unwrap();
    // "b" now has what "digits" had: of this name it is the first.
    let second = Server::builder(retrained(2)).with("b", digits()).build().await.unwrap();
    ask(&second, Some("b")).await.unwrap();
    let error = ask(&second, Some("digits")).await.unwrap_err();
    assert!(matches!(&error, Error::Digest { noted: Some(note), .. } if note == "digits@host:1"), "{error:?}");
    assert_eq!((error.fault(), error.abort_code()), (Fault::Safety, Some(AbortCode::Digest)));
    assert!(error.hint().unwrap().contains("digits@host:1"), "{error:?}");
    // Whoever names nothing has a note of its own.
    let only = Server::builder(digits()).build().await.unwrap();
    ask(&only, None).await.unwrap();
    let other = Server::builder(retrained(3)).build().await.unwrap();
    let error = ask(&other, None).await.unwrap_err();
    assert!(matches!(&error, Error::Digest { noted: Some(note), .. } if note == "host:1"), "{error:?}");
    assert!(store.forget("digits@host:1").unwrap());
    ask(&second, Some("digits")).await.unwrap();
}

/// Writes a certificate of its own and its key; returns its pin.
fn identity(folder: &Path) -> [u8; 32] {
    let [cert, _] = certificate::write(folder);
    lowkey::net::pin_of(&lowkey::net::certificates(&cert).unwrap()[0])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_changes_what_comes_and_nothing_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let pins = [identity(folder.path())];
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let server = Server::builder(digits()).tls(&cert, &key).bind("127.0.0.1:0").await.unwrap();
    let (running, address) = (run(&server).await, server.address().unwrap());
    let connect = |pin| within("a session", Client::builder().trust(Trust::Pin(pin)).connect(address));
    let mut old = connect(pins[0]).await.unwrap();
    answers(&mut old, &digits()).await;
    let first = server.digest();

    let pins = [pins[0], identity(folder.path())];
    let other = retrained(5);
    within("the reload", server.reload(vec![("digits".into(), other.clone())])).await.unwrap();
    assert!(server.ready());
    assert_eq!(server.pin(), Some(pins[1]));
    assert_ne!(server.digest(), first);
    assert!(matches!(connect(pins[0]).await, Err(Error::Certificate { .. })));
    let mut new = connect(pins[1]).await.unwrap();
    answers(&mut new, &other).await;
    assert_eq!(new.digest(), server.digest());
    // It has its model and its connection.
    answers(&mut old, &digits()).await;
    assert_eq!(old.digest(), first);

    // Neither half of a reload that fails is used: a good model with a broken certificate, a good certificate with a broken model.
    let before = server.models();
    std::fs::write(&cert, "broken").unwrap();
    let error = server.reload(vec![("digits".into(), retrained(6))]).await.unwrap_err();
    assert!(error.fault() == Fault::User && error.to_string().contains("cert.pem"), "{error}");
    assert_eq!((server.models(), server.pin()), (before.clone(), Some(pins[1])));
    identity(folder.path());
    let error = server.reload(vec![("a b".into(), retrained(6))]).await.unwrap_err();
    assert_eq!(error.fault(), Fault::User);
    assert_eq!((server.models(), server.pin()), (before.clone(), Some(pins[1])));
    answers(&mut connect(pins[1]).await.unwrap(), &other).await;

    // The same model under the same key has the same digest, and is not made again.
    let same = server.model();
    within("the reload", server.reload(vec![("digits".into(), other)])).await.unwrap();
    assert_eq!(server.models(), before);
    assert!(Arc::ptr_eq(&server.model(), &same), "it was published anew");
    assert_ne!(server.pin(), Some(pins[1]));
    drop((old, new));
    within("the end", server.shutdown()).await;
    running.await.unwrap().unwrap();
}
