"""``optishield config``: the settings of ``train-mask`` and their schema."""

from __future__ import annotations

import typer

from optishield.commands.train_mask import BudgetOption, budgeted
from optishield.console import ConfigFile, Json, Sets, print_json, show, show_help

config_app = typer.Typer(help="Show the settings and their schema.", callback=show_help, invoke_without_command=True)


@config_app.command("show")
def config_show(
    budget: BudgetOption = None, config: ConfigFile = None, sets: Sets = None, json_output: Json = False
) -> None:
    """Print the settings of train-mask after the budget, --config and --set."""
    from optishield.run.settings import to_toml

    resolved = budgeted(budget, config, sets)
    if json_output:
        print_json(resolved.model_dump(mode="json"))
    else:
        show(to_toml(resolved).removesuffix("\n"), lines=True)


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of the settings of train-mask."""
    from codesign.config import TrainMaskConfig

    print_json(TrainMaskConfig.model_json_schema())
