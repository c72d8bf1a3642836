"""Over there: what each request calls. Started by connection.py through its bootstrap."""

from custom_gaze.remote import there, there_mlflow, there_runs, there_setup, there_store

VERBS: dict[str, there.Verb] = {
    "bundle": there_store.bundle,
    "cache": there_setup.cache,
    "commit": there_store.commit,
    "environment": there_setup.environment,
    "fetched": there_runs.fetched,
    "follow": there_runs.follow,
    "forget": there_store.forget,
    "free_port": there_mlflow.free_port,
    "get": there_store.get,
    "hello": there_setup.hello,
    "hold": there_runs.hold,
    "lacking": there_store.lacking,
    "listed": there_store.listed,
    "logs": there_runs.logs,
    "look": there_runs.look,
    "make": there_setup.make,
    "offer": there_mlflow.offer,
    "put": there_store.put,
    "ready": there_setup.ready,
    "release": there_runs.release,
    "serve": there_mlflow.serve,
    "start": there_runs.start,
    "status": there_runs.status,
    "stop": there_runs.stop,
    "tips": there_store.tips,
    "torch": there_setup.torch,
    "tracked": there_mlflow.tracked,
}


def main() -> None:
    there.answer(VERBS)
