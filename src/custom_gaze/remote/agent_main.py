"""The agent: what each request calls. Started by connection.py through its bootstrap."""

from custom_gaze.remote import agent, agent_mlflow, agent_runs, agent_setup, agent_store

VERBS: dict[str, agent.Verb] = {
    "bundle": agent_store.bundle,
    "cache": agent_setup.cache,
    "commit": agent_store.commit,
    "environment": agent_setup.environment,
    "fetched": agent_runs.fetched,
    "follow": agent_runs.follow,
    "forget": agent_store.forget,
    "free_port": agent_mlflow.free_port,
    "get": agent_store.get,
    "hello": agent_setup.hello,
    "hold": agent_runs.hold,
    "lacking": agent_store.lacking,
    "listed": agent_store.listed,
    "look": agent_runs.look,
    "make": agent_setup.make,
    "offer": agent_mlflow.offer,
    "put": agent_store.put,
    "ready": agent_setup.ready,
    "serve": agent_mlflow.serve,
    "start": agent_runs.start,
    "status": agent_runs.status,
    "stop": agent_runs.stop,
    "tips": agent_store.tips,
    "torch": agent_setup.torch,
    "tracked": agent_mlflow.tracked,
}


def main() -> None:
    agent.answer(VERBS)
