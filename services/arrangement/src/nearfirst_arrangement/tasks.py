"""The arrangement worker's task: datasets and their embeddings to an order."""

import tempfile
from pathlib import Path

from nearfirst.contracts.arrangements import ArrangementRules, ArrangementSpec, TextRule
from nearfirst.data.order import write_order
from nearfirst.queue.context import RunContext, RunResult
from nearfirst_arrangement.arrangements.service import CURVE_FILE, REPORT_FILE
from nearfirst_arrangement.arranging import Arranged, SideRows, arrange_sides
from nearfirst_arrangement.candidates import precomputed_of
from nearfirst_arrangement.selected_rows import SelectedRows, selected_rows


def arrange_datasets(context: RunContext) -> RunResult:
    """Arrange as the run's spec says.

    The artifact has `order.jsonl`, `order.parquet`, `report.json` and `similarity_curve.json`.
    """
    spec = ArrangementSpec.model_validate(context.spec)
    train = selected_rows(context, spec.train)
    test = selected_rows(context, spec.test)
    arranged = arrange_sides(
        ArrangementRules(**{field: getattr(spec, field) for field in ArrangementRules.model_fields}),
        _side(train),
        _side(test),
        precomputed=precomputed_of(context, train, test),
        text=TextRule.FIRST_TURN if spec.representation is None else spec.representation.text,
        memory_budget_bytes=context.worker.settings.memory_budget_bytes,
        progress=context.progress,
    )
    result = {
        "digest": arranged.table.digest,
        "num_rows": len(arranged.table),
        "num_rounds": arranged.num_rounds,
        "computed": arranged.computed,
    }
    return RunResult(result, _store(context, arranged))


def _side(rows: SelectedRows) -> SideRows:
    return SideRows(rows.dataset.digest, rows.examples, rows.index, rows.embeddings, rows.truncated)


def _store(context: RunContext, arranged: Arranged) -> str:
    with tempfile.TemporaryDirectory(prefix="nearfirst-order-") as name:
        folder = Path(name)
        for order_file in ("order.jsonl", "order.parquet"):
            write_order(folder / order_file, arranged.table)
        report, curve = arranged.measures
        (folder / REPORT_FILE).write_text(report.model_dump_json(), encoding="utf-8")
        (folder / CURVE_FILE).write_text(curve.model_dump_json(), encoding="utf-8")
        return context.worker.store.put_artifact({path.name: path for path in folder.iterdir()})
