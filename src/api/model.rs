//! A model: a network from a file, with what its file says about it.

use std::io::Read;
use std::path::Path;

use lowkey_models::data::Inputs;
use lowkey_models::import::{self, Imported};
use lowkey_models::{Architecture, FileError, FileProblem, Network, Tensor, zoo};

use super::answer::Answer;
use super::values::Values;
use crate::answer::Output;
use crate::coins::Coins;
use crate::error::{Error, Result};
use crate::plan::{Plan, PlanError};
use crate::planner::{self, Target};
use crate::session::name_of;

/// A network with its weights. Nothing of it is published before a [`Server`](crate::Server) does that. Prints without the weights.
///
/// ```
/// let model = lowkey::Model::open("digits")?;
/// let image = model.demo().expect("digits come with it").inputs.get(0).expect("360 of them");
/// assert_eq!(model.answer(&image)?.logits.map(|logits| logits.len()), Some(10));
/// # Ok::<(), lowkey::Error>(())
/// ```
#[derive(Clone)]
pub struct Model {
    network: Network,
    report: Option<import::Report>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model({:?}, [redacted])", self.name())
    }
}

impl Model {
    /// Reads a `.lowkey`, ONNX or TFLite file; where there is no such file, the bundled network of that name.
    ///
    /// # Errors
    /// When there is neither, or the file is no network that this program knows.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &import::Options::default())
    }

    /// As [`open`](Self::open), with what an ONNX or TFLite file does not say.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(path: impl AsRef<Path>, options: &import::Options) -> Result<Self> {
        let path = path.as_ref();
        if !path.exists() {
            return path.to_str().and_then(Self::bundled).ok_or_else(|| missing(path));
        }
        match is_lowkey(path)? {
            true => read(Network::read(path)),
            false => imported(import::read(path, options)),
        }
    }

    /// Of the bytes of a `.lowkey`, ONNX or TFLite file, none of which touch a disk. Nothing lies beside them: an ONNX file holds its
    /// weights itself.
    ///
    /// ```
    /// let bytes = lowkey::Model::open("digits")?.to_bytes()?;
    /// assert_eq!(lowkey::Model::from_bytes(&bytes)?.name(), "digits");
    /// # Ok::<(), lowkey::Error>(())
    /// ```
    ///
    /// # Errors
    /// When they are no network that this program knows.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::from_bytes_with(bytes, &import::Options::default())
    }

    /// As [`from_bytes`](Self::from_bytes), with what an ONNX or TFLite file does not say: its name too, "network" unless given.
    ///
    /// # Errors
    /// As [`from_bytes`](Self::from_bytes).
    pub fn from_bytes_with(bytes: &[u8], options: &import::Options) -> Result<Self> {
        if starts_as_lowkey(bytes) {
            return read(Network::from_bytes(bytes));
        }
        let name = options.name.clone().unwrap_or_else(|| "network".into());
        imported(import::from_bytes(bytes, &import::Options { name: Some(name), ..options.clone() }))
    }

    /// The bundled network of that name.
    pub fn bundled(name: &str) -> Option<Self> {
        zoo::find(name).map(|bundled| Self::from(bundled.network()))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.network.architecture().name
    }

    /// The name under which it is served, unless it is given another one: its own, as far as names of served models go.
    pub fn served_as(&self) -> String {
        name_of(self.name())
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Its public half.
    pub fn architecture(&self) -> &Architecture {
        self.network.architecture()
    }

    /// What became of the operations of an ONNX or TFLite file.
    pub fn report(&self) -> Option<&import::Report> {
        self.report.as_ref()
    }

    /// What it reads, in a line: shape, order, type, scale, zero point.
    pub fn input_line(&self) -> String {
        self.architecture().input_line()
    }

    /// What it answers, likewise.
    pub fn output_line(&self) -> String {
        self.architecture().output_line()
    }

    /// The same with names of its classes, in order of the outputs.
    ///
    /// # Errors
    /// When there are not as many as classes.
    pub fn with_classes(self, classes: Vec<String>) -> Result<Self> {
        let Self { network, report } = self;
        let (mut architecture, weights) = network.into_parts();
        architecture.classes = classes;
        let network = Network::new(architecture, weights)
            .map_err(|error| Error::usage(error, "give a name for each class, in order of the outputs"))?;
        Ok(Self { network, report })
    }

    /// Inputs to try it on, with their labels, where they may be passed on.
    pub fn demo(&self) -> Option<zoo::Demo> {
        zoo::find(self.name()).filter(|bundled| bundled.network() == self.network).and_then(|bundled| bundled.demo())
    }

    /// Reads inputs from a PNG, NPY, CSV or IDX file.
    ///
    /// # Errors
    /// When it is none, or its inputs are not what the network reads.
    pub fn read_inputs(&self, path: impl AsRef<Path>) -> Result<Inputs> {
        Inputs::read(path, &self.architecture().input).map_err(|error| Error::Input(Box::new(error)))
    }

    /// How it would run.
    ///
    /// # Errors
    /// When a layer fits no parameter set.
    pub fn plan(&self, target: impl Into<Target>) -> Result<Plan> {
        let folded = self.network.folded().map_err(PlanError::from)?;
        Ok(planner::plan(&folded, target)?)
    }

    /// Answers an input in the clear. This is what is right: a private answer equals it. Where the network rounds by coins it is the one
    /// without them, see [`answer_with`](Self::answer_with).
    ///
    /// # Errors
    /// When the input is not what the network reads.
    pub fn answer<'a>(&self, input: impl Into<Values<'a>>) -> Result<Answer> {
        let tensor = self.tensor(input.into())?;
        let logits = self.network.run(&tensor).map_err(|error| Error::Input(Box::new(error)))?;
        Ok(Answer::of(&Output::Logits(logits.into_iter().collect()), self.architecture()))
    }

    /// The same with the coins of a private answer's [`report`](Answer::report): the private answer equals it. Of a network without coins it
    /// is [`answer`](Self::answer).
    ///
    /// # Errors
    /// When the input is not what the network reads, or the coins are those of another network.
    pub fn answer_with<'a>(&self, input: impl Into<Values<'a>>, coins: &Coins) -> Result<Answer> {
        let logits = coins.run(&self.network, &self.tensor(input.into())?)?;
        Ok(Answer::of(&Output::Logits(logits.into_iter().collect()), self.architecture()))
    }

    fn tensor(&self, input: Values<'_>) -> Result<Tensor> {
        let architecture = self.architecture();
        let values = input.read(architecture)?;
        let (found, [c, h, w]) = (values.len(), architecture.input.shape);
        Tensor::from_shape_vec(architecture.input.shape, values).map_err(|_| {
            let what = format!("the input has {found} values, the network reads {} [{c}, {h}, {w}]", c * h * w);
            Error::usage(what, "give one value per channel, row and column")
        })
    }

    /// Writes a `.lowkey` file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        self.network.write(path).map_err(|error| match error.problem {
            FileProblem::Io(source) => Error::file(path, source),
            _ => Error::Model(Box::new(error)),
        })
    }

    /// The bytes of a `.lowkey` file.
    ///
    /// # Errors
    /// When its description is longer than a file may have.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.network.to_bytes().map_err(|error| Error::Model(Box::new(error)))
    }
}

impl From<Network> for Model {
    fn from(network: Network) -> Self {
        Self { network, report: None }
    }
}

fn read(found: std::result::Result<Network, FileError>) -> Result<Model> {
    found.map(Model::from).map_err(|error| Error::Model(Box::new(error)))
}

fn imported(found: std::result::Result<Imported, import::ImportError>) -> Result<Model> {
    let Imported { network, report, .. } = found.map_err(|error| Error::Import(Box::new(error)))?;
    Ok(Model { network, report: Some(report) })
}

/// A path that is neither a file nor a name. The names are told of what may be one.
fn missing(path: &Path) -> Error {
    let what = format!("{}: no such file", path.display());
    if path.extension().is_some() || path.components().count() > 1 {
        return Error::usage(what, "look at its spelling and its folder; give a .lowkey, ONNX or TFLite file");
    }
    let names: Vec<&str> = zoo::ALL.iter().map(|bundled| bundled.name).collect();
    let names = names.join(", ");
    Error::usage(what, format!("give a .lowkey, ONNX or TFLite file, or the name of a bundled model: {names}"))
}

/// Whether a file is a safetensors file, by its name or by the JSON after its first eight bytes.
fn is_lowkey(path: &Path) -> Result<bool> {
    if path.extension().is_some_and(|end| end == "lowkey") {
        return Ok(true);
    }
    let mut start = Vec::new();
    let read = lowkey_models::regular::open(path).and_then(|file| file.take(9).read_to_end(&mut start));
    read.map_err(|error| Error::file(path, error))?;
    Ok(starts_as_lowkey(&start))
}

/// A safetensors file: eight bytes that say how long its header is, and the header, in JSON.
fn starts_as_lowkey(bytes: &[u8]) -> bool {
    bytes.get(8) == Some(&b'{')
}
