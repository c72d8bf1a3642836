"""The agent: what each request calls. Started by connection.py through its bootstrap."""

from custom_gaze.remote import agent, agent_mlflow, agent_runs, agent_setup, store

_VERBS = (  # a request names the function
    *(agent_mlflow.serve, agent_runs.fetched, agent_runs.follow),
    *(agent_runs.look, agent_runs.start, agent_runs.status, agent_runs.stop),
    *(agent_setup.hello, agent_setup.make, agent_setup.prepare, agent_runs.ready),
    *(store.arrived, store.forget, store.objects),
)


def main() -> None:
    agent.answer({verb.__name__: verb for verb in _VERBS})
