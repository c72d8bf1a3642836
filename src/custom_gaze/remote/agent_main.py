"""The agent: what each request calls. Started by connection.py through its bootstrap."""

from custom_gaze.remote import agent, agent_mlflow, agent_runs, agent_setup, agent_store

_VERBS: tuple[agent.Verb, ...] = (  # a request names the function
    *(agent_mlflow.serve, agent_mlflow.watch),
    *(agent_runs.fetched, agent_runs.follow, agent_runs.look),
    *(agent_runs.start, agent_runs.status, agent_runs.stop),
    *(agent_setup.cache, agent_setup.environment, agent_setup.hello),
    *(agent_setup.make, agent_setup.ready, agent_setup.torch),
    *(agent_store.commit, agent_store.forget, agent_store.lacking),
    *(agent_store.listed, agent_store.take_in),
)


def main() -> None:
    agent.answer({verb.__name__: verb for verb in _VERBS})
