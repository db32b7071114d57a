"""Defines rules that turn scores, probes and sweeps into every aggregate that is shown."""

from analyses import analyses, overall
from artefacts import result_files, settings_of
from code_inputs import project_file, script_code
from grammar import SETTING, log_of, path_of, path_of_overall

for result, analysis in analyses(config).items():

    rule:
        name:
            f"measure_{result}"
        input:
            code=script_code("measure", analysis.module),
            data=[path_of(name) for name in analysis.reads],
        output:
            path_of(result),
        log:
            log_of(f"measure_{result}", SETTING),
        conda:
            "../envs/library.yaml"
        resources:
            mem_mb=2000,
        params:
            result=result,
            reads=list(analysis.reads),
            function=analysis.function,
            options=dict(analysis.options),
            settings=[],
        message:
            f"Measure {result}"
            " of {wildcards.model}/{wildcards.task} at {wildcards.site}"
        script:
            "../scripts/measure.py"


for result, analysis in overall(config).items():

    rule:
        name:
            f"measure_{result}"
        input:
            code=script_code("measure", analysis.module),
            data=result_files(
                config,
                analysis.reads[0],
                settings_of(config, analysis.settings),
                analysis.site,
            ),
            published=(
                project_file(f"data/published/{analysis.published}.csv")
                if analysis.published
                else []
            ),
        output:
            path_of_overall(result),
        log:
            log_of(f"measure_{result}"),
        conda:
            "../envs/library.yaml"
        resources:
            mem_mb=2000,
        params:
            result=result,
            reads=list(analysis.reads),
            function=analysis.function,
            options=dict(analysis.options),
            settings=settings_of(config, analysis.settings),
        message:
            f"Measure {result} over all settings"
        script:
            "../scripts/measure.py"
