"""Save experiments as files, and load them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..steps import AuthStep, BodyStep, ChunkStep, LineStep, RawStep, Step, TlsStep
from ._logins import LoginStep
from ._plans import Experiment, Kind, Plan

_VERSION = 1


WRONG = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""The exceptions of values that have another form."""


class Unreadable(Exception):
    """A file is not a saved experiment; the text gives the reason."""


def save(path: Path, experiment: Experiment, *, lmtp: bool, about: Mapping[str, str]) -> None:
    """Write an experiment to `path`, together with texts about the violation."""
    plan = experiment.plan
    content = {
        "smtpcore-fuzz": _VERSION,
        **about,
        "lmtp": lmtp,
        "kind": experiment.kind.value,
        "pipelined": plan.is_pipelined,
        "cuts": list(plan.cuts),
        "logged-in": plan.is_logged_in,
        "header": None if plan.header is None else _text(plan.header),
        "steps": [_to_json(step) for step in plan.steps],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")


def load(path: Path) -> Experiment:
    """Read an experiment. Raise `Unreadable`."""
    try:
        content = json.loads(path.read_text())
        if content["smtpcore-fuzz"] != _VERSION:
            raise Unreadable(f"{path}: the file was written by another version")

        steps = tuple(_from_json(step) for step in content["steps"])
        _ = [step.pieces for step in steps]  # raises `ValueError` for text that cannot be sent
        cuts = tuple(int(cut) for cut in content["cuts"])
        header = content.get("header")
        plan = Plan(
            steps,
            bool(content["pipelined"]),
            cuts,
            is_logged_in=bool(content.get("logged-in", True)),
            header=None if header is None else header.encode("latin-1"),
        )
        return Experiment(plan, Kind(content["kind"]))
    except (OSError, UnicodeDecodeError) as exc:
        raise Unreadable(f"{path}: {getattr(exc, 'strerror', None) or exc}") from exc
    except WRONG as exc:
        raise Unreadable(f"{path}: this is not a file of smtpcore fuzz") from exc


def _text(octets: bytes) -> str:
    return octets.decode("latin-1")


def _to_json(step: Step) -> dict[str, Any]:
    match step:
        case LineStep(line=line):
            return {"line": _text(line)}
        case BodyStep(body=body):
            return {"body": _text(body)}
        case ChunkStep(chunk=chunk, is_last=is_last):
            return {"chunk": _text(chunk), "last": is_last}
        case TlsStep(injected=injected):
            return {"starttls": _text(injected)}
        case LoginStep(mechanism=mechanism, has_initial=has_initial, is_wrong=is_wrong):
            return {"login": mechanism, "initial": has_initial, "wrong": is_wrong}
        case AuthStep(mechanism=mechanism, initial=initial, responses=responses):
            texts = [_text(response) for response in responses]
            return {"auth": mechanism, "initial": None if initial is None else _text(initial), "responses": texts}
        case _:
            return {"raw": _text(step.pieces[0])}


def _from_json(content: dict[str, Any]) -> Step:
    match content:
        case {"line": str(text)}:
            return LineStep(text.encode("latin-1"))
        case {"body": str(text)}:
            return BodyStep(text.encode("latin-1"))
        case {"chunk": str(text), "last": bool(is_last)}:
            return ChunkStep(text.encode("latin-1"), is_last=is_last)
        case {"starttls": str(text)}:
            return TlsStep(text.encode("latin-1"))
        case {"login": str(mechanism), "initial": bool(has_initial), "wrong": bool(is_wrong)}:
            return LoginStep(mechanism, has_initial, is_wrong)
        case {"auth": str(mechanism), "initial": initial}:
            responses: list[str] = content["responses"]
            return AuthStep(
                mechanism,
                None if initial is None else initial.encode("latin-1"),
                tuple(response.encode("latin-1") for response in responses),
            )
        case {"raw": str(text)}:
            return RawStep(text.encode("latin-1"))
        case _:
            raise ValueError(f"{content} is not a step")
