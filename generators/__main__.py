"""`python -m generators`: write completions/ and man/ again; what they held is removed."""

from __future__ import annotations

from generators import files


def main() -> None:
    """Write every generated file, and remove those that no command has any more."""
    wanted = files()
    for folder in {path.parent for path in wanted}:
        folder.mkdir(exist_ok=True)
        for old in set(folder.iterdir()) - set(wanted):
            old.unlink()
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
