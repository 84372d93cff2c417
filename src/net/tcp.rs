//! Sockets, with TLS 1.3 or without.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, ServerConfig, SignatureScheme,
};
use sha2::{Digest as _, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

#[cfg(feature = "websocket")]
use super::websocket::{self, Origins};
use super::{Stream, Trust};
use crate::boxed::Boxed;
use crate::error::{Error, Result};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn tls(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

/// What the two PEM files of a certificate are told apart by.
const PEM: &str = "a certificate is a PEM file with BEGIN CERTIFICATE in it, its key one with BEGIN PRIVATE KEY: neither stands for \
                   the other";

/// A PEM file that cannot be read, or has no `wanted` in it.
fn pem_error(path: &Path, error: pem::Error, wanted: &str) -> Error {
    match error {
        pem::Error::Io(error) => Error::file(path, error),
        pem::Error::NoItemsFound => Error::usage(format!("{}: no {wanted} in it", path.display()), PEM),
        error => Error::usage(format!("{}: {error}", path.display()), PEM),
    }
}

/// Reads a certificate chain.
///
/// # Errors
/// When the file cannot be read or holds no certificate.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| pem_error(path, error, "certificate"))?;
    if certificates.is_empty() {
        return Err(pem_error(path, pem::Error::NoItemsFound, "certificate"));
    }
    Ok(certificates)
}

/// Reads a private key.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| pem_error(path, error, "private key"))
}

/// What is wrong with a certificate and its key, each a valid one.
fn mismatch(key: &Path, error: rustls::Error) -> Error {
    match error {
        rustls::Error::InconsistentKeys(_) => Error::usage(
            format!("{}: it does not belong to the certificate", key.display()),
            "give the key that the certificate was made with; of several certificates in a file it is the first one's",
        ),
        error => Error::file(key, tls(error)),
    }
}

/// The authorities in a PEM file.
fn authorities(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| Error::file(path, tls(error)))?;
    }
    Ok(roots)
}

/// The authorities that this system trusts; of those that cannot be read, others remain.
fn system_authorities() -> Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
        return Err(Error::usage(
            format!("this system trusts no certificate authority{why}"),
            "install its package of certificates (ca-certificates), or name an authority or a pin",
        ));
    }
    Ok(roots)
}

/// The SHA-256 of a certificate, as `--pin` takes it.
pub fn pin_of(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

/// True if every address that `address` (host:port) stands for is a loopback address.
///
/// # Errors
/// When it is not host:port, or nobody knows the host.
pub async fn is_loopback(address: &str) -> Result<bool> {
    let failed = |source| Error::Connect { address: address.to_owned(), source };
    let mut addresses = tokio::net::lookup_host(address).await.map_err(failed)?.peekable();
    Ok(addresses.peek().is_some() && addresses.all(|a| a.ip().is_loopback()))
}

/// Connects to `address` (host:port), within a minute.
///
/// # Errors
/// As [`connect_within`].
pub async fn connect(address: &str, trust: &Trust) -> Result<Box<dyn Stream>> {
    connect_within(address, trust, Duration::from_secs(60)).await
}

/// Connects to `address` (host:port), within `timeout`.
///
/// # Errors
/// When nothing answers there, or the certificate is not the trusted one.
pub async fn connect_within(address: &str, trust: &Trust, timeout: Duration) -> Result<Box<dyn Stream>> {
    connect_as(address, trust, None, timeout).await
}

/// The same, with a certificate of the client's own to show and its private key, PEM files.
///
/// # Errors
/// As [`connect_within`]; and when the files are not a certificate and its key, or nothing would ask for them.
pub async fn connect_as(
    address: &str,
    trust: &Trust,
    identity: Option<(&Path, &Path)>,
    timeout: Duration,
) -> Result<Box<dyn Stream>> {
    let late = || {
        let source = io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", timeout.as_secs_f64()));
        Error::Connect { address: address.to_owned(), source }
    };
    tokio::time::timeout(timeout, connect_patiently(address, trust, identity)).await.map_err(|_| late())?
}

fn connect_patiently<'a>(
    address: &'a str,
    trust: &'a Trust,
    identity: Option<(&'a Path, &'a Path)>,
) -> Boxed<'a, Result<Box<dyn Stream>>> {
    Box::pin(async move {
        let failed = |source| Error::Connect { address: address.to_owned(), source };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| Error::internal(error.to_string()))?;
        let builder = match trust {
            Trust::Plain => None,
            Trust::Authority(path) => Some(builder.with_root_certificates(authorities(path)?)),
            Trust::System => Some(builder.with_root_certificates(system_authorities()?)),
            Trust::Pin(pin) => {
                let pinned = Arc::new(Pinned { pin: *pin, provider: provider() });
                Some(builder.dangerous().with_custom_certificate_verifier(pinned))
            }
        };
        let config = match (builder, identity) {
            (None, None) => None,
            (None, Some(_)) => {
                return Err(Error::usage(
                    "a certificate is shown over TLS, and this would be plain TCP",
                    "say how the server is recognised: by a pin or an authority",
                ));
            }
            (Some(builder), None) => Some(builder.with_no_client_auth()),
            (Some(builder), Some((certificate, key))) => {
                let config = builder.with_client_auth_cert(certificates(certificate)?, private_key(key)?);
                Some(config.map_err(|error| mismatch(key, error))?)
            }
        };
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let Some(config) = config else { return Ok(Box::new(stream) as Box<dyn Stream>) };
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = match host.parse::<IpAddr>() {
            Ok(ip) => ServerName::from(ip),
            Err(_) => ServerName::try_from(host.to_owned()).map_err(|error| failed(tls(error)))?,
        };
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        Ok(Box::new(stream.map_err(|error| handshake_error(address, error))?))
    })
}

/// Tells a certificate that is not trusted from a connection that failed.
fn handshake_error(address: &str, error: io::Error) -> Error {
    let address = address.to_owned();
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(why)) => Error::Certificate { address, why: in_words(why) },
        _ => {
            let source =
                io::Error::new(error.kind(), format!("the TLS handshake failed: {}", failed_handshake(&error)));
            Error::Connect { address, source }
        }
    }
}

/// Why a TLS handshake failed, in words where the program's own are of its inside.
fn failed_handshake(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidMessage(_)) => "what came is not TLS".into(),
        Some(rustls::Error::InvalidCertificate(why)) => format!("the certificate is refused: {}", in_words(why)),
        _ => error.to_string(),
    }
}

/// What is wrong with a certificate.
fn in_words(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "no authority that is trusted here has signed it".into()
        }
        CertificateError::Other(OtherError(why)) => match why.to_string().as_str() {
            "CaUsedAsEndEntity" => {
                "it is an authority's (CA:TRUE), not a server's or a client's; a pin accepts it".into()
            }
            other => other.into(),
        },
        other => other.to_string(),
    }
}

/// Accepts the certificate with one SHA-256 and no other; the handshake's signature is checked against it as usual.
#[derive(Debug)]
struct Pinned {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

/// A certificate other than the pinned one.
#[derive(Debug, thiserror::Error)]
#[error("pin {}, expected {}", hex::encode(found), hex::encode(expected))]
struct Pins {
    found: [u8; 32],
    expected: [u8; 32],
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = pin_of(end_entity);
        if found == self.pin {
            Ok(ServerCertVerified::assertion())
        } else {
            let pins = Pins { found, expected: self.pin };
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(pins)))))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A server's certificate chain, its private key, and the authorities of its clients where these have to show certificates. They can be
/// read again while clients connect; a copy is the same.
#[derive(Clone)]
pub struct ServerIdentity {
    /// Certificates and key.
    files: [PathBuf; 2],
    clients: Option<PathBuf>,
    current: Arc<Mutex<Credentials>>,
}

/// What was read of them.
#[derive(Clone)]
pub struct Credentials {
    acceptor: TlsAcceptor,
    pin: [u8; 32],
}

impl ServerIdentity {
    /// Reads them, PEM files.
    ///
    /// # Errors
    /// When they are not a certificate and its key, and authorities.
    pub fn read(certificates: &Path, key: &Path, clients: Option<&Path>) -> Result<Self> {
        let current = Arc::new(Mutex::new(Credentials::read(certificates, key, clients)?));
        Ok(Self { files: [certificates.to_owned(), key.to_owned()], clients: clients.map(Path::to_owned), current })
    }

    /// Reads them again. Nothing changes before they are [used](Self::use_from_now_on).
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_again(&self) -> Result<Credentials> {
        let [certificates, key] = &self.files;
        Credentials::read(certificates, key, self.clients.as_deref())
    }

    /// Handshakes that begin from now on use these.
    pub fn use_from_now_on(&self, credentials: Credentials) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = credentials;
    }

    /// SHA-256 of the certificate, as clients pin it.
    pub fn pin(&self) -> [u8; 32] {
        self.current().pin
    }

    fn current(&self) -> Credentials {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Credentials {
    fn read(certificate: &Path, key: &Path, clients: Option<&Path>) -> Result<Self> {
        let chain = certificates(certificate)?;
        let pin = pin_of(&chain[0]);
        let secret = private_key(key)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| Error::internal(error.to_string()))?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(authorities(path)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| Error::file(path, tls(error)))?)
            }
        };
        let config = builder.with_single_cert(chain, secret).map_err(|error| mismatch(key, error))?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), pin })
    }
}

/// Listening sockets, with TLS if there is a certificate.
pub struct Listener {
    /// The first for clients over TCP, those behind it for browsers.
    sockets: Vec<(TcpListener, Over)>,
    identity: Option<ServerIdentity>,
    /// Which socket is looked at first: a flood at one does not keep the others waiting.
    turn: AtomicUsize,
}

/// How the bytes of a session lie in those of a connection.
#[derive(Clone)]
enum Over {
    /// As they are.
    Tcp,
    /// In messages.
    #[cfg(feature = "websocket")]
    WebSocket(Arc<Origins>),
}

impl Listener {
    /// Listens on `address`.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind(address: &str, identity: Option<ServerIdentity>) -> Result<Self> {
        let sockets = vec![(listen(address).await?, Over::Tcp)];
        Ok(Self { sockets, identity, turn: AtomicUsize::new(0) })
    }

    /// Listens on `address` too, for browsers with pages of these origins.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    #[cfg(feature = "websocket")]
    pub async fn bind_websocket(&mut self, address: &str, origins: Origins) -> Result<()> {
        self.sockets.push((listen(address).await?, Over::WebSocket(Arc::new(origins))));
        Ok(())
    }

    /// The address that clients connect to.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.sockets[0].0.local_addr()
    }

    /// The address that browsers connect to, if there is one.
    pub fn websocket_address(&self) -> io::Result<Option<SocketAddr>> {
        self.sockets.get(1).map(|(socket, _)| socket.local_addr()).transpose()
    }

    /// Waits for a connection. The handshakes are left to [`Incoming::secure`], so that a slow client delays nobody else.
    pub async fn accept(&self) -> io::Result<(Incoming, SocketAddr)> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % self.sockets.len();
        let (before, after) = self.sockets.split_at(first);
        let (stream, address, over) = std::future::poll_fn(|cx| {
            for (socket, over) in after.iter().chain(before) {
                if let Poll::Ready(accepted) = socket.poll_accept(cx) {
                    return Poll::Ready(accepted.map(|(stream, address)| (stream, address, over.clone())));
                }
            }
            Poll::Pending
        })
        .await?;
        let tls = self.identity.as_ref().map(|identity| identity.current().acceptor);
        Ok((Incoming { stream, tls, over }, address))
    }
}

async fn listen(address: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address: address.to_owned(), source })
}

impl Over {
    /// The handshake of what lies in between, if there is one.
    async fn accept(self, stream: impl Stream + 'static) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp => Ok(Box::new(stream)),
            #[cfg(feature = "websocket")]
            Self::WebSocket(origins) => Ok(Box::new(websocket::accept(stream, &origins).await?)),
        }
    }
}

/// A connection whose handshakes, of TLS and of a WebSocket, are still to come.
pub struct Incoming {
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    over: Over,
}

impl Incoming {
    /// Does the TLS handshake, if the listener has a certificate, and then a browser's. Returns the client's certificate too, if it had
    /// to show one.
    pub async fn secure(self) -> io::Result<(Box<dyn Stream>, Option<CertificateDer<'static>>)> {
        self.stream.set_nodelay(true)?;
        let Some(acceptor) = self.tls else { return Ok((self.over.accept(self.stream).await?, None)) };
        let failed = |error: io::Error| io::Error::new(error.kind(), failed_handshake(&error));
        let stream = acceptor.accept(self.stream).await.map_err(failed)?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = shown.map(|certificate| certificate.clone().into_owned());
        Ok((self.over.accept(stream).await?, certificate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    struct Identity {
        folder: tempfile::TempDir,
        pin: [u8; 32],
    }

    impl Identity {
        fn make() -> Self {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
            std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
            Self { folder, pin: pin_of(made.cert.der()) }
        }

        async fn echo_server(&self) -> u16 {
            let [cert, key] = ["cert.pem", "key.pem"].map(|name| self.folder.path().join(name));
            let identity = ServerIdentity::read(&cert, &key, None).unwrap();
            let listener = Listener::bind("127.0.0.1:0", Some(identity)).await.unwrap();
            let port = listener.address().unwrap().port();
            tokio::spawn(async move {
                loop {
                    let (incoming, _) = listener.accept().await.unwrap();
                    let Ok((mut stream, _)) = incoming.secure().await else { continue };
                    let mut byte = [0];
                    if stream.read_exact(&mut byte).await.is_ok() {
                        stream.write_all(&byte).await.unwrap();
                        stream.flush().await.unwrap();
                    }
                }
            });
            port
        }
    }

    async fn ping(mut stream: Box<dyn Stream>) -> u8 {
        stream.write_all(&[42]).await.unwrap();
        stream.flush().await.unwrap();
        stream.read_u8().await.unwrap()
    }

    #[tokio::test]
    async fn tls_with_an_authority_or_a_pin_and_with_nothing_else() {
        let (identity, other) = (Identity::make(), Identity::make());
        let address = format!("localhost:{}", identity.echo_server().await);
        let authority = |i: &Identity| Trust::Authority(i.folder.path().join("cert.pem"));
        let connect = async |trust| connect(&address, &trust).await;
        assert_eq!(ping(connect(Trust::Pin(identity.pin)).await.unwrap()).await, 42);
        assert_eq!(ping(connect(authority(&identity)).await.unwrap()).await, 42);
        assert!(matches!(connect(Trust::Pin(other.pin)).await, Err(Error::Certificate { .. })));
        assert!(matches!(connect(authority(&other)).await, Err(Error::Certificate { .. })));
    }

    #[tokio::test]
    async fn a_silent_server_does_not_hold_up_a_handshake() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let outcome = connect_within(&address, &Trust::Pin([0; 32]), Duration::from_millis(50)).await;
        let Err(Error::Connect { source, .. }) = outcome else { panic!("it has a certificate") };
        assert_eq!(source.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn loopback_is_recognised() {
        assert!(is_loopback("127.0.0.1:80").await.unwrap());
        assert!(is_loopback("[::1]:80").await.unwrap());
        assert!(!is_loopback("192.0.2.1:80").await.unwrap());
        assert!(matches!(is_loopback("no port").await, Err(Error::Connect { .. })));
    }
}
