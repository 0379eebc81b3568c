"""The commands: each a few lines over the same functions that the assets call.

Belongs here: options, exit codes, one clear line for an error. Heavy libraries are imported inside the
commands, so that `--help` is quick.
"""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct_assets import machine_faults
from ct_assets.cli import experiments, lifecycle, longitudinal, nodules, quarantine, serve
from ct_assets.cli.opened import opened_platform
from ct_assets.cli.options import Config
from ct_assets.errors import SafetyError, UsageError

if TYPE_CHECKING:
    from ct_assets.defs.operations.demo_root import Wish

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(experiments.app)
app.add_typer(lifecycle.app)
app.add_typer(longitudinal.app, name="longitudinal")
app.add_typer(nodules.app, name="nodules")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(serve.app, name="serve")

Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Worker processes; default: the cores.")
]

Fresh = Annotated[
    bool | None,
    typer.Option(
        "--fresh/--keep",
        help="Remove an earlier demo, or go on with it; default: ask where it holds your work.",
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        from ct_assets import __version__

        print(f"ct-assets {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """From DICOM as a hospital sends it to a de-identified cohort, folds, and trained, evaluated models."""


STOPPED = 130
"""128 + SIGINT, as shells count; Typer ends so, without a word, for a `KeyboardInterrupt`."""


def main() -> None:
    """Run the command line; end with the exit codes that COMMANDS promise and never with a traceback.

    0 done, 1 unexpected failure, 2 bad usage, configuration or input folder, 3 a safety check failed;
    130 when it was stopped.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So a shell script starts what it puts in the background. Dagster gives SIGTERM the handler of SIGINT
        # after each run, and a command that ignores both could not be ended.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        app()
    except UsageError as error:
        _end(2, error)
    except SafetyError as error:
        _end(3, error)
    except SystemExit as ended:
        if ended.code == STOPPED:
            _end(STOPPED, "stopped")
        if type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):
            sys.exit(0)  # The reader of a pipe has had enough (`ct-assets status | head`); click ends with 1.
        raise
    except Exception as error:
        if os.environ.get("CT_ASSETS_DEBUG"):
            raise
        if said := machine_faults.told(error):
            _end(2, said)
        # An exception's text may carry a value of a header or a path; its type and place never do.
        place = _innermost(error)
        _end(1, f"unexpected {type(error).__name__} at {place}; set CT_ASSETS_DEBUG=1 for the traceback")


@app.command()
def deid(
    input_dir: Annotated[Path, typer.Argument(help="A folder of DICOM, as it was delivered.")],
    output_dir: Annotated[Path, typer.Argument(help="Where the released objects and the audits go.")],
    profile: Annotated[Path | None, typer.Option(help="Profile; default: the one the settings name.")] = None,
    workers: Workers = None,
    config: Config = None,
) -> None:
    """De-identify every file of a folder, prove that nothing leaked, and release the result at once."""
    from ct_assets.deid.batch.run import deidentify, say_summary
    from ct_assets.identity import withdrawn
    from ct_assets.identity.key import SecretKey
    from ct_assets.layout import DeidPaths
    from ct_assets.parallel import default_workers
    from ct_assets.progress import Timings
    from ct_assets.settings import load_settings
    from ct_assets.settings.deid import load_profile

    settings = load_settings(config)
    secret = SecretKey.load(settings.deid.key_file)
    timings = Timings()
    summary = deidentify(
        input_dir,
        DeidPaths.of_command(output_dir),
        load_profile(profile or settings.deid.profile),
        secret,
        labels_csv=settings.labels.csv,
        refused=withdrawn.load(settings.layout.tombstones, secret),
        workers=workers or default_workers(),
        timings=timings,
    )
    timings.write(output_dir)
    say_summary(summary)


key = typer.Typer(no_args_is_help=True, help="The secret key behind pseudonyms, UIDs and date shifts.")
app.add_typer(key, name="key")


@key.command("new")
def key_new(
    path: Annotated[Path, typer.Argument(help="The file to write; keep it apart from the data.")],
) -> None:
    """Make a key file that only its owner can read. An existing file is never replaced."""
    from ct_assets.identity.key import ADVICE, make_key_file

    make_key_file(path)
    print(f"{path}: written (mode 0600).\n{ADVICE}")


@app.command()
def convert(dicom_dir: Path, output_dir: Path, workers: Workers = None, config: Config = None) -> None:
    """Convert every CT series of a tree to NIfTI in Hounsfield units, with the masks that refer to it."""
    from ct_assets.imaging.convert_tree import convert as convert_tree
    from ct_assets.parallel import default_workers
    from ct_assets.progress import Timings
    from ct_assets.settings import load_settings

    timings = Timings()
    convert_tree(
        dicom_dir, output_dir, load_settings(config), workers=workers or default_workers(), timings=timings
    )
    timings.write(output_dir)


@app.command()
def preprocess(
    cases_csv: Annotated[Path, typer.Argument(help="CSV: case_id, patient_id, image, label[, stage, site].")],
    output_dir: Annotated[Path, typer.Argument(help="Where splits, folds, final sets and drift go.")],
    folds: Annotated[int | None, typer.Option(min=2, help="Folds of a new ledger; default: 5.")] = None,
    test_share: Annotated[
        float | None, typer.Option(min=0, max=0.9, help="Share of patients for the test; default: 0.15.")
    ] = None,
    splits: Annotated[
        Path | None, typer.Option(help="Folds made by you: a CSV or nnU-Net's splits_final.json.")
    ] = None,
    nnunet: Annotated[
        bool, typer.Option(help="Also write an nnU-Net v2 raw dataset with the folds.")
    ] = False,
    workers: Workers = None,
    config: Config = None,
) -> None:
    """Split NIfTI cases by patient, plan each fold from its training patients alone, and prepare the volumes."""
    from ct_assets.learning.volumes.preprocess import preprocess as run_preprocess
    from ct_assets.learning.volumes.preprocess import say_summary
    from ct_assets.parallel import default_workers
    from ct_assets.progress import Timings
    from ct_assets.settings import load_settings

    timings = Timings()
    summary = run_preprocess(
        cases_csv,
        output_dir,
        load_settings(config),
        folds=folds,
        test_share=test_share,
        given=splits,
        workers=workers or default_workers(),
        timings=timings,
        nnunet=nnunet,
    )
    timings.write(output_dir)
    say_summary(summary)


@app.command()
def ingest(
    drop_dir: Annotated[Path, typer.Argument(help="The folder that a hospital delivered.")],
    name: Annotated[
        str | None, typer.Option("--name", help="The batch's name; default: an opaque one.")
    ] = None,
    config: Config = None,
) -> None:
    """Copy a delivered folder into the inbox as one batch, in one step, with its marker."""
    from ct_assets.deid.proof import typed_text
    from ct_assets.identity.key import ENVIRONMENT_VARIABLE, SecretKey
    from ct_assets.intake.batches import ingest as ingest_drop
    from ct_assets.lifecycle.schema import hold
    from ct_assets.lifecycle.unfinished import refuse_unfinished
    from ct_assets.storage import needs

    with opened_platform(config, *needs.DELIVERIES) as settings:
        hold(settings.layout)
        refuse_unfinished(settings.layout)
        if name is not None and drop_dir.is_dir():
            typed_text.of_folder(drop_dir, settings.labels.csv).refuse({"--name": name})
        has_key = settings.deid.key_file is not None or ENVIRONMENT_VARIABLE in os.environ
        key = SecretKey.load(settings.deid.key_file) if has_key else None
        print(ingest_drop(drop_dir, settings.layout, key, name))


@app.command()
def receive(
    config: Config = None,
    public: Annotated[
        bool, typer.Option("--public", help="Yes, listen on an address that other machines reach.")
    ] = False,
    waiting: Annotated[
        bool, typer.Option("--list", help="Tell what has arrived and is not whole yet; receive nothing.")
    ] = False,
    deliver: Annotated[
        str | None, typer.Option(metavar="STUDY", help="Decide that a waiting study is whole as it is.")
    ] = None,
    discard: Annotated[
        str | None, typer.Option(metavar="STUDY", help="Decide to drop the broken series of a waiting study.")
    ] = None,
) -> None:
    """Receive studies over the DICOM network until stopped; each whole study becomes a batch of the inbox."""
    from ct_assets.intake.network import console
    from ct_assets.lifecycle.schema import refuse_other
    from ct_assets.settings import load_settings

    settings = load_settings(config)
    refuse_other(settings.layout)
    if waiting:
        print("\n".join(console.listing(settings)))
    elif deliver or discard:
        print(console.decide(settings, deliver=deliver, discard=discard))
    else:
        console.receive(settings, public=public)


@app.command()
def run(
    config: Config = None,
    until: Annotated[str | None, typer.Option("--until", help="Stop after this asset.")] = None,
    with_training: Annotated[
        Path | None, typer.Option("--with-training", help="Training configuration: go on to the test report.")
    ] = None,
) -> None:
    """Register complete batches and materialize all that is missing or stale, as far as training's door."""
    from ct_assets.defs.engine.launch import run_platform
    from ct_assets.settings import load_settings

    run_platform(load_settings(config), until=until, training=with_training)


@app.command()
def train(
    config: Config = None,
    experiment: Annotated[
        str | None, typer.Option(help="Name; default: that of the training configuration.")
    ] = None,
    fold: Annotated[str | None, typer.Option(help="One fold; default: all, one after the other.")] = None,
    system: Annotated[str, typer.Option(help="Which system.")] = "lung",
    pause: Annotated[bool, typer.Option(help="Ask a running training to save all and make way.")] = False,
    stop: Annotated[bool, typer.Option(help="Ask one to end early and count with what it learnt.")] = False,
    status: Annotated[
        bool, typer.Option(help="Show phase, epoch, ETA and last metrics of each fold.")
    ] = False,
) -> None:
    """Launch the training partitions of an experiment, or steer one that runs."""
    from ct_assets.defs.engine import launch
    from ct_assets.settings import load_settings

    settings = load_settings(config)
    if pause or stop:
        launch.steer(settings, experiment, fold, "pause" if pause else "stop", system)
    elif status:
        launch.show_training(settings, experiment, system)
    elif system != launch.LUNG:
        launch.train_system(settings, system, experiment, fold)
    else:
        launch.train(settings, experiment=experiment, fold=fold)


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="Folder of a bundle, or models:/NAME@ALIAS.")],
    dicom_or_nifti: Annotated[Path, typer.Argument(help="DICOM tree, NIfTI image, or folder of images.")],
    output_dir: Annotated[Path, typer.Argument(help="Where masks, stages and pictures go.")],
    config: Config = None,
    workers: Workers = None,
) -> None:
    """Predict every CT series or NIfTI image: tumour mask and stage, or lesions in head CT, as the model is."""
    from ct_assets.parallel import default_workers
    from ct_assets.progress import Timings, say
    from ct_assets.settings import load_settings
    from ct_assets.storage import needs, session
    from ct_assets.systems import predict as run_predict

    settings = load_settings(config)
    if model.startswith("models:/"):
        session.fetch(settings, *needs.DATABASES)
    timings = Timings()
    lines = run_predict(
        model,
        dicom_or_nifti,
        output_dir,
        settings=settings,
        workers=workers or default_workers(),
        timings=timings,
    )
    timings.write(output_dir)
    done = sum(line["status"] == "predicted" for line in lines)
    say(f"{done} predicted, {len(lines) - done} refused; see {output_dir / 'prediction.jsonl'}")


brain = typer.Typer(no_args_is_help=True, help="Brain CT classification.")
app.add_typer(brain, name="brain")


@brain.command("run")
def brain_run(
    data_root: Annotated[Path, typer.Option(help="Folder with the CT folder and the label table.")] = Path(
        "data"
    ),
    labels: Annotated[str, typer.Option(help="File name of the label table (ID, Label).")] = "labels1.csv",
    cts: Annotated[str, typer.Option(help="Name of the folder of ID_*.dcm files.")] = "CTs",
    seed: Annotated[int, typer.Option(min=0, help="Splits, weights and samples follow from it.")] = 42,
    test_size: Annotated[float, typer.Option(help="Share set apart for the one test.")] = 0.15,
    k_folds: Annotated[int, typer.Option(help="Folds of the cross-validation.")] = 5,
    batch_size: Annotated[int, typer.Option(help="Slices of a training step.")] = 64,
    num_workers: Annotated[int, typer.Option(help="Processes that read DICOM and load batches.")] = 4,
    out_size: Annotated[int, typer.Option(help="Side of the prepared slice in pixels.")] = 256,
    holdout_frac: Annotated[
        float, typer.Option(help="Share of the training set that only ends the final training.")
    ] = 0.10,
    prep_plot_n: Annotated[int, typer.Option(help="Examples of each label in the pictures.")] = 5,
    threshold_strategy: Annotated[str, typer.Option(help="max_f1 or sens_target.")] = "sens_target",
    sens_target: Annotated[float, typer.Option(help="Least mean sensitivity of sens_target.")] = 0.70,
    run_grid: Annotated[
        bool, typer.Option("--run-grid", help="Cross-validate the named candidates; take the best.")
    ] = False,
    config_json: Annotated[Path | None, typer.Option(help="JSON of keys that replace the defaults.")] = None,
    save_fold_models: Annotated[
        bool, typer.Option("--save-fold-models", help="Keep the best model of each fold too.")
    ] = False,
) -> None:
    """Validate, split by patient, cross-validate, choose a threshold, train the final model, score the test once.

    Everything goes to outputs/run_YYYYMMDD_HHMMSS.
    """
    from ct_assets.systems.brain.command import run as run_brain

    run_brain(
        {
            "data_root": data_root, "labels": labels, "cts": cts, "seed": seed, "test_size": test_size,
            "k_folds": k_folds, "batch_size": batch_size, "num_workers": num_workers, "out_size": out_size,
            "holdout_frac": holdout_frac, "prep_plot_n": prep_plot_n,
            "threshold_strategy": threshold_strategy, "sens_target": sens_target, "run_grid": run_grid,
            "config_json": config_json,
        },
        keep_fold_models=save_fold_models,
    )  # fmt: skip


@brain.command("demo")
def brain_demo(fresh: Fresh = None) -> None:
    """Classify the slices of a head phantom through the assets, from the folder to the one test."""
    from ct_assets.defs.operations.brain_demo import run_brain_demo

    run_brain_demo(_wish(fresh))


@app.command()
def promote(
    name: Annotated[str, typer.Argument(help="The registered name, lung by default.")] = "lung",
    version: Annotated[str | None, typer.Option(help="Default: the candidate.")] = None,
    config: Config = None,
) -> None:
    """Make a registered model the champion: the one that `models:/NAME@champion` names."""
    from ct_assets.defs.engine.platform import Platform
    from ct_assets.storage import needs

    with opened_platform(config, *needs.DATABASES) as settings:
        from ct_assets.learning.models.registry import promote as give_alias

        chosen = give_alias(Platform(settings).tracking_uri, name, version=version)
        print(f"version {chosen} of {name} is the champion now; `models:/{name}@champion` names it")


@app.command()
def status(
    config: Config = None,
    page: Annotated[
        bool, typer.Option("--page", help="Write reports/status.html and ct_assets.prom as well.")
    ] = False,
) -> None:
    """Show platform status and pending actions."""
    from ct_assets.defs.operations.instance_facts import instance_facts
    from ct_assets.reports.status import show
    from ct_assets.storage import needs
    from ct_assets.storage.outputs import output_differences

    with opened_platform(
        config, *needs.ALWAYS, *needs.DATABASES, "reports/*.json", publish=False
    ) as settings:
        show(settings, instance_facts(settings))
        for line in output_differences(settings):
            print(line)
        if page:
            from ct_assets.defs.engine.launch import write_status_page

            print(write_status_page(settings))


@app.command()
def verify(config: Config = None, workers: Workers = None) -> None:
    """Hold every released file against its digest in the audit; exit 3 where one differs."""
    from ct_assets import parallel
    from ct_assets.deid.proof.verify import verify_store

    with opened_platform(config, "deid/*", "audits/*", publish=False) as settings:
        verified = verify_store(settings.layout, workers or parallel.default_workers())
    for fault in verified.faults:
        print(f"{fault.kind}: {fault.batch}/{fault.path}")
    if verified.faults:
        raise SafetyError(f"{len(verified.faults)} released files do not match the audit")
    print(f"{verified.files} released files are as the audit says")


Host = Annotated[str, typer.Option(help="Address to listen on; others than loopback must be said twice.")]
WithoutLogin = Annotated[
    bool, typer.Option("--without-login", help="Yes, an address that others reach and no password.")
]


@app.command()
def ui(
    config: Config = None,
    port: Annotated[int, typer.Option(min=1024, max=65535, help="Port.")] = 3000,
    host: Host = "127.0.0.1",
    without_login: WithoutLogin = False,
) -> None:
    """Open the Dagster UI of this platform on loopback, with its sensors and schedules running."""
    from ct_assets.defs.operations.ui import serve
    from ct_assets.storage import needs

    with opened_platform(config, *needs.ALWAYS, *needs.DATABASES) as settings:
        serve(settings, config, port, host, without_login=without_login)


@app.command()
def service(
    role: Annotated[str, typer.Argument(metavar="ROLE", help="code, daemon, operate or view.")],
    config: Config = None,
    port: Annotated[int | None, typer.Option(min=1024, max=65535, help="Port; default: the role's.")] = None,
    host: Host = "127.0.0.1",
    without_login: WithoutLogin = False,
) -> None:
    """Run one process of a service: code server, daemon, or a webserver to operate with or only to view."""
    from ct_assets.defs.operations.service import ROLES, run_role
    from ct_assets.storage import needs

    if role not in ROLES:
        raise UsageError(f"{role}: the roles are {', '.join(ROLES)}")
    with opened_platform(config, *needs.ALWAYS, *needs.DATABASES, publish=False) as settings:
        run_role(settings, config, role, host=host, port=port, without_login=without_login)


@app.command()
def phantom(
    folder: Annotated[Path, typer.Argument(help="The folder to make; it may not be there yet.")],
    patients: Annotated[int, typer.Option(min=1, help="Eligible patients; each fault adds one.")] = 14,
) -> None:
    """Make two deliveries of an invented hospital and its clinic's table, to try things on."""
    from ct_assets.parallel import default_workers
    from ct_assets.phantom.cohort import make

    if folder.exists():
        raise UsageError(f"{folder}: is there already; name a folder that is not")
    made = make(folder, patients=patients, workers=default_workers())
    for path in (*made.drops, made.labels_csv, made.expected_csv):
        print(path)


@app.command()
def demo(fresh: Fresh = None) -> None:
    """Make a phantom cohort and run the whole graph on it, training and evaluation included."""
    from ct_assets.defs.operations.demo import run_demo

    run_demo(_wish(fresh))


def _wish(fresh: bool | None) -> "Wish | None":
    return None if fresh is None else "fresh" if fresh else "keep"


@app.command()
def audit(
    dicom_dir: Annotated[Path, typer.Argument(help="De-identified DICOM tree.")],
    output_dir: Annotated[Path, typer.Argument(help="Where the audits go.")],
    config: Config = None,
    workers: Workers = None,
) -> None:
    """Audit headers: a row an instance, series and their geometry, principal series, masks."""
    from ct_assets.cohort.audit_tree import audit_tree
    from ct_assets.parallel import default_workers
    from ct_assets.reports.series import write_refused
    from ct_assets.settings import load_settings

    done = audit_tree(dicom_dir, output_dir, load_settings(config), workers=workers or default_workers())
    write_refused(done.found, output_dir / "reports/series")


def _innermost(error: BaseException) -> str:
    trace = error.__traceback__
    place = "?"
    while trace is not None:
        code = trace.tb_frame.f_code
        if "ct_assets" in code.co_filename:
            place = f"{Path(code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _end(code: int, message: object) -> None:
    print(f"ct-assets: {message}", file=sys.stderr)
    sys.exit(code)
