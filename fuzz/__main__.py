"""Run a fuzzing target: `python -m fuzz TARGET [options and directories of libFuzzer]`."""

import logging
import sys
from importlib import import_module

import atheris

name = sys.argv.pop(1)
# Only modules imported inside this block are instrumented, so the targets need not import the fuzzer.
with atheris.instrument_imports(include=["smtpcore", "smtpcore_adapters"]):
    target = import_module(f"fuzz.{name}")

logging.disable()
sys.argv[0] = (
    f"{sys.executable} -m fuzz {name}"  # the command with which libFuzzer starts itself again, to merge inputs
)
atheris.Setup(sys.argv, target.test_one_input)
atheris.Fuzz()
