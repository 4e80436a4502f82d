"""The embedding worker's task: a dataset's rows to vectors."""

import json
import tempfile
from pathlib import Path

import numpy as np

from nearfirst.contracts.embeddings import EmbeddingSpec
from nearfirst.data.dataset import read_canonical
from nearfirst.data.example import embedded_text
from nearfirst.queue.execution import RunContext, RunResult
from nearfirst_embedding.encoder import encoder_key, load_encoder, refuse_empty_texts


def embed(context: RunContext) -> RunResult:
    """Embed every row of a dataset; the artifact has `embeddings.npy` (N, D) float32 and `embeddings.json`."""
    spec = EmbeddingSpec.model_validate(context.spec)
    store = context.worker.store
    examples = read_canonical(store.local_path(spec.dataset_digest))
    texts = [embedded_text(example, spec.representation.text) for example in examples]
    refuse_empty_texts(texts)
    encoder = load_encoder(spec.representation)
    tokenized = encoder.tokenize(texts)
    vectors_ND = encoder.encode(texts, tokenized, progress=context.progress)
    about = {
        "encoder": encoder_key(spec.representation, encoder.files.digest),
        "num_rows": vectors_ND.shape[0],
        "dimensions": vectors_ND.shape[1],
        "dataset_digest": spec.dataset_digest,
        "truncated": int(tokenized.truncated.sum()),
    }
    with tempfile.TemporaryDirectory(prefix="nearfirst-embed-") as folder:
        vectors, description = Path(folder) / "embeddings.npy", Path(folder) / "embeddings.json"
        np.save(vectors, vectors_ND)
        description.write_text(json.dumps(about))
        artifact = store.put_artifact({"embeddings.npy": vectors, "embeddings.json": description})
    return RunResult(about, artifact)
