"""What runs ONNX files: ONNX Runtime, and the executor of QONNX."""

import functools
import os

import onnx


def runtime(model, threads=0):
    """A session of ONNX Runtime with its default optimisations, quiet; on all threads unless told otherwise."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    if os.environ.get("LOWKEY_INT8"):
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def executor(model, fold=False):
    """The output of a QONNX graph as a function of its input; `fold` computes what is constant once."""
    # The executor makes a model of every node, of a version that ONNX Runtime may not know yet.
    if not isinstance(onnx.helper.make_model, functools.partial):
        onnx.helper.make_model = functools.partial(onnx.helper.make_model, ir_version=10)
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.fold_constants import FoldConstants
    from qonnx.transformation.infer_shapes import InferShapes

    wrapper = ModelWrapper(model).transform(InferShapes())
    if fold:
        wrapper = wrapper.transform(FoldConstants()).transform(InferShapes())
    name = model.graph.input[0].name
    return lambda x: next(iter(execute_onnx(wrapper, {name: x}).values()))
