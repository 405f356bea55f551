"""`hf-bml compare RECIPE... --modulations METHOD... [--seeds ...]`; `accelerate launch -m` works as for train."""

from __future__ import annotations

import sys

from ..study.comparison_parser import collect_parser, comparison_parser
from ..study.errors import OneLineErrors, command

DESCRIPTION = """\
Trains every method on every recipe, once per seed, tests it, and writes NAME.md, NAME.csv, NAME_runs.csv, NAME.json,
NAME.jsonl and NAME.png (of several data sets NAME_SET.png) into output_dir (default runs/<dataset>).

A method is `none`, or modulations and bundles of them joined by `+`, each modulation with options if need be:
`opm:q_base=0.3,lam=0.25+ogm`, `balanced`, `balanced+mod_drop:p=0.3`. Options that it does not give come from
--modulations.opm.q_base, else from the recipe's `modulations`, else from the defaults below. A modulation that needs
another model, such as one with an interaction, gets it; `none@METHOD` is plain training of the model that METHOD
needs. Where the recipe's encoders do not allow that model, the method is left out, and the table's notes say why.

Three methods are made of models of one modality each, trained by the same recipe: `unimodal` is the one that is best
on validation, `ensemble` all of them together (ensemble:average=logits: the mean of logits, not of probabilities), and
`unimodal_init` joint training from their encoders (unimodal_init+opm). Their runs are shared.

Protocols: --train_per_class 20 draws few training rows by the seed. --folds 6 tests each of six folds once, along the
data set's column `group` if it has one. --search, with --budget 4, tries at most four settings of each method, its own
first and then a seeded sample, on one seed (and the first fold), chooses on validation, and runs the seeds with that.

--robustness also evaluates every finished run with noisy and with missing modalities, and probes its encoders, as
hf-bml robustness does, and adds these columns; --select robust/missing_average chooses by one of them, on validation.
What a finished run was not measured for yet is measured when the command is given again.

NAME.jsonl holds every run, and --collect FILE [FILE ...] writes the tables from such files without training; those of
several data sets are pooled, and methods that all sets have are ranked and tested. With it only --compare, --control,
--columns, --name and --output_dir have a meaning.

--shard 2/8 trains the second of eight shares of the runs; start all eight, on any machines with a shared output_dir.
What a killed shard has begun is resumed by another; whichever finds all runs finished writes the table.

Every run has a folder METHOD-HASH/seed-SEED; the hash covers all options that change what is computed. A finished run
is not trained again; an interrupted one resumes from its newest checkpoint (--resume_from_checkpoint false: anew)."""


@command("compare", help_parser=lambda: comparison_parser(OneLineErrors, DESCRIPTION))
def main(arguments: list[str]) -> None:
    """Trains every method on every recipe and compares them."""
    if any(argument.partition("=")[0] == "--collect" for argument in arguments):
        from ..study.collected import write_collected  # slow to import

        print(write_collected(**vars(collect_parser().parse_args(arguments))))
        return
    from ..ground.disk import check_writable  # slow to import, as what follows
    from ..study.comparison import plan_methods
    from ..study.comparison_robustness import check_measured, measures
    from ..study.parser import recipe_parser, series_options
    from ..study.plan import common_folder
    from ..study.processes import end_processes
    from ..study.run_model import recipe_task
    from ..study.series import run_series
    from ..study.setting_search import choose_settings
    from ..study.shard import shard_of
    from ..study.tasks import check_tells_classes

    parser = comparison_parser(recipe_parser, DESCRIPTION)
    chosen = series_options(parser, arguments)
    contenders, left_out = plan_methods(parser, chosen, arguments)
    recipes = [trial.recipe for contender in contenders for trial in contender.trials]
    shard = shard_of(chosen.shard, chosen.claim_timeout, recipes[0].training)
    if recipes[0].training.process_index == 0:
        print("".join(f"{note}\n" for note in left_out), end="")
        if chosen.records is not None:
            check_writable(chosen.records.parent)
    select = chosen.select or chosen.compare
    check_measured(select, chosen.compare, chosen.columns, chosen.corruptions, chosen.robustness)
    if chosen.robustness:
        check_tells_classes(recipe_task(recipes[0]).problem_type)
    search, final = measures(select, chosen.corruptions, recipes) if chosen.robustness else ([], [])
    plan = choose_settings(contenders, select, search, shard)
    options = {"columns": chosen.columns, "records": chosen.records, "after": final, "shard": shard}
    run_series(plan, common_folder(plan), chosen.name, chosen.compare, chosen.control, left_out, **options)
    end_processes()


if __name__ == "__main__":
    sys.exit(main())
