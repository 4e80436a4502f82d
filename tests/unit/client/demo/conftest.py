import pytest

from nearfirst.client.demo.report import RunResult

LOSSES = {
    ("tma", "nft"): ((4.0, 2.0, 1.5, 1.25, 1.0), (4.5, 2.5, 2.0, 1.75, 1.5)),
    ("tma", "fft"): ((4.0, 3.5, 3.0, 2.0, 1.5), (4.5, 3.0, 2.5, 2.0, 1.0)),
    ("wsd", "nft"): ((4.0, 2.5, 2.0, 1.5, 1.0), (4.5, 2.5, 2.0, 1.5, 1.0)),
}
"""By order, then seed: the loss at steps 0, 2, 4, 6 and 8."""


@pytest.fixture
def runs() -> list[RunResult]:
    """Two seeds of three orders, eight steps each, measured every two."""
    return [
        RunResult(
            method=method,
            order=order,
            seed=seed,
            steps=8,
            receipt_head="00",
            receipt_verified=not (method == "wsd" and seed == 1),
            test_loss=list(zip((0, 2, 4, 6, 8), losses, strict=True)),
        )
        for (method, order), by_seed in LOSSES.items()
        for seed, losses in enumerate(by_seed)
    ]
