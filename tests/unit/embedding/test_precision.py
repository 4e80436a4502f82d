"""Precision fast: near to exact, and refused where it would be emulated."""

from pathlib import Path

import numpy as np
import pytest

from nearfirst.contracts.arrangements import Precision, Representation
from nearfirst.contracts.problems import InvalidInput
from nearfirst_embedding import processor, sentence_transformer
from nearfirst_embedding.processor import has_bf16
from nearfirst_embedding.representations import load_representation

needs_bf16 = pytest.mark.skipif(
    not has_bf16(), reason="the processor has no bf16: neither AMX nor AVX512-BF16 nor a GPU"
)


@needs_bf16
def test_fast_is_within_a_few_ten_thousandths_of_exact(packaged_model: str, p3_texts: list[str]) -> None:
    texts = sorted(p3_texts, key=len)[:90]
    exact, fast = (
        sentence_transformer.load(Representation(model=packaged_model, precision=precision)).encode_texts(texts).vectors
        for precision in Precision
    )
    assert not np.array_equal(exact, fast)
    cosines = (exact.astype(np.float64) * fast.astype(np.float64)).sum(axis=1)
    assert cosines.min() >= 0.9998


@pytest.mark.parametrize("kind", ["sentence-transformer", "causal-lm"])
def test_fast_is_refused_on_a_processor_without_bf16_by_what_is_missing(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name\t: Old Faithful 2000\nflags\t\t: fpu sse2 avx2\n\n")
    monkeypatch.setattr(processor, "_CPUINFO", cpuinfo)
    monkeypatch.setattr(processor, "_GPUS", tmp_path / "no-gpus")
    with pytest.raises(
        InvalidInput, match="AMX-BF16, AVX512-BF16 or a GPU; this processor, Old Faithful 2000, has none"
    ):
        load_representation(Representation(kind=kind, model=str(tiny_encoder), precision="fast"))


@pytest.mark.parametrize("flag", ["amx_bf16", "avx512_bf16"])
def test_either_instruction_set_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"model name\t: New\nflags\t\t: fpu {flag} avx2\n")
    monkeypatch.setattr(processor, "_CPUINFO", cpuinfo)
    monkeypatch.setattr(processor, "_GPUS", tmp_path / "no-gpus")
    assert has_bf16()
