"""Settings: each read, checked and listed in docs/settings.md."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from cds_service.settings import SETTINGS, Settings, SettingsError, page, read_settings

ROOT = Path(__file__).parent.parent


def test_without_environment_everything_has_its_default() -> None:
    assert read_settings({"PATH": "/bin"}) == Settings()


def test_every_setting_is_on_the_page() -> None:
    assert {setting.field for setting in SETTINGS} == {field.name for field in fields(Settings)}
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    for setting in SETTINGS:
        assert f"`{setting.variable}`" in text
    assert text == page(), "docs/settings.md is out of date; run make page"


GOOD: list[tuple[str, str, str, object]] = [
    ("DEMO", "1", "demo", True),
    ("MAX_BODY_BYTES", "2048", "max_body_bytes", 2048),
    (
        "ALLOWED_ORIGINS",
        "https://a.example, http://b.example:81",
        "allowed_origins",
        ("https://a.example", "http://b.example:81"),
    ),
    ("FETCH_DEADLINE_MS", "300", "fetch_deadline_ms", 300),
    ("PUBLIC_BASE_URL", "https://cds.example.org/jaki/", "public_base_url", "https://cds.example.org/jaki"),
    ("LOG_LEVEL", "error", "log_level", "error"),
    ("STORE", "none", "store", "none"),
    ("STORE", "postgresql://jaki@db/jaki", "store", "postgresql+psycopg://jaki@db/jaki"),
    ("RETENTION_DAYS", "365", "retention_days", 365),
]


@pytest.mark.parametrize(("name", "text", "field", "value"), GOOD)
def test_a_good_value(name: str, text: str, field: str, value: object) -> None:
    assert getattr(read_settings({f"JAKI_CDS_{name}": text}), field) == value


@pytest.mark.parametrize(
    ("store", "tokens"),
    [
        ("sqlite:///var/a.sqlite", "sqlite:///var/a-tokens.sqlite"),
        ("sqlite:////srv/v1.2/store", "sqlite:////srv/v1.2/store-tokens"),
        ("sqlite:///a.sqlite?timeout=2", "sqlite:///a-tokens.sqlite?timeout=2"),
        ("postgresql://jaki:secret@db/jaki", "postgresql+psycopg://jaki:secret@db/jaki"),
        ("none", "sqlite:///var/jaki-cds-tokens.sqlite"),
    ],
)
def test_used_tokens_are_remembered_beside_a_file_and_within_a_server(store: str, tokens: str) -> None:
    assert read_settings({"JAKI_CDS_STORE": store}).token_store == tokens


BAD = [
    ("DEMO", "yes"),
    ("MAX_BODY_BYTES", "8MB"),
    ("MAX_BODY_BYTES", "10"),
    ("MAX_BODY_BYTES", "-1"),
    ("ALLOWED_ORIGINS", "*"),
    ("ALLOWED_ORIGINS", "https://a.example/path"),
    ("FETCH_DEADLINE_MS", "299"),
    ("FETCH_DEADLINE_MS", "4001"),
    ("PUBLIC_BASE_URL", "cds.example.org"),
    ("PUBLIC_BASE_URL", "https://cds.example.org/?a=b"),
    ("SITE", "/no/such/site.yaml"),
    ("LOG_LEVEL", "loud"),
    ("STORE", "var/store.sqlite"),
    ("STORE", ""),
    ("STORE_KEY", "/no/such/key"),
    ("RETENTION_DAYS", "-1"),
    ("LOGLEVEL", "info"),
]


@pytest.mark.parametrize(("name", "text"), BAD)
def test_a_bad_value_or_name_is_told_on_one_line(name: str, text: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        read_settings({f"JAKI_CDS_{name}": text})
    assert str(refusal.value).startswith(f"JAKI_CDS_{name} ")
    assert "\n" not in str(refusal.value)
