"""The client's calls of /studies."""

from collections.abc import Sequence
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

from nearfirst.client.errors import UnexpectedAnswer
from nearfirst.client.once import changed_once
from nearfirst.client.rows import Listing
from nearfirst.client.shown import ShownStudy
from nearfirst.client.study_results import StudyResults
from nearfirst.client.transport import Transport, parse, path_to
from nearfirst.contracts.problems import InvalidInput
from nearfirst.contracts.runs import RunAccepted, RunState
from nearfirst.contracts.studies import AddedSeeds, StudyEstimate, StudyNode, StudySpec
from nearfirst.contracts.study_reports import StudyReport

REPORT_TIMEOUT_S = 600.0
"""Wait so long for a report's first bytes: the server computes it when it is asked for."""
REPORT_FORMATS = ("json", "md", "html")
FIGURE_FORMATS = ("svg", "png", "csv", "json")


class StudyCalls:
    """What `Client` asks about studies. `Client.cancel`, `resume`, `run` and `wait` take a study's id too."""

    _transport: Transport

    def submit_study(self, spec: StudySpec, idempotency_key: str | None = None) -> RunAccepted:
        """Submit a study; `idempotency_key` as in `Client.arrange`."""
        return self._transport.post(RunAccepted, "/studies", spec, idempotency_key)

    def estimate_study(self, spec: StudySpec) -> StudyEstimate:
        """What a study would take. Nothing is submitted."""
        return self._transport.post(StudyEstimate, "/studies?dry_run=true", spec)

    def study(self, study_id: str) -> ShownStudy:
        """A study and how far it is."""
        return self._transport.get(ShownStudy, path_to("studies", study_id))

    def studies(self, state: RunState | str | None = None, name: str | None = None) -> Listing[ShownStudy]:
        """Studies, fetched page by page.

        Args:
            state: only those in it; None: all.
            name: only those whose name has this in it; None: all.
        """
        given = {"state": None if state is None else str(state), "name": name}
        return self._transport.listing(
            ShownStudy, "/studies", {key: value for key, value in given.items() if value is not None}
        )

    def study_nodes(self, study_id: str) -> Listing[StudyNode]:
        """What each arrangement and seed of a study needs, seed by seed, fetched page by page."""
        return self._transport.listing(StudyNode, path_to("studies", study_id, "nodes"))

    def pause_study(self, study_id: str) -> RunAccepted:
        """Begin nothing more of a study; `Client.resume` goes on with it."""
        place = path_to("studies", study_id, "pause")
        return changed_once(
            lambda: self._transport.post_action(RunAccepted, place),
            lambda: self.study(study_id),
            lambda study: study.is_paused,
        )

    def add_seeds(self, study_id: str, seeds: Sequence[int]) -> RunAccepted:
        """Let a study go on with further seeds."""
        place, added = path_to("studies", study_id, "seeds"), AddedSeeds(seeds=list(seeds))
        return changed_once(
            lambda: self._transport.post(RunAccepted, place, added),
            lambda: self.study(study_id),
            lambda study: set(added.seeds) <= set(study.spec.seeds),
        )

    def study_results(self, study_id: str) -> StudyResults:
        """What a study has found so far: effects, curves and runs as tables; shows itself in a notebook."""
        text = self.study_report(study_id, "json")
        place = f"GET {path_to('studies', study_id, 'report')}"
        return StudyResults(self.study(study_id), parse(StudyReport, text.encode(), place))

    def study_figure(self, study_id: str, path: Path | str) -> None:
        """Write a study's figure so far to `path`.

        Its ending says what: .svg or .png the figure, .csv its numbers, .json what it shows.
        """
        path = Path(path)
        if path.suffix[1:] not in FIGURE_FORMATS:
            endings = ", ".join(f".{format}" for format in FIGURE_FORMATS)
            raise InvalidInput(f"path: got {path.name}, wanted a name that ends in {endings}")
        place = f"{path_to('studies', study_id)}/figure{path.suffix}"
        self._transport.download(place, path, read_timeout_s=REPORT_TIMEOUT_S)

    def study_report(self, study_id: str, format: str = "json") -> str:
        """A study's report so far, as text.

        Args:
            study_id: the study, finished or not.
            format: json, md or html.

        Raises:
            InvalidInput: no such format.
        """
        if format not in REPORT_FORMATS:
            raise InvalidInput(f"format: got {format!r}, wanted one of {', '.join(REPORT_FORMATS)}")
        with TemporaryDirectory() as folder:
            path = Path(folder) / "report"
            self._transport.download(
                path_to("studies", study_id, "report"), path, {"format": format}, read_timeout_s=REPORT_TIMEOUT_S
            )
            return path.read_text(encoding="utf-8")

    def download_study(self, study_id: str, folder: Path | str) -> list[Path]:
        """Write a study's report and figures so far into a folder, which is made when it isn't there.

        Returns:
            The files: report.html, report.md and report.json first, then the figures' four each.

        Raises:
            UnexpectedAnswer: what came is no archive of plain files.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory() as temporary:
            archive = Path(temporary) / "report.zip"
            place = path_to("studies", study_id, "report")
            self._transport.download(place, archive, {"format": "zip"}, read_timeout_s=REPORT_TIMEOUT_S)
            try:
                with ZipFile(archive) as opened:
                    names = opened.namelist()
                    if strange := [name for name in names if PurePath(name).name != name]:
                        raise UnexpectedAnswer(f"GET {place} has a file of the name {strange[0]!r}")
                    opened.extractall(folder)
            except BadZipFile as error:
                raise UnexpectedAnswer(
                    f"GET {place} answered with something that is no ZIP archive: {error}"
                ) from error
        return [folder / name for name in names]
