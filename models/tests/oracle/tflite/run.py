"""What LiteRT computes of a file on random images, up to the tensor before any softmax.

    python run.py <file.tflite> <case> <seed> <count>

writes `<case>.inputs`, `<case>.double` and `<case>.single` as `graphs.py` does. Images are smooth noise. With seed 0 their values
are the upper bytes of 2654435761 i mod 2^32 instead, i = 0, 1, .., and `<case>.inputs` is left out.
"""

import sys
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema


def main():
    path, case, seed, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(path.read_bytes(), 0))
    graph = model.subgraphs[0]
    cut, makers = graph.outputs[0], {int(o.outputs[0]): o for o in graph.operators}
    names = schema.BuiltinOperator
    while cut in makers and model.operatorCodes[makers[cut].opcodeIndex].builtinCode in (
            names.SOFTMAX, names.QUANTIZE, names.DEQUANTIZE):
        cut = int(makers[cut].inputs[0])
        if model.operatorCodes[makers[cut].opcodeIndex].builtinCode not in (names.SOFTMAX, names.QUANTIZE, names.DEQUANTIZE):
            graph.outputs = [cut]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    file = bytes(builder.Output())
    source, output = graph.tensors[graph.inputs[0]], int(graph.outputs[0])
    unsigned = source.type == schema.TensorType.UINT8
    if source.type == schema.TensorType.FLOAT32:
        first = next(o for o in graph.operators if o.inputs[0] == graph.inputs[0])
        quantization = graph.tensors[first.outputs[0]].quantization
    zero_point = int(graph.tensors[output].quantization.zeroPoint[0])
    _, height, width, channels = source.shape
    rng = np.random.default_rng(seed)
    images = sum(
        rng.normal(127.5 / 4, 45, (count, -(-height // cell), -(-width // cell), channels))
        .repeat(cell, 1)
        .repeat(cell, 2)[:, :height, :width]
        for cell in (1, 4, 16, 64)
    )
    images = np.clip(np.rint(images), 0, 255).astype(np.uint8)
    if seed == 0:
        numbers = np.arange(images.size, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(2**32)
        images = (numbers >> np.uint64(24)).astype(np.uint8).reshape(images.shape)
    else:
        Path(case + ".inputs").write_bytes(images.tobytes())
    inputs = images if unsigned else (images.astype(np.int16) - 128).astype(np.int8)
    for name, resolver in [("double", litert.OpResolverType.BUILTIN_REF), ("single", litert.OpResolverType.BUILTIN)]:
        runtime = litert.Interpreter(model_content=file, experimental_op_resolver_type=resolver, num_threads=1)
        runtime.allocate_tensors()
        results = []
        for image in inputs:
            if source.type == schema.TensorType.FLOAT32:
                image = (quantization.scale[0] * (image.astype(np.float32) - quantization.zeroPoint[0])).astype(np.float32)
            runtime.set_tensor(runtime.get_input_details()[0]["index"], image[None])
            runtime.invoke()
            results.append(runtime.get_tensor(output).astype(np.int32) - zero_point)
        results = np.stack(results)
        Path(f"{case}.{name}").write_bytes(results.astype("<i4").tobytes())
        print(name, "logits from", results.min(), "to", results.max(), "classes", results.reshape(count, -1).argmax(1))


main()
