"""What computes: the device, whether it has bf16, and a name for it.

Asking needs no torch on a machine without a GPU, so that vectors from the cache come without importing it.
"""

import platform
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from nearfirst.contracts.arrangements import Precision
from nearfirst.contracts.problems import InvalidInput

_CPUINFO = Path("/proc/cpuinfo")
_GPUS = Path("/proc/driver/nvidia/gpus")
_BF16_FLAGS = ("amx_bf16", "avx512_bf16")
_LIBRARIES = ("torch", "transformers", "sentence-transformers")


def inference_device() -> str:
    """`cuda` where torch has a GPU, else `cpu`."""
    if not _GPUS.is_dir():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@lru_cache
def processor_fingerprint() -> str:
    """What decides how a sum is rounded: processor or GPU, and the libraries' versions.

    Equal fingerprints and equal encoder keys give equal bytes; between others, vectors differ by rounding.
    """
    if inference_device() == "cuda":
        import torch

        processor = torch.cuda.get_device_name()
    else:
        processor = cpu_name()
    return " ".join([processor, *(f"{library}={version(library)}" for library in _LIBRARIES)])


def cpu_name() -> str:
    """The processor's model, as the system names it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def check_precision(precision: Precision) -> None:
    """Refuse `fast` where the processor has no bf16 arithmetic: it would be emulated, and slower than fp32.

    Raises:
        InvalidInput: naming what is missing.
    """
    if precision is Precision.EXACT or has_bf16():
        return
    raise InvalidInput(
        f"precision fast wants bf16 arithmetic: AMX-BF16, AVX512-BF16 or a GPU; this processor, {cpu_name()}, has none "
        "of them. Wanted precision exact"
    )


def has_bf16() -> bool:
    """Whether the device multiplies bf16 matrices in hardware."""
    if inference_device() == "cuda":
        import torch

        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    flags = _cpuinfo("flags").split()
    return any(flag in flags for flag in _BF16_FLAGS)


def _cpuinfo(field: str) -> str:
    """A field of the first processor in /proc/cpuinfo; empty where there is none."""
    if not _CPUINFO.is_file():
        return ""
    for line in _CPUINFO.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""
