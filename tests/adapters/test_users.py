"""A handful of users and their passwords."""

from smtpcore_adapters.users import Users


def test_the_keys_of_SCRAM_are_the_same_whenever_they_are_asked_for() -> None:
    users = Users({"tim": "tanstaaf"})

    keys = users._scram_keys("tim", "SHA-256")
    assert keys is not None
    assert users._scram_keys("tim", "SHA-256") == keys
    assert users._scram_keys("tim", "SHA-1") != keys
    assert users._scram_keys("nobody", "SHA-256") is None
