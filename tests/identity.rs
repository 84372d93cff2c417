//! Who may ask: certificates of clients, the list of their names, quotas by name; and how clients recognise a server.

#[path = "common/command.rs"]
mod command;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lowkey::error::Remedy;
use lowkey::policy::{AllowList, Refusal};
use lowkey::watch::{Event, Watcher};
use lowkey::{Answer, Client, Error, Model, Result, Server, ServerBuilder};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use command::lowkey;

/// Nothing here takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// An authority, and the files of certificates that it has signed.
struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as files.
struct Identity {
    certificate: PathBuf,
    key: PathBuf,
    hash: [u8; 32],
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn sign(&self, name: &str) -> Identity {
        self.sign_until(name, 2100)
    }

    /// Valid until the beginning of a year.
    fn sign_until(&self, name: &str, year: i32) -> Identity {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(year, 1, 1));
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &self.issuer).unwrap();
        let file = |end: &str| self.folder.path().join(format!("{name}{year}{end}"));
        std::fs::write(file(".pem"), made.pem()).unwrap();
        std::fs::write(file(".key"), key.serialize_pem()).unwrap();
        Identity { certificate: file(".pem"), key: file(".key"), hash: Sha256::digest(made.der()).into() }
    }
}

/// Writes down the names of those who get a session.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<Vec<String>>>);

impl Watcher for Names {
    fn notice(&self, event: &Event<'_>) {
        if let Event::Begun(subject) = event {
            self.0.lock().unwrap().push(subject.client.to_string());
        }
    }
}

fn digits() -> Model {
    Model::open("digits").unwrap()
}

fn secure(authority: &Authority) -> ServerBuilder {
    let own = authority.sign("localhost");
    Server::builder(digits()).tls(own.certificate, own.key).client_authorities(authority.file())
}

/// An inference by somebody.
async fn ask(address: SocketAddr, authority: &Authority, identity: Option<&Identity>) -> Result<Answer> {
    let mut builder = Client::builder().authority(authority.file());
    if let Some(identity) = identity {
        builder = builder.certificate(&identity.certificate, &identity.key);
    }
    let ask = async {
        let mut client = builder.connect(format!("localhost:{}", address.port())).await?;
        let answer = client.infer(&digits().demo().unwrap().inputs.get(0).unwrap()).await?;
        client.close().await?;
        Ok(answer)
    };
    tokio::time::timeout(PATIENCE, ask).await.expect("an end")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_show_certificates_and_have_names() {
    let (authority, other, names) = (Authority::new(), Authority::new(), Names::default());
    let server = secure(&authority).watcher(names.clone()).bind("127.0.0.1:0").await.unwrap();
    let running = tokio::spawn(server.clone().run());
    let address = server.address().unwrap();

    ask(address, &authority, Some(&authority.sign("alice.example"))).await.unwrap();
    assert_eq!(*names.0.lock().unwrap(), ["alice.example@127.0.0.1"]);
    // None, one of somebody else's, and one of last year's.
    for identity in [None, Some(other.sign("alice.example")), Some(authority.sign_until("old.example", 2021))] {
        let error = ask(address, &authority, identity.as_ref()).await.expect_err("it is not accepted");
        assert_eq!(error.remedy(), Some(Remedy::ShowCertificate), "{error}");
    }
    assert_eq!(names.0.lock().unwrap().len(), 1, "no session");
    server.shutdown().await;
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_on_the_list_by_their_names_and_within_their_quotas() {
    let (authority, names) = (Authority::new(), Names::default());
    let [alice, bob, mallory] = ["a.example", "bob.example", "m.example"].map(|name| authority.sign(name));
    let list = format!("alice sha256:{} 1\nbob dns:BOB.example\n", hex::encode(alice.hash));
    let list = AllowList::parse(&list).unwrap();
    let server = secure(&authority).allow(list).watcher(names.clone()).bind("127.0.0.1:0").await.unwrap();
    let running = tokio::spawn(server.clone().run());
    let address = server.address().unwrap();
    let asks = async |who: &Identity| ask(address, &authority, Some(who)).await;
    let refusal = |outcome: Result<Answer>| match outcome {
        Err(Error::Declined(refusal)) => refusal,
        other => panic!("{other:?}"),
    };

    asks(&alice).await.unwrap();
    assert!(matches!(refusal(asks(&alice).await), Refusal::Quota { .. }), "her own quota");
    for _ in 0..3 {
        asks(&bob).await.unwrap();
    }
    let unknown = asks(&mallory).await.expect_err("not on the list");
    assert!(unknown.to_string().contains("does not know this client"), "{unknown}");
    assert_eq!(refusal(Err(unknown)), Refusal::Unknown);
    assert_eq!(names.0.lock().unwrap()[..3], ["alice@127.0.0.1", "alice@127.0.0.1", "bob@127.0.0.1"]);

    // The list is another one; the quota of who stays goes on.
    server.allow(AllowList::parse("carol dns:m.example\nalice dns:a.example").unwrap());
    assert_eq!(refusal(asks(&bob).await), Refusal::Unknown);
    asks(&mallory).await.unwrap();
    asks(&alice).await.unwrap();
    server.shutdown().await;
    running.await.unwrap().unwrap();
}

/// A list that brings the first quota counts as one that was there from the start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_that_comes_later_counts() {
    let authority = Authority::new();
    let alice = authority.sign("a.example");
    let list = AllowList::parse("alice dns:a.example").unwrap();
    let server = secure(&authority).allow(list).bind("127.0.0.1:0").await.unwrap();
    let running = tokio::spawn(server.clone().run());
    let asks = || ask(server.address().unwrap(), &authority, Some(&alice));
    asks().await.unwrap();
    server.allow(AllowList::parse("alice dns:a.example 2").unwrap());
    for _ in 0..2 {
        asks().await.unwrap();
    }
    let third = asks().await;
    assert!(matches!(third, Err(Error::Declined(Refusal::Quota { .. }))), "{third:?}");
    server.shutdown().await;
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_does_not_go_together() {
    let authority = Authority::new();
    let no_tls = Server::builder(digits()).client_authorities(authority.file()).bind("127.0.0.1:0").await;
    assert!(matches!(no_tls, Err(Error::Usage { .. })), "{no_tls:?}");
    let own = authority.sign("localhost");
    let no_authorities = Server::builder(digits()).tls(&own.certificate, &own.key).allow(AllowList::default());
    let no_authorities = no_authorities.quota(NonZeroU32::MIN).bind("127.0.0.1:0").await;
    assert!(matches!(no_authorities, Err(Error::Usage { .. })), "{no_authorities:?}");
    let plain = Client::builder().certificate(&own.certificate, &own.key).connect("127.0.0.1:1").await;
    assert!(matches!(plain, Err(Error::Usage { .. })), "{plain:?}");
}

/// A running `lowkey serve`.
struct Serving {
    child: Child,
    port: String,
    pin: String,
    folder: TempDir,
}

impl Serving {
    fn start(own: &Identity, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut serve = lowkey(&["serve", "--model", "digits", "--listen", "127.0.0.1:0", "--cert"]);
        serve.arg(&own.certificate).arg("--key").arg(&own.key).args(arguments).arg("--state").arg(folder.path());
        let mut child = serve.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let lines: Vec<String> = lines.take(3).map(std::io::Result::unwrap).collect();
        let port = lines[0].rsplit_once(':').unwrap().1.to_owned();
        Self { child, port, pin: lines[2].rsplit_once(' ').unwrap().1.to_owned(), folder }
    }

    fn infer(&self, arguments: &[&str], roots: Option<&Path>) -> Output {
        let input = self.folder.path().join("digits.npy");
        let header = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': (1, 8, 8), }}{:>57}\n", "");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.bytes());
        bytes.extend([0; 64]);
        std::fs::write(&input, bytes).unwrap();
        let mut infer = lowkey(&["infer", "--no-store", "--server", &format!("localhost:{}", self.port)]);
        infer.args(arguments).arg("--input").arg(input);
        if let Some(roots) = roots {
            infer.env("SSL_CERT_FILE", roots).env_remove("SSL_CERT_DIR");
        }
        infer.output().unwrap()
    }

    /// What it has logged, after its end.
    fn told(mut self) -> String {
        std::thread::sleep(Duration::from_millis(300));
        self.child.kill().unwrap();
        let mut err = self.child.stderr.take().unwrap();
        std::io::read_to_string(&mut err).unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn ends(output: &Output, code: i32, said: &str) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(code) && err.contains(said), "{:?}: {err}", output.status);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_command_and_its_log() {
    let authority = Authority::new();
    let [alice, mallory] = ["alice.example", "mallory.example"].map(|name| authority.sign(name));
    let list = authority.folder.path().join("allow");
    std::fs::write(&list, "# who\nalice dns:alice.example 5\n").unwrap();
    let ca = authority.file();
    let ca = text(&ca);
    let server = Serving::start(&authority.sign("localhost"), &["--client-ca", ca, "--allow", text(&list)]);
    let by = |who: &Identity| {
        let identity = ["--ca", ca, "--cert", text(&who.certificate), "--key", text(&who.key)];
        server.infer(&identity, None)
    };
    ends(&by(&alice), 0, "");
    for _ in 0..6 {
        ends(&by(&mallory), 3, "refused: the server does not know this client");
    }
    ends(&server.infer(&["--ca", ca], None), 3, "hint: the server asks for a certificate");
    let wrong = ["--ca", ca, "--cert", text(&alice.certificate), "--key", text(&mallory.key)];
    ends(&server.infer(&wrong, None), 2, "does not belong to the certificate");
    let told = server.told();
    assert!(told.contains("INFO inference session=1 client=alice@127.0.0.1"), "{told}");
    assert_eq!(told.matches(&hex::encode(mallory.hash)).count(), 5, "ready for the list, a few times:\n{told}");

    std::fs::write(&list, "alice dns:alice.example\nbob cn:bob\n").unwrap();
    let own = authority.sign("localhost");
    let serve = ["serve", "--model", "digits", "--cert", text(&own.certificate), "--key", text(&own.key)];
    let broken = lowkey(&[&serve[..], &["--client-ca", ca, "--allow", text(&list)]].concat()).output().unwrap();
    ends(&broken, 2, "line 2: \"cn:bob\" is neither sha256:HASH nor dns:NAME");
    let alone = lowkey(&[&serve[..], &["--allow", text(&list)]].concat()).output().unwrap();
    ends(&alone, 2, "--client-ca <FILE>");
}

/// Guarded sessions by the command: with certificates, for those who ask for them, and where `--guard` is given at both ends.
#[test]
fn guarded_by_the_command() {
    let authority = Authority::new();
    let (alice, ca) = (authority.sign("alice.example"), authority.file());
    let ca = text(&ca);
    let identity = ["--ca", ca, "--cert", text(&alice.certificate), "--key", text(&alice.key)];
    let server = Serving::start(&authority.sign("localhost"), &["--client-ca", ca, "--guard", "--guard-audit", "1/4"]);
    let guarded = server.infer(&[&identity[..], &["--guard"]].concat(), None);
    ends(&guarded, 0, "");
    let said = String::from_utf8_lossy(&guarded.stdout).into_owned();
    let plain = Serving::start(&authority.sign("localhost"), &["--client-ca", ca, "--reveal", "class"]);
    let class = plain.infer(&[&identity[..], &["--reveal", "class"]].concat(), None);
    let answer = |said: &str| said.lines().nth(3).map(str::to_owned);
    assert_eq!(answer(&said), answer(&String::from_utf8_lossy(&class.stdout)), "{said}");
    ends(&server.infer(&identity, None), 3, "the server answers guarded sessions alone");
    ends(&server.infer(&identity, None), 3, "ask with --guard");
    ends(
        &server.infer(&[&identity[..], &["--guard", "--reveal", "logits"]].concat(), None),
        3,
        "reveals the class only",
    );
    ends(&plain.infer(&[&identity[..], &["--guard"]].concat(), None), 3, "the server has no guarded sessions");
    let list = lowkey(&["guard", "list", "--state", text(server.folder.path())]).output().unwrap();
    assert!(String::from_utf8_lossy(&list.stdout).starts_with("nobody is shut out"));
    let nobody = lowkey(&["serve", "--model", "digits", "--guard"]).output().unwrap();
    ends(&nobody, 2, "nothing makes clients show who they are");
    ends(&nobody, 2, "--client-ca FILE");
}

/// The authorities of the system sign for names and dates; a pin looks at neither, as its help says.
#[test]
fn system_roots_and_pins() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = Serving::start(&authority.sign("localhost"), &[]);
    ends(&server.infer(&["--system-roots"], Some(&authority.file())), 0, "");
    ends(&server.infer(&["--system-roots"], Some(&other.file())), 4, "no authority");
    let nowhere = Path::new("/nowhere/roots.pem");
    ends(&server.infer(&["--system-roots"], Some(nowhere)), 2, "this system trusts no certificate authority");

    for own in [authority.sign("elsewhere.example"), authority.sign_until("localhost", 2021)] {
        let server = Serving::start(&own, &[]);
        ends(&server.infer(&["--ca", text(&authority.file())], None), 4, "is not the trusted one");
        ends(&server.infer(&["--pin", &server.pin], None), 0, "");
    }
    let help = lowkey(&["infer", "--help"]).output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("neither its dates nor its names are looked at"), "{help}");
}
