"""`Users`: authentication against a mapping of names to passwords."""

import time
from statistics import median

import pytest

from smtpcore.sasl import MECHANISMS, GivePassword, GiveScramKeys
from smtpcore_adapters import App, Session
from smtpcore_adapters.users import Users
from tests.adapters.fakes import step
from tests.adapters.playbook import session


@pytest.fixture
def client() -> Session:
    return session(App()).session


def test_scram_keys_of_a_user_stay_the_same(client: Session) -> None:
    users = Users({"tim": "tanstaaf"})

    keys = step(users.on_auth(client, GiveScramKeys("tim", "SHA-256")))
    assert keys is not None
    assert step(users.on_auth(client, GiveScramKeys("tim", "SHA-256"))) == keys
    assert step(users.on_auth(client, GiveScramKeys("tim", "SHA-1"))) not in (keys, None)
    assert step(users.on_auth(client, GiveScramKeys("nobody", "SHA-256"))) is None


def test_users_have_keys_for_each_scram_mechanism(client: Session) -> None:
    users = Users({"tim": "tanstaaf"})
    hashes = {each.name.removesuffix("-PLUS")[6:] for each in MECHANISMS if each.name.startswith("SCRAM-")}
    assert hashes
    assert all(step(users.on_auth(client, GiveScramKeys("tim", name))) for name in hashes)


def test_user_whose_password_scram_prohibits_can_use_other_mechanisms(
    client: Session, caplog: pytest.LogCaptureFixture
) -> None:
    users = Users({"tim": "\x07", "tom": "tanstaaf"})
    assert "the user tim cannot log in with SCRAM" in caplog.text
    assert "\x07" not in caplog.text
    assert step(users.on_auth(client, GiveScramKeys("tim", "SHA-256"))) is None
    assert step(users.on_auth(client, GiveScramKeys("tom", "SHA-256")))
    assert step(users.on_auth(client, GivePassword("tim"))) == "\x07"


def test_first_question_about_a_user_takes_as_long_as_a_question_about_an_unknown_name(client: Session) -> None:
    names = [f"user{number}" for number in range(20)]
    users = Users(dict.fromkeys(names, "tanstaaf"))

    def seconds(name: str) -> float:
        begun = time.process_time()
        step(users.on_auth(client, GiveScramKeys(name, "SHA-256")))
        return time.process_time() - begun

    # The keys of a user take a millisecond.
    assert median(map(seconds, names)) < 0.0002 + 5 * median(seconds(f"{name}?") for name in names)
