import subprocess

from src.tracking import lineage


def git(*words):
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words], check=True, capture_output=True
    )


def test_the_commit_and_whether_it_is_what_runs(workspace, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(workspace.parent))
    assert "git.commit" not in lineage.tags()
    git("init", "-q")
    for name in ("code.py", "dvc.lock", "reports/evaluate.json"):
        (workspace / name).parent.mkdir(exist_ok=True)
        (workspace / name).write_text("1")
    git("add", "-A")
    git("commit", "-qm", "first")
    tags = lineage.tags()
    assert len(tags["git.commit"]) == 40
    assert tags["git.dirty"] == "false"
    (workspace / "dvc.lock").write_text("2")
    (workspace / "reports/evaluate.json").write_text("2")
    assert lineage.tags()["git.dirty"] == "false"
    (workspace / "code.py").write_text("2")
    assert lineage.tags()["git.dirty"] == "true"


def test_the_stage_and_the_experiment_are_those_of_dvc(workspace, monkeypatch):
    assert "dvc.stage" not in lineage.tags()
    monkeypatch.setenv("DVC_STAGE", "train")
    monkeypatch.setenv("DVC_EXP_NAME", "brave-cat")
    tags = lineage.tags()
    assert (tags["dvc.stage"], tags["dvc.exp"], tags["mlflow.source.name"]) == ("train", "brave-cat", "dvc.yaml:train")
