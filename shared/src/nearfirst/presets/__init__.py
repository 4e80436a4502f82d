"""Studies that come with Nearfirst, as files of `nearfirst study run` (client/study/preset.py)."""

from importlib.resources import files


def packaged_presets() -> dict[str, str]:
    """The text of each preset by its name: the one to begin with first, then the paper's figures."""
    entries = [entry for entry in files(__name__).iterdir() if entry.name.endswith(".yaml")]
    texts = {entry.name.removesuffix(".yaml"): entry.read_text(encoding="utf-8") for entry in entries}
    return {name: texts[name] for name in sorted(texts, key=lambda name: (name != "quickstart", name))}
