"""The checks of extensions and of LMTP."""

from smtpcore_adapters.check import Outcome
from tests.adapters.check.faulty_servers import scripted
from tests.adapters.check.helpers import outcome_of


def test_connection_closed_at_lhlo_fails() -> None:
    assert outcome_of("lmtp-lhlo", scripted({"LHLO": ""}))[0] is Outcome.FAIL
