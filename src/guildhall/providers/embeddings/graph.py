# The libraries here say little of their types.
# pyright: basic
"""MiniLM as a graph for onnxruntime, made from its published weights, with numbers of eight bits inside.

The model is sentence-transformers/all-MiniLM-L6-v2: BERT of six layers, the mean over the words, length one.
A linear layer keeps its weights as int8 with a scale for each output; what comes in is scaled when it runs.
Against the weights as they were published, vectors turn by a cosine of about 0.993.
"""

import json
import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HIDDEN, LAYERS, HEADS = 384, 6, 12
HEAD = HIDDEN // HEADS
EPSILON = 1e-12


def read_weights(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file, by name. They are views of the file."""
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    (size,) = struct.unpack("<Q", data[:8])
    head = json.loads(bytes(data[8 : 8 + size]))
    found = {}
    for name, about in head.items():
        if name != "__metadata__" and about["dtype"] == "F32":
            begin, end = about["data_offsets"]
            raw = data[8 + size + begin : 8 + size + end]
            found[name] = np.frombuffer(raw, dtype="<f4").reshape(about["shape"])
    return found


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"n{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def linear(self, x: str, weight: Any, bias: Any) -> str:
        """`weight` is (out, in), as PyTorch keeps it."""
        whole, scale = _eight_bits(weight)
        quantized, x_scale, x_zero = self.op("DynamicQuantizeLinear", x, outputs=3)
        product = self.op("MatMulInteger", quantized, self.constant(whole.T.copy()), x_zero)
        scaled = self.op(
            "Mul",
            self.op("Cast", product, to=TensorProto.FLOAT),
            self.op("Mul", x_scale, self.constant(scale)),
        )
        return self.op("Add", scaled, self.constant(bias))

    def normal(self, x: str, weight: Any, bias: Any) -> str:
        return self.op(
            "LayerNormalization", x, self.constant(weight), self.constant(bias), axis=-1, epsilon=EPSILON
        )

    def heads(self, x: str, *order: int) -> str:
        split = self.op("Reshape", x, self.constant(np.array([0, 0, HEADS, HEAD], np.int64)))
        return self.op("Transpose", split, perm=list(order))


def _eight_bits(weight: Any) -> tuple[Any, Any]:
    """A row as whole numbers from -127 to 127, and what one of them is worth."""
    scale = np.abs(weight).max(axis=1) / 127
    scale = np.where(scale == 0, 1, scale).astype(np.float32)
    return np.round(weight / scale[:, None]).astype(np.int8), scale


def make(weights: Path, model: Path) -> None:
    """Write the model made of a safetensors file: `ids` and `mask` of shape (texts, words) in, `vectors` of
    shape (texts, 384) out.
    """
    onnx.save(_build(read_weights(weights)), model)


def _build(weights: dict[str, Any]) -> Any:
    graph = _Graph()
    words, scale = _eight_bits(weights["embeddings.word_embeddings.weight"])
    word = graph.op("Cast", graph.op("Gather", graph.constant(words), "ids"), to=TensorProto.FLOAT)
    word = graph.op("Mul", word, graph.op("Gather", graph.constant(scale[:, None]), "ids"))
    # There is one kind of text here, so that its mark is part of every place.
    kind = weights["embeddings.token_type_embeddings.weight"][0]
    places = graph.constant(weights["embeddings.position_embeddings.weight"] + kind)
    length = graph.op("Shape", "ids", start=1, end=2)
    place = graph.op("Slice", places, graph.constant(np.array([0], np.int64)), length)
    x = graph.normal(graph.op("Add", word, place), *_pair(weights, "embeddings.LayerNorm"))
    mask = graph.op("Cast", "mask", to=TensorProto.FLOAT)
    hidden = graph.op("Unsqueeze", mask, graph.constant(np.array([1, 2], np.int64)))
    hidden = graph.op("Sub", hidden, graph.constant(np.float32(1)))
    hidden = graph.op("Mul", hidden, graph.constant(np.float32(1e4)))
    for layer in range(LAYERS):
        x = _layer(graph, x, hidden, weights, f"encoder.layer.{layer}.")
    counted = graph.op("Unsqueeze", mask, graph.constant(np.array([2], np.int64)))
    along = graph.constant(np.array([1], np.int64))
    total = graph.op("ReduceSum", graph.op("Mul", x, counted), along, keepdims=0)
    graph.nodes.append(helper.make_node("LpNormalization", [total], ["vectors"], axis=-1, p=2))
    texts = ("texts", "words")
    made = helper.make_graph(
        graph.nodes,
        "minilm",
        [helper.make_tensor_value_info(name, TensorProto.INT64, texts) for name in ("ids", "mask")],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ("texts", HIDDEN))],
        graph.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _pair(weights: dict[str, Any], name: str) -> tuple[Any, Any]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _layer(graph: _Graph, x: str, hidden: str, weights: dict[str, Any], layer: str) -> str:
    def linear(name: str, value: str) -> str:
        return graph.linear(value, *_pair(weights, layer + name))

    query, key, value = (linear(f"attention.self.{name}", x) for name in ("query", "key", "value"))
    scores = graph.op("MatMul", graph.heads(query, 0, 2, 1, 3), graph.heads(key, 0, 2, 3, 1))
    scores = graph.op("Mul", scores, graph.constant(np.float32(HEAD**-0.5)))
    seen = graph.op("Softmax", graph.op("Add", scores, hidden), axis=-1)
    seen = graph.op("MatMul", seen, graph.heads(value, 0, 2, 1, 3))
    seen = graph.op("Transpose", seen, perm=[0, 2, 1, 3])
    seen = graph.op("Reshape", seen, graph.constant(np.array([0, 0, HIDDEN], np.int64)))
    x = graph.op("Add", x, linear("attention.output.dense", seen))
    x = graph.normal(x, *_pair(weights, layer + "attention.output.LayerNorm"))
    wide = graph.op("Gelu", linear("intermediate.dense", x))
    x = graph.op("Add", x, linear("output.dense", wide))
    return graph.normal(x, *_pair(weights, layer + "output.LayerNorm"))
