"""Defines rules that turn scores and probes into what tables and figures show; no model runs."""

from code_inputs import script_code

RELIABILITY = f"results/metrics/{SETTING}/reliability.parquet"
ERRORS_OF = f"results/metrics/{SETTING}.parquet"
SCORES_OF = f"results/scores/{SETTING}.parquet"
PROBES_OF = f"results/probes/{SETTING}.parquet"
SWEEP_OF = f"results/sweeps/{SETTING}.parquet"
CONVERGENCE_OF = f"results/convergence/{SETTING}.parquet"
TRIVIAL = {"trivial_effect": config["metrics"]["trivial_effect"]}
RESAMPLES = {
    "n_resamples": config["metrics"]["bootstrap_resamples"],
    "seed": config["metrics"]["bootstrap_seed"],
}
UNRELIABLE = {"unreliable": config["unreliable"]}
TOP_K = {"k": config["metrics"]["top_k"]}
# analysis: (input, module of hvp_patching.metrics, function there, options)
ANALYSES = {
    "reliability": (SCORES_OF, "diagnosis", "reliability_table", TRIVIAL),
    "operating": (RELIABILITY, "diagnosis", "operating_curve", {}),
    "selection": (
        RELIABILITY,
        "diagnosis",
        "selection_curve",
        {"seed": RESAMPLES["seed"]},
    ),
    "layers": (RELIABILITY, "diagnosis", "layer_profile", {}),
    "auroc": (
        PROBES_OF,
        "auroc",
        "auroc_by_quartile",
        UNRELIABLE | TRIVIAL | RESAMPLES,
    ),
    "curvature": (SCORES_OF, "curvature", "curvature_gap", TRIVIAL),
    "curvature_summary": (SCORES_OF, "curvature", "curvature_summary", TRIVIAL),
    "curvature_errors": (
        SCORES_OF,
        "curvature",
        "curvature_errors",
        TRIVIAL | RESAMPLES,
    ),
    "lipschitz": (PROBES_OF, "lipschitz", "lipschitz_summary", TRIVIAL),
    "lipschitz_layers": (PROBES_OF, "lipschitz", "lipschitz_by_layer", TRIVIAL),
    "sweep_errors": (SWEEP_OF, "matched", "sweep_errors", TOP_K),
    "case_study": (SCORES_OF, "ranking", "case_study", {}),
    "overlap": (SCORES_OF, "ranking", "top_k_overlap", {}),
    "ranking": (SCORES_OF, "ranking", "rank_agreement", {}),
    "prefix": (SCORES_OF, "matched", "reduction_by_prefix", TRIVIAL),
    "convergence": (CONVERGENCE_OF, "convergence", "convergence_errors", {}),
    "recovery": (SCORES_OF, "ranking", "top_k_recovery", {}),
}

for analysis, (source, module, function, options) in ANALYSES.items():

    rule:
        name:
            f"measure_{analysis}"
        input:
            code=script_code("measure", f"metrics/{module}"),
            data=source,
        output:
            f"results/metrics/{SETTING}/{analysis}.parquet",
        log:
            f"logs/measure_{analysis}/{SETTING_LOG}.log",
        conda:
            "../envs/library.yaml"
        resources:
            mem_mb=2000,
        params:
            module=module,
            function=function,
            options=options,
        message:
            f"Measure {analysis}"
            " of {wildcards.model}/{wildcards.task} at {wildcards.site}"
        script:
            "../scripts/measure.py"
