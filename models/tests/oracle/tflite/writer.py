"""Writes small TFLite files without TensorFlow, through the flatbuffers object API that LiteRT ships."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int64): schema.TensorType.INT64,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int16): schema.TensorType.INT16,
}
ACTIVATIONS = {
    None: schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
    "relu_n1_to_1": schema.ActivationFunctionType.RELU_N1_TO_1,
    "tanh": schema.ActivationFunctionType.TANH,
}
# Where the first version of an operator is none that the runtime has.
VERSIONS = {"BROADCAST_TO": 2}
PADDINGS = {"same": schema.Padding.SAME, "valid": schema.Padding.VALID}


class Graph:
    """One subgraph: tensors are numbers, operators are added in order."""

    def __init__(self):
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.description = "written for tests"
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.name = "main"
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def tensor(self, shape, dtype=np.int8, scale=None, zero_point=0, data=None, axis=0, name=None, signature=None):
        """A tensor; `scale` and `zero_point` may be lists (one entry for each channel along `axis`)."""
        tensor = schema.TensorT()
        tensor.name = name or f"t{len(self.graph.tensors)}"
        tensor.shape = [int(size) for size in shape]
        if signature is not None:
            tensor.shapeSignature = [int(size) for size in signature]
        tensor.type = TYPES[np.dtype(dtype)]
        if scale is not None:
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            zero_points = np.broadcast_to(np.atleast_1d(np.asarray(zero_point, np.int64)), scales.shape)
            quantization = schema.QuantizationParametersT()
            quantization.scale = [float(value) for value in scales]
            quantization.zeroPoint = [int(value) for value in zero_points]
            quantization.quantizedDimension = axis
            tensor.quantization = quantization
        tensor.buffer = 0
        if data is not None:
            data = np.array(data, dtype, order="C")
            assert data.shape == tuple(shape), (data.shape, shape)
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(self, data, **more):
        """A constant tensor."""
        data = np.asarray(data)
        return self.tensor(data.shape, data.dtype, data=data, **more)

    def operator(self, name, inputs, outputs, options=None, custom=None):
        """An operator; `options` is the name of its options table and its fields."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.customCode = custom
        code.version = VERSIONS.get(name, 1)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes)
        self.model.operatorCodes.append(code)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if options is not None:
            table, fields = options
            value = getattr(schema, table + "T")()
            for field, setting in fields.items():
                assert hasattr(value, field), (table, field)
                setattr(value, field, setting)
            operator.builtinOptions = value
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, table)
        self.graph.operators.append(operator)

    def finish(self, inputs, outputs):
        """The bytes of the file."""
        self.graph.inputs, self.graph.outputs = list(inputs), list(outputs)
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
