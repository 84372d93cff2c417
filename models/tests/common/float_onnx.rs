//! Float ONNX files from scratch: just enough of the format for the layers that PyTorch exports.
#![allow(dead_code)]

/// A graph under construction.
#[derive(Default)]
pub struct FloatOnnx {
    graph: Vec<u8>,
    count: usize,
    last: String,
    channels: usize,
    seed: u64,
}

/// A setting of a node.
pub enum Setting<'s> {
    Int(&'s str, i64),
    Ints(&'s str, &'s [i64]),
    Float(&'s str, f32),
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = vec![];
    while value >= 128 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    [vec![tag << 3 | 2], varint(content.len() as u64), content.to_vec()].concat()
}

fn number(tag: u8, value: i64) -> Vec<u8> {
    [vec![tag << 3], varint(value as u64)].concat()
}

fn value(name: &str, dims: &[i64]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&size| field(1, &number(1, size))).collect();
    let tensor = [number(1, 1), field(2, &dims)].concat();
    [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}

impl FloatOnnx {
    /// An input `x` of these dimensions, the batch among them.
    pub fn new(seed: u64, dims: &[i64]) -> FloatOnnx {
        let graph = field(11, &value("x", dims));
        FloatOnnx { graph, last: "x".into(), channels: dims[1] as usize, seed, ..FloatOnnx::default() }
    }

    /// About normal, of standard deviation 1.
    fn random(&mut self) -> f32 {
        let mut uniform = || {
            self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.seed >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        (0..12).map(|_| uniform()).sum()
    }

    /// A constant; its name.
    pub fn constant(&mut self, dims: &[i64], values: &[f32]) -> String {
        self.raw_constant(dims, 1, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A list of int64; its name.
    pub fn ints(&mut self, values: &[i64]) -> String {
        self.raw_constant(&[values.len() as i64], 7, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    fn raw_constant(&mut self, dims: &[i64], kind: i64, raw: Vec<u8>) -> String {
        self.count += 1;
        let name = format!("c{}", self.count);
        let dims: Vec<u8> = dims.iter().flat_map(|&size| number(1, size)).collect();
        let tensor = [dims, number(2, kind), field(8, name.as_bytes()), field(9, &raw)].concat();
        self.graph.extend(field(5, &tensor));
        name
    }

    fn random_constant(&mut self, dims: &[i64], scale: f32, mean: f32) -> String {
        let count: i64 = dims.iter().product();
        let values: Vec<f32> = (0..count).map(|_| mean + scale * self.random()).collect();
        self.constant(dims, &values)
    }

    /// A node on named inputs; the name of its output, which the next layer reads.
    pub fn node(&mut self, op: &str, inputs: &[&str], settings: &[Setting<'_>]) -> String {
        self.count += 1;
        self.last = format!("t{}", self.count);
        let inputs: Vec<u8> = inputs.iter().flat_map(|name| field(1, name.as_bytes())).collect();
        let attribute = |setting: &Setting<'_>| match setting {
            Setting::Float(name, v) => [field(1, name.as_bytes()), vec![2 << 3 | 5], v.to_le_bytes().to_vec()].concat(),
            Setting::Int(name, v) => [field(1, name.as_bytes()), number(3, *v)].concat(),
            Setting::Ints(name, list) => {
                let list: Vec<u8> = list.iter().flat_map(|&v| number(8, v)).collect();
                [field(1, name.as_bytes()), list].concat()
            }
        };
        let settings: Vec<u8> = settings.iter().flat_map(|setting| field(5, &attribute(setting))).collect();
        let node = [inputs, field(2, self.last.as_bytes()), field(4, op.as_bytes()), settings].concat();
        self.graph.extend(field(1, &node));
        self.last.clone()
    }

    /// The last tensor's name.
    pub fn last(&self) -> String {
        self.last.clone()
    }

    /// A node on the last tensor.
    pub fn then(&mut self, op: &str, settings: &[Setting<'_>]) -> String {
        let last = self.last();
        self.node(op, &[&last], settings)
    }

    /// A convolution with random weights and biases.
    pub fn conv(&mut self, outputs: i64, kernel: i64, stride: i64, groups: i64) -> String {
        let inputs = self.channels as i64 / groups;
        let scale = (2.0 / (inputs * kernel * kernel) as f32).sqrt();
        let weights = self.random_constant(&[outputs, inputs, kernel, kernel], scale, 0.0);
        let bias = self.random_constant(&[outputs], 0.1, 0.0);
        let (last, pad) = (self.last(), kernel / 2);
        self.channels = outputs as usize;
        let settings = [
            Setting::Ints("kernel_shape", &[kernel, kernel]),
            Setting::Ints("strides", &[stride, stride]),
            Setting::Ints("pads", &[pad, pad, pad, pad]),
            Setting::Int("group", groups),
        ];
        self.node("Conv", &[&last, &weights, &bias], &settings)
    }

    /// A batch normalisation with random numbers.
    pub fn norm(&mut self) -> String {
        let channels = self.channels as i64;
        let scale = self.random_constant(&[channels], 0.2, 1.0);
        let shift = self.random_constant(&[channels], 0.2, 0.0);
        let mean = self.random_constant(&[channels], 0.2, 0.0);
        let variance: Vec<f32> = (0..channels).map(|_| 0.5 + self.random().abs()).collect();
        let variance = self.constant(&[channels], &variance);
        let last = self.last();
        self.node("BatchNormalization", &[&last, &scale, &shift, &mean, &variance], &[])
    }

    pub fn relu(&mut self) -> String {
        self.then("Relu", &[])
    }

    /// A flattening and a matrix with random weights, as torch exports it.
    pub fn dense(&mut self, inputs: i64, outputs: i64) -> String {
        let weights = self.random_constant(&[outputs, inputs], (2.0 / inputs as f32).sqrt(), 0.0);
        let bias = self.random_constant(&[outputs], 0.1, 0.0);
        let last = self.last();
        self.channels = outputs as usize;
        self.node("Gemm", &[&last, &weights, &bias], &[Setting::Int("transB", 1)])
    }

    /// Two of something by two.
    pub fn pool(&mut self, op: &str) -> String {
        self.then(op, &[Setting::Ints("kernel_shape", &[2, 2]), Setting::Ints("strides", &[2, 2])])
    }

    /// The channels of the last tensor, where no layer with weights made it.
    pub fn set_channels(&mut self, channels: usize) {
        self.channels = channels;
    }

    /// Goes on at another tensor.
    pub fn set_last(&mut self, name: &str, channels: usize) {
        (self.last, self.channels) = (name.to_owned(), channels);
    }

    /// The file; the last tensor is its output.
    pub fn bytes(self) -> Vec<u8> {
        let graph = [self.graph, field(2, b"float"), field(12, &value(&self.last, &[1, 10]))].concat();
        [number(1, 8), field(7, &graph), field(8, &number(2, 17))].concat()
    }
}

/// A chain as MiniONN's: convolutions with batch normalisation, pools, two matrices.
pub fn chain(seed: u64) -> Vec<u8> {
    let mut graph = FloatOnnx::new(seed, &[0, 1, 12, 12]);
    graph.conv(6, 3, 1, 1);
    graph.norm();
    graph.relu();
    graph.pool("MaxPool");
    graph.conv(8, 3, 1, 1);
    graph.pool("AveragePool");
    graph.relu();
    graph.then("Flatten", &[]);
    graph.dense(72, 24);
    graph.relu();
    graph.dense(24, 10);
    graph.bytes()
}
