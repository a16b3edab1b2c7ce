"""Settings for tests, without a file and without the environment."""

from pathlib import Path

from smtpcore_adapters.cli._sources import Settings, read_settings


def settings(text: str = "", **options: object) -> Settings:
    """Return the settings of a file with `text`, and of options."""
    file = Path("smtpcore.toml")
    file.write_text(text)
    return read_settings({"config": str(file), **options}, {})
