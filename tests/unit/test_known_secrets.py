import json

import pytest
from pydantic import SecretStr

from app.known_secrets import KNOWN, MAX_VALUES, KnownSecrets, remember_all
from app.settings import load_settings
from app.settings.worker import WorkerSettings

SECRET = "correct-horse-battery"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KNOWN, "texts", ())
    monkeypatch.setattr(KNOWN, "_bytes", ())


def known(secret: str) -> KnownSecrets:
    secrets = KnownSecrets()
    secrets.add(secret)
    return secrets


def test_a_known_secret_is_masked_wherever_it_stands() -> None:
    assert known(SECRET).masked(f"a{SECRET}b {SECRET}") == "a***b ***"
    assert known(SECRET).masked_bytes(f"é{SECRET}".encode()) == "é***".encode()


def test_of_a_url_only_the_password_is_a_secret_as_it_is_and_as_it_stands_there() -> None:
    secrets = known("postgresql://gateway:p%40ss-w%2Ford-123@database.internal/gateway")
    assert secrets.masked("gateway@database.internal") == "gateway@database.internal"
    assert secrets.masked("p%40ss-w%2Ford-123 p@ss-w/ord-123") == "*** ***"


def test_it_is_found_in_json_with_the_escapes_that_json_gives_it() -> None:
    secret = 'a "quoted" \\ päss word'
    for ascii_only in (True, False):
        body = json.dumps({"content": f"it is {secret}!"}, ensure_ascii=ascii_only)
        assert known(secret).masked_bytes(body.encode()) == b'{"content": "it is ***!"}'


@pytest.mark.parametrize(
    "secret",
    [
        f"{SECRET},an-older-one-of-it",
        f"x-key={SECRET},Authorization=Bearer an-older-one-of-it",
        f"x-key={SECRET},x-from=https://example.org,x-old=an-older-one-of-it",
    ],
)
def test_each_of_several_is_one(secret: str) -> None:
    assert known(secret).masked(f"{SECRET} an-older-one-of-it") == "*** ***"


def test_a_word_that_happens_to_be_a_password_stays_in_other_texts() -> None:
    assert known("postgres").masked("postgresql is away") == "postgresql is away"


def test_a_secret_that_is_a_part_of_another_leaves_nothing_of_it() -> None:
    secrets = known(SECRET)
    secrets.add(SECRET + "-staple")
    assert secrets.masked(SECRET + "-staple") == "***"


def test_there_is_a_bound_on_how_many_are_known() -> None:
    secrets = KnownSecrets()
    for number in range(MAX_VALUES + 10):
        secrets.add(f"{SECRET}-{number:04}")
    assert len(secrets.texts) == MAX_VALUES
    assert secrets.masked(f"{SECRET}-0000") == "***"


def test_however_many_workers_there_are_the_settings_own_secrets_are_known() -> None:
    workers = [
        {"url": f"http://h:{8000 + number}", "api_key": f"{SECRET}-{number:04}"}
        for number in range(MAX_VALUES + 10)
    ]
    settings = load_settings(workers=workers, admin_token="token-of-the-settings")
    assert KNOWN.masked(f"token-of-the-settings {SECRET}-0000") == "*** ***"
    KNOWN.texts = ()
    remember_all(settings)
    assert KNOWN.masked("token-of-the-settings") == "***"


def test_whatever_was_read_as_a_secret_is_known() -> None:
    load_settings(
        admin_token="token-of-the-settings",
        database_url="postgresql://gateway:password-of-the-url@localhost/gateway",
        workers=[{"url": "http://u:password-of-a-worker@h:8000", "api_key": "key-of-a-worker-1"}],
    )
    WorkerSettings(url="http://h:8000", api_key="key-of-a-worker-2")  # type: ignore[arg-type]  # as JSON
    text = (
        "token-of-the-settings password-of-the-url password-of-a-worker key-of-a-worker-1 "
        "key-of-a-worker-2"
    )
    assert KNOWN.masked(text) == "*** *** *** *** ***"


def test_settings_that_come_from_another_process_are_gone_through() -> None:
    settings = load_settings(
        admin_token="token-from-a-parent",
        workers=[{"url": "http://h:8000", "api_key": "key-from-a-parent"}],
    )
    copy = settings.model_copy(update={"key_pepper": SecretStr("pepper-from-a-parent")})
    remember_all(copy)
    assert KNOWN.masked("pepper-from-a-parent") == "***"
