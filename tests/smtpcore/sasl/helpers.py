"""Run both ends of a SASL mechanism against each other, in memory."""

from collections.abc import Callable
from dataclasses import dataclass

from smtpcore.sasl import (
    Accepted,
    Answer,
    Challenge,
    ClientMechanism,
    Outcome,
    Question,
    Rejected,
    ServerMechanism,
    Step,
)

Answers = Callable[[Question], Answer]


@dataclass
class Exchange:
    """The messages and questions of one exchange, and its outcome."""

    outcome: Outcome
    messages: list[bytes]
    questions: list[Question]


def join(client: ClientMechanism, server: ServerMechanism, answers: Answers, *, with_initial: bool = True) -> Exchange:
    """Run an exchange to its end."""
    initial = client.initial() if with_initial else None
    messages: list[bytes] = [] if initial is None else [initial]
    questions: list[Question] = []
    step: Step = server.start(initial)
    while not isinstance(step, Accepted | Rejected):
        if isinstance(step, Challenge):
            response = client.respond(step.data)
            messages += [step.data, response]
            step = server.respond(response)
        else:
            questions.append(step)
            step = server.answer(answers(step))

    if isinstance(step, Accepted):
        client.finish()
        assert client.done

    return Exchange(step, messages, questions)


def say(server: ServerMechanism, *messages: bytes, answers: Answers = lambda question: None) -> Step:
    """Start `server` with the first message, pass on the others as responses, and answer its questions."""
    first, *rest = messages
    step = ask(server, server.start(first), answers)
    for message in rest:
        step = ask(server, server.respond(message), answers)

    return step


def ask(server: ServerMechanism, step: Step, answers: Answers) -> Step:
    """Answer questions until there are no more."""
    while not isinstance(step, Challenge | Accepted | Rejected):
        step = server.answer(answers(step))

    return step
