"""What the guides' test makes of a page."""

from tests.e2e.guides.pages import GUIDES, announced, blocks_of, normalised

PAGE = """# Title

```sh
echo "job_0123456789abcdef: 12 steps"
```

prints

```text
job_0123456789abcdef: 12 steps
...
the end ... of 3 files
```

```console
rm -rf /
```
"""


def test_blocks_are_found_with_their_kinds_and_places() -> None:
    assert [(block.kind, block.line) for block in blocks_of(PAGE)] == [("sh", 3), ("text", 9), ("console", 15)]
    assert blocks_of(PAGE)[0].body == 'echo "job_0123456789abcdef: 12 steps"\n'


def test_announced_lines_are_compared_without_ids_and_numbers() -> None:
    lines = announced(blocks_of(PAGE)[1])
    assert lines == [normalised("job_aaaaaaaaaaaaaaaa:  7 steps"), "the end", "of 0 files"]
    assert normalised("job_0123456789abcdef: failed") not in lines


def test_every_guide_has_something_to_run_and_to_compare() -> None:
    pages = sorted(GUIDES.glob("*.md"))
    assert len(pages) == 4
    for page in pages:
        assert {"sh", "text"} <= {block.kind for block in blocks_of(page.read_text(encoding="utf-8"))}, page.name
