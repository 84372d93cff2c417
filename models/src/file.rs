//! The model file: a safetensors container with the architecture in its metadata. Read as untrusted input.
//!
//! | part | what |
//! |---|---|
//! | `__metadata__["lowkey.format"]` | `"1"`; or `"2: "` and what the file chooses, in this order, with commas: `rings`, `coins` ([`declared`](crate::declared)), `blocks` ([`blocks`](crate::blocks)), `floats` ([`floats`](crate::floats)), `digest` |
//! | `__metadata__["lowkey.sha256"]` | there if `digest` is chosen: SHA-256 of the file, 64 hexadecimal digits, which count as zeros in it |
//! | `__metadata__["lowkey.architecture"]` | JSON of an [`Architecture`] |
//! | tensor `<node>.<term>.weight` | I8, I16 or I32, `[out_channels, in_channels / groups, kernel h, kernel w]`, a matrix `[outputs, inputs]` |
//! | tensor `<node>.bias` | I32 or I64, `[out_channels]` |
//!
//! `<node>` is the node's name, `<term>` the position of the term in it. Nothing may be missing or left over. `to_bytes` always
//! gives the same bytes for the same network, so that a file can be named by its digest. Programs refuse what they do not know, naming it.
//!
//! The digest finds damage: a file whose bytes changed on a disk or on the way is refused. It has no key, so that whoever changes a file on
//! purpose can change the digest too. Every file that is written has one; files without one, of older programs or of people who write
//! theirs themselves, are read.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ndarray::Array4;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use sha2::{Digest as _, Sha256};

use crate::check::TensorInfo;
use crate::error::ModelError;
use crate::json::{JsonError, MAX_JSON, printable};
use crate::network::{Architecture, Term};
use crate::regular;
use crate::weights::{LinearWeights, Network, Weights};

/// The version of files that choose nothing beyond operations.
pub const FORMAT: &str = "1";
/// The version of files that do; what they choose stands behind it.
const CHOOSING: &str = "2: ";
/// A choice: rings are declared.
const RINGS: &str = "rings";
/// A choice: roundings by coins.
const COINS: &str = "coins";
/// A choice: one sign for a patch.
const BLOCKS: &str = "blocks";
/// A choice: averages that sums of floats decide.
const FLOATS: &str = "floats";
/// A choice: a digest of the file, in the file.
const DIGEST: &str = "digest";
/// Hexadecimal digits of a digest.
const DIGITS: usize = 64;
/// Largest model file, in bytes: the most weights at four bytes each, and some room.
pub const MAX_FILE: u64 = (1 << 30) + (1 << 26);
/// Longest header of the container, in bytes.
pub const MAX_HEADER: u64 = 16 << 20;

const FORMAT_KEY: &str = "lowkey.format";
const ARCHITECTURE_KEY: &str = "lowkey.architecture";
const DIGEST_KEY: &str = "lowkey.sha256";

/// A model file that can't be read or written.
#[derive(Debug)]
pub struct FileError {
    /// The file, if it was read by name.
    pub path: Option<PathBuf>,
    /// What is wrong with it.
    pub problem: FileProblem,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "{}: {}", path.display(), self.problem),
            None => self.problem.fmt(f),
        }
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.problem)
    }
}

impl<T: Into<FileProblem>> From<T> for FileError {
    fn from(problem: T) -> FileError {
        FileError { path: None, problem: problem.into() }
    }
}

/// What is wrong with a model file.
#[derive(Debug, thiserror::Error)]
pub enum FileProblem {
    /// The operating system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A part over its limit.
    #[error("{what} has {bytes} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Not a safetensors container.
    #[error("not a safetensors file: {0}")]
    Container(String),
    /// A safetensors file of something else.
    #[error("no {FORMAT_KEY:?} in the metadata: a safetensors file, but not a Lowkey model")]
    NoFormat,
    /// A version that this program does not read.
    #[error(
        "the file has format {found:?}, this program reads {FORMAT:?} and \"{CHOOSING}{RINGS}, {COINS}, {BLOCKS}, {FLOATS}, {DIGEST}\""
    )]
    UnknownFormat {
        /// The version.
        found: String,
    },
    /// A file that chooses something that this program does not know.
    #[error("the file uses {choice:?}, which this program does not know: a newer one may")]
    UnknownChoice {
        /// What.
        choice: String,
    },
    /// A format that is not that of the architecture.
    #[error("the file has format {found:?}, its architecture needs {wanted:?}")]
    WrongFormat {
        /// The version given.
        found: String,
        /// The version needed.
        wanted: String,
    },
    /// A digest that is missing, or not chosen.
    #[error("the file has format {found:?} and {} {DIGEST_KEY:?}: it is damaged", if *.present { "a" } else { "no" })]
    DigestPresence {
        /// The version given.
        found: String,
        /// True if there is a digest.
        present: bool,
    },
    /// Bytes that are not those that were written.
    #[error("the file is damaged: its SHA-256 is {found}, and it says {stated:?}")]
    Damaged {
        /// The digest of the file as it is.
        found: String,
        /// The digest that it had when it was written.
        stated: String,
    },
    /// No architecture.
    #[error("no {ARCHITECTURE_KEY:?} in the metadata")]
    NoArchitecture,
    /// An architecture that can't be read.
    #[error(transparent)]
    Architecture(#[from] JsonError),
    /// A tensor that the architecture asks for.
    #[error("tensor {name:?} is missing")]
    MissingTensor {
        /// Its name.
        name: String,
    },
    /// A tensor that the architecture does not know.
    #[error("tensor {name:?} does not belong to any node")]
    LeftOverTensor {
        /// Its name.
        name: String,
    },
    /// A tensor of a type that is not allowed there.
    #[error("tensor {name:?} has type {found}, it must be {wanted}")]
    TensorType {
        /// Its name.
        name: String,
        /// Its type.
        found: String,
        /// The types allowed.
        wanted: &'static str,
    },
    /// A tensor of the wrong shape.
    #[error("tensor {name:?} has shape {found:?}, it must be {wanted:?}")]
    TensorShape {
        /// Its name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape needed.
        wanted: Vec<usize>,
    },
    /// Weights that break a rule.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Network {
    /// Reads a model file.
    ///
    /// # Errors
    /// Whatever is wrong with the file, with its name.
    pub fn read(path: impl AsRef<Path>) -> Result<Network, FileError> {
        let path = path.as_ref();
        read_limited(path)
            .map_err(FileError::from)
            .and_then(|bytes| Network::from_bytes(&bytes))
            .map_err(|error| FileError { path: Some(path.to_owned()), ..error })
    }

    /// Writes a model file.
    ///
    /// # Errors
    /// Those of [`Network::to_bytes`] and of the operating system, with the file's name.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), FileError> {
        let path = path.as_ref();
        self.to_bytes()
            .and_then(|bytes| Ok(std::fs::write(path, bytes)?))
            .map_err(|error| FileError { path: Some(path.to_owned()), ..error })
    }

    /// Reads a model from the bytes of a file.
    ///
    /// # Errors
    /// Whatever is wrong with it: container, version, architecture, tensors, weights.
    pub fn from_bytes(bytes: &[u8]) -> Result<Network, FileError> {
        limit("the file", bytes.len() as u64, MAX_FILE)?;
        if let Some(length) = bytes.first_chunk() {
            limit("the header", u64::from_le_bytes(*length), MAX_HEADER)?;
        }
        let container = |error: safetensors::SafeTensorError| FileProblem::Container(printable(&error.to_string()));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(container)?;
        let metadata = header.metadata().as_ref();
        let entry = |key| metadata.and_then(|metadata| metadata.get(key));
        let format = entry(FORMAT_KEY).ok_or(FileProblem::NoFormat)?;
        check_format(format)?;
        let is_digested = check_digest(bytes, format, entry(DIGEST_KEY))?;
        let text = entry(ARCHITECTURE_KEY).ok_or(FileProblem::NoArchitecture)?;
        let architecture = Architecture::from_json(text).map_err(FileProblem::from)?;
        let wanted = format_of(&architecture, is_digested);
        if *format != wanted {
            return Err(FileProblem::WrongFormat { found: printable(format), wanted }.into());
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(container)?;
        let weights = read_weights(&architecture, &tensors)?;
        Ok(Network::new(architecture, weights)?)
    }

    /// The bytes of a model file.
    ///
    /// # Errors
    /// If the architecture's JSON or the header is longer than [`Network::from_bytes`] would read.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FileError> {
        self.written(true)
    }

    /// The same without a digest: what a network is named by, whatever files have besides.
    ///
    /// # Errors
    /// As [`Network::to_bytes`].
    pub fn to_bytes_without_digest(&self) -> Result<Vec<u8>, FileError> {
        self.written(false)
    }

    fn written(&self, is_digested: bool) -> Result<Vec<u8>, FileError> {
        let mut entries = Vec::new();
        for (index, node) in self.architecture().nodes.iter().enumerate() {
            let (Some(terms), Some(weights)) = (node.op.terms(), &self.weights().linear[index]) else {
                continue;
            };
            let bias = weights.bias.iter().flat_map(|b| b.to_le_bytes()).collect();
            entries.push((format!("{}.bias", node.name), "I64", vec![weights.bias.len()], bias));
            for (position, (term, array)) in terms.iter().zip(&weights.terms).enumerate() {
                let (Some(bits), Some(array)) = (term.weight_bits(), array) else {
                    continue;
                };
                let (dtype, data) = if bits <= 8 {
                    ("I8", array.iter().map(|&w| w as i8 as u8).collect())
                } else {
                    ("I16", array.iter().flat_map(|&w| (w as i16).to_le_bytes()).collect::<Vec<u8>>())
                };
                let rank = if matches!(term, Term::Dense { .. }) { 2 } else { 4 };
                let name = format!("{}.{position}.weight", node.name);
                entries.push((name, dtype, array.shape()[..rank].to_vec(), data));
            }
        }
        // Wide types first, so that every tensor is aligned.
        entries.sort_by_key(|(_, dtype, _, _)| ["I64", "I16", "I8"].iter().position(|d| d == dtype));
        let json = self.architecture().to_json();
        limit("the architecture", json.len() as u64, MAX_JSON as u64)?;
        let format = format_of(self.architecture(), is_digested);
        let zeros = "0".repeat(DIGITS);
        let mut metadata = vec![(FORMAT_KEY, &format), (ARCHITECTURE_KEY, &json)];
        if is_digested {
            metadata.insert(0, (DIGEST_KEY, &zeros));
        }
        let mut bytes = container(&metadata, &entries)?;
        if is_digested {
            let at = find_digits(&bytes, &zeros).expect("they were just written");
            let digest = digest_without(&bytes, at);
            bytes[at..at + DIGITS].copy_from_slice(digest.as_bytes());
        }
        Ok(bytes)
    }
}

/// The format that a network's file has.
fn format_of(architecture: &Architecture, is_digested: bool) -> String {
    let choices = [
        (architecture.has_rings(), RINGS),
        (architecture.has_coins(), COINS),
        (architecture.has_blocks(), BLOCKS),
        (architecture.has_floats(), FLOATS),
        (is_digested, DIGEST),
    ];
    let choices: Vec<&str> = choices.into_iter().filter_map(|(used, choice)| used.then_some(choice)).collect();
    if choices.is_empty() { FORMAT.to_owned() } else { format!("{CHOOSING}{}", choices.join(", ")) }
}

/// Refuses formats and choices that this program does not know.
fn check_format(format: &str) -> Result<(), FileProblem> {
    if format == FORMAT {
        return Ok(());
    }
    let unknown = || FileProblem::UnknownFormat { found: printable(format) };
    let choices = format.strip_prefix(CHOOSING).ok_or_else(unknown)?;
    match choices.split(", ").find(|choice| ![RINGS, COINS, BLOCKS, FLOATS, DIGEST].contains(choice)) {
        None => Ok(()),
        Some(choice) => Err(FileProblem::UnknownChoice { choice: printable(choice) }),
    }
}

/// True if the file has a digest and it is that of its bytes; false if it says that it has none.
fn check_digest(bytes: &[u8], format: &str, stated: Option<&String>) -> Result<bool, FileProblem> {
    let choices = format.strip_prefix(CHOOSING).unwrap_or_default();
    let is_chosen = choices.split(", ").any(|choice| choice == DIGEST);
    if is_chosen != stated.is_some() {
        return Err(FileProblem::DigestPresence { found: printable(format), present: stated.is_some() });
    }
    let Some(stated) = stated else { return Ok(false) };
    let at = Some(stated).filter(|digits| digits.len() == DIGITS).and_then(|digits| find_digits(bytes, digits));
    let found = digest_without(bytes, at.unwrap_or(bytes.len()));
    match found == *stated {
        true => Ok(true),
        false => Err(FileProblem::Damaged { found, stated: printable(stated) }),
    }
}

/// Where the header has these digits first.
fn find_digits(bytes: &[u8], digits: &str) -> Option<usize> {
    bytes[..bytes.len().min(MAX_HEADER as usize)].windows(DIGITS).position(|window| window == digits.as_bytes())
}

/// SHA-256 of bytes whose digits at a place count as zeros.
fn digest_without(bytes: &[u8], at: usize) -> String {
    let end = bytes.len().min(at + DIGITS);
    let mut hash = Sha256::new();
    hash.update(&bytes[..at]);
    hash.update(&[b'0'; DIGITS][..end - at]);
    hash.update(&bytes[end..]);
    hex::encode(hash.finalize())
}

type Entry = (String, &'static str, Vec<usize>, Vec<u8>);

/// A safetensors container: the header's length (8 bytes, little endian), the header (JSON), the data. Written here because
/// the `safetensors` crate writes the metadata in random order.
fn container(metadata: &[(&str, &String)], entries: &[Entry]) -> Result<Vec<u8>, FileProblem> {
    let quote = |text: &str| serde_json::to_string(text).expect("text");
    let metadata: Vec<String> = metadata.iter().map(|(key, text)| format!("{}:{}", quote(key), quote(text))).collect();
    let mut header = format!("{{\"__metadata__\":{{{}}}", metadata.join(","));
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in entries {
        let (start, end) = (data.len(), data.len() + bytes.len());
        let name = quote(name);
        header += &format!(",{name}:{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}");
        data.extend_from_slice(bytes);
    }
    header.push('}');
    while header.len() % 8 != 0 {
        header.push(' ');
    }
    limit("the header", header.len() as u64, MAX_HEADER)?;
    Ok([&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat())
}

fn read_limited(path: &Path) -> Result<Vec<u8>, FileProblem> {
    let file = regular::open(path)?;
    limit("the file", file.metadata()?.len(), MAX_FILE)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn limit(what: &'static str, bytes: u64, limit: u64) -> Result<(), FileProblem> {
    if bytes > limit { Err(FileProblem::TooLarge { what, bytes, limit }) } else { Ok(()) }
}

fn read_weights(architecture: &Architecture, file: &SafeTensors) -> Result<Weights, FileProblem> {
    let info = architecture.check()?;
    let mut used = HashSet::new();
    let mut linear = Vec::with_capacity(architecture.nodes.len());
    for (index, node) in architecture.nodes.iter().enumerate() {
        let Some(terms) = node.op.terms() else {
            linear.push(None);
            continue;
        };
        let mut arrays = Vec::with_capacity(terms.len());
        for (position, term) in terms.iter().enumerate() {
            let name = format!("{}.{position}.weight", node.name);
            arrays.push(read_term(file, &name, term, &info)?);
            if term.weight_bits().is_some() {
                used.insert(name);
            }
        }
        let name = format!("{}.bias", node.name);
        let bias = read_bias(file, &name, info[index + 1].shape[0])?;
        used.insert(name);
        linear.push(Some(LinearWeights { terms: arrays, bias }));
    }
    match file.names().into_iter().filter(|name| !used.contains(*name)).min() {
        None => Ok(Weights { linear }),
        Some(name) => Err(FileProblem::LeftOverTensor { name: printable(name) }),
    }
}

fn read_term(
    file: &SafeTensors,
    name: &str,
    term: &Term,
    info: &[TensorInfo],
) -> Result<Option<Array4<i32>>, FileProblem> {
    let Some(wanted) = term.weight_shape(info[term.input()].shape) else {
        return Ok(None);
    };
    let tensor = find(file, name)?;
    let matrix = matches!(term, Term::Dense { .. });
    if tensor.shape() != wanted && !(matrix && tensor.shape() == &wanted[..2]) {
        let wanted = if matrix { wanted[..2].to_vec() } else { wanted.to_vec() };
        return Err(wrong_shape(name, &tensor, wanted));
    }
    let data = tensor.data();
    let values: Vec<i32> = match tensor.dtype() {
        Dtype::I8 => data.iter().map(|&b| i32::from(b as i8)).collect(),
        Dtype::I16 => data.as_chunks().0.iter().map(|&b| i16::from_le_bytes(b).into()).collect(),
        Dtype::I32 => data.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b)).collect(),
        found => return Err(wrong_type(name, found, "I8, I16 or I32")),
    };
    Ok(Some(Array4::from_shape_vec(wanted, values).expect("the container checked the number of values")))
}

fn read_bias(file: &SafeTensors, name: &str, channels: usize) -> Result<Vec<i64>, FileProblem> {
    let tensor = find(file, name)?;
    if tensor.shape() != [channels] {
        return Err(wrong_shape(name, &tensor, vec![channels]));
    }
    match tensor.dtype() {
        Dtype::I32 => Ok(tensor.data().as_chunks().0.iter().map(|&b| i32::from_le_bytes(b).into()).collect()),
        Dtype::I64 => Ok(tensor.data().as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)).collect()),
        found => Err(wrong_type(name, found, "I32 or I64")),
    }
}

fn find<'a>(file: &SafeTensors<'a>, name: &str) -> Result<TensorView<'a>, FileProblem> {
    file.tensor(name).map_err(|_| FileProblem::MissingTensor { name: name.to_owned() })
}

fn wrong_shape(name: &str, tensor: &TensorView, wanted: Vec<usize>) -> FileProblem {
    let found = tensor.shape().iter().take(8).copied().collect();
    FileProblem::TensorShape { name: name.to_owned(), found, wanted }
}

fn wrong_type(name: &str, found: Dtype, wanted: &'static str) -> FileProblem {
    FileProblem::TensorType { name: name.to_owned(), found: format!("{found:?}"), wanted }
}
