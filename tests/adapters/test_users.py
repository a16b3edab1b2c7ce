"""`Users`: authentication against a mapping of names to passwords."""

import time
from dataclasses import replace
from statistics import median

import pytest

from smtpcore.sasl import MECHANISMS, CheckPassword, GivePassword, GiveScramKeys
from smtpcore_adapters import App, Session
from smtpcore_adapters.users import Users, hash_password, parse_hash
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


def test_user_with_a_hashed_password_can_log_in(client: Session) -> None:
    text = hash_password("tanstaaf")
    assert "tanstaaf" not in text
    assert text != hash_password("tanstaaf")
    users = Users({"tim": parse_hash(text), "ann": "s3cret", "odd": "\x07"})

    def logs_in(name: str, password: str) -> object:
        return step(users.on_auth(client, CheckPassword(name, password)))

    assert logs_in("tim", "tanstaaf") is True
    assert logs_in("ann", "s3cret") is True
    assert logs_in("odd", "\x07") is True
    for name, password in (("tim", "tanstaag"), ("tim", text), ("tim", ""), ("ann", "x"), ("nobody", "no password")):
        assert not logs_in(name, password)
    assert step(users.on_auth(client, GivePassword("tim"))) is None
    assert step(users.on_auth(client, GiveScramKeys("tim", "SHA-256"))) == parse_hash(text)
    assert step(users.on_auth(client, GiveScramKeys("tim", "SHA-1"))) is None
    assert repr(users) == "Users(['ann', 'odd', 'tim'])"


def test_password_of_an_unknown_user_is_hashed_as_often_as_that_of_a_known_user(client: Session) -> None:
    users = Users({"tim": replace(parse_hash(hash_password("tanstaaf")), iterations=100_000)})

    def seconds(name: str) -> float:
        begun = time.process_time()
        step(users.on_auth(client, CheckPassword(name, "wrong")))
        return time.process_time() - begun

    assert seconds("nobody") > seconds("tim") / 4


@pytest.mark.parametrize(
    "text",
    [
        "tanstaaf",
        "SCRAM-SHA-256$4096:YWJj$YWJj",
        "SCRAM-SHA-256$0:YWJj$YWJj:YWJj",
        "SCRAM-SHA-256$4096:YWJj$YWJj:YWJj",
        "SCRAM-SHA-256$4096:====$YWJj:YWJj",
        "SCRAM-SHA-256$4096:YWJj$\xe9:YWJj",
        f"SCRAM-SHA-256$4096:YWJj${'A' * 43}=:YWJj",
        "SCRAM-SHA-1$4096:YWJj$YWJj:YWJj",
    ],
)
def test_text_that_is_no_hash_is_a_value_error_without_the_text(text: str) -> None:
    with pytest.raises(ValueError, match=r"has the form SCRAM-SHA-256\$iterations:salt\$StoredKey") as failure:
        parse_hash(text)

    assert text not in str(failure.value)


def test_names_are_compared_after_saslprep(client: Session, caplog: pytest.LogCaptureFixture) -> None:
    # The core prepares the names that clients send (RFC 4013): U+2168 becomes IX.
    users = Users({"\u2168": "s3cret", "ju\u0308rgen": parse_hash(hash_password("tanstaaf")), "a\u06271": "x"})
    assert step(users.on_auth(client, CheckPassword("IX", "s3cret"))) is True
    assert step(users.on_auth(client, CheckPassword("j\xfcrgen", "tanstaaf"))) is True
    assert step(users.on_auth(client, GiveScramKeys("IX", "SHA-256")))
    assert "a\u06271 cannot log in: SASLprep prohibits this name" in caplog.text

    with pytest.raises(ValueError, match="two users have the name 'IX' after SASLprep"):
        users.replace({"IX": "other", "\u2168": "x"})
    assert step(users.on_auth(client, CheckPassword("IX", "s3cret"))) is True


def test_first_question_about_a_user_takes_as_long_as_a_question_about_an_unknown_name(client: Session) -> None:
    names = [f"user{number}" for number in range(20)]
    users = Users(dict.fromkeys(names, "tanstaaf"))

    def seconds(name: str) -> float:
        begun = time.process_time()
        step(users.on_auth(client, GiveScramKeys(name, "SHA-256")))
        return time.process_time() - begun

    # The keys of a user take a millisecond.
    assert median(map(seconds, names)) < 0.0002 + 5 * median(seconds(f"{name}?") for name in names)
