import json

import pytest

from nearfirst.client.demo.report import ArrangementResult, Report, describe_machine, describe_versions, summarize


def test_the_summary_has_the_means_over_seeds_at_start_quarter_half_and_end(runs):
    nft, fft, wsd = summarize(runs, 8).lines
    assert (nft.method, nft.order) == ("tma", "nft")
    assert (nft.start, nft.quarter, nft.half, nft.end) == (4.25, 2.25, 1.75, 1.25)
    assert (fft.start, fft.quarter, fft.half, fft.end) == (4.25, 3.25, 2.75, 1.25)
    assert (wsd.method, wsd.num_seeds, wsd.num_verified) == ("wsd", 2, 1)


def test_the_area_is_the_mean_loss_by_trapezoids(runs):
    # Seed 0: 2 * (4/2 + 2 + 1.5 + 1.25 + 1/2) / 8 = 1.8125; seed 1 is 0.5 higher everywhere.
    assert summarize(runs, 8).lines[0].area == pytest.approx((1.8125 + 2.3125) / 2)


def test_nft_minus_fft_pairs_runs_of_the_same_seed_of_tma_alone(runs):
    differences = summarize(runs, 8).nft_minus_fft
    assert differences["quarter"].step == 2
    assert differences["quarter"].by_seed == {0: -1.5, 1: -0.5}
    assert differences["quarter"].mean == -1.0
    assert differences["half"].by_seed == {0: -1.5, 1: -0.5}
    assert (differences["end"].step, differences["end"].by_seed, differences["end"].mean) == (8, {0: -0.5, 1: 0.5}, 0.0)


def test_the_report_file_has_the_arrangements_and_runs_that_it_promises(runs, tmp_path):
    arrangement = ArrangementResult(method="tma", order="nft", seed=0, digest="sha256:0", num_rows=16, num_rounds=3)
    report = Report(
        data={"name": "x"},
        model={},
        training={"steps": 8},
        arrangements=[arrangement],
        runs=runs,
        summary=summarize(runs, 8),
        machine=describe_machine(),
        versions=describe_versions(),
        duration_s=1.5,
    )
    report.write(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["arrangements"] == [
        {"method": "tma", "order": "nft", "seed": 0, "digest": "sha256:0", "num_rows": 16, "num_rounds": 3}
    ]
    first = content["runs"][0]
    assert {"method", "order", "seed", "steps", "receipt_head", "receipt_verified", "test_loss"} <= first.keys()
    assert first["test_loss"] == [[0, 4.0], [2, 2.0], [4, 1.5], [6, 1.25], [8, 1.0]]
    assert report.num_unverified == 1
    assert content["machine"]["num_cores"] >= 1
    assert content["versions"]["nearfirst"]
