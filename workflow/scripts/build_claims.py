"""The claims ledger: a verdict for every claim of the paper (rule build_claims)."""

import logging

import rule_session


def main() -> None:
    from hvp_patching.claims.evidence import Evidence, Source
    from hvp_patching.claims.ledger import checks, counts, ledger, sentences, verdicts
    from hvp_patching.claims.minutes import measured_minutes
    from hvp_patching.claims.reading import read_claims, read_queries
    from hvp_patching.claims.typeset import longtable
    from hvp_patching.files import write_text
    from hvp_patching.reporting.provenance import collect_provenance, csv_text
    from hvp_patching.settings import Setting

    params, files = snakemake.params, snakemake.input
    claims, queries = read_claims(files.claims, files.scope), read_queries(files.queries)
    sources: dict[str, list[Source]] = {}
    prompts: dict[Setting, int] = {}
    for one in params.evidence:
        setting = Setting.parse(one["setting"])
        sources.setdefault(one["query"], []).append(
            Source(one["key"], setting, one["site"], one["path"], one["n_prompts"])
        )
        prompts[setting] = max(one["n_prompts"], prompts.get(setting, 0))
    evidence = Evidence(sources, snakemake.config, params.root)
    found = verdicts(claims, queries, evidence)
    frame = ledger(claims, queries, found, measured_minutes(params.timings))
    places = rule_session.environments(*files.data)
    provenance = collect_provenance(
        params.profile, params.effort, prompts=prompts, environments=places
    )
    write_text(snakemake.output.csv, csv_text(frame, provenance))
    write_text(snakemake.output.checks, csv_text(checks(found), provenance))
    write_text(snakemake.output.counts, csv_text(counts(frame), provenance))
    write_text(snakemake.output.tex, longtable(frame, provenance))
    for sentence in sentences(frame):
        logging.info(sentence)


rule_session.run(snakemake, main)
