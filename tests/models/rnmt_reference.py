"""The equations of RNMT+ in NumPy, float64, one sentence at a time."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def normalized(gates, gamma, beta):
    """Each of four gates minus its mean, over its standard deviation, scaled and shifted."""
    gates = gates.reshape(4, -1)
    deviation = np.sqrt(gates.var(axis=1, keepdims=True) + 1e-6)
    return gamma.reshape(4, -1) * (gates - gates.mean(axis=1, keepdims=True)) / deviation + (
        beta.reshape(4, -1)
    )


def lstm(gates, cell, gamma, beta):
    candidate, enter, forget, leave = normalized(gates, gamma, beta)
    cell = np.clip(sigmoid(forget) * cell + sigmoid(enter) * np.tanh(candidate), -10, 10)
    return sigmoid(leave) * cell, cell


class Reference:
    """A model as arrays by the names of its variables, without the name of the model."""

    def __init__(self, model):
        self.arrays = {
            variable.path.partition("/")[2]: np.asarray(variable.numpy(), np.float64)
            for variable in model.trainable_variables
        }
        self.heads = model.get_config()["num_heads"]
        self.dim = model.hidden_dim

    def __getitem__(self, name):
        return self.arrays[name]

    def embed(self, ids):
        return self["embedding/embeddings"][ids] * np.sqrt(self.dim)

    def direction(self, name, x, number):
        """One direction of an LSTM layer over `[time, dim]`."""
        width = 4 * self.dim
        kernel = self[f"{name}/input/kernel"][:, number * width : (number + 1) * width]
        recurrent = self[f"{name}/recurrent_kernel"][number]
        norm = self[f"{name}/gamma"][number, 0], self[f"{name}/beta"][number, 0]
        h = c = np.zeros(self.dim)
        outputs = []
        for each in x:
            h, c = lstm(each @ kernel + h @ recurrent, c, *norm)
            outputs.append(h)
        return np.array(outputs)

    def encode(self, ids, layers):
        x = self.embed(ids)
        for i in range(layers):
            name = f"encoder/layer_{i}"
            right = self.direction(name, x, 0)
            left = self.direction(name, x[::-1], 1)[::-1]
            y = np.concatenate([right, left], -1)
            x = x + y if i >= 2 else y
        return x @ self["encoder/projection/kernel"] + self["encoder/projection/bias"]

    def attend(self, query, memory):
        name = "decoder/layer_0/attention"
        both = memory @ self[f"{name}/key_value/kernel"] + self[f"{name}/key_value/bias"]
        keys, values = both[:, : self.dim], both[:, self.dim :]
        width = self.dim // self.heads
        contexts = []
        for head in range(self.heads):
            part = slice(head * width, (head + 1) * width)
            asked = (query @ self[f"{name}/query/kernel"])[part]
            scores = np.tanh(keys[:, part] + asked) @ self[f"{name}/score"][head]
            weights = np.exp(scores - scores.max())
            contexts.append(weights / weights.sum() @ values[:, part])
        return np.concatenate(contexts)

    def logits(self, source, target, layers):
        """Returns the logits `[time, vocabulary]` of a target behind the start token 1."""
        memory = self.encode(source, layers[0])
        h = c = np.zeros(self.dim)
        context = self.attend(h, memory)
        name = "decoder/layer_0"
        outputs, contexts = [], []
        for x in self.embed([1, *target[:-1]]):
            gates = x @ self[f"{name}/input/kernel"]
            gates = gates + np.concatenate([h, context]) @ self[f"{name}/recurrent_kernel"]
            h, c = lstm(gates, c, self[f"{name}/gamma"], self[f"{name}/beta"])
            context = self.attend(h, memory)
            outputs.append(h)
            contexts.append(context)
        x, contexts = np.array(outputs), np.array(contexts)
        for i in range(1, layers[1]):
            y = self.direction(f"decoder/layer_{i}", np.concatenate([x, contexts], -1), 0)
            x = x + y if i >= 2 else y
        x = np.concatenate([x, contexts], -1)
        x = x @ self["decoder/output/kernel"] + self["decoder/output/bias"]
        return x @ self["embedding/embeddings"].T
