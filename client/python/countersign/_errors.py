"""The errors between a bot and its agent."""


class AgentError(Exception):
    """The agent gave no signature. Nothing was sent to the exchange."""


class Refused(AgentError):
    """The agent understood the request and refused it. `code` is stable; `message` is for
    people.
    """

    def __init__(self, code, message, request_id=None):
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.request_id = code, message, request_id

    def __reduce__(self):
        return type(self), (self.code, self.message, self.request_id)


class Unavailable(AgentError):
    """The agent is not reachable, or did not answer in time or in form."""
