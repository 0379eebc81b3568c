"""What the graph costs by itself: `python benchmarks/steps.py`.

Seconds to load the definitions in a fresh process, and overhead of a step under each executor: a job of a chain
of assets that do nothing, on an instance as the platform's own, less the same job with one asset. Floors: what
importing Dagster alone takes; a step that costs nothing.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dagster as dg

from ct_assets.defs.engine.build import PRELOAD
from ct_assets.defs.engine.instance import open_instance
from ct_assets.settings import load_settings

STEPS = 8
ROUNDS = 3


def chain(count: int) -> list[dg.AssetsDefinition]:
    def link(number: int) -> dg.AssetsDefinition:
        @dg.asset(name=f"link_{number}", deps=[f"link_{number - 1}"] if number else [])
        def body() -> None:
            pass

        return body

    return [link(number) for number in range(count)]


def job(count: int, executor: dg.ExecutorDefinition) -> dg.JobDefinition:
    definitions = dg.Definitions(
        assets=chain(count), jobs=[dg.define_asset_job("chain", executor_def=executor)], executor=executor
    )
    return definitions.resolve_job_def("chain")


def one_in_process() -> dg.JobDefinition:
    return job(1, dg.in_process_executor)


def many_in_process() -> dg.JobDefinition:
    return job(STEPS, dg.in_process_executor)


def forkserver() -> dg.ExecutorDefinition:
    return dg.multiprocess_executor.configured(
        {"start_method": {"forkserver": {"preload_modules": [*PRELOAD, "steps"]}}, "max_concurrent": 1}
    )


def one_forked() -> dg.JobDefinition:
    return job(1, forkserver())


def many_forked() -> dg.JobDefinition:
    return job(STEPS, forkserver())


def seconds_of(factory, instance: dg.DagsterInstance) -> float:
    started = time.perf_counter()
    result = dg.execute_job(
        dg.reconstructable(factory),
        instance=instance,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    assert result.success
    return time.perf_counter() - started


def load_seconds(statement: str) -> float:
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", statement], check=True, env=os.environ | {"PYTHONWARNINGS": "ignore"}
    )
    return time.perf_counter() - started


def main() -> None:
    print("| what | seconds |\n| --- | --- |")
    for label, statement in (
        ("import dagster, fresh process", "import dagster"),
        ("load the definitions, fresh process", "import ct_assets.definitions"),
    ):
        print(f"| {label} | {min(load_seconds(statement) for _ in range(ROUNDS)):.2f} |")
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings(environ={"CT_ASSETS_DATA": str(Path(folder) / "data")})
        with open_instance(settings) as instance:
            for label, one, many in (
                ("in one process", one_in_process, many_in_process),
                ("fork server", one_forked, many_forked),
            ):
                alone = min(seconds_of(one, instance) for _ in range(ROUNDS))
                all_steps = min(seconds_of(many, instance) for _ in range(ROUNDS))
                print(f"| a run of one step, {label} | {alone:.2f} |")
                print(f"| each further step, {label} | {(all_steps - alone) / (STEPS - 1):.3f} |")


if __name__ == "__main__":
    # The fork server finds the jobs by this module's name, as it finds the platform's.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    import steps

    steps.main()
