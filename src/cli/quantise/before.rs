//! The network that is given: real numbers, or integers with free scales.

use std::path::Path;

use lowkey::{Error, Model, Result};
use lowkey_models::data::read_reals;
use lowkey_models::import::onnx::float::{self, Reads};
use lowkey_models::import::{self, ImportError, Preprocessing};
use lowkey_models::ptq::real::RealNetwork;
use lowkey_models::ptq::{self, Sample};
use lowkey_models::{ClassRule, Fit, Input, Inputs, Network, Tensor};
use ndarray::Array3;

use super::super::foreign::ImportOptions;
use super::super::{model, toss};

/// Integers that a network reads, of which both networks read the same.
pub fn integers(inputs: &Inputs) -> Vec<Sample> {
    let whole = |x: Tensor| x.mapv(|x| x as f32);
    inputs.iter().map(whole).map(|x| Sample { real: x.clone(), stored: x }).collect()
}

/// What is quantised.
pub struct Before {
    /// As real numbers.
    pub real: RealNetwork,
    /// An integer network, whose answers are the ones to keep.
    pub whole: Option<Model>,
    /// How pixels become real numbers, where that is not what the integers are.
    preprocessing: Option<Preprocessing>,
}

impl Before {
    /// Reads a float ONNX file, or whatever `lowkey import` and `lowkey plan` read; `arrays` are the data if they are no pictures.
    pub fn read(path: &Path, name: Option<&str>, arrays: Option<&Path>, options: &ImportOptions) -> Result<Before> {
        let stem = || path.file_stem().map_or("network".into(), |stem| stem.to_string_lossy().into_owned());
        let name = name.map_or_else(stem, str::to_owned);
        match float_bytes(path)? {
            Some(bytes) => Before::float(path, &bytes, &name, arrays, options),
            None => Before::whole(path, &name, options),
        }
    }

    fn float(path: &Path, bytes: &[u8], name: &str, arrays: Option<&Path>, options: &ImportOptions) -> Result<Before> {
        let read = |reads: &Reads| {
            float::read(bytes, path.parent(), name, reads).map_err(|error| {
                let error = ImportError { path: Some(path.to_owned()), ..error };
                Error::usage(error, "give a float ONNX file of the layers that docs/quantise.md lists")
            })
        };
        if let Some(arrays) = arrays {
            let elements = read(&Reads::Reals([0.0, 1.0]))?.input.shape.iter().product();
            let reals = reals(arrays, elements)?;
            let ends = reals.iter().fold([0.0f32; 2], |[lo, hi], &v| [lo.min(v), hi.max(v)]);
            return Ok(Before { real: read(&Reads::Reals(ends))?, whole: None, preprocessing: None });
        }
        let over_255 = || Preprocessing { scale: 1.0, over: 255.0, mean: vec![0.0], std: vec![1.0] };
        let preprocessing = options.options(None).preprocessing.unwrap_or_else(over_255);
        let real = read(&Reads::Pictures(preprocessing.clone()))?;
        Ok(Before { real, whole: None, preprocessing: Some(preprocessing) })
    }

    /// Reads a quantised network that keeps its integers.
    pub fn kept(path: &Path, name: Option<&str>, options: &ImportOptions) -> Result<Before> {
        if float_bytes(path)?.is_some() {
            return Err(Error::usage(
                format!("{}: a float network has no integers to keep", path.display()),
                "leave --keep away",
            ));
        }
        let model = model::read(path, options)?;
        let (mut architecture, weights) = model.network().clone().into_parts();
        architecture.name = name.map_or(architecture.name, str::to_owned);
        // Its layers are not asked for: the integer network answers in its place.
        let real = RealNetwork {
            name: architecture.name.clone(),
            input: architecture.input.clone(),
            unit: 1.0,
            nodes: vec![],
            output: 0,
            classes: architecture.classes.clone(),
            coding: None,
        };
        let network = Network::new(architecture, weights).map_err(|error| Error::Model(Box::new(error)))?;
        Ok(Before { real, whole: Some(Model::from(network)), preprocessing: None })
    }

    /// Nothing here needs to be exact, so approximate imports will do.
    fn whole(path: &Path, name: &str, options: &ImportOptions) -> Result<Before> {
        let options = options.options(Some(name.to_owned())).approximately();
        let model = Model::open_with(path, &options)?;
        let real = ptq::from_network(model.network()).map_err(|nodes| {
            let why = format!("{}: functions that are no clips: {}", path.display(), nodes.join(", "));
            Error::usage(why, "networks that are quantised here have ReLU and clips between layers")
        })?;
        Ok(Before { real, whole: Some(model), preprocessing: None })
    }

    /// What both networks read of the pixels of a picture, channel by channel.
    pub fn sample(&self, pixels: &[u8]) -> Sample {
        let input: &Input = &self.real.input;
        let [_, height, width] = input.shape;
        let pixel = |(channel, row, column): (usize, usize, usize)| pixels[(channel * height + row) * width + column];
        let stored = Array3::from_shape_fn(input.shape, |at| lowkey_models::quantise(pixel(at), at.0, input) as f32);
        let real = match &self.preprocessing {
            None => stored.clone(),
            Some(preprocessing) => Array3::from_shape_fn(input.shape, |at| preprocessing.value(pixel(at), at.0)),
        };
        Sample { real, stored }
    }

    /// What both networks read of the arrays of a file.
    pub fn arrays(&self, path: &Path) -> Result<Vec<Sample>> {
        let input = &self.real.input;
        let (None, Some(coding)) = (&self.whole, &input.coding) else {
            let inputs = Inputs::read_as(path, input, Fit::Exact).map_err(|error| Error::Input(Box::new(error)))?;
            return Ok(integers(&inputs));
        };
        let elements: usize = input.shape.iter().product();
        let real = |values: &[f32]| {
            let real = Array3::from_shape_vec(input.shape, values.to_vec()).expect("as many numbers as elements");
            let stored = |at: (usize, usize, usize)| {
                let y = coding.quantised(real[at], at.0).expect("numbers that are finite");
                (i64::from(y) - input.zero_point) as f32
            };
            let stored = Array3::from_shape_fn(input.shape, stored);
            Sample { real, stored }
        };
        Ok(reals(path, elements)?.chunks(elements).map(real).collect())
    }

    /// The classes of inputs from number `first` on, by the rule of the network that was made of this one, whose outputs are worth `unit`.
    pub fn classes(&self, samples: &[Sample], first: usize, rule: ClassRule, unit: f64) -> Result<Vec<Option<usize>>> {
        if let Some(model) = &self.whole {
            let stored: Vec<Tensor> = samples.iter().map(Sample::integers).collect();
            let (found, _) = toss::answers(model.network(), &stored, first, toss::SEED)?;
            return Ok(found.iter().map(|found| toss::class_of(model.network(), found)).collect());
        }
        let reals: Vec<Array3<f32>> = samples.iter().map(|sample| sample.real.clone()).collect();
        Ok(ptq::run::run(&self.real, &reals).iter().map(|outputs| class(outputs, rule, unit)).collect())
    }
}

/// The numbers of an NPY file, which are inputs of that many elements.
fn reals(path: &Path, elements: usize) -> Result<Vec<f32>> {
    let reals = read_reals(path, elements).map_err(|error| Error::Input(Box::new(error)))?;
    reals.ok_or_else(|| {
        let why = format!("{}: not whole inputs of {elements} finite numbers", path.display());
        Error::usage(why, "give an array with the shape of the network's input, or several of them in one")
    })
}

/// The class of real outputs.
fn class(outputs: &Array3<f32>, rule: ClassRule, unit: f64) -> Option<usize> {
    let better = |last: bool| {
        move |best: (usize, f32), (at, &v): (usize, &f32)| {
            if v > best.1 || last && v == best.1 { (at, v) } else { best }
        }
    };
    match rule {
        ClassRule::Largest { last } | ClassRule::Scaled { last } => {
            Some(outputs.iter().enumerate().fold((0, f32::NEG_INFINITY), better(last)).0)
        }
        ClassRule::Above(bound) => Some(usize::from(f64::from(*outputs.first()?) > bound as f64 * unit)),
        ClassRule::Each { .. } | ClassRule::None(_) => None,
    }
}

/// The file's bytes if it is a float ONNX file.
fn float_bytes(path: &Path) -> Result<Option<Vec<u8>>> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = import::load(path).map_err(|problem| {
        Error::Import(Box::new(ImportError { path: Some(path.to_owned()), ..ImportError::from(problem) }))
    })?;
    Ok(float::is_float(&bytes).then_some(bytes))
}
