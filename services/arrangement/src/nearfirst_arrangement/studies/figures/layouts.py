"""The paper's figures, and the one that every report has, as specs (REFERENCE: He et al. 2025, figures 1 to 5)."""

from collections.abc import Sequence
from typing import Literal

from nearfirst.contracts.evaluations import MetricName
from nearfirst_arrangement.studies.figures.spec import FigureSpec, Panel
from nearfirst_arrangement.studies.results import StudyResults

Width = Literal["column", "page"]

METRIC_NAMES = {
    MetricName.LOSS: "Test loss",
    MetricName.ROUGE1: "ROUGE-1",
    MetricName.ROUGEL: "ROUGE-L",
    MetricName.EXACT_MATCH: "Exact match",
    MetricName.REWARD: "Reward",
}


def study_figure(study: StudyResults, *, width: Width = "page") -> FigureSpec:
    """A report's figure: curves of the study's first metric, and each arrangement minus the baseline."""
    metric = study.metrics[0]
    panels = [Panel(study=study.name, metric=metric, title=METRIC_NAMES[metric])]
    if len(study.arrangements) > 1:
        title = f"{METRIC_NAMES[metric]} minus {study.common_reference or 'the baselines'}"
        panels.append(Panel(study=study.name, metric=metric, title=title, show="difference"))
    return FigureSpec(name="figure", panels=panels, width=width)


def metrics_figure(study: StudyResults, *, width: Width = "page") -> FigureSpec:
    """Figure 1: every metric of the study over steps. The paper's first 50 steps matter: a logarithmic axis."""
    panels = [Panel(study=study.name, metric=metric, title=METRIC_NAMES[metric]) for metric in study.metrics]
    return FigureSpec(name="figure1", panels=panels, width=width, x="log")


def tasks_figure(study: StudyResults, tasks: Sequence[str], *, width: Width = "column") -> FigureSpec:
    """Figure 2: the loss of some test tasks under several arrangements, sudden drops marked."""
    panels = [Panel(study=study.name, metric=MetricName.LOSS, title=task, task=task, mark_drops=True) for task in tasks]
    return FigureSpec(name="figure2", title="Test loss by task", panels=panels, width=width)


def similarity_figure(
    similarity: StudyResults, granularity: StudyResults | None = None, *, width: Width = "page"
) -> FigureSpec:
    """Figure 3: nearest first, random and farthest first; right: fine-grained against coarse-grained orders."""
    panels = [Panel(study=similarity.name, metric=MetricName.LOSS, title="Similarity")]
    if granularity is not None:
        panels.append(Panel(study=granularity.name, metric=MetricName.LOSS, title="Granularity"))
    return FigureSpec(name="figure3", title="Test loss by order", panels=panels, width=width)


def datasets_figure(studies: Sequence[StudyResults], *, width: Width = "page") -> FigureSpec:
    """Figure 4: the same arrangements on several datasets, a panel for each study; its name is the title."""
    panels = [Panel(study=study.name, metric=MetricName.LOSS, title=study.name) for study in studies]
    return FigureSpec(name="figure4", title="Test loss by order", panels=panels, width=width)


def rounds_figure(rounds: StudyResults, orders: StudyResults | None = None, *, width: Width = "page") -> FigureSpec:
    """Figure 5: training on TMA's rounds [i, j) alone; right: the five orders."""
    panels = [Panel(study=rounds.name, metric=MetricName.LOSS, title="Rounds", colours="sequential")]
    if orders is not None:
        panels.append(Panel(study=orders.name, metric=MetricName.LOSS, title="Orders"))
    return FigureSpec(name="figure5", title="Test loss by rounds and order", panels=panels, width=width)
