//! Inputs from files: pictures (PNG, IDX) are quantised, arrays (NPY) and rows (CSV) are what the model's own runtime would read.
//!
//! | file | becomes |
//! |---|---|
//! | PNG or JPEG, grey or in colour | one input; an alpha channel is dropped, of 16 bits per channel 8 are taken |
//! | IDX (MNIST), also gzipped | one input per picture |
//! | folders of such named by class, also in a zip archive | one input and one label per picture ([`Labelled`]) |
//! | NPY of bytes, one input or a batch, also gzipped | the quantised inputs themselves: q of the model's file, y without one |
//! | NPY of wider integers | the same, counted from the smallest q as 0: y unless the file clips |
//! | NPY of floats | real numbers, quantised as the model's file does it |
//! | CSV, one input per row, with or without a header | the same; y for a network without a file |
//!
//! Arrays in memory are read in the same way ([`Inputs::from_reals`], [`Inputs::from_quantised`], [`Inputs::from_pixels`]).
//!
//! The kind of a file is known by its first bytes, not by its name. A pixel p of 8 bits becomes y = p >> (8 - bits), or as the
//! model's table says; the network computes on x = y - zero_point. Arrays of a network that was imported have the shape and the order
//! of the file's input ([`Coding`]), arrays of others `[N, C, H, W]`. Sizes are checked before anything of that size is
//! allocated, so a small file never takes much memory.

mod arrays;
mod csv;
mod folders;
mod idx;
mod npy;
mod picture;

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use arrays::Byte;
pub use folders::Labelled;

use crate::coding::{Coding, Order};
use crate::interpret::Tensor;
use crate::json::printable;
use crate::network::{Input, Shape};
use crate::regular;

/// Largest file of inputs or labels, before and after decompression, in bytes.
pub const MAX_DATA: u64 = 256 << 20;

/// What the network reads for a pixel of 8 bits in a channel: y = pixel >> (8 - bits), or as the model's table says, minus the
/// zero point. `channel` is one that the input has.
pub fn quantise(pixel: u8, channel: usize, input: &Input) -> i64 {
    i64::from(quantised(pixel, channel, input)) - input.zero_point
}

fn quantised(pixel: u8, channel: usize, input: &Input) -> u8 {
    match &input.pixels {
        None => pixel >> (8 - input.bits),
        Some(tables) => tables[channel][usize::from(pixel)],
    }
}

/// Inputs of a network, in order. Prints redacted.
#[derive(Clone, PartialEq)]
pub struct Inputs {
    input: Input,
    /// y, one byte each, `[n, channels, height, width]` in row-major order.
    values: Vec<u8>,
    /// They were pixels.
    pictures: bool,
    /// What the user should know.
    note: Option<String>,
}

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inputs {{ {} of shape {:?}, redacted }}", self.len(), self.input.shape)
    }
}

impl Inputs {
    /// Reads all inputs of a file. `input` is that of a checked architecture.
    ///
    /// # Errors
    /// If the file can't be read, is no regular file, is of no known kind, is damaged, or holds something of another size or range than
    /// the network reads; the error names the file and both sizes.
    pub fn read(path: impl AsRef<Path>, input: &Input) -> Result<Inputs, DataError> {
        Inputs::read_as(path, input, Fit::Exact)
    }

    /// As [`Inputs::read`], with pictures of another size scaled if `fit` says so.
    ///
    /// # Errors
    /// As [`Inputs::read`].
    pub fn read_as(path: impl AsRef<Path>, input: &Input, fit: Fit) -> Result<Inputs, DataError> {
        let path = path.as_ref();
        regular::open(path)
            .map_err(DataProblem::from)
            .and_then(|file| Inputs::from_reader(file, input, fit))
            .map_err(|problem| DataError { path: path.to_owned(), problem })
    }

    /// The same from a stream, such as standard input.
    ///
    /// # Errors
    /// As [`Inputs::read`].
    pub fn from_reader(reader: impl Read, input: &Input, fit: Fit) -> Result<Inputs, DataProblem> {
        Inputs::from_bytes_as(&read_limited(reader, false)?, input, fit)
    }

    /// The same from the bytes of a file.
    ///
    /// # Errors
    /// As [`Inputs::read`].
    pub fn from_bytes(bytes: &[u8], input: &Input) -> Result<Inputs, DataProblem> {
        Inputs::from_bytes_as(bytes, input, Fit::Exact)
    }

    fn from_bytes_as(bytes: &[u8], input: &Input, fit: Fit) -> Result<Inputs, DataProblem> {
        let bytes = &decompressed(bytes)?[..];
        let format = Format::of(bytes)?;
        let pictures = matches!(format, Format::Idx | Format::Picture);
        let (values, note) = match format {
            Format::Idx => (idx::pictures(bytes, input)?, None),
            Format::Npy => npy::inputs(bytes, input)?,
            Format::Picture => (picture::pixels(bytes, input, fit)?, None),
            Format::Csv => (csv::inputs(bytes, input)?, None),
        };
        Ok(Inputs { input: input.clone(), values, pictures, note })
    }

    /// True if they were pixels, false if they were arrays or rows.
    pub fn are_pictures(&self) -> bool {
        self.pictures
    }

    /// How the file was read, where that needs saying.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// How many inputs there are.
    pub fn len(&self) -> usize {
        self.values.len() / self.elements()
    }

    /// Never true: a file without inputs is refused.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Input `index` as x = y - zero_point; `None` if there are fewer.
    pub fn get(&self, index: usize) -> Option<Tensor> {
        let values = self.values.chunks(self.elements()).nth(index)?;
        let x = values.iter().map(|&y| i64::from(y) - self.input.zero_point).collect();
        Some(Tensor::from_shape_vec(self.input.shape, x).expect("as many values as elements"))
    }

    /// All inputs in order.
    pub fn iter(&self) -> impl Iterator<Item = Tensor> + '_ {
        (0..self.len()).map_while(|index| self.get(index))
    }

    /// The stored values y of each input, row-major.
    pub fn stored(&self) -> impl Iterator<Item = &[u8]> {
        self.values.chunks(self.elements())
    }

    /// The shape of each input.
    pub fn shape(&self) -> Shape {
        self.input.shape
    }

    fn elements(&self) -> usize {
        self.input.shape.iter().product()
    }
}

/// Reads the real numbers of an NPY file, or integers as such, in order; `None` if they are not `elements` each, or not finite.
///
/// # Errors
/// If the file can't be read, is no NPY file, or is damaged.
pub fn read_reals(path: impl AsRef<Path>, elements: usize) -> Result<Option<Vec<f32>>, DataError> {
    let path = path.as_ref();
    let reals = load(path).and_then(|bytes| npy::reals(&decompressed(&bytes)?));
    let reals = reals.map_err(|problem| DataError { path: path.to_owned(), problem })?;
    let whole = !reals.is_empty() && reals.len().is_multiple_of(elements.max(1));
    Ok((whole && reals.iter().all(|v| v.is_finite())).then_some(reals))
}

/// The real numbers of a file, in its order: of an NPY array of floats, or of rows of numbers; `None` of a file that has none.
///
/// # Errors
/// If the file can't be read or is damaged.
pub fn reals_of(path: impl AsRef<Path>) -> Result<Option<Vec<f32>>, DataError> {
    let path = path.as_ref();
    load(path).and_then(|bytes| reals_of_bytes(&bytes)).map_err(|problem| DataError { path: path.to_owned(), problem })
}

fn reals_of_bytes(bytes: &[u8]) -> Result<Option<Vec<f32>>, DataProblem> {
    let bytes = &decompressed(bytes)?[..];
    match Format::of(bytes)? {
        Format::Npy => npy::floats(bytes),
        Format::Csv => csv::numbers(bytes).map(Some),
        Format::Idx | Format::Picture => Ok(None),
    }
}

/// The most inputs that a file may hold, whatever network reads them: of an array or IDX its first dimension, of rows the lines, of a picture
/// one; `None` if its header has no dimensions.
///
/// # Errors
/// If the file can't be read, or its header is damaged.
pub fn most_inputs(path: impl AsRef<Path>) -> Result<Option<usize>, DataError> {
    let path = path.as_ref();
    load(path).and_then(|bytes| most_inputs_of(&bytes)).map_err(|problem| DataError { path: path.to_owned(), problem })
}

/// The same of the bytes of a file.
///
/// # Errors
/// As [`most_inputs`].
pub fn most_inputs_of(bytes: &[u8]) -> Result<Option<usize>, DataProblem> {
    let bytes = &decompressed(bytes)?[..];
    Ok(match Format::of(bytes)? {
        Format::Idx => idx::rows(bytes)?,
        Format::Npy => npy::rows(bytes)?,
        Format::Picture => Some(1),
        Format::Csv => Some(csv::rows(bytes)?),
    })
}

/// Reads labels: IDX or NPY of one dimension, also gzipped, one byte each.
///
/// # Errors
/// If the file can't be read, is of no such kind, is damaged, or has a value outside of 0..=255.
pub fn read_labels(path: impl AsRef<Path>) -> Result<Vec<u8>, DataError> {
    let path = path.as_ref();
    load(path)
        .and_then(|bytes| labels_from_bytes(&bytes))
        .map_err(|problem| DataError { path: path.to_owned(), problem })
}

/// The same from the bytes of a file.
///
/// # Errors
/// As [`read_labels`].
pub fn labels_from_bytes(bytes: &[u8]) -> Result<Vec<u8>, DataProblem> {
    let bytes = &decompressed(bytes)?[..];
    match Format::of(bytes)? {
        Format::Idx => idx::labels(bytes),
        Format::Npy => npy::labels(bytes),
        Format::Picture | Format::Csv => Err(DataProblem::NotLabels),
    }
}

/// A file of inputs or labels that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct DataError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: DataProblem,
}

/// What would make an input fit that has another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// Nothing that is known.
    Other,
    /// The channels are last, and must come first.
    ChannelsFirst,
    /// The channels are first, and must come last.
    ChannelsLast,
    /// The picture has colours, the network reads grey.
    Grey,
    /// The picture is grey, the network reads colours.
    Colours,
    /// The picture has another size.
    Picture,
}

impl fmt::Display for Misfit {
    /// As the end of a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Other => "",
            Self::ChannelsFirst => "; the channels must come first",
            Self::ChannelsLast => "; the channels must come last",
            Self::Grey => "; save it in grey",
            Self::Colours => "; save it as RGB",
            Self::Picture => "; scale or crop it first",
        })
    }
}

/// What is wrong with a file of inputs or labels.
#[derive(Debug, thiserror::Error)]
pub enum DataProblem {
    /// The operating system refuses, or the compressed data are damaged.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Over [`MAX_DATA`].
    #[error("more than {limit} bytes{}", if *.decompressed { " once decompressed" } else { "" })]
    TooLarge {
        /// True if the file itself is smaller.
        decompressed: bool,
        /// The limit.
        limit: u64,
    },
    /// More pictures than a data set may have.
    #[error("more than {limit} pictures")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// Not a format that is known.
    #[error("none of PNG, JPEG, IDX (as MNIST has it, .gz too), NPY and CSV")]
    UnknownFormat,
    /// A header that is damaged or of a kind that is not read.
    #[error("{format} header: {what}")]
    Header {
        /// "IDX", "NPY", "PNG", "JPEG" or "picture".
        format: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// More or fewer data than the header says.
    #[error("{found} bytes of data, its header says {wanted}")]
    Length {
        /// Bytes after the header.
        found: usize,
        /// Bytes that the header asks for.
        wanted: u128,
    },
    /// Another size than the network reads.
    #[error("it holds {found}, the network reads {wanted}{misfit}")]
    Size {
        /// The file's size.
        found: String,
        /// The network's, and what its dimensions are.
        wanted: String,
        /// What would make it fit.
        misfit: Misfit,
    },
    /// A value that the network does not read.
    #[error("it holds the value {value}, the network reads {lo}..={hi}")]
    Value {
        /// The value.
        value: i64,
        /// The smallest that is read.
        lo: i64,
        /// The largest that is read.
        hi: i64,
    },
    /// Elements of a type that is neither that of the model's quantised input nor real numbers where they can be quantised.
    #[error("it holds {found}, the network reads {wanted}")]
    Type {
        /// The file's type, as numpy names it.
        found: String,
        /// The types that are read.
        wanted: String,
    },
    /// A row of a CSV file that is not one input.
    #[error("line {line}: {what}")]
    Row {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A real number that is none.
    #[error("it holds a value that is not a number")]
    NotANumber,
    /// A file without a single input.
    #[error("it holds no inputs")]
    Empty,
    /// Something else than a row of labels.
    #[error("not a row of labels (IDX or NPY of one dimension, values 0..=255)")]
    NotLabels,
    /// A PNG that can't be decoded.
    #[error("PNG: {0}")]
    Png(String),
    /// A JPEG that can't be decoded.
    #[error("JPEG: {0}")]
    Jpeg(String),
    /// A zip archive that can't be read.
    #[error("zip archive: {0}")]
    Zip(String),
    /// A picture in a folder that is not the name of a class.
    #[error("it lies in a folder named \"{found}\"; the network's classes are {known}")]
    UnknownClass {
        /// The folder's name.
        found: String,
        /// The names of the classes; empty if the model has none.
        known: String,
    },
}

/// What becomes of a picture of another size than the network reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fit {
    /// It is refused.
    #[default]
    Exact,
    /// It is scaled so that it covers the network's size, and the middle is taken.
    Scaled,
}

enum Format {
    Idx,
    Npy,
    Picture,
    Csv,
}

impl Format {
    fn of(bytes: &[u8]) -> Result<Format, DataProblem> {
        match bytes {
            [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Ok(Format::Npy),
            [0x89, b'P', b'N', b'G', ..] => Ok(Format::Picture),
            _ if picture::is_jpeg(bytes) => Ok(Format::Picture),
            [0, 0, ..] => Ok(Format::Idx),
            _ if csv::is_csv(bytes) => Ok(Format::Csv),
            _ => Err(DataProblem::UnknownFormat),
        }
    }
}

/// True of a file that begins as one of inputs does, compressed or not; without it being decoded.
///
/// # Errors
/// When it cannot be read.
pub fn is_known(file: impl Read) -> io::Result<bool> {
    let mut start = Vec::new();
    file.take(csv::LOOKED_AT as u64).read_to_end(&mut start)?;
    Ok(start.starts_with(&GZIP) || Format::of(&start).is_ok())
}

/// How a compressed file begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];

fn load(path: &Path) -> Result<Vec<u8>, DataProblem> {
    read_limited(regular::open(path)?, false)
}

fn decompressed(bytes: &[u8]) -> Result<std::borrow::Cow<'_, [u8]>, DataProblem> {
    if bytes.starts_with(&GZIP) {
        read_limited(flate2::read::MultiGzDecoder::new(bytes), true).map(Into::into)
    } else {
        Ok(bytes.into())
    }
}

fn read_limited(reader: impl Read, decompressed: bool) -> Result<Vec<u8>, DataProblem> {
    let mut bytes = Vec::new();
    reader.take(MAX_DATA + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_DATA {
        return Err(DataProblem::TooLarge { decompressed, limit: MAX_DATA });
    }
    Ok(bytes)
}

fn header(format: &'static str, what: impl AsRef<str>) -> DataProblem {
    DataProblem::Header { format, what: printable(what.as_ref()) }
}

/// The bytes after a header that asks for `shape` elements of `size` bytes.
fn exactly(bytes: &[u8], shape: &[usize], size: usize) -> Result<(), DataProblem> {
    let wanted = shape.iter().try_fold(size as u128, |all, &n| all.checked_mul(n as u128)).unwrap_or(u128::MAX);
    if bytes.len() as u128 == wanted { Ok(()) } else { Err(DataProblem::Length { found: bytes.len(), wanted }) }
}

/// Checks that an array of shape `found` is one input or a row of inputs, `[N, C, H, W]` without leading ones.
fn check_shape(found: &[usize], input: &Input) -> Result<(), DataProblem> {
    let wanted = &input.shape[..];
    let [channels, height, width] = input.shape;
    let mut forms = vec![wanted];
    if channels == 1 {
        forms.push(&wanted[1..]);
    }
    if [height, width] == [1, 1] {
        forms.push(&wanted[..1]);
    }
    let last = [height, width, channels];
    let misfit = if found.ends_with(&last) { Misfit::ChannelsFirst } else { Misfit::Other };
    one_of(found, &forms, || format!("{} (channels x height x width)", sizes(wanted)), misfit)
}

/// Checks that an array has the shape that the model's own runtime reads, with the batch or without. A single channel may be missing.
fn check_dims(found: &[usize], coding: &Coding) -> Result<(), DataProblem> {
    let dims = &coding.dims[..];
    let mut forms = vec![dims];
    let misfit = match (dims, coding.order) {
        (&[c, h, w], Order::ChannelsFirst) => {
            if c == 1 {
                forms.push(&dims[1..]);
            }
            if found.ends_with(&[h, w, c]) { Misfit::ChannelsFirst } else { Misfit::Other }
        }
        (&[h, w, c], Order::ChannelsLast) => {
            if c == 1 {
                forms.push(&dims[..2]);
            }
            if found.ends_with(&[c, h, w]) { Misfit::ChannelsLast } else { Misfit::Other }
        }
        _ => Misfit::Other,
    };
    let names = match (dims.len(), coding.order) {
        (3, Order::ChannelsFirst) => "batch x channels x height x width",
        (3, Order::ChannelsLast) => "batch x height x width x channels",
        (1, _) => "batch x features",
        _ => "batch first",
    };
    one_of(found, &forms, || format!("N x {} ({names})", sizes(dims)), misfit)
}

/// Checks that an array of shape `found` has one of some forms, or is a row of such.
fn one_of(found: &[usize], forms: &[&[usize]], wanted: impl Fn() -> String, misfit: Misfit) -> Result<(), DataProblem> {
    if forms.contains(&found) {
        return Ok(());
    }
    match found {
        [0, rest @ ..] if forms.contains(&rest) => Err(DataProblem::Empty),
        [_, rest @ ..] if forms.contains(&rest) => Ok(()),
        _ => Err(DataProblem::Size { found: sizes(found), wanted: wanted(), misfit }),
    }
}

fn sizes(shape: &[usize]) -> String {
    let sizes: Vec<String> = shape.iter().take(8).map(usize::to_string).collect();
    if sizes.is_empty() { "a single number".to_owned() } else { sizes.join(" x ") }
}
