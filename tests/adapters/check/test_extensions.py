"""The checks of extensions and of LMTP."""

from smtpcore_adapters.check import Outcome
from tests.adapters.check.faulty_servers import scripted
from tests.adapters.check.helpers import outcome_of


def test_check_fails_if_lhlo_closes_the_connection() -> None:
    assert outcome_of("lmtp-lhlo", scripted({"LHLO": ""}))[0] is Outcome.FAIL
