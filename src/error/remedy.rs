//! What to do about an error. The library says it in its own terms; a program that has commands for it says which.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use lowkey_models::data::{DataError, DataProblem, Misfit};
use lowkey_models::import::{ImportError, ImportProblem};
use lowkey_mpc::error::Error as ProtocolError;

use super::{AbortCode, Error, Refusal};
use crate::node::PlanError;
use crate::store::{Folder, NotOffences, NotRecords, StoreError};

/// What to do about an error, as a sentence. Variants are what a program may have a command or a switch for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Say of pixels what suits the network's input.
    Preprocessing,
    /// Look up what became of each operation of an import.
    ImportReport,
    /// Give an input in a form that is read.
    InputForms,
    /// Scale a picture, or crop it.
    PictureSize,
    /// Give an array as the model's own runtime reads it.
    InputTypes,
    /// Show a certificate that the server accepts.
    ShowCertificate,
    /// Use TLS, for the connection is unreliable.
    UseTls,
    /// See whether the server uses TLS.
    IsTls,
    /// Trust a certificate.
    TrustCertificate,
    /// Forget the model that was noted, if the server's owner confirms the new one.
    AcceptModel {
        /// Under what [it was noted](crate::client::note_of).
        note: String,
    },
    /// Forget a note that is damaged.
    ForgetNote {
        /// Under what [it was made](crate::client::note_of).
        note: String,
    },
    /// Name a folder, for the system names none.
    NameFolder(Folder),
    /// Have a new key and with it a new record.
    NewRecord,
    /// Take the rights of others off the key, and rotate it if somebody may have read it.
    HideKey {
        /// Its file.
        path: PathBuf,
    },
    /// Rotate a key that is past its lifetime.
    RotateKey,
    /// Ask for the class.
    AskForClass,
    /// Name one of the server's models.
    NameModel,
    /// Ask for a guarded session.
    AskForGuard,
    /// Ask for a session without a guard.
    AskWithoutGuard,
    /// Ask a model owner that waits for a training, not a server of inferences.
    AskATrainer,
    /// Ask a server of inferences, not a party of a training.
    AskAServer,
    /// Report a bug.
    Report,
    /// This.
    Plain(Cow<'static, str>),
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Preprocessing => {
                "one mean and one deviation for all channels, or one of each for each channel; the scale and deviations are above 0"
            }
            Self::ImportReport => "the import's report says what became of each operation",
            Self::InputForms => "inputs are PNG, JPEG, .npy, .csv or IDX files, of the size that the network reads",
            Self::PictureSize => "scale or crop the picture to the size that the network reads",
            Self::InputTypes => "arrays in .npy are what the model's own runtime reads",
            Self::ShowCertificate => {
                "the server asks for a certificate, and not for this one: show one that its owner accepts"
            }
            Self::UseTls => {
                "the connection is unreliable: use TLS (the server with a certificate and its key, the client with a pin or an authority)"
            }
            Self::IsTls => "check that the server uses TLS: it does where it was given a certificate and its key",
            Self::TrustCertificate => "if the server's owner confirms its certificate, trust its pin or its authority",
            Self::AcceptModel { note } => {
                return write!(f, "if the server's owner confirms the new model, forget the one noted of {note}");
            }
            Self::ForgetNote { note } => {
                return write!(f, "forget what is noted of {note}, and any model is accepted once");
            }
            Self::NameFolder(Folder::Cache) => "name a folder for what can be had again",
            Self::NameFolder(Folder::State) => "name a folder for what has to stay",
            Self::NewRecord => "rotate the key: a new one has a new record",
            Self::HideKey { path } => {
                let path = path.display();
                return write!(f, "chmod 600 {path}; if somebody may have read it, rotate the key and wipe the old one");
            }
            Self::RotateKey => "rotate the key; clients that noted or pinned a digest must be told the new one",
            Self::AskForClass => "ask for the class",
            Self::NameModel => "name one of its models; it lists them",
            Self::AskForGuard => "ask for a guarded session; your privacy then rests on a server that follows the protocol",
            Self::AskWithoutGuard => "ask for a session that is not guarded",
            Self::AskATrainer => "name a model owner that waits for a training",
            Self::AskAServer => "name a server that answers inferences",
            Self::Report => "this is a bug: please report it with what shows it",
            Self::Plain(text) => text,
        })
    }
}

impl From<&'static str> for Remedy {
    fn from(text: &'static str) -> Self {
        Self::Plain(text.into())
    }
}

impl From<String> for Remedy {
    fn from(text: String) -> Self {
        Self::Plain(text.into())
    }
}

impl Error {
    /// What to do about it.
    pub fn remedy(&self) -> Option<Remedy> {
        Some(match self {
            Self::Usage { hint, .. } | Self::Unprotected { hint, .. } => hint.clone().into(),
            Self::SessionOver => "connect again; what was prepared is burned".into(),
            Self::Model(_) => "check that it is a whole .lowkey file".into(),
            Self::Import(error) => of_import(error)?,
            Self::Input(error) => of_input(error.as_ref()),
            Self::Plan(PlanError::NoCircuit { .. }) => "serve it without the guarded mode".into(),
            Self::Plan(_) => "this network cannot run privately as it is".into(),
            Self::Session(error) => of_session(error)?,
            Self::Peer(..) => SAME_VERSION.into(),
            Self::Version { .. } => "install the same version of lowkey at both ends".into(),
            Self::Refused(_) => "the server's owner has to publish the model again with this version of lowkey".into(),
            Self::Connect { source, .. } => of_connection(source.kind()),
            Self::Listen { source, .. } => of_listening(source.kind()),
            Self::Certificate { .. } => Remedy::TrustCertificate,
            Self::File { source, .. } => of_file(source.kind())?,
            Self::Digest { noted: Some(note), .. } => Remedy::AcceptModel { note: note.clone() },
            Self::Digest { noted: None, .. } => "ask the server's owner for the digest of the current model".into(),
            Self::Terms { .. } => "both parties of a training have to ask for the same: say it at both ends".into(),
            Self::Declined(refusal) => of_refusal(*refusal),
            Self::Store(error) => of_store(error)?,
            Self::MissingProgram { .. } | Self::Randomness(_) | Self::Internal(_) => Remedy::Report,
            Self::Slot { .. } | Self::Busy { .. } => return None,
        })
    }
}

const SAME_VERSION: &str = "check that both ends run the same version of lowkey, both with TLS or both without";

fn of_import(error: &ImportError) -> Option<Remedy> {
    Some(match &*error.problem {
        ImportProblem::UnknownFormat => "networks are .lowkey, ONNX and TFLite files".into(),
        ImportProblem::Preprocessing(_) => Remedy::Preprocessing,
        ImportProblem::Io(source) => of_file(source.kind())?,
        ImportProblem::TooLarge { .. }
        | ImportProblem::Damaged(_)
        | ImportProblem::File { .. }
        | ImportProblem::Unsupported { .. }
        | ImportProblem::Refused(_)
        | ImportProblem::Model(_) => match &error.report {
            Some(report) if !report.rows.is_empty() => Remedy::ImportReport,
            Some(_) | None => "give a whole ONNX or TFLite file of a quantised network".into(),
        },
    })
}

fn of_session(error: &ProtocolError) -> Option<Remedy> {
    Some(match error {
        ProtocolError::PeerAborted(code) => format!("the peer says: {}", AbortCode::describe(*code)).into(),
        ProtocolError::Timeout { .. } => "check that the other end still runs".into(),
        ProtocolError::Io(error) if wants_certificate(error) => Remedy::ShowCertificate,
        ProtocolError::Disconnected => "the other end stopped, or one end uses TLS and the other does not".into(),
        ProtocolError::Changed => Remedy::UseTls,
        ProtocolError::Protocol { .. } => SAME_VERSION.into(),
        ProtocolError::Io(_)
        | ProtocolError::FrameTooLarge { .. }
        | ProtocolError::Encode(_)
        | ProtocolError::Exhausted { .. }
        | ProtocolError::OtherSession
        | ProtocolError::Cheated => return None,
        _ => return None,
    })
}

/// True if the other end has ended the connection for want of a certificate that it accepts.
#[cfg(not(target_arch = "wasm32"))]
fn wants_certificate(error: &io::Error) -> bool {
    use rustls::AlertDescription as Alert;
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    let Some(rustls::Error::AlertReceived(alert)) = inner else { return false };
    let about = [
        Alert::CertificateRequired,
        Alert::BadCertificate,
        Alert::UnsupportedCertificate,
        Alert::CertificateRevoked,
        Alert::CertificateExpired,
        Alert::CertificateUnknown,
        Alert::UnknownCA,
        Alert::DecryptError,
        Alert::AccessDenied,
    ];
    about.contains(alert)
}

/// In a browser TLS is the page's affair.
#[cfg(target_arch = "wasm32")]
fn wants_certificate(_error: &io::Error) -> bool {
    false
}

fn of_store(error: &StoreError) -> Option<Remedy> {
    Some(match error {
        StoreError::File { source, .. } if source.kind() == ErrorKind::InvalidData => {
            "put a copy in its place; without one move it away: a new one is made, and every digest that clients noted changes".into()
        }
        StoreError::File { source, .. } => of_file(source.kind())?,
        StoreError::NoHome(folder) => Remedy::NameFolder(*folder),
        StoreError::Note { note, .. } => Remedy::ForgetNote { note: note.clone() },
        StoreError::Records { source: NotRecords::Form, .. } => Remedy::NewRecord,
        StoreError::Records { source: NotRecords::Version { .. }, .. } => {
            "use the version of lowkey that wrote it".into()
        }
        StoreError::Offences { source: NotOffences::Form, .. } => {
            "put a copy in its place, or remove it, which pardons everybody".into()
        }
        StoreError::Offences { source: NotOffences::Version { .. }, .. } => {
            "use the version of lowkey that wrote it".into()
        }
        StoreError::TooManyOffences { .. } => "no more clients fit: take names off it that are gone".into(),
        StoreError::Replaced { .. } => "start the server again".into(),
        StoreError::ExposedKey { path, .. } => Remedy::HideKey { path: path.clone() },
        StoreError::SpentKey { .. } => Remedy::RotateKey,
        StoreError::Randomness(_) => Remedy::Report,
    })
}

fn of_refusal(refusal: Refusal) -> Remedy {
    match refusal {
        Refusal::ClassOnly => Remedy::AskForClass,
        Refusal::Quota { wait_minutes } => {
            format!("wait {wait_minutes} min, or ask the server's owner for more").into()
        }
        Refusal::SpentKey => "the server's owner has to publish the model under a new key".into(),
        Refusal::Full { wait_seconds } => format!("try again in {wait_seconds} s").into(),
        Refusal::Unknown => "ask the server's owner to put your certificate on the list".into(),
        Refusal::NoModel | Refusal::WhichModel => Remedy::NameModel,
        Refusal::Guarded => Remedy::AskForGuard,
        Refusal::Unguarded => Remedy::AskWithoutGuard,
        Refusal::NoTraining => Remedy::AskATrainer,
        Refusal::OnlyTraining => Remedy::AskAServer,
        Refusal::ShutOut => "answer the audit if the line was lost, or ask the server's owner for a pardon".into(),
    }
}

/// What to do about an address, by what the system says of it.
const OF_ADDRESS: [(ErrorKind, &str); 4] = [
    (ErrorKind::AddrInUse, "another program listens there: choose another port; 0 picks a free one"),
    (ErrorKind::AddrNotAvailable, "choose an address of this machine"),
    (ErrorKind::InvalidInput, "an address is host:port"),
    (ErrorKind::PermissionDenied, "choose a port from 1024 on"),
];

fn of_address(kind: ErrorKind) -> Option<Remedy> {
    OF_ADDRESS.iter().find(|(of, _)| *of == kind).map(|(_, text)| (*text).into())
}

fn of_connection(kind: ErrorKind) -> Remedy {
    match of_address(kind) {
        Some(remedy) => remedy,
        None if matches!(kind, ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => Remedy::IsTls,
        None => "check the address and that the server runs".into(),
    }
}

fn of_listening(kind: ErrorKind) -> Remedy {
    let own = of_address(kind).filter(|_| kind != ErrorKind::AddrNotAvailable);
    let any = "choose an address of this machine: 127.0.0.1:7117 for itself alone, 0.0.0.0:7117 for others too";
    own.unwrap_or(any.into())
}

fn of_input(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Remedy {
    let problem = error.downcast_ref::<DataError>().map(|error| &error.problem);
    let problem = problem.or_else(|| error.downcast_ref::<DataProblem>());
    if let Some(DataProblem::Value { .. }) = problem {
        return "integers in .npy are the network's quantised input; pixels of 8 bits are quantised for you if the file is PNG or IDX"
            .into();
    }
    match problem {
        Some(DataProblem::Type { .. }) => Remedy::InputTypes,
        Some(DataProblem::Size { misfit: Misfit::Picture, .. }) => Remedy::PictureSize,
        _ => Remedy::InputForms,
    }
}

fn of_file(kind: ErrorKind) -> Option<Remedy> {
    use ErrorKind::{AlreadyExists, InvalidInput, IsADirectory, NotADirectory, NotFound};
    use ErrorKind::{PermissionDenied, ReadOnlyFilesystem, StorageFull};
    let is = |kinds: &[ErrorKind]| kinds.contains(&kind);
    if is(&[NotFound, IsADirectory, NotADirectory]) {
        Some("check the path".into())
    } else if is(&[PermissionDenied, ReadOnlyFilesystem]) {
        Some("name a place that you may read and write".into())
    } else if is(&[StorageFull]) {
        Some("make room on the disk".into())
    } else if is(&[AlreadyExists]) {
        Some("something else is there: choose another name".into())
    } else if is(&[InvalidInput]) {
        Some("name a file, and neither a pipe nor a device".into())
    } else {
        None
    }
}
