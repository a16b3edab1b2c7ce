"""`Users`: authentication against a mapping of names to passwords."""

from smtpcore_adapters.users import Users


def test_scram_keys_of_a_user_stay_the_same() -> None:
    users = Users({"tim": "tanstaaf"})

    keys = users._scram_keys("tim", "SHA-256")
    assert keys is not None
    assert users._scram_keys("tim", "SHA-256") == keys
    assert users._scram_keys("tim", "SHA-1") != keys
    assert users._scram_keys("nobody", "SHA-256") is None
