"""Fixtures of the fault suite: real MLflow servers, and a proxy that breaks the way to one."""

import pytest

from tests.faults.proxy import Proxy
from tests.faults.servers import mlflow_server, postgres, why_no_postgres
from tests.faults.trainings import Workshop, workshop_of_this_run


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A real MLflow server over SQLite. A test that ends it starts it again."""
    folder = tmp_path_factory.mktemp("server")
    with mlflow_server(folder, f"sqlite:///{folder / 'mlflow.db'}") as running:
        yield running


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory):
    """A real MLflow server over PostgreSQL."""
    if reason := why_no_postgres():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("postgres_server")
    with postgres(folder) as uri, mlflow_server(folder, uri) as running:
        yield running


@pytest.fixture
def proxy(server):
    """The way to `server`, which fails as its `mode` says."""
    with Proxy(server.port) as between:
        yield between


@pytest.fixture(scope="session")
def workshop(tmp_path_factory) -> Workshop:
    return workshop_of_this_run(tmp_path_factory.getbasetemp())
